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
impl Transaction<'_> {
    /// Returns how long an entry still lives, by the time at which this run of the transaction began; `None` if the
    /// key is absent. See [`StateStore::ttl`](crate::StateStore::ttl).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("rule:limit", 250)?;
    /// assert_eq!(tx.ttl("rule:limit")?, Some(millpond::Ttl::Never));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](crate::StateStore#values).
    pub fn ttl(&mut self, key: impl AsRef<str>) -> Result<Option<Ttl>> {
        let presence = self.presence(key.as_ref())?;
        Ok(presence.map(|presence| {
            presence.deadline.map_or(Ttl::Never, |deadline| Ttl::In(deadline.remaining(self.now)))
        }))
    }

    /// Gives an entry a time to live when the transaction is committed; returns `false` if the key is absent for this
    /// transaction. See [`StateStore::expire`](crate::StateStore::expire).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("cart:7", "apples", 3)?;
    /// assert!(tx.expire("cart:7", Duration::from_secs(1800))?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](Error::InvalidTtl).
    pub fn expire(&mut self, key: impl AsRef<str>, ttl: Duration) -> Result<bool> {
        execute::expire(self, key.as_ref(), ttl)
    }

    /// Removes the time to live of an entry when the transaction is committed, and returns whether it had one for
    /// this transaction. See [`StateStore::persist`](crate::StateStore::persist).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put_with_ttl("draft:7", "Dear all", Duration::from_secs(600))?;
    /// assert!(tx.persist("draft:7")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](crate::StateStore#values).
    pub fn persist(&mut self, key: impl AsRef<str>) -> Result<bool> {
        execute::persist(self, key.as_ref())
    }

    /// Reads a value, and gives its entry the time to live `ttl` when the transaction is committed. See
    /// [`StateStore::get_and_touch`](crate::StateStore::get_and_touch).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// let half_hour = Duration::from_secs(1800);
    /// tx.put("session:7", "anna")?;
    /// assert_eq!(tx.get_and_touch::<String>("session:7", half_hour)?.as_deref(), Some("anna"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](Error::InvalidTtl), [`Decode`](Error::Decode) if the value is not a `T`,
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn get_and_touch<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        ttl: Duration,
    ) -> Result<Option<T>> {
        execute::get_and_touch(self, key.as_ref(), ttl)
    }
}
