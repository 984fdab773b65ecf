//! Owns the documented operations of a [`Transaction`](crate::store::transaction::Transaction), in the groups of those of
//! a store. Knows nothing of how its changes are staged and committed.

// In the order in which rustdoc shows them. Without the blank lines, rustfmt would sort them.
mod values;

mod expiry;

mod atomic;

mod counters;

mod maps;

mod queues;

mod leases;
