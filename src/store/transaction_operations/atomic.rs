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
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Sets the value of an absent key, as
    /// [`StateStore::set_if_not_exists`](crate::StateStore::set_if_not_exists) does.
    pub fn set_if_not_exists(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: impl Into<Option<Duration>>,
    ) -> Result<bool> {
        execute::set_if_not_exists(self, key.as_ref(), &value, ttl.into())
    }

    /// Replaces the value of a key if it is the expected one, as
    /// [`StateStore::compare_and_set`](crate::StateStore::compare_and_set) does.
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

    /// Removes the value of a key and returns it, as
    /// [`StateStore::get_and_delete`](crate::StateStore::get_and_delete) does.
    pub fn get_and_delete<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get_and_delete(self, key.as_ref())
    }

    /// Sets the value of a key and returns the previous one, as
    /// [`StateStore::get_and_put`](crate::StateStore::get_and_put) does.
    pub fn get_and_put<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<Option<T>> {
        execute::get_and_put(self, key.as_ref(), &value)
    }

    /// Replaces the value of a key by the one that `f` makes of it, as
    /// [`StateStore::modify`](crate::StateStore::modify) does.
    pub fn modify<T: Serialize + DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        f: impl FnOnce(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.try_modify(key, |found| Ok(f(found)))
    }

    /// Replaces the value of a key by the one that `f` makes of it, unless `f` fails, as
    /// [`StateStore::try_modify`](crate::StateStore::try_modify) does.
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

    /// Replaces the value of a key by the one that `f` makes of it, for a limited time, as
    /// [`StateStore::modify_with_ttl`](crate::StateStore::modify_with_ttl) does.
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

    /// Changes the value of a key in place, or the one that `default` makes, as
    /// [`StateStore::upsert`](crate::StateStore::upsert) does.
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
