//! Owns the documented group of sliding windows: sums of the last minute, and limits of a rate. Knows nothing of buckets.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::Result;
use crate::op::{EntryAction, Op, WindowAdd, WindowSum};
use crate::stats::counter::Operation;
use crate::store::execute::{self, Execute};
use crate::store::state_store::{StateStore, on_backend};

/// # Windows
///
/// A sliding window sums up what was added in the last minute, or hour, or whatever its width is. It is a map of 60
/// buckets under its key: an addition counts for at most the width, and for at least 59 sixtieths of it. What no longer
/// counts is dropped by later additions, and the entry expires when nothing in it counts any more: `default_ttl` does
/// not matter. A window of another width under the same key has other buckets, so use one width for a key.
///
/// Memory and File go by the clock of the store, and Redis by the clock of the server, so that clients whose clocks
/// differ share one window. During an outage, additions are queued as increments are. Each counts for the moment at
/// which it was made: the server subtracts from its own time how long it was in the queue.
///
/// A transaction has no windows, because on Redis it does not know the time.
///
/// All of these operations return [`WrongType`](crate::Error::WrongType) if the key holds another kind,
/// [`NotAnInteger`](crate::Error::NotAnInteger) if a bucket holds no integer, and
/// [`InvalidTtl`](crate::Error::InvalidTtl) for a width of zero or of more than 1000 years. A
/// [lost reply](crate::RedisStore#lost-replies) of Redis leaves an addition in doubt, as an increment.
impl StateStore {
    /// Returns a handle on a sliding window. Making it has no effect on the store.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let logins = store.window("logins:10.0.0.1", Duration::from_secs(60));
    /// if logins.add(1)? > 5 {
    ///     println!("more than 5 logins within a minute");
    /// }
    /// assert_eq!(logins.sum()?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn window(&self, key: impl AsRef<str>, width: Duration) -> Window {
        Window { store: self.clone(), key: key.as_ref().to_owned(), width }
    }

    /// Counts one call in a sliding window, unless `limit` calls count in it already: then nothing is counted, and the
    /// decision says when there is room again. It is one step: several processes together never exceed the limit.
    ///
    /// A call counts for at least 59 sixtieths of `window`, so in any such time at most `limit` calls are allowed. The
    /// key may be used by [`window`](Self::window) too, with the same width.
    ///
    /// During an outage it is [`Unavailable`](crate::Error::Unavailable), because it depends on the calls of others; an
    /// [`exclusive`](crate::RedisOptions::exclusive) store decides on a window whose whole content is known.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let minute = Duration::from_secs(60);
    /// let first = store.rate_limit("calls:anna", 2, minute)?;
    /// assert!(first.allowed && first.remaining == 1);
    /// assert!(store.rate_limit("calls:anna", 2, minute)?.allowed);
    /// let third = store.rate_limit("calls:anna", 2, minute)?;
    /// assert!(!third.allowed);
    /// println!("try again in {:?}", third.retry_after);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [every window](#windows); [`Overflow`](crate::Error::Overflow).
    #[doc(alias = "throttle")]
    pub fn rate_limit(&self, key: impl AsRef<str>, limit: u64, window: Duration) -> Result<Decision> {
        let add = WindowAdd { width: Millis::new(window)?, at: None, by: 1, limit: Some(limit) };
        let WindowSum { is_added, sum, retry_after } = self.add_to_window(key.as_ref(), add)?;
        let used = u64::try_from(sum).unwrap_or(0);
        Ok(Decision {
            allowed: is_added,
            remaining: limit.saturating_sub(used),
            retry_after: Duration::from_millis(retry_after),
        })
    }

    fn add_to_window(&self, key: &str, add: WindowAdd) -> Result<WindowSum> {
        let mut target = self;
        let op = Op { key: self.context().key(key)?, action: EntryAction::WindowAdd(add) };
        Ok(*target.run(op)?.window()?)
    }
}

/// What [`StateStore::rate_limit`] has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether the call may be made. Only then it was counted.
    pub allowed: bool,
    /// How many more calls may be made now.
    pub remaining: u64,
    /// In what time the call may be made at the earliest; zero if it is allowed.
    pub retry_after: Duration,
}

/// A sliding window under one key: see [`StateStore::window`].
#[derive(Clone)]
pub struct Window {
    store: StateStore,
    key: String,
    width: Duration,
}

impl Window {
    /// Adds now, and returns the sum of the window. On Redis it is one round trip.
    ///
    /// A sum beyond the range of `i64` is the end of that range.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let sent = store.window("bytes sent", Duration::from_secs(10));
    /// assert_eq!(sent.add(1200)?, 1200);
    /// assert_eq!(sent.add(300)?, 1500);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [every window](StateStore#windows); [`Overflow`](crate::Error::Overflow) if a bucket leaves the range
    /// of `i64`.
    pub fn add(&self, by: i64) -> Result<i64> {
        self.add_for(None, by)
    }

    /// Adds at the time of an event, and returns the sum of the window now. An event that is too old for the window is
    /// not added. One in the future counts from its time on.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # let store = millpond::StateStore::memory();
    /// let readings = store.window("readings", Duration::from_secs(60));
    /// let now = SystemTime::now();
    /// assert_eq!(readings.add_at(now - Duration::from_secs(30), 1)?, 1);
    /// assert_eq!(readings.add_at(now - Duration::from_secs(90), 1)?, 1); // too old
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_at(&self, event_time: SystemTime, by: i64) -> Result<i64> {
        let since = event_time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.add_for(Some(u64::try_from(since.as_millis()).unwrap_or(LATEST).min(LATEST)), by)
    }

    fn add_for(&self, at: Option<u64>, by: i64) -> Result<i64> {
        if by == 0 {
            return self.sum();
        }
        let add = WindowAdd { width: Millis::new(self.width)?, at, by, limit: None };
        Ok(self.store.add_to_window(&self.key, add)?.sum)
    }

    /// Returns the sum of the window now; 0 if the key is absent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let logins = store.window("logins", Duration::from_secs(60));
    /// assert_eq!(logins.sum()?, 0);
    /// logins.add(2)?;
    /// assert_eq!(logins.sum()?, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [every window](StateStore#windows).
    pub fn sum(&self) -> Result<i64> {
        let key = self.store.context().key(&self.key)?;
        let width = Millis::new(self.width)?;
        self.store.counted(
            Operation::Other,
            ("window_sum", &key),
            || on_backend!(&self.store, backend => backend.window_sum(&key, width)),
        )
    }

    /// Empties the window, and returns whether there was anything in it. It deletes the key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let logins = store.window("logins", Duration::from_secs(60));
    /// logins.add(2)?;
    /// assert!(logins.reset()?);
    /// assert_eq!(logins.sum()?, 0);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](StateStore#values).
    pub fn reset(&self) -> Result<bool> {
        execute::delete(&self.store, &self.key)
    }
}

/// The latest time that an event may have, in milliseconds since 1970: a later one counts as this. The number of its
/// bucket is exact in a script on the server.
const LATEST: u64 = 1 << 47;

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("key", &self.key).field("width", &self.width).finish_non_exhaustive()
    }
}
