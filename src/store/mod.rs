//! [`StateStore`](state_store::StateStore): the store that a program holds, its documented operations in one file a
//! group, and its handles. The backends decide what an operation means.

// The documented groups, in the order in which rustdoc shows them. Without the blank lines, rustfmt would sort them.
mod open;

mod values;

mod expiry;

mod atomic;

mod counters;

pub(crate) mod windows;

pub(crate) mod transaction;

pub(crate) mod events;

mod maps;

mod queues;

pub(crate) mod leases;

pub(crate) mod locks;

pub(crate) mod permits;

pub(crate) mod listing;

mod batches;

pub(crate) mod handle;

pub(crate) mod revisions;

mod namespaces;

mod exports;

mod gates;

mod outages;

mod inspection;

mod closing;

// What they are made of.
mod cas_backoff;
mod cas_loop;
mod context;
mod counting;
mod execute;
pub(crate) mod failing;
mod file_store;
pub(crate) mod gate;
pub(crate) mod lock_guard;
pub(crate) mod open_options;
mod renewals;
mod single_flight;
mod slow_log;
pub(crate) mod state_store;
mod transaction_operations;
mod unwind;
mod wait;
pub(crate) mod write_batch;
