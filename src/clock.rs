//! Owns time: the clock, the conversion of a time to live into a deadline, and the rule when an entry has
//! expired. Knows nothing of entries.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The longest time to live: 1000 years of 365.25 days.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(31_557_600_000);

/// The source of the time for a store.
///
/// Memory and File read it for entries that have a time to live. Redis does not: the clock of the server decides.
///
/// A store reads it at the beginning of an operation, in the thread of that operation and under no lock. So a clock may
/// use the store that reads it, if it does not do so without end.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    ///
    /// ```
    /// use millpond::Clock;
    /// use std::time::{Duration, SystemTime};
    ///
    /// struct AnHourAhead;
    ///
    /// impl Clock for AnHourAhead {
    ///     fn now(&self) -> SystemTime {
    ///         SystemTime::now() + Duration::from_secs(3600)
    ///     }
    /// }
    /// assert!(AnHourAhead.now() > SystemTime::now());
    /// ```
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stops until it is moved by hand: for tests.
///
/// ```
/// use millpond::{ManualClock, OpenOptions, StateConfig};
/// use std::{sync::Arc, time::Duration};
///
/// let clock = Arc::new(ManualClock::default());
/// let store = OpenOptions::new().clock(clock.clone()).with_config(StateConfig::default())?;
/// store.put_with_ttl("session", "anna", Duration::from_secs(60))?;
/// clock.advance(Duration::from_secs(61));
/// assert!(!store.contains("session")?);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    /// A clock that shows `now`.
    ///
    /// ```
    /// use millpond::{Clock, ManualClock};
    ///
    /// let epoch = std::time::UNIX_EPOCH;
    /// assert_eq!(ManualClock::new(epoch).now(), epoch);
    /// ```
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock forward.
    ///
    /// ```
    /// use millpond::{Clock, ManualClock};
    /// # use std::time::Duration;
    ///
    /// let clock = ManualClock::default();
    /// let before = clock.now();
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(clock.now(), before + Duration::from_secs(60));
    /// ```
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.checked_add(by).unwrap_or(*now);
    }

    /// Sets the clock, backwards too.
    ///
    /// ```
    /// use millpond::{Clock, ManualClock};
    ///
    /// let clock = ManualClock::default();
    /// clock.set(std::time::UNIX_EPOCH);
    /// assert_eq!(clock.now(), std::time::UNIX_EPOCH);
    /// ```
    pub fn set(&self, now: SystemTime) {
        *self.0.lock() = now;
    }
}

impl Default for ManualClock {
    /// A clock that shows 2024-01-01 00:00:00 UTC.
    fn default() -> Self {
        Self::new(UNIX_EPOCH + Duration::from_secs(1_704_067_200))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock()
    }
}

/// The remaining time to live of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// The entry stays until it is deleted.
    Never,
    /// The entry expires after this time, which is never zero.
    In(Duration),
}

impl Ttl {
    /// Returns after which time the entry expires; `None` if it stays.
    ///
    /// ```
    /// use millpond::{StateStore, Ttl};
    /// use std::time::Duration;
    ///
    /// let store = StateStore::memory();
    /// store.put_with_ttl("session", 1, Duration::from_secs(60))?;
    /// let left = store.ttl("session")?.and_then(Ttl::remaining);
    /// assert!(left.is_some_and(|left| left <= Duration::from_secs(60)));
    /// store.persist("session")?;
    /// assert_eq!(store.ttl("session")?.and_then(Ttl::remaining), None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::In(left) => Some(left),
        }
    }
}

/// A time to live in milliseconds: more than zero, at most [`MAX_TTL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(NonZeroU64);

impl Millis {
    pub(crate) const LEAST: Self = Self(NonZeroU64::MIN);

    /// Rounds up to whole milliseconds.
    pub(crate) fn new(ttl: Duration) -> Result<Self> {
        let millis = ttl.as_nanos().div_ceil(1_000_000);
        u64::try_from(millis)
            .ok()
            .filter(|_| ttl <= MAX_TTL)
            .and_then(NonZeroU64::new)
            .map(Self)
            .ok_or(Error::InvalidTtl { ttl })
    }

    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.get())
    }
}

/// The point in time at which an entry expires, in milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(NonZeroU64);

impl Deadline {
    /// The deadline of a time to live that begins now.
    pub(crate) fn after(now: &Now<'_>, ttl: Millis) -> Self {
        Self(ttl.0.saturating_add(now.millis()))
    }

    pub(crate) fn from_millis(millis: u64) -> Option<Self> {
        NonZeroU64::new(millis).map(Self)
    }

    pub(crate) fn millis(self) -> u64 {
        self.0.get()
    }

    /// Returns whether the entry has expired: the one place with this rule.
    pub(crate) fn has_passed(self, now: &Now<'_>) -> bool {
        // INVARIANT: at its deadline an entry is absent already, on every backend.
        self.0.get() <= now.millis()
    }

    /// The time to live until this deadline; `None` if it has passed.
    #[cfg(feature = "redis")]
    pub(crate) fn ttl(self, now: &Now<'_>) -> Option<Millis> {
        NonZeroU64::new(self.0.get().checked_sub(now.millis())?).map(Millis)
    }

    /// The time until this deadline, for an entry that was just found: at least one millisecond.
    pub(crate) fn remaining(self, now: &Now<'_>) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(now.millis()).max(1))
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// The time of one operation. The clock is read at most once, and only if the time is needed.
pub(crate) struct Now<'a> {
    clock: &'a dyn Clock,
    read: Cell<Option<u64>>,
}

impl<'a> Now<'a> {
    pub(crate) fn of(clock: &'a dyn Clock) -> Self {
        Self { clock, read: Cell::new(None) }
    }

    /// A given time, without a clock.
    pub(crate) fn at(millis: u64) -> Now<'static> {
        Now { clock: &SystemClock, read: Cell::new(Some(millis)) }
    }

    /// The time in milliseconds since 1970; an earlier time counts as 1970.
    pub(crate) fn millis(&self) -> u64 {
        if let Some(read) = self.read.get() {
            return read;
        }
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.read.set(Some(millis));
        millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_bounded() {
        assert_eq!(Millis::new(Duration::from_nanos(1)).unwrap().get(), 1);
        assert_eq!(Millis::new(Duration::from_micros(1001)).unwrap().get(), 2);
        assert_eq!(Millis::new(MAX_TTL).unwrap().get(), 31_557_600_000_000);
        assert!(Millis::new(Duration::ZERO).is_err());
        assert!(Millis::new(MAX_TTL + Duration::from_nanos(1)).is_err());
        assert!(Millis::new(Duration::MAX).is_err());
    }

    #[test]
    fn an_entry_expires_at_its_deadline_not_after_it() {
        let clock = ManualClock::default();
        let deadline = Deadline::after(&Now::of(&clock), Millis::new(Duration::from_secs(1)).unwrap());
        clock.advance(Duration::from_millis(999));
        assert!(!deadline.has_passed(&Now::of(&clock)));
        assert_eq!(deadline.remaining(&Now::of(&clock)), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1));
        assert!(deadline.has_passed(&Now::of(&clock)));
    }
}
