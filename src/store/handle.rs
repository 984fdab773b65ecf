//! Typed handles: one key and its type, said once. They have no logic of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Ttl;
use crate::error::Result;
use crate::store::leases::Taken;
use crate::store::state_store::StateStore;

/// # Handles
///
/// A handle is a key with its type. It is owned, may be sent to other threads, and its methods are those of
/// the store on that key. Making one touches nothing; a key that breaks a rule is told of by the operations.
///
/// ```
/// # fn main() -> millpond::Result<()> {
/// let store = millpond::StateStore::memory();
/// let stock = store.map::<u32>("stock");
/// stock.put("apples", &5)?;
/// assert_eq!(stock.get("apples")?, Some(5));
/// assert_eq!(store.counter("visits").incr(1)?, 1);
/// let limit = store.value::<u32>("limit").get_or_insert_with(|| 100)?;
/// assert_eq!(limit, 100);
/// # Ok(())
/// # }
/// ```
impl StateStore {
    /// A handle on a value.
    #[must_use]
    pub fn value<T>(&self, key: &str) -> Value<T> {
        Value { store: self.clone(), key: key.to_owned(), item: PhantomData }
    }

    /// A handle on a counter.
    #[must_use]
    pub fn counter(&self, key: &str) -> Counter {
        Counter { store: self.clone(), key: key.to_owned() }
    }

    /// A handle on a map with values of one type.
    #[must_use]
    pub fn map<V>(&self, key: &str) -> Map<V> {
        Map { store: self.clone(), key: key.to_owned(), item: PhantomData }
    }

    /// A handle on a queue with values of one type.
    #[must_use]
    pub fn queue<T>(&self, key: &str) -> Queue<T> {
        Queue { store: self.clone(), key: key.to_owned(), item: PhantomData }
    }
}

