//! Every integration test, in one binary.
//!
//! - `conformance`: one function for each promise of the store, run over every backend;
//! - `crowd`: many threads and two processes at once;
//! - `lease_order`: leases that have run out, in numbers;
//! - `model`: random histories against one simple model;
//! - `redis_wire`, `redis_commands`, `redis_kinds`, `redis_queues`, `redis_locks`, `redis_transactions`,
//!   `interop`: what lies on a Redis server, and what is said to it;
//! - `redis_waiting`: how a store waits on one, and on which connections;
//! - `redis_outage`, `redis_refusals`, `redis_cuts`, `redis_burial`, `redis_tls`: servers and networks that
//!   fail;
//! - `outage`, `outage_serving`, `outage_table`, `outage_batches`, `outage_causes`, `outage_replay`,
//!   `outage_conflicts`, `outage_order`, `outage_history`, `outage_fork`, `outage_way`: what serves while
//!   the server is away, and the way back;
//! - `outage_cuts`: every operation, cut at every byte, with and without an outage behind the cut;
//! - `outage_rights`: what a user of the server may do;
//! - `outage_leases`: what is taken from queues while the server is away;
//! - `outage_once`, `outage_asked`, `redis_once`: what `exactly_once` promises, with memory in the server's place
//!   and without;
//! - `outage_durable`: what waits in files, and programs that are killed;
//! - `outage_partition`: networks that swallow everything for a while;
//! - `outage_soak`: outage after outage under threads that write, and a count of what is there in the end;
//! - `file_opening`, `file_damage`, `file_garbled`, `file_clock`, `file_compaction`, `file_crash`, `file_killed`:
//!   what the File variant promises of its files, whatever happened to them;
//! - `file_format`: the bytes of the files, which later versions go on reading;
//! - `file_disk`, `file_full`, `file_lost`, `file_traced`: power cuts, full and failing disks, on real file
//!   systems and at every system call;
//! - `config`, `config_urls`, `errors`: the two spellings of a configuration, the wording of errors;
//! - `examples`: the examples, run as a user would run them;
//! - `transaction_alike`: a transaction of several steps does what the same steps do one after another;
//! - `tidy`: what the source itself has to hold.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
mod support;

mod config;
mod config_urls;
mod conformance;
mod crowd;
mod errors;
mod examples;
mod file_clock;
mod file_compaction;
mod file_crash;
mod file_damage;
#[cfg(target_os = "linux")]
mod file_disk;
mod file_format;
#[cfg(target_os = "linux")]
mod file_full;
mod file_garbled;
#[cfg(target_os = "linux")]
mod file_killed;
#[cfg(target_os = "linux")]
mod file_lost;
mod file_opening;
mod file_read_only;
mod file_repair;
#[cfg(target_os = "linux")]
mod file_traced;
#[cfg(feature = "redis")]
mod interop;
mod lease_order;
mod model;
#[cfg(feature = "redis")]
mod outage;
#[cfg(feature = "redis")]
mod outage_asked;
#[cfg(feature = "redis")]
mod outage_batches;
#[cfg(feature = "redis")]
mod outage_causes;
#[cfg(feature = "redis")]
mod outage_conflicts;
#[cfg(feature = "redis")]
mod outage_cuts;
#[cfg(feature = "redis")]
mod outage_durable;
#[cfg(all(feature = "redis", unix))]
mod outage_fork;
#[cfg(feature = "redis")]
mod outage_history;
#[cfg(feature = "redis")]
mod outage_leases;
#[cfg(feature = "redis")]
mod outage_once;
#[cfg(feature = "redis")]
mod outage_order;
#[cfg(feature = "redis")]
mod outage_partition;
#[cfg(feature = "redis")]
mod outage_replay;
#[cfg(feature = "redis")]
mod outage_rights;
#[cfg(feature = "redis")]
mod outage_serving;
#[cfg(feature = "redis")]
mod outage_soak;
#[cfg(feature = "redis")]
mod outage_table;
#[cfg(feature = "redis")]
mod outage_way;
#[cfg(feature = "redis")]
mod redis_burial;
#[cfg(feature = "redis")]
mod redis_commands;
#[cfg(feature = "redis")]
mod redis_cuts;
#[cfg(feature = "redis")]
mod redis_kinds;
#[cfg(feature = "redis")]
mod redis_locks;
#[cfg(feature = "redis")]
mod redis_once;
#[cfg(feature = "redis")]
mod redis_outage;
#[cfg(feature = "redis")]
mod redis_queues;
#[cfg(feature = "redis")]
mod redis_refusals;
#[cfg(feature = "redis")]
mod redis_tls;
#[cfg(feature = "redis")]
mod redis_transactions;
#[cfg(feature = "redis")]
mod redis_waiting;
#[cfg(feature = "redis")]
mod redis_wire;
mod tidy;
mod transaction_alike;
