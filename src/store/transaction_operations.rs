//! Owns the documented operations of a [`Transaction`], by the same groups as those of a store. Knows nothing of
//! how its changes are staged and committed.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::op::End;
use crate::store::cas_loop::CasStep;
use crate::store::execute::{self, Execute};
use crate::store::transaction::Transaction;

/// # Values
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Sets the value of a key, as [`StateStore::put`](crate::StateStore::put) does.
    pub fn put(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<()> {
        execute::put(self, key.as_ref(), &value, None)
    }

    /// Sets the value of a key for a limited time, as
    /// [`StateStore::put_with_ttl`](crate::StateStore::put_with_ttl) does.
    pub fn put_with_ttl(&mut self, key: impl AsRef<str>, value: impl Serialize, ttl: Duration) -> Result<()> {
        execute::put(self, key.as_ref(), &value, Some(ttl))
    }

    /// Sets a value to bytes, as [`StateStore::put_bytes`](crate::StateStore::put_bytes) does.
    pub fn put_bytes(&mut self, key: impl AsRef<str>, value: &[u8]) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, None)
    }

    /// Sets a value to bytes for a limited time, as
    /// [`StateStore::put_bytes_with_ttl`](crate::StateStore::put_bytes_with_ttl) does.
    pub fn put_bytes_with_ttl(&mut self, key: impl AsRef<str>, value: &[u8], ttl: Duration) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, Some(ttl))
    }

    /// Reads the value of a key, as [`StateStore::get`](crate::StateStore::get) does.
    pub fn get<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get(self, key.as_ref())
    }

    /// Reads the bytes of a value, as [`StateStore::get_bytes`](crate::StateStore::get_bytes) does.
    pub fn get_bytes(&mut self, key: impl AsRef<str>) -> Result<Option<Bytes>> {
        execute::get_bytes(self, key.as_ref())
    }

    /// Replaces the value of an existing key, as [`StateStore::update`](crate::StateStore::update) does.
    pub fn update(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<bool> {
        execute::update(self, key.as_ref(), &value)
    }

    /// Removes a key of any kind, as [`StateStore::delete`](crate::StateStore::delete) does.
    pub fn delete(&mut self, key: impl AsRef<str>) -> Result<bool> {
        execute::delete(self, key.as_ref())
    }

    /// Returns the kind of entry that a key holds, as [`StateStore::kind`](crate::StateStore::kind) does.
    pub fn kind(&mut self, key: impl AsRef<str>) -> Result<Option<Kind>> {
        execute::kind(self, key.as_ref())
    }

    /// Returns whether a key exists, as [`StateStore::contains`](crate::StateStore::contains) does.
    pub fn contains(&mut self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.presence(key.as_ref())?.is_some())
    }

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

/// # Counters and expiry
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

/// # Maps
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Sets a field of a map, as [`StateStore::map_put`](crate::StateStore::map_put) does.
    pub fn map_put(
        &mut self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<bool> {
        Ok(self.map_put_many(key.as_ref(), [(field.as_ref(), value)])? > 0)
    }

    /// Sets many fields of a map, as [`StateStore::map_put_many`](crate::StateStore::map_put_many) does.
    pub fn map_put_many<F: AsRef<str>, V: Serialize>(
        &mut self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64> {
        execute::map_put_many(self, key.as_ref(), fields)
    }

    /// Reads a field of a map, as [`StateStore::map_get`](crate::StateStore::map_get) does.
    pub fn map_get<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
    ) -> Result<Option<T>> {
        execute::map_get(self, key.as_ref(), field.as_ref())
    }

    /// Reads many fields of a map, as [`StateStore::map_get_many`](crate::StateStore::map_get_many) does.
    pub fn map_get_many<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        execute::map_get_many(self, key.as_ref(), fields)
    }

    /// Removes a field of a map, as [`StateStore::map_delete`](crate::StateStore::map_delete) does.
    pub fn map_delete(&mut self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_delete(self, key.as_ref(), field.as_ref())
    }

    /// Returns whether a field of a map exists, as
    /// [`StateStore::map_contains`](crate::StateStore::map_contains) does.
    pub fn map_contains(&mut self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_contains(self, key.as_ref(), field.as_ref())
    }

    /// Reads all fields of a map, as [`StateStore::map_entries`](crate::StateStore::map_entries) does.
    pub fn map_entries<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<BTreeMap<String, T>> {
        execute::map_entries(self, key.as_ref())
    }

    /// Reads the names of all fields of a map, as [`StateStore::map_keys`](crate::StateStore::map_keys) does.
    pub fn map_keys(&mut self, key: impl AsRef<str>) -> Result<Vec<String>> {
        execute::map_keys(self, key.as_ref())
    }

    /// Counts the fields of a map, as [`StateStore::map_len`](crate::StateStore::map_len) does.
    pub fn map_len(&mut self, key: impl AsRef<str>) -> Result<u64> {
        execute::map_len(self, key.as_ref())
    }

    /// Adds to a counter in a field of a map, as [`StateStore::map_incr`](crate::StateStore::map_incr) does.
    pub fn map_incr(&mut self, key: impl AsRef<str>, field: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::map_incr(self, key.as_ref(), field.as_ref(), by)
    }
}

/// # Queues
#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` by its name")]
impl Transaction<'_> {
    /// Adds a value at the end of a queue, as [`StateStore::push_back`](crate::StateStore::push_back) does.
    pub fn push_back(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Back, value)
    }

    /// Adds a value at the front of a queue, as [`StateStore::push_front`](crate::StateStore::push_front) does.
    pub fn push_front(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<u64> {
        execute::push(self, key.as_ref(), End::Front, value)
    }

    /// Adds many values at the end of a queue, as
    /// [`StateStore::push_back_many`](crate::StateStore::push_back_many) does.
    pub fn push_back_many<V: Serialize>(
        &mut self,
        key: impl AsRef<str>,
        values: impl IntoIterator<Item = V>,
    ) -> Result<u64> {
        execute::push_back_many(self, key.as_ref(), values)
    }

    /// Removes the first value of a queue and returns it, as
    /// [`StateStore::pop_front`](crate::StateStore::pop_front) does.
    pub fn pop_front<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Front)
    }

    /// Removes the last value of a queue and returns it, as
    /// [`StateStore::pop_back`](crate::StateStore::pop_back) does.
    pub fn pop_back<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::pop(self, key.as_ref(), End::Back)
    }

    /// Counts the values of a queue, as [`StateStore::queue_len`](crate::StateStore::queue_len) does.
    pub fn queue_len(&mut self, key: impl AsRef<str>) -> Result<u64> {
        execute::queue_len(self, key.as_ref())
    }

    /// Reads values of a queue without removing them, as
    /// [`StateStore::queue_range`](crate::StateStore::queue_range) does.
    pub fn queue_range<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<T>> {
        execute::queue_range(self, key.as_ref(), &range)
    }

    /// Drops the first values of a queue, as [`StateStore::queue_trim`](crate::StateStore::queue_trim) does.
    pub fn queue_trim(&mut self, key: impl AsRef<str>, max: u64) -> Result<u64> {
        execute::queue_trim(self, key.as_ref(), max)
    }
}
