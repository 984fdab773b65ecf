//! Owns the documented group of single values: put, get, update, delete.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::error::{Kind, Result};
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Values
///
/// A value is stored as the JSON text of what was put, on every backend: `redis-cli GET` shows it.
///
/// Every operation can return [`InvalidKey`](crate::Error::InvalidKey), on Redis
/// [`Unavailable`](crate::Error::Unavailable), [`Denied`](crate::Error::Denied) and
/// [`Server`](crate::Error::Server), and for a write to File [`StorageFull`](crate::Error::StorageFull),
/// [`Io`](crate::Error::Io) and [`Poisoned`](crate::Error::Poisoned), and for a write to Memory with
/// [bounds](crate::MemoryStore#bounds) [`Full`](crate::Error::Full). The documentation of each method names the
/// errors that it can return besides these common ones.
impl StateStore {
    /// Sets the value of a key, whatever the key held. The new entry lives for `default_ttl`, or without limit.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("session:7", ("anna", 3))?; // any type that serde can serialize
    /// assert_eq!(store.get_bytes("session:7")?.as_deref(), Some(&br#"["anna",3]"#[..]));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    pub fn put(&self, key: impl AsRef<str>, value: impl Serialize) -> Result<()> {
        execute::put(self, key.as_ref(), &value, None)
    }

    /// Sets the value of a key; the entry is gone after `ttl`, which is rounded up to whole milliseconds.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.put_with_ttl("session:7", "anna", Duration::from_secs(1800))?;
    /// assert!(matches!(store.ttl("session:7")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_with_ttl(&self, key: impl AsRef<str>, value: impl Serialize, ttl: Duration) -> Result<()> {
        execute::put(self, key.as_ref(), &value, Some(ttl))
    }

    /// Reads the value of a key; `None` if the key is absent.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("rule:limit", 250)?;
    /// assert_eq!(store.get("rule:limit")?, Some(250));
    /// assert_eq!(store.get::<u32>("rule:other")?.unwrap_or(100), 100);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode) if the value is not a `T`,
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get(self, key.as_ref())
    }

    /// Replaces the value of an existing key and keeps its time to live; returns `false` if the key is absent. It takes
    /// a value and no closure: see [`modify`](Self::modify) and [`upsert`](Self::upsert).
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert!(!store.update("session:7", "anna")?, "the session has ended, and is not begun again");
    /// assert!(!store.contains("session:7")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`WrongType`](crate::Error::WrongType).
    #[doc(alias = "replace")]
    pub fn update(&self, key: impl AsRef<str>, value: impl Serialize) -> Result<bool> {
        execute::update(self, key.as_ref(), &value)
    }

    /// Removes a key of any kind, and returns whether it existed.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("session:7", "anna")?;
    /// assert!(store.delete("session:7")?);
    /// assert!(!store.delete("session:7")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn delete(&self, key: impl AsRef<str>) -> Result<bool> {
        execute::delete(self, key.as_ref())
    }

    /// Returns whether a key exists, of any kind.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("jobs", "wash")?;
    /// assert!(store.contains("jobs")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.ttl(key.as_ref())?.is_some())
    }

    /// Returns the kind of entry that a key holds; `None` if the key is absent.
    ///
    /// ```
    /// use millpond::Kind;
    ///
    /// let store = millpond::StateStore::memory();
    /// store.map_put("stock", "apples", 5)?;
    /// assert_eq!(store.kind("stock")?, Some(Kind::Map));
    /// assert_eq!(store.kind("nothing")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::Error::Unsupported) if another program has stored something there for which this crate
    /// has no kind, such as a Redis set.
    pub fn kind(&self, key: impl AsRef<str>) -> Result<Option<Kind>> {
        execute::kind(self, key.as_ref())
    }

    /// Sets a value to bytes, as they are: no JSON. The new entry lives for `default_ttl`, or without limit.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put_bytes("thumbnail", &[0xff, 0xd8, 0x00])?;
    /// assert_eq!(store.get_bytes("thumbnail")?.as_deref(), Some(&[0xff, 0xd8, 0x00][..]));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`TooLarge`](crate::Error::TooLarge).
    pub fn put_bytes(&self, key: impl AsRef<str>, value: &[u8]) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, None)
    }

    /// Sets a value to bytes, as they are; the entry is gone after `ttl`.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.put_bytes_with_ttl("thumbnail:7", &[0xff, 0xd8, 0x00], Duration::from_secs(3600))?;
    /// assert!(matches!(store.ttl("thumbnail:7")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put_bytes`](Self::put_bytes), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn put_bytes_with_ttl(&self, key: impl AsRef<str>, value: &[u8], ttl: Duration) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, Some(ttl))
    }

    /// Reads the bytes of a value: those of [`put_bytes`](Self::put_bytes), or the JSON text of any other value.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put_bytes("thumbnail", &[0xff, 0xd8, 0x00])?;
    /// store.put("name", "anna")?;
    /// assert_eq!(store.get_bytes("thumbnail")?.unwrap(), [0xff, 0xd8, 0x00]);
    /// assert_eq!(store.get_bytes("name")?.unwrap(), *b"\"anna\"");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType).
    pub fn get_bytes(&self, key: impl AsRef<str>) -> Result<Option<Bytes>> {
        execute::get_bytes(self, key.as_ref())
    }
}
