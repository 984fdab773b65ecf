//! Histories of several processes on one server, checked for linearizability: each call must appear to take
//! effect at one moment between its beginning and its end.
//!
//! - `model`: what an object does when it is alone;
//! - `history`: what the processes report, and how it becomes one history for each object;
//! - `checker`: the search for an order of the calls that explains what they returned;
//! - `hand_written`: histories that the checker must accept or reject;
//! - `recorder`: the child processes that make calls and report them;
//! - `faults`: what happens to the processes, the server and the network meanwhile;
//! - `run`: the tests.
//!
//! A run lasts some seconds; with `MILLPOND_TEST_SECONDS` set, for so many (3600 for an hour). It prints its seed;
//! with `MILLPOND_SEED` set, it makes the same choices again, though the threads may run in another order.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memory of Lowe
//! ("Testing for linearizability", 2017), which visits no set of finished calls twice in the same state. Each
//! object is checked alone, since a history is linearizable if and only if it is so for each object (Herlihy and
//! Wing, "Linearizability: a correctness condition for concurrent objects", 1990; "P-compositionality" of Horn and
//! Kroening, 2015). A call that ended with `maybe_applied: true`, or whose process was killed, may take effect at
//! any moment after its beginning, or never; a call that ended with `maybe_applied: false` never does.

mod checker;
mod faults;
mod hand_written;
mod history;
mod model;
mod recorder;
mod run;
