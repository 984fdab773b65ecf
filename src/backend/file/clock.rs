//! Owns a clock that never falls behind a time that it has shown, or that the newest line of the journal has. Knows
//! nothing of the journal.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::store_clock::StoreClock;
use crate::util::log_later::log_later;

/// If a store's time is further ahead of the system clock than this, the system clock was plainly wrong at one of the
/// two moments, and it would take too long until it has caught up.
const MAX_LEAD: u64 = 24 * 3600 * 1000;

/// The clock of a store, which stands still while the inner clock is behind the latest time that counted.
///
/// INVARIANT: entries that had expired at some time stay expired. If the clock is far ahead, it may therefore step back
/// only when no entry is left that had expired at its time, neither in memory nor in the files.
pub(crate) struct MonotonicClock {
    inner: StoreClock,
    /// The latest time that a line or a reading had, in milliseconds since 1970.
    floor: AtomicU64,
    /// Whether the floor was more than [`MAX_LEAD`] ahead of the inner clock when it was last read.
    is_far_ahead: AtomicBool,
}

impl MonotonicClock {
    /// `newest` is the time of the newest line, in milliseconds since 1970.
    pub(crate) fn new(inner: StoreClock, newest: u64) -> Self {
        let clock = Self { inner, floor: AtomicU64::new(newest), is_far_ahead: AtomicBool::new(false) };
        clock.now();
        clock
    }

    /// Reads a clock of the program. The caller holds no lock.
    pub(crate) fn refresh(&self) {
        self.inner.refresh();
    }

    /// Whether the time stands still and should step back, because it is more than a day ahead of the inner clock.
    pub(crate) fn is_far_ahead(&self) -> bool {
        self.is_far_ahead.load(Ordering::Relaxed)
    }

    /// Follows the inner clock again, if the time is far ahead of it and still `from`, in milliseconds since 1970.
    pub(crate) fn step_back(&self, from: u64) {
        let to = millis(self.inner.now());
        if from.saturating_sub(to) > MAX_LEAD
            && self.floor.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            log_later!(
                Warn,
                "the time of a store was more than a day ahead of the system clock, and follows it again; entries that \
                 had expired in the meantime are gone"
            );
        }
        self.is_far_ahead.store(false, Ordering::Relaxed);
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for MonotonicClock {
    fn now(&self) -> SystemTime {
        let now = self.inner.now();
        let (shown, floor) = (millis(now), self.floor.load(Ordering::Relaxed));
        if shown > floor {
            self.floor.fetch_max(shown, Ordering::Relaxed);
            return now;
        }
        if shown == floor {
            return now;
        }
        if floor - shown > MAX_LEAD {
            self.is_far_ahead.store(true, Ordering::Relaxed);
        }
        UNIX_EPOCH.checked_add(Duration::from_millis(floor)).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn it_stands_still_while_the_inner_clock_is_behind_any_time_that_it_has_shown() {
        let inner = Arc::new(ManualClock::default());
        let start = inner.now();
        let clock =
            MonotonicClock::new(StoreClock::Trusted(Arc::<ManualClock>::clone(&inner)), millis(start));
        inner.set(start - Duration::from_secs(60));
        assert_eq!(clock.now(), start);
        let later = start + Duration::from_secs(1);
        inner.set(later);
        assert_eq!(clock.now(), later);
        inner.set(start);
        assert_eq!(clock.now(), later);
        assert!(!clock.is_far_ahead());
    }

    #[test]
    fn it_steps_back_only_if_it_is_far_ahead_and_nothing_was_shown_meanwhile() {
        let inner = Arc::new(ManualClock::default());
        let start = inner.now();
        let clock =
            MonotonicClock::new(StoreClock::Trusted(Arc::<ManualClock>::clone(&inner)), millis(start));
        let limit = Duration::from_millis(MAX_LEAD);
        inner.set(start - limit);
        assert_eq!((clock.now(), clock.is_far_ahead()), (start, false));
        clock.step_back(millis(start));
        assert_eq!(clock.now(), start);
        let behind = start - limit - Duration::from_millis(1);
        inner.set(behind);
        assert_eq!((clock.now(), clock.is_far_ahead()), (start, true));
        clock.step_back(millis(start) - 1);
        assert_eq!((clock.now(), clock.is_far_ahead()), (start, true));
        clock.step_back(millis(start));
        assert_eq!((clock.now(), clock.is_far_ahead()), (behind, false));
    }
}
