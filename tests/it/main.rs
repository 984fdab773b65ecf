//! Every integration test, in one binary.
//!
//! - `conformance`: one function for each promise of the store, run on every backend;
//! - `model`: random histories of operations, compared with one simple model;
//! - `transaction_equivalence`: a transaction of several steps does the same as its steps one after another;
//! - `contention`: many threads, and two processes, at the same time;
//! - `crash_exact`: a program that is killed at random moments, and counts each event once;
//! - `killed_delayed`: values that are pushed with a delay, by a program or to a server that is killed;
//! - `lease_order`: large numbers of leases that have run out;
//! - `file`: the File variant, its files, and what it keeps after crashes, damage and full disks;
//! - `redis`: the Redis variant without a fallback;
//! - `outage`: the Redis variant with a fallback, during an outage and after it;
//! - `linearizability`: several processes on one Redis server under faults, and a checker of their histories;
//! - `few_threads`: systems without room for another thread;
//! - `foreign_code`: loggers, listeners, clocks and closures that use the store which calls them;
//! - `renewed_locks`: locks and permits that are renewed, and what the program learns of a loss;
//! - `config`: URLs, options and the environment;
//! - `errors`: the wording of errors;
//! - `gate`: threads that enter, close and leave the gate of a store;
//! - `thread_locals`: a store in the destructor of a thread-local;
//! - `metric_recorder`: metrics for a recorder of the crate `metrics`;
//! - `examples`: the examples, run as a user would run them;
//! - `bounds`: stores in memory that may hold only so much;
//! - `windows`: sliding windows, compared with brute force;
//! - `tidy`: rules that the source code itself must follow;
//! - `support`: the servers, proxies, disks and processes that the tests use.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the variants that it is about")]
#![expect(clippy::clone_on_ref_ptr, reason = "a clone of a clock becomes a `dyn Clock` on the way")]

#[macro_use]
mod support;

mod bounds;
mod config;
mod conformance;
mod contention;
mod crash_exact;
mod errors;
mod examples;
#[cfg(all(target_os = "linux", feature = "redis"))]
mod few_threads;
mod file;
mod foreign_code;
mod gate;
#[cfg(target_os = "linux")]
mod killed_delayed;
mod lease_order;
#[cfg(all(unix, feature = "redis"))]
mod linearizability;
#[cfg(feature = "metrics")]
mod metric_recorder;
mod model;
mod natural;
#[cfg(feature = "redis")]
mod outage;
#[cfg(feature = "redis")]
mod redis;
mod renewed_locks;
mod thread_locals;
mod tidy;
mod transaction_equivalence;
mod windows;
