//! Owns the operations of a [`Transaction`] on maps: named fields under one key.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::store::execute;
use crate::store::transaction::Transaction;

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
