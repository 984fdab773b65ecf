//! Owns the atomic steps of a [`Transaction`] on one value.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::json;
use crate::store::cas_loop::CasStep;
use crate::store::execute::{self, Execute};
use crate::store::transaction::Transaction;

/// # Atomic steps
impl Transaction<'_> {
    /// Sets the value of a key that is absent for this transaction, and returns whether it did. See
    /// [`StateStore::set_if_not_exists`](crate::StateStore::set_if_not_exists).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert!(tx.set_if_not_exists("seen:event-17", true, None)?);
    /// assert!(!tx.set_if_not_exists("seen:event-17", true, None)?); // a duplicate
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`InvalidTtl`](Error::InvalidTtl).
    pub fn set_if_not_exists(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: impl Into<Option<Duration>>,
    ) -> Result<bool> {
        execute::set_if_not_exists(self, key.as_ref(), &value, ttl.into())
    }

    /// Replaces the value of a key if it is the expected one for this transaction, and returns whether it did. It is
    /// compared once: if another writer changes it before the commit, the closure runs again. See
    /// [`StateStore::compare_and_set`](crate::StateStore::compare_and_set).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("leader", "anna")?;
    /// assert!(tx.compare_and_set("leader", Some("anna"), "ben")?);
    /// assert!(!tx.compare_and_set("leader", Some("anna"), "carl")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn compare_and_set<T: Serialize + ?Sized>(
        &mut self,
        key: impl AsRef<str>,
        expected: Option<&T>,
        new: &T,
    ) -> Result<bool> {
        let mut target = self;
        let key = target.context.key(key.as_ref())?;
        let found = target.read(&key)?;
        let expected = expected.map(|expected| json::encode(&key, expected)).transpose()?;
        let new = target.context.encode(&key, new)?;
        target.complete(key, CasStep::compare(found, expected.as_ref(), &new))
    }

    /// Removes the value of a key when the transaction is committed, and returns the one that this transaction sees.
    /// See [`StateStore::get_and_delete`](crate::StateStore::get_and_delete).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("code:anna", 4711)?;
    /// assert_eq!(tx.get_and_delete("code:anna")?, Some(4711));
    /// assert!(!tx.contains("code:anna")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`; [`WrongType`](Error::WrongType) if the key holds another
    /// kind.
    pub fn get_and_delete<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get_and_delete(self, key.as_ref())
    }

    /// Sets the value of a key when the transaction is committed, and returns the one that this transaction saw
    /// before. See [`StateStore::get_and_put`](crate::StateStore::get_and_put).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("door", "open")?;
    /// assert_eq!(tx.get_and_put::<String>("door", "shut")?.as_deref(), Some("open"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge);
    /// [`Decode`](Error::Decode) if the previous value is not a `T`; [`WrongType`](Error::WrongType) if the key holds
    /// another kind.
    pub fn get_and_put<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<Option<T>> {
        execute::get_and_put(self, key.as_ref(), &value, None)
    }

    /// Sets the value of a key for the time `ttl` when the transaction is committed, and returns the one that this
    /// transaction saw before. See
    /// [`StateStore::get_and_put_with_ttl`](crate::StateStore::get_and_put_with_ttl).
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("code:anna", 4711)?;
    /// assert_eq!(tx.get_and_put_with_ttl("code:anna", 1234, Duration::from_secs(60))?, Some(4711));
    /// assert!(matches!(tx.ttl("code:anna")?, Some(Ttl::In(_))));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`get_and_put`](Self::get_and_put), and [`InvalidTtl`](Error::InvalidTtl).
    pub fn get_and_put_with_ttl<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: Duration,
    ) -> Result<Option<T>> {
        execute::get_and_put(self, key.as_ref(), &value, Some(ttl))
    }

    /// Replaces the value of a key by the one that `f` makes of it. `f` runs once for each run of the transaction.
    /// See [`StateStore::modify`](crate::StateStore::modify).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("highest", 5)?;
    /// let highest = tx.modify("highest", |known: Option<u32>| known.max(Some(7)))?;
    /// assert_eq!(highest, Some(7));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`; [`Encode`](Error::Encode) if the value cannot be written
    /// as JSON, [`TooLarge`](Error::TooLarge), [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn modify<T: Serialize + DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        f: impl FnOnce(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.try_modify(key, |found| Ok(f(found)))
    }

    /// Replaces the value of a key by the one that `f` makes of it, unless `f` fails: then the value stays, and the
    /// transaction may go on. See [`StateStore::try_modify`](crate::StateStore::try_modify).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("stock", 2)?;
    /// let refused = tx.try_modify("stock", |stock: Option<u32>| match stock {
    ///     Some(stock) if stock >= 3 => Ok(Some(stock - 3)),
    ///     _ => Err(millpond::Error::abort("not enough")),
    /// });
    /// assert!(refused.is_err_and(|error| error.is_aborted()));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of `f`, and those of [`modify`](Self::modify).
    pub fn try_modify<T: Serialize + DeserializeOwned, E: From<Error>>(
        &mut self,
        key: impl AsRef<str>,
        f: impl FnOnce(Option<T>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut target = self;
        let key = target.context.key(key.as_ref())?;
        let found = target.read(&key)?;
        let step = CasStep::modify(&target.context, &key, found, f)?;
        Ok(target.complete(key.clone().into_owned(), step)?)
    }

    /// Replaces the value of a key by the one that `f` makes of it, for the time `ttl`. See
    /// [`StateStore::modify_with_ttl`](crate::StateStore::modify_with_ttl).
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// let minute = Duration::from_secs(60);
    /// tx.modify_with_ttl("clicks:7", minute, |clicks: Option<u32>| Some(clicks.unwrap_or(0) + 1))?;
    /// assert!(matches!(tx.ttl("clicks:7")?, Some(Ttl::In(_))));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`modify`](Self::modify), and [`InvalidTtl`](Error::InvalidTtl).
    pub fn modify_with_ttl<T: Serialize + DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        ttl: Duration,
        f: impl FnOnce(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        Millis::new(ttl)?;
        let outcome = self.modify(key.as_ref(), f)?;
        if outcome.is_some() {
            self.expire(key, ttl)?;
        }
        Ok(outcome)
    }

    /// Changes the value of a key in place, or the one that `default` makes if the key is absent, and returns the new
    /// value. Both closures run once for each run of the transaction. See
    /// [`StateStore::upsert`](crate::StateStore::upsert).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.upsert("readers", Vec::new, |readers| readers.push("anna".to_owned()))?;
    /// assert_eq!(tx.get::<Vec<String>>("readers")?.unwrap(), ["anna"]);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`; [`Encode`](Error::Encode) if the value cannot be written
    /// as JSON, [`TooLarge`](Error::TooLarge), [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn upsert<T: Serialize + DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        default: impl FnOnce() -> T,
        change: impl FnOnce(&mut T),
    ) -> Result<T> {
        let mut target = self;
        let key = target.context.key(key.as_ref())?;
        let found = target.read(&key)?;
        let step = CasStep::upsert(&target.context, &key, found, default, change)?;
        target.complete(key, step)
    }
}
