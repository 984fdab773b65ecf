//! Owns how often, and for how long, an optimistic change is repeated when other writers were quicker.

use std::thread;
use std::time::{Duration, Instant};

use crate::util::backoff::Backoff;

/// The first and the longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_micros(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Writers that collided once must not meet again: a pause may have any length up to its full one.
const FULL_JITTER: f64 = 1.0;

/// The attempts of one optimistic change, and the time that it has for them.
pub(crate) struct CasBackoff {
    begun: Instant,
    limit: Duration,
    pauses: Backoff,
}

impl CasBackoff {
    pub(crate) fn new(limit: Duration) -> Self {
        let pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, FULL_JITTER);
        Self { begun: Instant::now(), limit, pauses }
    }

    /// Sleeps before the next attempt; returns `false` at once if the time is over.
    pub(crate) fn wait(&mut self) -> bool {
        if self.begun.elapsed() > self.limit {
            return false;
        }
        thread::sleep(self.pauses.next(fastrand::f64()));
        true
    }
}
