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
impl Transaction<'_> {
    /// Sets a field when the transaction is committed, and returns whether it is new to this transaction. See
    /// [`StateStore::map_put`](crate::StateStore::map_put).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert!(tx.map_put("stock", "apples", 5)?);
    /// assert!(!tx.map_put("stock", "apples", 4)?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`InvalidKey`](Error::InvalidKey) if the name of a field is too long, [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn map_put(
        &mut self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<bool> {
        Ok(self.map_put_many(key.as_ref(), [(field.as_ref(), value)])? > 0)
    }

    /// Sets many fields when the transaction is committed, and returns how many of them are new to this transaction.
    /// See [`StateStore::map_put_many`](crate::StateStore::map_put_many).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert_eq!(tx.map_put_many("stock", [("apples", 5), ("pears", 7)])?, 2);
    /// assert_eq!(tx.map_len("stock")?, 2);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Encode`](Error::Encode) if the value cannot be written as JSON, [`TooLarge`](Error::TooLarge),
    /// [`InvalidKey`](Error::InvalidKey) if the name of a field is too long, [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn map_put_many<F: AsRef<str>, V: Serialize>(
        &mut self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64> {
        execute::map_put_many(self, key.as_ref(), fields)
    }

    /// Reads a field, with the writes of this transaction; `None` if it is absent. See
    /// [`StateStore::map_get`](crate::StateStore::map_get).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("stock", "apples", 5)?;
    /// assert_eq!(tx.map_get("stock", "apples")?, Some(5));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if the value is not a `T`; [`InvalidKey`](Error::InvalidKey) if the name of a field
    /// is too long, [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn map_get<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
    ) -> Result<Option<T>> {
        execute::map_get(self, key.as_ref(), field.as_ref())
    }

    /// Reads many fields in the given order, with the writes of this transaction. See
    /// [`StateStore::map_get_many`](crate::StateStore::map_get_many).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("stock", "pears", 7)?;
    /// assert_eq!(tx.map_get_many("stock", ["pears", "plums"])?, [Some(7), None]);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if a value is not a `T`; [`InvalidKey`](Error::InvalidKey) if the name of a field is
    /// too long, [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn map_get_many<T: DeserializeOwned>(
        &mut self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        execute::map_get_many(self, key.as_ref(), fields)
    }

    /// Removes a field when the transaction is committed, and returns whether it existed for this transaction. See
    /// [`StateStore::map_delete`](crate::StateStore::map_delete).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("cart:7", "apples", 3)?;
    /// assert!(tx.map_delete("cart:7", "apples")?);
    /// assert!(!tx.contains("cart:7")?, "an empty map is gone");
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) if the name of a field is too long, [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn map_delete(&mut self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_delete(self, key.as_ref(), field.as_ref())
    }

    /// Returns whether a field exists, with the writes of this transaction. See
    /// [`StateStore::map_contains`](crate::StateStore::map_contains).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("members", "anna", "admin")?;
    /// assert!(tx.map_contains("members", "anna")?);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) if the name of a field is too long, [`WrongType`](Error::WrongType) if the
    /// key holds another kind.
    pub fn map_contains(&mut self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_contains(self, key.as_ref(), field.as_ref())
    }

    /// Reads all fields, with the writes of this transaction. If another writer changes any of them before the
    /// commit, the closure runs again. See [`StateStore::map_entries`](crate::StateStore::map_entries).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put_many("stock", [("apples", 5), ("pears", 7)])?;
    /// let sum: u32 = tx.map_entries::<u32>("stock")?.values().sum();
    /// assert_eq!(sum, 12);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Decode`](Error::Decode) if a value is not a `T`; [`WrongType`](Error::WrongType) if the key holds another
    /// kind.
    pub fn map_entries<T: DeserializeOwned>(&mut self, key: impl AsRef<str>) -> Result<BTreeMap<String, T>> {
        execute::map_entries(self, key.as_ref())
    }

    /// Reads the names of all fields, sorted, with the writes of this transaction. See
    /// [`StateStore::map_keys`](crate::StateStore::map_keys).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put_many("stock", [("pears", 7), ("apples", 5)])?;
    /// assert_eq!(tx.map_keys("stock")?, ["apples", "pears"]);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn map_keys(&mut self, key: impl AsRef<str>) -> Result<Vec<String>> {
        execute::map_keys(self, key.as_ref())
    }

    /// Counts the fields, with the writes of this transaction. See
    /// [`StateStore::map_len`](crate::StateStore::map_len).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// tx.map_put("stock", "apples", 5)?;
    /// assert_eq!(tx.map_len("stock")?, 1);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn map_len(&mut self, key: impl AsRef<str>) -> Result<u64> {
        execute::map_len(self, key.as_ref())
    }

    /// Adds to a counter in a field when the transaction is committed, and returns the new number. See
    /// [`StateStore::map_incr`](crate::StateStore::map_incr).
    ///
    /// ```
    /// # millpond::StateStore::memory().transaction(|tx| {
    /// assert_eq!(tx.map_incr("clicks", "start page", 1)?, 1);
    /// assert_eq!(tx.map_get("clicks", "start page")?, Some(1));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](Error::NotAnInteger), [`Overflow`](Error::Overflow), [`InvalidKey`](Error::InvalidKey) if the
    /// name of a field is too long, [`WrongType`](Error::WrongType) if the key holds another kind.
    pub fn map_incr(&mut self, key: impl AsRef<str>, field: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::map_incr(self, key.as_ref(), field.as_ref(), by)
    }
}
