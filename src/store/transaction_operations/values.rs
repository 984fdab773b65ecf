//! Owns the operations of a [`Transaction`] on single values: put, get, update, delete.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
#[cfg(doc)]
use crate::error::Error;
use crate::error::{Kind, Result};
use crate::store::execute;
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
}
