//! Owns how long an operation has been queued, also across two runs of a program. Knows nothing of operations.

use std::time::{Duration, Instant, SystemTime};

/// When an operation was queued. The TTLs that it carries run from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedAt {
    /// When this process queued the operation, or read it from the queue's file.
    at: Instant,
    /// How long the operation had been queued by then.
    age_before: Duration,
    pub(crate) wall: SystemTime,
}

impl QueuedAt {
    pub(crate) fn now(wall: SystemTime) -> Self {
        Self { at: Instant::now(), age_before: Duration::ZERO, wall }
    }

    /// For an operation that an earlier run of the program queued at `wall`.
    pub(crate) fn in_earlier_run(wall: SystemTime, now: SystemTime) -> Self {
        Self { at: Instant::now(), age_before: now.duration_since(wall).unwrap_or_default(), wall }
    }

    /// Returns how long the operation has been queued.
    pub(crate) fn age(&self) -> Duration {
        self.age_before + self.at.elapsed()
    }
}
