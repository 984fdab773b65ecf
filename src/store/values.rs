//! Owns the documented group of single values: put, get, update, delete.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::error::Result;
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Values
///
/// A value is stored as the JSON text of what was put, on every backend: `redis-cli GET` shows it.
///
/// Every operation can return [`InvalidKey`](crate::Error::InvalidKey), on Redis
/// [`Unavailable`](crate::Error::Unavailable), [`Denied`](crate::Error::Denied) and
/// [`Server`](crate::Error::Server), and for a write to File [`StorageFull`](crate::Error::StorageFull),
/// [`Io`](crate::Error::Io) and [`Poisoned`](crate::Error::Poisoned). The documentation of each method names the
/// errors that it can return besides these common ones.
impl StateStore {
    /// Sets the value of a key, whatever the key held. The new entry lives for `default_ttl`, or without limit.
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    pub fn put(&self, key: &str, value: impl Serialize) -> Result<()> {
        execute::put(self, key, &value, None)
    }

    /// Sets the value of a key; the entry is gone after `ttl`, which is rounded up to whole milliseconds.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_with_ttl(&self, key: &str, value: impl Serialize, ttl: Duration) -> Result<()> {
        execute::put(self, key, &value, Some(ttl))
    }

    /// Reads the value of a key; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode) if the value is not a `T`,
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        execute::get(self, key)
    }

    /// Replaces the value of an existing key and keeps its time to live; returns `false` if the key is absent.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`WrongType`](crate::Error::WrongType).
    pub fn update(&self, key: &str, value: impl Serialize) -> Result<bool> {
        execute::update(self, key, &value)
    }

    /// Removes a key of any kind, and returns whether it existed.
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn delete(&self, key: &str) -> Result<bool> {
        execute::delete(self, key)
    }

    /// Returns whether a key exists, of any kind.
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.ttl(key)?.is_some())
    }

    /// Sets a value to bytes, as they are: no JSON. The new entry lives for `default_ttl`, or without limit.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// store.put_bytes("thumbnail", &[0xff, 0xd8, 0x00])?;
    /// assert_eq!(store.get_bytes("thumbnail")?.as_deref(), Some(&[0xff, 0xd8, 0x00][..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TooLarge`](crate::Error::TooLarge).
    pub fn put_bytes(&self, key: &str, value: &[u8]) -> Result<()> {
        execute::put_bytes(self, key, value, None)
    }

    /// Sets a value to bytes, as they are; the entry is gone after `ttl`.
    ///
    /// # Errors
    /// As [`put_bytes`](Self::put_bytes), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_bytes_with_ttl(&self, key: &str, value: &[u8], ttl: Duration) -> Result<()> {
        execute::put_bytes(self, key, value, Some(ttl))
    }

    /// Reads the bytes of a value: those of [`put_bytes`](Self::put_bytes), or the JSON text of any other value.
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        execute::get_bytes(self, key)
    }
}