/// A value under one key, of [`StateStore::value`].
pub struct Value<T> {
    store: StateStore,
    key: String,
    item: PhantomData<fn() -> T>,
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<T: Serialize + DeserializeOwned> Value<T> {
    /// As [`StateStore::get`].
    pub fn get(&self) -> Result<Option<T>> {
        self.store.get(&self.key)
    }

    /// As [`StateStore::put`].
    pub fn put(&self, value: &T) -> Result<()> {
        self.store.put(&self.key, value)
    }

    /// As [`StateStore::put_with_ttl`].
    pub fn put_with_ttl(&self, value: &T, ttl: Duration) -> Result<()> {
        self.store.put_with_ttl(&self.key, value, ttl)
    }

    /// As [`StateStore::update`].
    pub fn update(&self, value: &T) -> Result<bool> {
        self.store.update(&self.key, value)
    }

    /// As [`StateStore::delete`].
    pub fn delete(&self) -> Result<bool> {
        self.store.delete(&self.key)
    }

    /// As [`StateStore::contains`].
    pub fn contains(&self) -> Result<bool> {
        self.store.contains(&self.key)
    }

    /// As [`StateStore::set_if_not_exists`].
    pub fn set_if_not_exists(&self, value: &T, ttl: Option<Duration>) -> Result<bool> {
        self.store.set_if_not_exists(&self.key, value, ttl)
    }

    /// As [`StateStore::compare_and_set`].
    pub fn compare_and_set(&self, expected: Option<&T>, new: &T) -> Result<bool> {
        self.store.compare_and_set(&self.key, expected, new)
    }

    /// As [`StateStore::get_and_put`].
    pub fn get_and_put(&self, value: &T) -> Result<Option<T>> {
        self.store.get_and_put(&self.key, value)
    }

    /// As [`StateStore::get_and_delete`].
    pub fn get_and_delete(&self) -> Result<Option<T>> {
        self.store.get_and_delete(&self.key)
    }

    /// As [`StateStore::modify`].
    pub fn modify(&self, f: impl FnMut(Option<T>) -> Option<T>) -> Result<Option<T>> {
        self.store.modify(&self.key, f)
    }

    /// As [`StateStore::ttl`].
    pub fn ttl(&self) -> Result<Option<Ttl>> {
        self.store.ttl(&self.key)
    }

    /// As [`StateStore::expire`].
    pub fn expire(&self, ttl: Duration) -> Result<bool> {
        self.store.expire(&self.key, ttl)
    }

    /// As [`StateStore::persist`].
    pub fn persist(&self) -> Result<bool> {
        self.store.persist(&self.key)
    }

    /// Reads the value, and where there is none sets the one that `f` makes, as
    /// [`StateStore::set_if_not_exists`] does. Of several threads of this process that would make it, one
    /// does and the others wait; where another process is quicker, its value is handed out. So `f` runs while
    /// others wait for it: two that each need the value of the other would wait for ever.
    pub fn get_or_insert_with(&self, f: impl FnOnce() -> T) -> Result<T> {
        self.store.get_or_insert_with(&self.key, f)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone(), item: PhantomData }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A counter under one key, of [`StateStore::counter`].
pub struct Counter {
    store: StateStore,
    key: String,
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl Counter {
    /// As [`StateStore::get`].
    pub fn get(&self) -> Result<Option<i64>> {
        self.store.get(&self.key)
    }

    /// As [`StateStore::incr`].
    pub fn incr(&self, by: i64) -> Result<i64> {
        self.store.incr(&self.key, by)
    }

    /// As [`StateStore::decr`].
    pub fn decr(&self, by: i64) -> Result<i64> {
        self.store.decr(&self.key, by)
    }

    /// As [`StateStore::incr_with_ttl`].
    pub fn incr_with_ttl(&self, by: i64, ttl: Duration) -> Result<i64> {
        self.store.incr_with_ttl(&self.key, by, ttl)
    }

    /// As [`StateStore::delete`].
    pub fn delete(&self) -> Result<bool> {
        self.store.delete(&self.key)
    }

    /// As [`StateStore::ttl`].
    pub fn ttl(&self) -> Result<Option<Ttl>> {
        self.store.ttl(&self.key)
    }

    /// As [`StateStore::expire`].
    pub fn expire(&self, ttl: Duration) -> Result<bool> {
        self.store.expire(&self.key, ttl)
    }

    /// As [`StateStore::persist`].
    pub fn persist(&self) -> Result<bool> {
        self.store.persist(&self.key)
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone() }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A map under one key, of [`StateStore::map`].
pub struct Map<V> {
    store: StateStore,
    key: String,
    item: PhantomData<fn() -> V>,
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<V: Serialize + DeserializeOwned> Map<V> {
    /// As [`StateStore::map_put`].
    pub fn put(&self, field: &str, value: &V) -> Result<bool> {
        self.store.map_put(&self.key, field, value)
    }

    /// As [`StateStore::map_put_many`].
    pub fn put_many<F: AsRef<str>>(&self, fields: impl IntoIterator<Item = (F, V)>) -> Result<u64> {
        self.store.map_put_many(&self.key, fields)
    }

    /// As [`StateStore::map_get`].
    pub fn get(&self, field: &str) -> Result<Option<V>> {
        self.store.map_get(&self.key, field)
    }

    /// As [`StateStore::map_get_many`].
    pub fn get_many(&self, fields: impl IntoIterator<Item: AsRef<str>>) -> Result<Vec<Option<V>>> {
        self.store.map_get_many(&self.key, fields)
    }

    /// As [`StateStore::map_delete`].
    pub fn delete(&self, field: &str) -> Result<bool> {
        self.store.map_delete(&self.key, field)
    }

    /// As [`StateStore::map_contains`].
    pub fn contains(&self, field: &str) -> Result<bool> {
        self.store.map_contains(&self.key, field)
    }

    /// As [`StateStore::map_entries`].
    pub fn entries(&self) -> Result<BTreeMap<String, V>> {
        self.store.map_entries(&self.key)
    }

    /// As [`StateStore::map_keys`].
    pub fn keys(&self) -> Result<Vec<String>> {
        self.store.map_keys(&self.key)
    }

    /// As [`StateStore::map_len`].
    pub fn len(&self) -> Result<u64> {
        self.store.map_len(&self.key)
    }

    /// As [`StateStore::map_incr`].
    pub fn incr(&self, field: &str, by: i64) -> Result<i64> {
        self.store.map_incr(&self.key, field, by)
    }

    /// As [`StateStore::delete`].
    pub fn clear(&self) -> Result<bool> {
        self.store.delete(&self.key)
    }

    /// As [`StateStore::ttl`].
    pub fn ttl(&self) -> Result<Option<Ttl>> {
        self.store.ttl(&self.key)
    }

    /// As [`StateStore::expire`].
    pub fn expire(&self, ttl: Duration) -> Result<bool> {
        self.store.expire(&self.key, ttl)
    }

    /// As [`StateStore::persist`].
    pub fn persist(&self) -> Result<bool> {
        self.store.persist(&self.key)
    }

    /// Tells whether there are no fields.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl<V> Clone for Map<V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone(), item: PhantomData }
    }
}

impl<V> fmt::Debug for Map<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A queue under one key, of [`StateStore::queue`].
pub struct Queue<T> {
    store: StateStore,
    key: String,
    item: PhantomData<fn() -> T>,
}

#[expect(clippy::missing_errors_doc, reason = "as the method of `StateStore` that it names")]
impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// As [`StateStore::push_back`].
    pub fn push_back(&self, value: &T) -> Result<u64> {
        self.store.push_back(&self.key, value)
    }

    /// As [`StateStore::push_front`].
    pub fn push_front(&self, value: &T) -> Result<u64> {
        self.store.push_front(&self.key, value)
    }

    /// As [`StateStore::push_back_many`].
    pub fn push_back_many(&self, values: impl IntoIterator<Item = T>) -> Result<u64> {
        self.store.push_back_many(&self.key, values)
    }

    /// As [`StateStore::pop_front`].
    pub fn pop_front(&self) -> Result<Option<T>> {
        self.store.pop_front(&self.key)
    }

    /// As [`StateStore::pop_back`].
    pub fn pop_back(&self) -> Result<Option<T>> {
        self.store.pop_back(&self.key)
    }

    /// As [`StateStore::pop_front_wait`].
    pub fn pop_front_wait(&self, timeout: Duration) -> Result<Option<T>> {
        self.store.pop_front_wait(&self.key, timeout)
    }

    /// As [`StateStore::take`].
    pub fn take(&self, lease: Duration) -> Result<Option<Taken<T>>> {
        self.store.take(&self.key, lease)
    }

    /// As [`StateStore::take_wait`].
    pub fn take_wait(&self, lease: Duration, timeout: Duration) -> Result<Option<Taken<T>>> {
        self.store.take_wait(&self.key, lease, timeout)
    }

    /// As [`StateStore::queue_len`].
    pub fn len(&self) -> Result<u64> {
        self.store.queue_len(&self.key)
    }

    /// As [`StateStore::queue_range`].
    pub fn range(&self, range: impl RangeBounds<u64>) -> Result<Vec<T>> {
        self.store.queue_range(&self.key, range)
    }

    /// As [`StateStore::queue_trim`].
    pub fn trim(&self, max: u64) -> Result<u64> {
        self.store.queue_trim(&self.key, max)
    }

    /// As [`StateStore::delete`].
    pub fn clear(&self) -> Result<bool> {
        self.store.delete(&self.key)
    }

    /// As [`StateStore::ttl`].
    pub fn ttl(&self) -> Result<Option<Ttl>> {
        self.store.ttl(&self.key)
    }

    /// As [`StateStore::expire`].
    pub fn expire(&self, ttl: Duration) -> Result<bool> {
        self.store.expire(&self.key, ttl)
    }

    /// As [`StateStore::persist`].
    pub fn persist(&self) -> Result<bool> {
        self.store.persist(&self.key)
    }

    /// Tells whether there are no values.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone(), item: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("key", &self.key).finish_non_exhaustive()
    }
}
