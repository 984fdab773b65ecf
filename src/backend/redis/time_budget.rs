//! Owns the time budget of an operation: when its waits, retries and exchanges must end. Knows nothing of what they
//! wait for.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBudget {
    /// When the operation began.
    pub(crate) begun: Instant,
    /// When it must be over.
    pub(crate) end: Instant,
}

impl TimeBudget {
    pub(crate) fn new(length: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: begun + length }
    }

    /// Returns the same budget with an end that `limit` makes of its end.
    pub(crate) fn until(self, limit: impl FnOnce(Instant) -> Instant) -> Self {
        Self { end: limit(self.end), ..self }
    }

    /// Returns the time that is left; `None` if it is less than a millisecond.
    pub(crate) fn left(&self) -> Option<Duration> {
        Some(self.end.saturating_duration_since(Instant::now()))
            .filter(|left| *left >= Duration::from_millis(1))
    }

    /// Returns a budget for one step, of at most `most` and of at most what is left.
    pub(crate) fn within(&self, most: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: self.end.min(begun + most) }
    }
}
