//! Owns the documented group of counters: values whose text is an integer.

use std::time::Duration;

use crate::error::Result;
use crate::op::EntryAction;
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Counters
///
/// A counter is a value whose text is an integer: `get::<i64>` reads one, `put("k", 5)` sets one. Counting
/// returns an error and leaves the entry unchanged if the value is not an integer
/// ([`NotAnInteger`](crate::Error::NotAnInteger)), if the result does not fit into `i64`
/// ([`Overflow`](crate::Error::Overflow)), or if the key holds another kind
/// ([`WrongType`](crate::Error::WrongType)).
///
/// A [lost reply](crate::RedisStore#lost-replies) of Redis leaves an increment in doubt:
/// [`Unavailable`](crate::Error::Unavailable) says that it may have been applied. With
/// [`exactly_once`](crate::RedisOptions::exactly_once) the server is asked, and it is applied once.
impl StateStore {
    /// Adds to a counter and returns the new number. An absent counter begins at 0, with
    /// `default_ttl`; an existing one keeps its time to live.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert_eq!(store.incr("visits", 1)?, 1);
    /// assert_eq!(store.incr("visits", 2)?, 3);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow),
    /// [`WrongType`](crate::Error::WrongType).
    pub fn incr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::incr(self, key.as_ref(), by)
    }

    /// Subtracts from a counter and returns the new number; otherwise as [`incr`](Self::incr).
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("seats", 40)?;
    /// assert_eq!(store.decr("seats", 2)?, 38);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`incr`](Self::incr).
    pub fn decr(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::decr(self, key.as_ref(), by)
    }

    /// Adds to a counter that is gone `ttl` after its creation: only the call that creates the counter
    /// sets the time to live, in the same step.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let minute = Duration::from_secs(60);
    /// let calls = store.incr_with_ttl("calls:anna", 1, minute)?;
    /// assert!(calls <= 100, "too many calls in a minute");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`incr`](Self::incr), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn incr_with_ttl(&self, key: impl AsRef<str>, by: i64, ttl: Duration) -> Result<i64> {
        execute::incr_with_ttl(self, key.as_ref(), by, ttl)
    }

    /// Adds to many counters, pipelined on Redis, and returns the new numbers in order. It is not atomic.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let numbers = store.batch_incr([("visits:anna", 1), ("visits:ben", 1), ("visits:anna", 1)])?;
    /// assert_eq!(numbers, [1, 1, 2]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`incr`](Self::incr); [`Partial`](crate::Error::Partial) if some were changed. If one counter fails, the
    /// others of its chunk of 1000 are changed all the same.
    pub fn batch_incr<K: AsRef<str>>(&self, by: impl IntoIterator<Item = (K, i64)>) -> Result<Vec<i64>> {
        let ttl_if_created = self.context().default_ttl();
        let mut numbers = Vec::new();
        self.apply_chunks(
            by,
            |_, by| Ok(EntryAction::Incr { by, ttl_if_created }),
            |reply| {
                numbers.push(reply.number()?);
                Ok(())
            },
        )?;
        Ok(numbers)
    }
}
