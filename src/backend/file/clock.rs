//! Owns a clock that does not fall behind what the journal has seen. Knows nothing of the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;

/// A clock this far behind was not set back a little: one of the two times is wrong altogether.
const TOO_FAR: Duration = Duration::from_secs(24 * 3600);

/// The clock of a store, which stands still where the one below it goes back.
pub(crate) struct MonotonicClock {
    inner: Arc<dyn Clock>,
    floor: AtomicU64,
}

impl MonotonicClock {
    /// Begins with the time of the newest line, in milliseconds since 1970.
    pub(crate) fn new(below: Arc<dyn Clock>, newest: u64) -> Self {
        let clock = Self { inner: below, floor: AtomicU64::new(newest) };
        if clock.how_far_ahead(clock.inner.now()) > TOO_FAR {
            log::warn!(
                "the newest line of the journal is more than a day ahead of the clock: it is not heeded"
            );
        }
        clock
    }

    /// Takes note of the time of a line.
    pub(crate) fn note_written(&self, millis: u64) {
        self.floor.store(millis, Ordering::Relaxed);
    }

    fn floor(&self) -> SystemTime {
        let floor = Duration::from_millis(self.floor.load(Ordering::Relaxed));
        UNIX_EPOCH.checked_add(floor).unwrap_or(UNIX_EPOCH)
    }

    fn how_far_ahead(&self, now: SystemTime) -> Duration {
        self.floor().duration_since(now).unwrap_or_default()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> SystemTime {
        let now = self.inner.now();
        let ahead = self.how_far_ahead(now);
        if ahead > TOO_FAR { now } else { now + ahead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn it_stands_still_where_the_clock_goes_back_but_not_by_a_day() {
        let below = Arc::new(ManualClock::default());
        let start = below.now();
        let millis = u64::try_from(start.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let clock = MonotonicClock::new(below.clone(), millis);
        below.set(start - Duration::from_secs(60));
        assert_eq!(clock.now(), start);
        below.set(start + Duration::from_secs(1));
        assert_eq!(clock.now(), below.now());
        below.set(start - TOO_FAR - Duration::from_secs(1));
        assert_eq!(clock.now(), below.now());
    }
}
