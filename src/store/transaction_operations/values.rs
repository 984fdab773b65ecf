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
impl Transaction<'_> {
    /// Sets the value of a key when the transaction is committed; its own reads see it at once. See
    /// [`StateStore::put`](crate::StateStore::put).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("order:17", "paid")?;
    /// assert_eq!(tx.get::<String>("order:17")?.as_deref(), Some("paid"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge).
    pub fn put(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<()> {
        execute::put(self, key.as_ref(), &value, None)
    }

    /// Sets the value of a key for the time `ttl` when the transaction is committed. See
    /// [`StateStore::put_with_ttl`](crate::StateStore::put_with_ttl).
    ///
    /// ```
    /// # use millpond::Ttl;
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put_with_ttl("session:7", "anna", Duration::from_secs(1800))?;
    /// assert!(matches!(tx.ttl("session:7")?, Some(Ttl::In(_))));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`InvalidTtl`](Error::InvalidTtl).
    pub fn put_with_ttl(&mut self, key: impl AsRef<str>, value: impl Serialize, ttl: Duration) -> Result<()> {
        execute::put(self, key.as_ref(), &value, Some(ttl))
    }

    /// Sets a value to bytes, as they are, when the transaction is committed. See
    /// [`StateStore::put_bytes`](crate::StateStore::put_bytes).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put_bytes("thumbnail", &[0xff, 0xd8, 0x00])?;
    /// assert_eq!(tx.get_bytes("thumbnail")?.unwrap(), [0xff, 0xd8, 0x00]);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`TooLarge`](Error::TooLarge).
    pub fn put_bytes(&mut self, key: impl AsRef<str>, value: &[u8]) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, None)
    }

    /// Sets a value to bytes, as they are, for the time `ttl`. See
    /// [`StateStore::put_bytes_with_ttl`](crate::StateStore::put_bytes_with_ttl).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put_bytes_with_ttl("thumbnail", &[0xff, 0xd8, 0x00], Duration::from_secs(3600))?;
    /// assert!(tx.contains("thumbnail")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`TooLarge`](Error::TooLarge), [`InvalidTtl`](Error::InvalidTtl).
    pub fn put_bytes_with_ttl(&mut self, key: impl AsRef<str>, value: &[u8], ttl: Duration) -> Result<()> {
        execute::put_bytes(self, key.as_ref(), value, Some(ttl))
    }

    /// Reads the value of a key, with the writes of this transaction. If another writer changes it before the commit,
    /// the closure runs again. See [`StateStore::get`](crate::StateStore::get).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// let stock = tx.get::<u32>("stock")?.unwrap_or(10);
    /// tx.put("stock", stock - 1)?;
    /// assert_eq!(tx.get("stock")?, Some(9));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`; [`WrongType`](Error::WrongType) if the key holds another
    /// kind.
    pub fn get<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get(self, key.as_ref())
    }

    /// Reads the bytes of a value, with the writes of this transaction: what `put_bytes` has set, or the JSON text of
    /// any other value. See [`StateStore::get_bytes`](crate::StateStore::get_bytes).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("name", "anna")?;
    /// assert_eq!(tx.get_bytes("name")?.unwrap(), *b"\"anna\"");
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn get_bytes(&mut self, key: impl AsRef<str>) -> Result<Option<Bytes>> {
        execute::get_bytes(self, key.as_ref())
    }

    /// Replaces the value if the key exists, also if this transaction has created it; returns `false` if it is
    /// absent. See [`StateStore::update`](crate::StateStore::update).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert!(!tx.update("session:7", "anna")?);
    /// tx.put("session:7", "anna")?;
    /// assert!(tx.update("session:7", "ben")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn update(&mut self, key: impl AsRef<str>, value: impl Serialize) -> Result<bool> {
        execute::update(self, key.as_ref(), &value)
    }

    /// Removes a key of any kind when the transaction is committed, and returns whether it existed for this
    /// transaction. See [`StateStore::delete`](crate::StateStore::delete).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.put("cart:7", ["apples"])?;
    /// assert!(tx.delete("cart:7")?);
    /// assert!(!tx.contains("cart:7")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](crate::StateStore#values).
    pub fn delete(&mut self, key: impl AsRef<str>) -> Result<bool> {
        execute::delete(self, key.as_ref())
    }

    /// Returns the kind of entry that a key holds, with the writes of this transaction; `None` if it is absent. See
    /// [`StateStore::kind`](crate::StateStore::kind).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.push_back("jobs", "wash")?;
    /// assert_eq!(tx.kind("jobs")?, Some(millpond::Kind::Queue));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](Error::Unsupported) if another program has stored something there for which this crate has no
    /// kind.
    pub fn kind(&mut self, key: impl AsRef<str>) -> Result<Option<Kind>> {
        execute::kind(self, key.as_ref())
    }

    /// Returns whether a key exists, of any kind, with the writes of this transaction. See
    /// [`StateStore::contains`](crate::StateStore::contains).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// if !tx.contains("seen:event-17")? {
    ///     tx.put("seen:event-17", true)?; // and handle the event, in the same transaction
    /// }
    /// assert!(tx.contains("seen:event-17")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](crate::StateStore#values).
    pub fn contains(&mut self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.presence(key.as_ref())?.is_some())
    }
}
