//! Owns the operations of a [`Transaction`] on counters: values whose text is an integer.

use std::time::Duration;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::store::execute;
use crate::store::transaction::Transaction;

/// # Counters
impl Transaction<'_> {
    /// Adds to a counter when the transaction is committed, and returns the new number. On Redis the counter is read
    /// for that, so the closure runs again if another writer changes it. See
    /// [`StateStore::incr`](crate::StateStore::incr).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back("orders", "apples")?;
    /// assert_eq!(tx.incr("order count", 1)?, 1); // never one without the other
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](Error::NotAnInteger), [`Overflow`](Error::Overflow), [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn incr(&mut self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::incr(self, key.as_ref(), by)
    }

    /// Subtracts from a counter when the transaction is committed, and returns the new number: with it the closure
    /// can decide. See [`StateStore::decr`](crate::StateStore::decr).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("seats", 1)?;
    /// assert_eq!(tx.decr("seats", 2)?, -1); // return `Error::abort` now, and nothing is written
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](Error::NotAnInteger), [`Overflow`](Error::Overflow), [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn decr(&mut self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::decr(self, key.as_ref(), by)
    }

    /// Adds to a counter, which gets the time to live `ttl` if this transaction creates it. See
    /// [`StateStore::incr_with_ttl`](crate::StateStore::incr_with_ttl).
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// let calls = tx.incr_with_ttl("calls:anna", 1, Duration::from_secs(60))?;
    /// assert!(calls <= 100);
    /// assert!(matches!(tx.ttl("calls:anna")?, Some(Ttl::In(_))));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](Error::NotAnInteger), [`Overflow`](Error::Overflow), [`WrongType`](Error::WrongType) if the
    /// key holds another kind, [`InvalidTtl`](Error::InvalidTtl).
    pub fn incr_with_ttl(&mut self, key: impl AsRef<str>, by: i64, ttl: Duration) -> Result<i64> {
        execute::incr_with_ttl(self, key.as_ref(), by, ttl)
    }
}
