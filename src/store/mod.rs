//! [`StateStore`](state_store::StateStore), and its operations in files of one group each. What an operation
//! means is decided by the backends.

mod atomic;
mod batches;
mod cas_backoff;
pub(crate) mod context;
mod counters;
mod expiry;
pub(crate) mod file_store;
pub(crate) mod handle;
pub(crate) mod leases;
pub(crate) mod listing;
pub(crate) mod locks;
mod maps;
mod outages;
mod queues;
pub(crate) mod single_flight;
pub(crate) mod state_store;
pub(crate) mod transaction;
pub(crate) mod transaction_body;
mod values;
pub(crate) mod write_batch;
