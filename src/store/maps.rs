//! Owns the documented group of maps: named fields under one key.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Maps
///
/// A map holds values under the names of fields; a name is any UTF-8 of at most 512 bytes. On Redis a map is a hash.
/// A field that another program wrote under a name that is not UTF-8 is neither listed nor counted.
/// Changing or reading one field costs one field, not the map. The time to live is that of the key: the
/// write that creates the map gives it `default_ttl`, later ones keep it, and [`expire`](Self::expire) and
/// [`persist`](Self::persist) change it. A map without fields is absent.
///
/// All of these operations return [`WrongType`](crate::Error::WrongType) if the key holds another kind, and
/// [`InvalidKey`](crate::Error::InvalidKey) if the name of a field is too long; then nothing is changed.
impl StateStore {
    /// Sets a field, and returns whether it is new.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// assert!(store.map_put("stock", "apples", 5)?);
    /// assert!(!store.map_put("stock", "apples", 4)?);
    /// assert_eq!(store.map_get::<u32>("stock", "apples")?, Some(4));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge). A
    /// [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt.
    pub fn map_put(
        &self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<bool> {
        Ok(self.map_put_many(key.as_ref(), [(field.as_ref(), value)])? > 0)
    }

    /// Sets many fields, all or none, and returns how many of them are new. If a name is given twice, the later
    /// value counts.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put("stock", "apples", 5)?;
    /// assert_eq!(store.map_put_many("stock", [("apples", 4), ("pears", 7)])?, 1); // the pears are new
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map_put`](Self::map_put).
    pub fn map_put_many<F: AsRef<str>, V: Serialize>(
        &self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64> {
        execute::map_put_many(self, key.as_ref(), fields)
    }

    /// Reads a field; `None` if it is absent.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put("stock", "apples", 5)?;
    /// assert_eq!(store.map_get("stock", "apples")?, Some(5));
    /// assert_eq!(store.map_get::<u32>("stock", "pears")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode).
    pub fn map_get<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        field: impl AsRef<str>,
    ) -> Result<Option<T>> {
        execute::map_get(self, key.as_ref(), field.as_ref())
    }

    /// Reads many fields, in the given order, all as of one moment.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put_many("stock", [("apples", 5), ("pears", 7)])?;
    /// assert_eq!(store.map_get_many("stock", ["pears", "plums"])?, [Some(7), None]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first field that is not a `T`.
    pub fn map_get_many<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        execute::map_get_many(self, key.as_ref(), fields)
    }

    /// Removes a field, and returns whether it existed.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put("cart:7", "apples", 5)?;
    /// assert!(store.map_delete("cart:7", "apples")?);
    /// assert!(!store.contains("cart:7")?, "an empty map is gone");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only those of [every map operation](#maps).
    pub fn map_delete(&self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_delete(self, key.as_ref(), field.as_ref())
    }

    /// Returns whether a field exists.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put("members", "anna", "admin")?;
    /// assert!(store.map_contains("members", "anna")?);
    /// assert!(!store.map_contains("members", "ben")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only those of [every map operation](#maps).
    pub fn map_contains(&self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<bool> {
        execute::map_contains(self, key.as_ref(), field.as_ref())
    }

    /// Reads all fields, as of one moment.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put_many("stock", [("pears", 7), ("apples", 5)])?;
    /// let stock = store.map_entries::<u32>("stock")?;
    /// assert_eq!(stock.values().sum::<u32>(), 12);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first field that is not a `T`.
    pub fn map_entries<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<BTreeMap<String, T>> {
        execute::map_entries(self, key.as_ref())
    }

    /// Reads the names of all fields, sorted.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put_many("stock", [("pears", 7), ("apples", 5)])?;
    /// assert_eq!(store.map_keys("stock")?, ["apples", "pears"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only those of [every map operation](#maps).
    pub fn map_keys(&self, key: impl AsRef<str>) -> Result<Vec<String>> {
        execute::map_keys(self, key.as_ref())
    }

    /// Counts the fields. On Redis it reads their names, as [`map_keys`](Self::map_keys) does.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.map_put_many("stock", [("pears", 7), ("apples", 5)])?;
    /// assert_eq!(store.map_len("stock")?, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only those of [every map operation](#maps).
    pub fn map_len(&self, key: impl AsRef<str>) -> Result<u64> {
        execute::map_len(self, key.as_ref())
    }

    /// Adds to a counter in a field, which begins at 0, and returns the new number.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert_eq!(store.map_incr("clicks", "start page", 1)?, 1);
    /// assert_eq!(store.map_incr("clicks", "start page", 1)?, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow), with the field
    /// unchanged. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt.
    pub fn map_incr(&self, key: impl AsRef<str>, field: impl AsRef<str>, by: i64) -> Result<i64> {
        execute::map_incr(self, key.as_ref(), field.as_ref(), by)
    }
}
