//! Owns since when an operation waits, also across two runs of a program. Knows nothing of operations.

use std::time::{Duration, Instant, SystemTime};

/// When an operation was queued: times to live go on running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedAt {
    at: Instant,
    /// For how long it had waited by then, in an earlier run of the program.
    before: Duration,
    pub(crate) wall: SystemTime,
}

impl QueuedAt {
    pub(crate) fn now(wall: SystemTime) -> Self {
        Self { at: Instant::now(), before: Duration::ZERO, wall }
    }

    /// One that was made in an earlier run of the program, at `wall`.
    pub(crate) fn in_earlier_run(wall: SystemTime, now: SystemTime) -> Self {
        Self { at: Instant::now(), before: now.duration_since(wall).unwrap_or_default(), wall }
    }

    /// For how long it has waited.
    pub(crate) fn age(&self) -> Duration {
        self.before + self.at.elapsed()
    }
}
