//! Owns the handle on a counter. Its methods call those of [`StateStore`] that they name.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::clock::Ttl;
use crate::error::Result;
use crate::store::handle::declare::{argument, delegate, handle};
use crate::store::state_store::StateStore;

handle! {
    /// A counter under one key: see [`StateStore::counter`].
    Counter
}

impl Counter {
    delegate! {
        /// Reads the number; `None` if the counter is absent. See [`StateStore::get`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// visits.incr(3)?;
        /// assert_eq!(visits.get()?, Some(3));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if the value is not an `i64`; [`WrongType`](crate::Error::WrongType) if
        /// the key holds another kind.
        get() -> Option<i64> = get;

        /// Adds to the counter, which begins at 0, and returns the new number. See [`StateStore::incr`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// assert_eq!(visits.incr(1)?, 1);
        /// assert_eq!(visits.incr(1)?, 2);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow),
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        incr(by: i64) -> i64 = incr;

        /// Subtracts from the counter, and returns the new number, which may be negative. See [`StateStore::decr`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let seats = store.counter("seats");
        /// seats.incr(40)?;
        /// assert_eq!(seats.decr(2)?, 38);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow),
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        decr(by: i64) -> i64 = decr;

        /// Adds to the counter; the call that creates it sets its time to live. See [`StateStore::incr_with_ttl`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let calls = store.counter("calls:anna");
        /// let minute = Duration::from_secs(60);
        /// assert!(calls.incr_with_ttl(1, minute)? <= 100, "too many calls in a minute");
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow),
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind,
        /// [`InvalidTtl`](crate::Error::InvalidTtl).
        incr_with_ttl(by: i64, ttl: Duration) -> i64 = incr_with_ttl;

        /// Removes the whole counter, and returns whether it existed. See [`StateStore::delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// visits.incr(1)?;
        /// assert!(visits.delete()?);
        /// assert!(!visits.delete()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        delete() -> bool = delete;

        /// Returns how long the counter still lives; `None` if it is absent. See [`StateStore::ttl`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// visits.incr(1)?;
        /// assert_eq!(visits.ttl()?, Some(millpond::Ttl::Never));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        ttl() -> Option<Ttl> = ttl;

        /// Gives the counter a time to live of `ttl`, counted from now; returns `false` if it is absent. See
        /// [`StateStore::expire`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// visits.incr(1)?;
        /// assert!(visits.expire(Duration::from_secs(3600))?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidTtl`](crate::Error::InvalidTtl), and the [common ones](StateStore#values).
        expire(ttl: Duration) -> bool = expire;

        /// Removes the time to live of the counter, and returns whether it had one. See [`StateStore::persist`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let visits = store.counter("visits");
        /// visits.incr(1)?;
        /// visits.expire(Duration::from_secs(3600))?;
        /// assert!(visits.persist()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        persist() -> bool = persist;
    }
}
