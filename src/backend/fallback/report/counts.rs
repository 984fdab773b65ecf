//! Owns the counts of a store since it was opened, and of one outage. Knows nothing of what they count.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) outages: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) uncertain: AtomicU64,
    pub(crate) dropped_outcomes: AtomicU64,
}

impl Counts {
    /// Returns how many outages have begun.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire)
    }
}

/// What the replay of one outage has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Operations that were done on the server.
    pub(crate) replayed: u64,
    /// Operations that the server refused for good.
    pub(crate) rejected: u64,
    /// Writes that met a value which another client had written.
    pub(crate) conflicts: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, more: Self) {
        self.replayed += more.replayed;
        self.rejected += more.rejected;
        self.conflicts += more.conflicts;
    }
}
