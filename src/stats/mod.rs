//! What a store has counted and measured since it was opened: see [`StateStore::stats`](crate::StateStore::stats).
//!
//! # What is counted
//!
//! All handles on a store, its clones and namespaces, count together. An operation counts once, when it ends,
//! whatever it does inside. It is not counted if it never reaches the backend: on a closed store, or with an argument
//! that is refused before, such as an invalid key.
//!
//! | field | operations |
//! | --- | --- |
//! | [`gets`](OperationCounts::gets) | `get`, `get_bytes`, `get_and_touch`, `map_get`, `map_contains` |
//! | [`puts`](OperationCounts::puts) | `put*`, `update`, `set_if_not_exists`, `compare_and_set`, `get_and_put`, `modify`, `upsert` and their variants, `map_put*`, `push_*` |
//! | [`deletes`](OperationCounts::deletes) | `delete`, `get_and_delete`, `map_delete`, `pop_*`, `queue_trim`, `delete_prefix`, `clear` |
//! | [`increments`](OperationCounts::increments) | `incr`, `incr_with_ttl`, `decr`, `map_incr`, additions to a window, `rate_limit` |
//! | [`batches`](OperationCounts::batches) | `batch_*`, `write`, whatever the number of their entries |
//! | [`transactions`](OperationCounts::transactions) | `transaction`, `try_transaction`, `process_once`, whatever they read and write, and however often their closure runs |
//! | [`other`](OperationCounts::other) | all the rest: expiry, lists of keys (each page of `scan` and `entries`), lengths, whole maps and queues, leases, locks |
//!
//! Methods that look inside the store, such as `health_check`, are no operations, and neither are `flush` and `close`. An
//! operation that is made of others counts as those. So does a method of a handle such as
//! [`Counter`](crate::handle::Counter): it is an operation of the store.

pub(crate) mod attempts;
pub(crate) mod counter;
#[cfg(feature = "metrics")]
pub(crate) mod facade;
pub(crate) mod histogram;
mod latency;
mod outages;
mod prometheus;
pub(crate) mod recorder;
mod series;
pub(crate) mod snapshot;
mod thread_stripe;

pub use latency::{Latencies, Latency};
pub use outages::OutageStats;
pub use prometheus::to_prometheus;
pub use snapshot::{CheckpointStats, EntryStats, ErrorCounts, LockStats, OperationCounts, PoolStats, Stats};
