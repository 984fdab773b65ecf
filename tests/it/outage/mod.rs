//! The Redis variant with a fallback, during an outage and after it.
//!
//! - `fallback`: one outage from its beginning to its end;
//! - `at_start`: servers that cannot be reached when a store is opened;
//! - `causes`: which failures count as an outage, and which do not;
//! - `closing`: closing within a limit;
//! - `operations`: which operations are served, queued, estimated or refused during an outage;
//! - `partial_entries`: a value of which only a part is known is not told as known;
//! - `latency`: only the first operation of an outage waits for the server;
//! - `batches`: batches during which the server fails;
//! - `leases`: leases and locks during an outage;
//! - `replay`: each queued operation is applied once, whatever happens to replies and to the server;
//! - `write_order`: the writes to one key keep their order;
//! - `conflicts`: other programs that write during the outage;
//! - `reconnection`: what can delay or prevent the return to the server;
//! - `eviction`: servers that evict keys;
//! - `data_loss`: a server that lost its data is noticed, and reported once;
//! - `rollback`: a server that has gone back to an earlier state is noticed, and reported once;
//! - `write_count`: what changes the count of writes, and is no data loss;
//! - `durable`: a replay queue in files, and programs that are killed;
//! - `kept_outcomes`: outcomes that survive the program;
//! - `queue_copies`: two copies of one queue directory that are both in use;
//! - `exactly_once`: calls with `exactly_once` whose replies are lost;
//! - `in_doubt`: the server is asked whether operations that are in doubt were applied;
//! - `cuts`: every operation, cut at every byte, with and without an outage after the cut;
//! - `partition`: networks that lose every packet for a while;
//! - `permissions`: what a user of the server may do, and outages of a user with too few permissions;
//! - `refused_operations`: operations that the server never takes, and a server that takes no writes;
//! - `sliding`: reads that renew a time to live;
//! - `log_lines`: what an operator reads;
//! - `soak`: many outages under concurrent writes, and an audit of the data at the end;
//! - `fork`: a process that forks.

mod at_start;
mod batches;
mod causes;
mod closing;
mod conflicts;
mod cuts;
mod data_loss;
mod durable;
mod eviction;
mod exactly_once;
mod fallback;
#[cfg(unix)]
mod fork;
mod in_doubt;
mod kept_outcomes;
mod latency;
mod lease_transactions;
mod leases;
mod log_lines;
#[cfg(target_os = "linux")]
mod memory;
mod operations;
mod partial_entries;
mod partition;
mod permissions;
mod queue_copies;
mod reconnection;
mod refused_operations;
mod replay;
mod rollback;
mod sliding;
mod soak;
mod windows;
mod write_count;
mod write_order;
