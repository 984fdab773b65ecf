//! Owns the documented group of queues: values in order under one key.

use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::Result;
use crate::json;
use crate::op::{End, LeaseAction, Op};
use crate::stats::counter::Operation;
use crate::store::execute;
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;

/// # Queues
///
/// A queue holds values in order; on Redis it is a list. Pushing and popping cost the same whatever its
/// length. The time to live is that of the key: the push that creates the queue gives it `default_ttl`,
/// later ones keep it. A queue without values is absent.
///
/// # To pop or to lease
/// A value that was popped is gone from the store. If the program dies, or the reply of Redis is lost, the value is
/// lost altogether: **at most once**. Pop values that may be lost, or that their producer puts back if the result
/// is missing. [`lease`](Self::lease) only leases a value for a time, and the value comes back unless
/// it is [acknowledged](crate::Leased::ack): **at least once**. Lease values that must not be lost,
/// and make sure that processing one twice does no harm.
///
/// All of these operations return [`WrongType`](crate::Error::WrongType) if the key holds another kind; then
/// nothing is changed. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves a push or a pop in doubt:
/// [`Unavailable`](crate::Error::Unavailable) says whether it may have been applied. With
/// [`exactly_once`](crate::RedisOptions::exactly_once) the server is asked, and it is applied once.
impl StateStore {
    /// Adds a value at the end, and returns the new length.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.push_back("jobs", "wash")?;
    /// store.push_back("jobs", "dry")?;
    /// assert_eq!(store.pop_front::<String>("jobs")?.as_deref(), Some("wash"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    pub fn push_back(&self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Back, value)
    }

    /// Adds a value at the front, and returns the new length.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("jobs", "wash")?;
    /// assert_eq!(store.push_front("jobs", "put out the fire")?, 2);
    /// assert_eq!(store.pop_front::<String>("jobs")?.as_deref(), Some("put out the fire"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`push_back`](Self::push_back).
    pub fn push_front(&self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Front, value)
    }

    /// Adds a value at the end once `delay` has passed: for a job that must not begin before, or is tried again later.
    ///
    /// The value is stored at once, so that no crash loses it, and until it is due nobody sees it: pops, leases, listings
    /// and [`queue_len`](Self::queue_len) pass it over. The first [`lease`](Self::lease) or
    /// [`lease_wait`](Self::lease_wait) after that adds it at the end of the queue, behind values that were due before it;
    /// so a queue with delayed values needs consumers that lease. One lease adds at most 1000 values, those that were due
    /// first. A delay of zero is over at once.
    ///
    /// Like leases, delayed values are no part of the key: deleting it leaves them alone, and [`clear`](Self::clear) and
    /// [`delete_prefix`](Self::delete_prefix) drop them. On Redis they go by the clock of the server, under
    /// `{key}:__millpond:delayed`; during an outage this is refused, and nothing becomes due.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use millpond::{ManualClock, OpenOptions, StateConfig};
    /// # let clock = Arc::new(ManualClock::default());
    /// # let store = OpenOptions::new().clock(clock.clone()).with_config(StateConfig::default())?;
    /// let lease = Duration::from_secs(30);
    /// store.push_after("mails", "see you tomorrow", Duration::from_secs(3600))?;
    /// assert!(store.lease::<String>("mails", lease)?.is_none());
    /// # clock.advance(Duration::from_secs(3600));
    /// // … an hour later …
    /// assert!(store.lease::<String>("mails", lease)?.is_some());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`push_back`](Self::push_back); [`InvalidTtl`](crate::Error::InvalidTtl) for a delay of more than 1000 years;
    /// [`Unavailable`](crate::Error::Unavailable) during an outage of Redis.
    pub fn push_after(&self, key: impl AsRef<str>, value: impl Serialize, delay: Duration) -> Result<()> {
        let key = self.context().key(key.as_ref())?;
        let value = self.context().encode(&key, &value)?;
        let delay = if delay.is_zero() { Millis::LEAST } else { Millis::new(delay)? };
        let op = Op { key, action: LeaseAction::PushDelayed { value, delay } };
        let name = op.key.clone();
        let push = || on_backend!(self, backend => backend.apply_lease(op, None));
        self.counted(Operation::Other, ("push_after", &name), push)?.flag().map(drop)
    }

    /// Adds many values at the end, all or none, and returns the new length. On Redis they are sent in
    /// one command: for more than some hundred thousand values, call it several times.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert_eq!(store.push_back_many("jobs", ["wash", "dry", "fold"])?, 3);
    /// assert_eq!(store.pop_front::<String>("jobs")?.as_deref(), Some("wash"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`push_back`](Self::push_back).
    pub fn push_back_many<V: Serialize>(
        &self,
        key: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        execute::push_back_many(self, key.as_ref(), values)
    }

    /// Removes the first value and returns it; `None` if there is none. If the program dies, the value is lost;
    /// [`lease`](Self::lease) does not lose it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back_many("readings", [20.5, 21.0])?;
    /// assert_eq!(store.pop_front("readings")?, Some(20.5));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), after the removal: its field `raw` holds the removed bytes.
    pub fn pop_front<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Front)
    }

    /// Removes the last value and returns it; `None` if there is none.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back_many("undo", ["typed a", "typed b"])?;
    /// assert_eq!(store.pop_back::<String>("undo")?.as_deref(), Some("typed b"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front).
    pub fn pop_back<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Back)
    }

    /// Removes the first value and returns it, and waits for one if there is none; returns `None` after
    /// `timeout`, which is real time whatever the clock of the store.
    ///
    /// On Memory and File a push wakes it. On Redis it waits with `BLPOP`, on one of the
    /// `redis.wait_connections` connections that are reserved for this; with `redis.exactly_once` it polls, at
    /// intervals of at most 50 milliseconds. Closing the store ends the wait.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("readings", 20.5)?;
    /// assert_eq!(store.pop_front_wait("readings", Duration::from_secs(5))?, Some(20.5));
    /// assert_eq!(store.pop_front_wait::<f64>("readings", Duration::from_millis(5))?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front). On Redis [`Unavailable`](crate::Error::Unavailable) if the
    /// server becomes unreachable meanwhile.
    pub fn pop_front_wait<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        timeout: Duration,
    ) -> Result<Option<T>> {
        let key = self.context().key(key.as_ref())?;
        let found = self.counted_wait(
            Operation::Delete,
            || on_backend!(self, backend => backend.pop_wait(&key, deadline_after(timeout))),
        )?;
        json::decode_found(&key, found)
    }

    /// Counts the values. Those that are [leased](Self::lease) or [delayed](Self::push_after) are not counted.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back_many("jobs", ["wash", "dry"])?;
    /// assert_eq!(store.queue_len("jobs")?, 2);
    /// assert_eq!(store.queue_len("other jobs")?, 0);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only those of [every queue operation](#queues).
    pub fn queue_len(&self, key: impl AsRef<str>) -> Result<u64> {
        execute::queue_len(self, key.as_ref())
    }

    /// Reads the values at these positions, counted from the front, without removing them. Positions beyond
    /// the end are left out.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back_many("log", ["start", "load", "serve"])?;
    /// assert_eq!(store.queue_range::<String>("log", ..2)?, ["start", "load"]);
    /// assert_eq!(store.queue_range::<String>("log", 2..)?, ["serve"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first value that is not a `T`.
    pub fn queue_range<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        execute::queue_range(self, key.as_ref(), &range)
    }

    /// Drops the first values until at most `max` remain, and returns how many were dropped: for a list of
    /// the last `max` values.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back_many("last readings", 1..=12)?;
    /// assert_eq!(store.queue_trim("last readings", 10)?, 2);
    /// assert_eq!(store.queue_range::<u32>("last readings", ..1)?, [3]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType).
    pub fn queue_trim(&self, key: impl AsRef<str>, max: u64) -> Result<u64> {
        execute::queue_trim(self, key.as_ref(), max)
    }
}
