//! Owns how long, and how fast, an optimistic change is tried again where others were quicker.

use std::thread;
use std::time::{Duration, Instant};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The time that one operation has.
pub(crate) struct CasBackoff {
    begun: Instant,
    limit: Duration,
    pause: Duration,
}

impl CasBackoff {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, pause: Duration::from_micros(10) }
    }

    /// Waits a little, by chance more or less and longer each time; `false` where the time is over.
    pub(crate) fn wait(&mut self) -> bool {
        if self.begun.elapsed() > self.limit {
            return false;
        }
        thread::sleep(self.pause.mul_f64(fastrand::f64()));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
