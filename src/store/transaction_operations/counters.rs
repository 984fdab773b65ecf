//! Owns the operations of a [`Transaction`] on counters: values whose text is an integer.

use std::time::Duration;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::store::execute;
use crate::store::transaction::Transaction;

/// # Counters
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Adds to a counter, as [`StateStore::incr`](crate::StateStore::incr) does.
    pub fn incr(&mut self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::incr(self, key.as_ref(), by)
    }

    /// Subtracts from a counter, as [`StateStore::decr`](crate::StateStore::decr) does.
    pub fn decr(&mut self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::decr(self, key.as_ref(), by)
    }

    /// Adds to a counter that lives for a limited time, as
    /// [`StateStore::incr_with_ttl`](crate::StateStore::incr_with_ttl) does.
    pub fn incr_with_ttl(&mut self, key: impl AsRef<str>, by: i64, ttl: Duration) -> Result<i64> {
        execute::incr_with_ttl(self, key.as_ref(), by, ttl)
    }
}
