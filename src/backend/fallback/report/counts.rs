//! Owns the counts of a store since it was opened. Knows nothing of what they count.

use std::sync::atomic::AtomicU64;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) outages: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) uncertain: AtomicU64,
}
