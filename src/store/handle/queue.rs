//! Owns the handle on a queue. Its methods call those of [`StateStore`] that they name.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::clock::Ttl;
use crate::error::{Error, Result};
use crate::store::handle::declare::{argument, delegate, handle};
use crate::store::leases::Leased;
use crate::store::state_store::StateStore;

handle! {
    /// A queue under one key: see [`StateStore::queue`].
    Queue<T> { dead_letters: Option<(u64, String)> }
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    delegate! {
        /// Adds a value at the end, and returns the new length. See [`StateStore::push_back`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// assert_eq!(readings.push_back(20.5)?, 1);
        /// assert_eq!(readings.push_back(21.0)?, 2);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind.
        push_back(value: impl Borrow<T> => T) -> u64 = push_back;

        /// Adds a value at the front, before all others, and returns the new length. See [`StateStore::push_front`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back(20.5)?;
        /// readings.push_front(19.0)?;
        /// assert_eq!(readings.pop_front()?, Some(19.0));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind.
        push_front(value: impl Borrow<T> => T) -> u64 = push_front;

        /// Adds a value at the end once `delay` has passed. See [`StateStore::push_after`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let jobs = store.queue::<String>("jobs");
        /// jobs.push_after("wash".to_owned(), Duration::from_secs(3600))?;
        /// assert!(jobs.lease(Duration::from_secs(30))?.is_none()); // not yet
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Those of [`push_back`](Self::push_back), [`InvalidTtl`](crate::Error::InvalidTtl) for the delay, and
        /// [`Unavailable`](crate::Error::Unavailable) during an outage of Redis.
        push_after(value: impl Borrow<T> => T, delay: Duration) -> () = push_after;

        /// Adds many values at the end, all or none, and returns the new length. See [`StateStore::push_back_many`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// assert_eq!(readings.push_back_many([20.5, 21.0, 21.5])?, 3);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`WrongType`](crate::Error::WrongType) if the key holds another
        /// kind.
        push_back_many(values: impl IntoIterator<Item = T>) -> u64 = push_back_many;

        /// Removes the first value and returns it; `None` if there is none. See [`StateStore::pop_front`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back_many([20.5, 21.0])?;
        /// assert_eq!(readings.pop_front()?, Some(20.5));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode), after the removal, if the value is not a `T`: its field `raw` holds the
        /// removed bytes; [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        pop_front() -> Option<T> = pop_front;

        /// Removes the last value and returns it; `None` if there is none. See [`StateStore::pop_back`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back_many([20.5, 21.0])?;
        /// assert_eq!(readings.pop_back()?, Some(21.0));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode), after the removal, if the value is not a `T`: its field `raw` holds the
        /// removed bytes; [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        pop_back() -> Option<T> = pop_back;

        /// Removes the first value and returns it, and waits for one if there is none; returns `None` after
        /// `timeout`. See [`StateStore::pop_front_wait`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// assert_eq!(readings.pop_front_wait(Duration::from_millis(5))?, None);
        /// readings.push_back(20.5)?;
        /// assert_eq!(readings.pop_front_wait(Duration::from_secs(5))?, Some(20.5));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode), after the removal, if the value is not a `T`: its field `raw` holds the
        /// removed bytes; [`WrongType`](crate::Error::WrongType) if the key holds another kind; on Redis
        /// [`Unavailable`](crate::Error::Unavailable) if the server becomes unreachable meanwhile.
        pop_front_wait(timeout: Duration) -> Option<T> = pop_front_wait;

        /// Counts the values that are neither leased nor delayed. See [`StateStore::queue_len`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back_many([20.5, 21.0])?;
        /// assert_eq!(readings.len()?, 2);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        len() -> u64 = queue_len;

        /// Reads the values at these positions, counted from the front, without removing them. See
        /// [`StateStore::queue_range`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back_many([20.5, 21.0, 21.5])?;
        /// assert_eq!(readings.range(1..)?, [21.0, 21.5]);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if a value is not a `T`; [`WrongType`](crate::Error::WrongType) if the
        /// key holds another kind.
        range(range: impl RangeBounds<u64>) -> Vec<T> = queue_range;

        /// Drops the first values until at most `max` remain, and returns how many were dropped. See
        /// [`StateStore::queue_trim`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back_many([20.5, 21.0, 21.5])?;
        /// assert_eq!(readings.trim(2)?, 1);
        /// assert_eq!(readings.range(..)?, [21.0, 21.5]);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        trim(max: u64) -> u64 = queue_trim;

        /// Removes the whole queue, and returns whether it existed. See [`StateStore::delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back(20.5)?;
        /// assert!(readings.clear()?);
        /// assert!(!readings.clear()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        clear() -> bool = delete;

        /// Returns how long the queue still lives; `None` if it is absent. See [`StateStore::ttl`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back(20.5)?;
        /// assert_eq!(readings.ttl()?, Some(millpond::Ttl::Never));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        ttl() -> Option<Ttl> = ttl;

        /// Gives the queue a time to live of `ttl`, counted from now; returns `false` if it is absent. See
        /// [`StateStore::expire`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back(20.5)?;
        /// assert!(readings.expire(Duration::from_secs(3600))?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidTtl`](crate::Error::InvalidTtl), and the [common ones](StateStore#values).
        expire(ttl: Duration) -> bool = expire;

        /// Removes the time to live of the queue, and returns whether it had one. See [`StateStore::persist`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let readings = store.queue::<f64>("readings");
        /// readings.push_back(20.5)?;
        /// readings.expire(Duration::from_secs(3600))?;
        /// assert!(readings.persist()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        persist() -> bool = persist;
    }

    /// Returns the value that a [`lease`](Self::lease) could not decode, as bytes, so that its lease can be ended;
    /// `None` for any other error. See [`StateStore::undecoded`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("numbers", "not a number")?;
    /// let numbers = store.queue::<u64>("numbers");
    /// if let Err(error) = numbers.lease(Duration::from_secs(30)) {
    ///     let bytes = numbers.undecoded(&error).expect("a value that is not a number");
    ///     assert!(bytes.ack()?);
    /// }
    /// assert!(numbers.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn undecoded(&self, error: &Error) -> Option<Leased<Bytes>> {
        self.store.undecoded(error)
    }

    /// Returns whether the queue has no values, besides those that are leased.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let readings = store.queue::<f64>("readings");
    /// assert!(readings.is_empty()?);
    /// readings.push_back(20.5)?;
    /// assert!(!readings.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// Leases the first value for the time `lease`; returns `None` if there is none. See [`StateStore::lease`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// # let jobs = store.queue::<String>("jobs");
    /// jobs.push_back("wash".to_owned())?;
    /// let job = jobs.lease(Duration::from_secs(30))?.expect("a job");
    /// assert_eq!(job.value(), "wash"); // … do it …
    /// assert!(job.ack()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for the lease, [`WrongType`](crate::Error::WrongType) if the key
    /// holds another kind; [`Decode`](crate::Error::Decode) if the value is not a `T`: it stays leased, and
    /// [`undecoded`](Self::undecoded) gives it out as bytes.
    pub fn lease(&self, lease: Duration) -> Result<Option<Leased<T>>> {
        self.store.lease_with(&self.key, lease, self.dead_letters())
    }

    /// Leases the first value, and waits for one if there is none; returns `None` after `timeout`. See
    /// [`StateStore::lease_wait`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// # let jobs = store.queue::<String>("jobs");
    /// let (lease, wait) = (Duration::from_secs(30), Duration::from_millis(5));
    /// assert!(jobs.lease_wait(lease, wait)?.is_none());
    /// jobs.push_back("wash".to_owned())?;
    /// assert!(jobs.lease_wait(lease, wait)?.is_some());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for the lease, [`WrongType`](crate::Error::WrongType) if the key
    /// holds another kind; [`Decode`](crate::Error::Decode) if the value is not a `T`: it stays leased, and
    /// [`undecoded`](Self::undecoded) gives it out as bytes.
    pub fn lease_wait(&self, lease: Duration, timeout: Duration) -> Result<Option<Leased<T>>> {
        self.store.lease_wait_with(&self.key, lease, timeout, self.dead_letters())
    }

    /// Makes the leases of this handle put values aside that were handed out `attempts` times and came back each time. If
    /// such a value is the next one, [`lease`](Self::lease) and [`lease_wait`](Self::lease_wait) move it to the front of
    /// the queue `name`, in the namespace of the store, and hand out the one behind it, all in one step.
    ///
    /// A moved value keeps its bytes, also if no consumer can decode them, and its number of
    /// [attempts](Leased::attempts), from which leases of the other queue go on. One lease moves at most 1000 values. All
    /// consumers of a queue should use the option alike, since a lease without it hands the value out. During an
    /// outage of Redis nothing is moved.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let jobs = store.queue::<String>("jobs").dead_letter_after(2, "jobs:dead");
    /// jobs.push_back("divide by zero".to_owned())?;
    /// let mut attempts = 0;
    /// while let Some(job) = jobs.lease(Duration::from_secs(30))? {
    ///     attempts += 1;
    ///     assert!(job.nack()?); // … it failed …
    /// }
    /// assert_eq!(attempts, 2);
    /// assert_eq!(store.queue_range::<String>("jobs:dead", ..)?, ["divide by zero"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use = "the option belongs to the handle that is returned"]
    pub fn dead_letter_after(mut self, attempts: u64, name: impl Into<String>) -> Self {
        self.dead_letters = Some((attempts, name.into()));
        self
    }

    fn dead_letters(&self) -> Option<(u64, &str)> {
        self.dead_letters.as_ref().map(|(attempts, name)| (*attempts, name.as_str()))
    }
}
