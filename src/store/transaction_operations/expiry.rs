//! Owns the operations of a [`Transaction`] on expiry: how long entries live.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::Ttl;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::store::execute;
use crate::store::transaction::Transaction;

/// # Expiry
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Returns how long an entry still lives, as [`StateStore::ttl`](crate::StateStore::ttl) does.
    pub fn ttl(&mut self, key: impl AsRef<str>) -> Result<Option<Ttl>> {
        let presence = self.presence(key.as_ref())?;
        Ok(presence.map(|presence| {
            presence.deadline.map_or(Ttl::Never, |deadline| Ttl::In(deadline.remaining(self.now)))
        }))
    }

    /// Gives an entry a time to live, as [`StateStore::expire`](crate::StateStore::expire) does.
    pub fn expire(&mut self, key: impl AsRef<str>, ttl: Duration) -> Result<bool> {
        execute::expire(self, key.as_ref(), ttl)
    }

    /// Removes the time to live of an entry, as [`StateStore::persist`](crate::StateStore::persist) does.
    pub fn persist(&mut self, key: impl AsRef<str>) -> Result<bool> {
        execute::persist(self, key.as_ref())
    }

    /// Reads a value and gives its entry a time to live, as
    /// [`StateStore::get_and_touch`](crate::StateStore::get_and_touch) does.
    pub fn get_and_touch<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        ttl: Duration,
    ) -> Result<Option<T>> {
        execute::get_and_touch(self, key.as_ref(), ttl)
    }
}
