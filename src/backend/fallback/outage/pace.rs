//! Owns how fast the replay goes and how much it slows writers. Knows nothing of operations.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The pace of one outage. Its parts need not change together.
pub(crate) struct Pace {
    /// Writers are slowed while more operations than this are queued.
    threshold: AtomicU64,
    /// By how many microseconds a writer is slowed.
    pause: AtomicU64,
    /// How often the size of a chunk was halved.
    halved: AtomicU32,
    suspect: Mutex<Suspect>,
}

/// The group that was sent alone last and did not pass.
#[derive(Default)]
struct Suspect {
    number: u64,
    /// How often in succession it did not pass, and since when.
    times: u32,
    since: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            threshold: AtomicU64::new(u64::MAX),
            pause: AtomicU64::new(0),
            halved: AtomicU32::new(0),
            suspect: Mutex::default(),
        }
    }
}

impl Pace {
    /// Slows each writer by `pause` while more than `threshold` operations are queued.
    pub(crate) fn throttle(&self, threshold: u64, pause: Duration) {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.pause.store(micros, Ordering::Relaxed);
        self.threshold.store(threshold, Ordering::Relaxed);
    }

    pub(crate) fn unthrottle(&self) {
        self.threshold.store(u64::MAX, Ordering::Relaxed);
    }

    /// Returns for how long a writer must wait if this many operations are queued.
    pub(crate) fn writer_pause(&self, queued: u64) -> Duration {
        if queued > self.threshold.load(Ordering::Relaxed) {
            Duration::from_micros(self.pause.load(Ordering::Relaxed))
        } else {
            Duration::ZERO
        }
    }

    pub(crate) fn halved(&self) -> u32 {
        self.halved.load(Ordering::Relaxed)
    }

    pub(crate) fn set_halved(&self, times: u32) {
        self.halved.store(times, Ordering::Relaxed);
    }

    /// Notes that a group did not pass although it was sent alone. Returns how often that has happened in succession.
    pub(crate) fn note_suspect(&self, number: u64) -> u32 {
        let mut suspect = self.suspect.lock();
        if suspect.number != number {
            *suspect = Suspect { number, times: 0, since: Some(Instant::now()) };
        }
        suspect.times += 1;
        suspect.times
    }

    /// Returns for how long the same group has not passed.
    pub(crate) fn suspect_for(&self) -> Duration {
        self.suspect.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Notes that nothing passes at present, so that no group is known to be the cause.
    pub(crate) fn clear_suspect(&self) {
        *self.suspect.lock() = Suspect::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_suspect_for_as_long_as_it_alone_fails() {
        let pace = Pace::default();
        assert_eq!([7, 7, 8, 7].map(|number| pace.note_suspect(number)), [1, 2, 1, 1]);
        pace.clear_suspect();
        assert_eq!(pace.note_suspect(7), 1);
    }

    #[test]
    fn writers_wait_only_above_the_threshold() {
        let pace = Pace::default();
        assert_eq!(pace.writer_pause(u64::MAX - 1), Duration::ZERO);
        pace.throttle(10, Duration::from_millis(2));
        assert_eq!([10, 11].map(|queued| pace.writer_pause(queued).as_millis()), [0, 2]);
        pace.unthrottle();
        assert_eq!(pace.writer_pause(11), Duration::ZERO);
    }
}
