//! Owns the documented end of a lease as a part of a [`Transaction`]. Knows nothing of how a lease is stored.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::leases::Leased;
use crate::store::transaction::Transaction;

/// # Leases
impl Transaction<'_> {
    /// Removes a leased value for good, in one step with the writes of the transaction. Returns `false` if the lease had
    /// ended before: it had expired and the value was returned to the queue, or it was ended by an earlier call.
    ///
    /// So the result of a job is stored if and only if its lease ends, and of two consumers that work on the same value,
    /// because the lease of the first one has expired, only one stores a result. If the transaction is not committed,
    /// the lease goes on. If the lease is lost before the commit, the closure runs again, as after any change of what
    /// it has read.
    ///
    /// On Redis, any change of the leases of the same queue makes the closure run again, as a change of a key that it
    /// has read does. If many consumers share a queue, call this at the end of the closure: then it rarely happens.
    ///
    /// ```
    /// # use millpond::Error;
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// while let Some(mail) = store.lease::<String>("mails", Duration::from_secs(30))? {
    ///     let length = mail.value().len(); // … work on it …
    ///     store.transaction(|tx| {
    ///         tx.put("length", length)?;
    ///         tx.incr("done", 1)?;
    ///         if !tx.ack(&mail)? {
    ///             return Err(Error::abort("another consumer has the mail now"));
    ///         }
    ///         Ok(())
    ///     })?;
    /// }
    /// assert_eq!(store.get::<usize>("length")?, Some(5));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](Error::Unsupported) if another store granted the lease, since a transaction commits in one store
    /// only; clones and namespaces of a store are the same store. Otherwise as [`Leased::ack`].
    #[must_use = "after `false`, the value is handed out again, and the transaction should be aborted"]
    pub fn ack<T>(&mut self, leased: &Leased<T>) -> Result<bool> {
        if !Arc::ptr_eq(&self.context.shared, &leased.context().shared) {
            let queue: &str = leased.queue();
            return Err(Error::Unsupported {
                what: format!(
                    "a transaction cannot end a lease on the queue {queue:?} that another store granted, since it commits in one store only"
                ),
            });
        }
        self.end_lease(leased.queue(), leased.id())
    }
}
