//! Owns time: the clock, how a time to live becomes a deadline, and when an entry is gone. Knows nothing of
//! entries.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The longest time to live: 1000 years of 365.25 days.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(31_557_600_000);

/// Where a store reads the time from.
///
/// Memory and File ask it when an entry has a deadline. Redis does not: there the server's clock decides.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
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

/// A clock that stands still until it is moved by hand: for tests.
///
/// ```
/// use millpond::{ManualClock, StateConfig, StateStore};
/// use std::{sync::Arc, time::Duration};
///
/// # fn main() -> millpond::Result<()> {
/// let clock = Arc::new(ManualClock::default());
/// let store = StateStore::with_clock(StateConfig::default(), clock.clone())?;
/// store.put_with_ttl("session", "anna", Duration::from_secs(60))?;
/// clock.advance(Duration::from_secs(61));
/// assert!(!store.contains("session")?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManualClock(Mutex<SystemTime>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.checked_add(by).unwrap_or(*now);
    }

    /// Sets the clock, backwards too.
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

/// How long an entry still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// It stays until it is deleted.
    Never,
    /// It is gone after this time, which is never zero.
    In(Duration),
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

/// A point in time in milliseconds since 1970, from which on an entry is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(NonZeroU64);

impl Deadline {
    /// A time to live that begins now.
    pub(crate) fn after(now: &Now<'_>, ttl: Millis) -> Self {
        Self(ttl.0.saturating_add(now.millis()))
    }

    pub(crate) fn from_millis(millis: u64) -> Option<Self> {
        NonZeroU64::new(millis).map(Self)
    }

    pub(crate) fn millis(self) -> u64 {
        self.0.get()
    }

    /// The one place that says when an entry is gone.
    pub(crate) fn has_passed(self, now: &Now<'_>) -> bool {
        self.0.get() <= now.millis()
    }

    /// The time to live that ends here; `None` where that is over.
    #[cfg(feature = "redis")]
    pub(crate) fn ttl(self, now: &Now<'_>) -> Option<Millis> {
        NonZeroU64::new(self.0.get().checked_sub(now.millis())?).map(Millis)
    }

    pub(crate) fn remaining(self, now: &Now<'_>) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(now.millis()).max(1))
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// The time of one operation: read at most once, and only if something asks for it.
pub(crate) struct Now<'a> {
    clock: &'a dyn Clock,
    read: Cell<Option<u64>>,
}

impl<'a> Now<'a> {
    pub(crate) fn of(clock: &'a dyn Clock) -> Self {
        Self { clock, read: Cell::new(None) }
    }

    /// A time that is known.
    #[cfg(feature = "redis")]
    pub(crate) fn at(millis: u64) -> Now<'static> {
        Now { clock: &SystemClock, read: Cell::new(Some(millis)) }
    }

    /// Milliseconds since 1970; a clock before that reads as 1970.
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
    fn an_entry_is_gone_at_its_deadline_not_after_it() {
        let clock = ManualClock::default();
        let deadline = Deadline::after(&Now::of(&clock), Millis::new(Duration::from_secs(1)).unwrap());
        clock.advance(Duration::from_millis(999));
        assert!(!deadline.has_passed(&Now::of(&clock)));
        assert_eq!(deadline.remaining(&Now::of(&clock)), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1));
        assert!(deadline.has_passed(&Now::of(&clock)));
    }
}
