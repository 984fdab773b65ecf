//! Owns the clock of a store: it calls a clock of the program only when the store says so. Knows nothing of entries.
//!
//! A clock of the program may use the store that asks it for the time, so it must not be read under a lock of the
//! store. The thread of an operation reads it before any lock ([`StoreClock::refresh`]); under the locks the store goes
//! by the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::clock::{Clock, SystemClock};

#[derive(Clone)]
pub(crate) enum StoreClock {
    /// A clock that calls no code of the program, and can be read at any time.
    Trusted(Arc<dyn Clock>),
    /// A clock of the program.
    Foreign(Arc<SampledClock>),
}

/// A clock of the program, and the time that it showed when it was last read.
pub(crate) struct SampledClock {
    inner: Arc<dyn Clock>,
    reads: AtomicU64,
    latest: Mutex<Sample>,
}

struct Sample {
    /// The number of the read. Of two reads the one that began later counts.
    read: u64,
    time: SystemTime,
}

impl StoreClock {
    /// The clock of the operating system.
    pub(crate) fn system() -> Self {
        Self::Trusted(Arc::new(SystemClock))
    }

    /// A clock of the program, which is read now.
    pub(crate) fn foreign(inner: Arc<dyn Clock>) -> Self {
        let latest = Mutex::new(Sample { read: 0, time: inner.now() });
        Self::Foreign(Arc::new(SampledClock { inner, reads: AtomicU64::new(0), latest }))
    }

    /// Reads a clock of the program. INVARIANT: the caller holds no lock of the store. An operation that calls this
    /// first goes by the time at which it began, or by a later one.
    #[inline]
    pub(crate) fn refresh(&self) {
        match self {
            Self::Trusted(_) => {}
            Self::Foreign(clock) => clock.read(),
        }
    }

    /// Returns the same clock for a part of the store that is used under locks: it never calls code of the program.
    #[cfg(feature = "redis")]
    pub(crate) fn without_refresh(&self) -> Arc<dyn Clock> {
        match self {
            Self::Trusted(clock) => Arc::clone(clock),
            Self::Foreign(clock) => Arc::<SampledClock>::clone(clock),
        }
    }
}

impl Clock for StoreClock {
    #[inline]
    fn now(&self) -> SystemTime {
        match self {
            Self::Trusted(clock) => clock.now(),
            Self::Foreign(clock) => clock.now(),
        }
    }
}

impl SampledClock {
    fn read(&self) {
        let read = self.reads.fetch_add(1, Ordering::AcqRel) + 1;
        let time = self.inner.now();
        let mut latest = self.latest.lock();
        if read > latest.read {
            *latest = Sample { read, time };
        }
    }
}

impl Clock for SampledClock {
    fn now(&self) -> SystemTime {
        self.latest.lock().time
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_clock_of_the_program_is_read_only_when_it_is_refreshed() {
        let inner = Arc::new(ManualClock::default());
        let clock = StoreClock::foreign(Arc::<ManualClock>::clone(&inner));
        let begun = clock.now();
        inner.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), begun);
        clock.refresh();
        assert_eq!(clock.now(), begun + Duration::from_secs(1));
        inner.set(begun);
        clock.refresh();
        assert_eq!(clock.now(), begun, "it may go back");
    }

    /// Reads itself again while it is read, and returns an older time each time.
    struct Nested(std::sync::OnceLock<StoreClock>, AtomicU64);

    impl Clock for Nested {
        fn now(&self) -> SystemTime {
            let depth = self.1.fetch_add(1, Ordering::SeqCst);
            if let Some(clock) = self.0.get().filter(|_| depth == 1) {
                clock.refresh();
            }
            SystemTime::UNIX_EPOCH + Duration::from_secs(depth)
        }
    }

    #[test]
    fn of_two_reads_the_one_that_began_later_counts() {
        let inner = Arc::new(Nested(std::sync::OnceLock::new(), AtomicU64::new(0)));
        let clock = StoreClock::foreign(Arc::<Nested>::clone(&inner));
        assert!(inner.0.set(clock.clone()).is_ok());
        clock.refresh();
        assert_eq!(
            clock.now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(2),
            "the nested read began later"
        );
    }
}
