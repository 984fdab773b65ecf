//! Queues: values in order under one key.

use std::ops::RangeBounds;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::error::Result;
use crate::json;
use crate::op::{End, EntryAction, Op, Query};
use crate::store::state_store::{StateStore, on_backend};

/// A time-out that is longer than any wait.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// # Queues
///
/// A queue holds values in order; on Redis it is a list. Pushing and popping cost the same whatever its
/// length. Its time to live is that of the key: the push that creates the queue gives it `default_ttl`,
/// later ones keep it. A queue without values is not there.
///
/// # To pop or to take
/// A value that was popped is gone from the store, and if the program dies, or on Redis the answer is
/// lost on its way, it is gone altogether: **at most once**. Pop what may be lost, or what is put back
/// by whoever misses it. [`take`](Self::take) only hands it out for the time of a lease, and it comes back
/// where nobody says that it is [done](crate::Taken::done): **at least once**. Take what must not be lost,
/// and make sure that doing it twice does no harm.
///
/// All of these return [`WrongType`](crate::Error::WrongType) where the key holds something else; nothing is
/// changed then. On Redis a push or a pop is never repeated after a lost answer:
/// [`Unavailable`](crate::Error::Unavailable) says whether it may have been applied. With
/// [`exactly_once`](crate::RedisOptions::exactly_once) it is, and is done once.
impl StateStore {
    /// Adds a value at the end, and tells how many there are then.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// store.push_back("jobs", "wash")?;
    /// store.push_back("jobs", "dry")?;
    /// assert_eq!(store.pop_front::<String>("jobs")?.as_deref(), Some("wash"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    pub fn push_back(&self, key: &str, value: impl Serialize) -> Result<u64> {
        self.run(self.context().push(key, End::Back, [value])?)?.count()
    }

    /// Adds a value in front, and tells how many there are then.
    ///
    /// # Errors
    /// As [`push_back`](Self::push_back).
    pub fn push_front(&self, key: &str, value: impl Serialize) -> Result<u64> {
        self.run(self.context().push(key, End::Front, [value])?)?.count()
    }

    /// Adds many values at the end, all or none, and tells how many there are then. On Redis they travel in
    /// one command: for more than some hundred thousand, call it several times.
    ///
    /// # Errors
    /// As [`push_back`](Self::push_back).
    pub fn push_back_many<V: Serialize>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        let op = self.context().push(key, End::Back, values)?;
        match op.action.is_empty() {
            true => self.queue_len(key),
            false => self.run(op)?.count(),
        }
    }

    /// Removes the first value and hands it out. [`take`](Self::take) does not lose it when the program
    /// dies.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), after the removal: `raw` holds what was removed.
    pub fn pop_front<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.pop(key, End::Front)
    }

    /// Removes the last value and hands it out.
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front).
    pub fn pop_back<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.pop(key, End::Back)
    }

    /// Removes the first value and hands it out, and waits for one where there is none; `None` after
    /// `timeout`, which is real time whatever the clock of the store.
    ///
    /// On Memory and File a push wakes it. On Redis it waits with `BLPOP`, on one of
    /// `redis.wait_connections` that are kept for this; with `redis.exactly_once` it looks again every few
    /// milliseconds, 50 at most. Closing the store ends the wait.
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front). On Redis [`Unavailable`](crate::Error::Unavailable) where the
    /// server goes away meanwhile.
    pub fn pop_front_wait<T: DeserializeOwned>(&self, key: &str, timeout: Duration) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        let found = on_backend!(self, backend => backend.pop_wait(&key, deadline_after(timeout)))?;
        json::decode_found(&key, found)
    }

    /// How many values there are. Those that are [taken](Self::take) are not counted.
    ///
    /// # Errors
    /// None of its own.
    pub fn queue_len(&self, key: &str) -> Result<u64> {
        let (begin, end) = self.ask(&self.context().key(key)?, &Query::Bounds)?.bounds()?;
        Ok(end.abs_diff(begin))
    }

    /// Reads the values at these places, counted from the front, without removing them. What lies beyond
    /// the end is left out.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first value that is no `T`.
    pub fn queue_range<T: DeserializeOwned>(
        &self,
        key: &str,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        let key = self.context().key(key)?;
        let items = self.ask(&key, &Query::items(&range))?.items()?;
        items.into_iter().map(|bytes| json::decode(&key, bytes)).collect()
    }

    /// Drops the first values until at most `max` are left, and tells how many were dropped: for a list of
    /// the last so many.
    ///
    /// # Errors
    /// As [`map_put`](Self::map_put) where on Redis an answer was lost.
    pub fn queue_trim(&self, key: &str, max: u64) -> Result<u64> {
        self.run(self.context().op(key, EntryAction::Trim { most: max })?)?.count()
    }

    fn pop<T: DeserializeOwned>(&self, key: &str, end: End) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        let found = self.run(Op { key: key.clone(), action: EntryAction::Pop { end } })?.found()?;
        json::decode_found(&key, found)
    }
}

/// When a wait ends.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout.min(FOREVER)).unwrap_or(now)
}
