//! Owns a clock that does not fall behind the newest line of the journal. Knows nothing of the journal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;
use crate::store_clock::StoreClock;
use crate::util::log_later::log_later;

/// If the newest line is further ahead of the clock than this, one of the two times is plainly wrong.
const MAX_LEAD: Duration = Duration::from_secs(24 * 3600);

/// The clock of a store, which stands still while the inner clock is behind the newest line.
pub(crate) struct MonotonicClock {
    inner: StoreClock,
    /// Time of the newest line, in milliseconds since 1970.
    floor: AtomicU64,
}

impl MonotonicClock {
    /// `newest` is the time of the newest line, in milliseconds since 1970.
    pub(crate) fn new(inner: StoreClock, newest: u64) -> Self {
        let clock = Self { inner, floor: AtomicU64::new(newest) };
        if clock.lead_over(clock.inner.now()) > MAX_LEAD {
            log_later!(
                Warn,
                "the newest line of the journal is more than a day ahead of the system clock; ignoring it"
            );
        }
        clock
    }

    /// Reads a clock of the program. The caller holds no lock.
    pub(crate) fn refresh(&self) {
        self.inner.refresh();
    }

    /// Notes the time of a new line.
    pub(crate) fn note_written(&self, millis: u64) {
        self.floor.store(millis, Ordering::Relaxed);
    }

    fn floor(&self) -> SystemTime {
        let floor = Duration::from_millis(self.floor.load(Ordering::Relaxed));
        UNIX_EPOCH.checked_add(floor).unwrap_or(UNIX_EPOCH)
    }

    /// How far the newest line is ahead of `now`.
    fn lead_over(&self, now: SystemTime) -> Duration {
        self.floor().duration_since(now).unwrap_or_default()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> SystemTime {
        let now = self.inner.now();
        let lead = self.lead_over(now);
        if lead > MAX_LEAD { now } else { now + lead }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn it_stands_still_if_the_inner_clock_goes_back_by_up_to_a_day() {
        let inner = Arc::new(ManualClock::default());
        let start = inner.now();
        let millis = u64::try_from(start.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let clock = MonotonicClock::new(StoreClock::Trusted(Arc::<ManualClock>::clone(&inner)), millis);
        inner.set(start - Duration::from_secs(60));
        assert_eq!(clock.now(), start);
        inner.set(start + Duration::from_secs(1));
        assert_eq!(clock.now(), inner.now());
        inner.set(start - MAX_LEAD - Duration::from_secs(1));
        assert_eq!(clock.now(), inner.now());
    }
}
