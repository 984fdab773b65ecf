//! Values: put, get, update, delete.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::error::Result;
use crate::json;
use crate::op::EntryAction;
use crate::store::state_store::{StateStore, on_backend};

/// # Values
///
/// A value is stored as the JSON text of what was put, on every backend: `redis-cli GET` shows it. The
/// errors that every operation can return are [`InvalidKey`](crate::Error::InvalidKey), on Redis
/// [`Unavailable`](crate::Error::Unavailable), [`Denied`](crate::Error::Denied) and
/// [`Server`](crate::Error::Server), and for a write to File [`StorageFull`](crate::Error::StorageFull),
/// [`Io`](crate::Error::Io) and [`Poisoned`](crate::Error::Poisoned). Each method names its own besides
/// these.
impl StateStore {
    /// Sets the value of a key, whatever was there. Its time to live is `default_ttl`, or none.
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    pub fn put(&self, key: &str, value: impl Serialize) -> Result<()> {
        self.run(self.context().put(key, &value, None)?)?.done()
    }

    /// Sets the value of a key; the entry is gone after `ttl`, which is rounded up to whole milliseconds.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_with_ttl(&self, key: &str, value: impl Serialize, ttl: Duration) -> Result<()> {
        self.run(self.context().put(key, &value, Some(ttl))?)?.done()
    }

    /// Reads the value of a key; `None` where there is none.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode) where the value is not a `T`,
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        let found = on_backend!(self, backend => backend.get(&key))?;
        json::decode_found(&key, found)
    }

    /// Replaces the value of a key that has one and keeps its time to live; `false` where nothing is there.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`WrongType`](crate::Error::WrongType).
    pub fn update(&self, key: &str, value: impl Serialize) -> Result<bool> {
        self.run(self.context().update(key, &value)?)?.flag()
    }

    /// Removes whatever lies under a key and tells whether anything did.
    ///
    /// # Errors
    /// None of its own.
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.run(self.context().op(key, EntryAction::Delete)?)?.flag()
    }

    /// Tells whether anything lies under a key, a value or another kind.
    ///
    /// # Errors
    /// None of its own.
    pub fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.ttl(key)?.is_some())
    }

    /// Sets bytes, as they are: no JSON. Their time to live is `default_ttl`, or none.
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
        self.run(self.context().put_bytes(key, value, None)?)?.done()
    }

    /// Sets bytes that are gone after `ttl`.
    ///
    /// # Errors
    /// As [`put_bytes`](Self::put_bytes), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_bytes_with_ttl(&self, key: &str, value: &[u8], ttl: Duration) -> Result<()> {
        self.run(self.context().put_bytes(key, value, Some(ttl))?)?.done()
    }

    /// Reads the bytes of a value: those of [`put_bytes`](Self::put_bytes), or the JSON text of any other.
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let key = self.context().key(key)?;
        on_backend!(self, backend => backend.get(&key))
    }
}
