//! [`StateStore`](state_store::StateStore): the store that a program holds, its documented operations in one file a
//! group, and its handles. The backends decide what an operation means.

mod atomic;
mod batches;
mod cas_backoff;
mod cas_loop;
mod context;
mod counters;
mod execute;
mod expiry;
pub(crate) mod failing;
mod file_store;
pub(crate) mod handle;
pub(crate) mod leases;
pub(crate) mod listing;
pub(crate) mod locks;
mod maps;
mod open;
pub(crate) mod open_options;
mod outages;
mod queues;
mod single_flight;
pub(crate) mod state_store;
pub(crate) mod transaction;
mod transaction_leases;
mod transaction_operations;
mod unwind;
mod values;
mod wait;
pub(crate) mod write_batch;
