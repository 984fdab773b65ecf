//! Owns the handle on a map. Its methods call those of [`StateStore`] that they name.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Ttl;
use crate::error::Result;
use crate::store::handle::declare::{argument, delegate, handle};
use crate::store::state_store::StateStore;

handle! {
    /// A map under one key: see [`StateStore::map`].
    Map<V>
}

impl<V: Serialize + DeserializeOwned> Map<V> {
    delegate! {
        /// Sets a field, and returns whether it is new. See [`StateStore::map_put`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// assert!(stock.put("apples", 5)?);
        /// assert!(!stock.put("apples", 4)?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON,
        /// [`TooLarge`](crate::Error::TooLarge), [`InvalidKey`](crate::Error::InvalidKey) if the name of the field is
        /// too long, [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        put(field: impl AsRef<str>, value: impl Borrow<V> => V) -> bool = map_put;

        /// Reads a field; `None` if it is absent. See [`StateStore::map_get`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put("apples", 5)?;
        /// assert_eq!(stock.get("apples")?, Some(5));
        /// assert_eq!(stock.get("pears")?, None);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if the value is not a `V`; [`InvalidKey`](crate::Error::InvalidKey) if
        /// the name of the field is too long, [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        get(field: impl AsRef<str>) -> Option<V> = map_get;

        /// Reads many fields, in the given order, all as of one moment. See [`StateStore::map_get_many`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert_eq!(stock.get_many(["pears", "plums"])?, [Some(7), None]);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if a value is not a `V`; [`InvalidKey`](crate::Error::InvalidKey) if the
        /// name of the field is too long, [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        get_many(fields: impl IntoIterator<Item: AsRef<str>>) -> Vec<Option<V>> = map_get_many;

        /// Removes a field, and returns whether it existed. See [`StateStore::map_delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert!(stock.delete("apples")?);
        /// assert_eq!(stock.keys()?, ["pears"]);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidKey`](crate::Error::InvalidKey) if the name of the field is too long,
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        delete(field: impl AsRef<str>) -> bool = map_delete;

        /// Returns whether a field exists. See [`StateStore::map_contains`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert!(stock.contains("apples")?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidKey`](crate::Error::InvalidKey) if the name of the field is too long,
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        contains(field: impl AsRef<str>) -> bool = map_contains;

        /// Reads all fields, as of one moment. See [`StateStore::map_entries`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert_eq!(stock.entries()?.values().sum::<u32>(), 12);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`Decode`](crate::Error::Decode) if a value is not a `V`; [`WrongType`](crate::Error::WrongType) if the
        /// key holds another kind.
        entries() -> BTreeMap<String, V> = map_entries;

        /// Reads the names of all fields, sorted. See [`StateStore::map_keys`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert_eq!(stock.keys()?, ["apples", "pears"]);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        keys() -> Vec<String> = map_keys;

        /// Counts the fields. See [`StateStore::map_len`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put_many([("apples", 5), ("pears", 7)])?;
        /// assert_eq!(stock.len()?, 2);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        len() -> u64 = map_len;

        /// Adds to a counter in a field, which begins at 0, and returns the new number. See [`StateStore::map_incr`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let clicks = store.map::<i64>("clicks");
        /// assert_eq!(clicks.incr("start page", 1)?, 1);
        /// assert_eq!(clicks.get("start page")?, Some(1));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow),
        /// [`InvalidKey`](crate::Error::InvalidKey) if the name of the field is too long,
        /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
        incr(field: impl AsRef<str>, by: i64) -> i64 = map_incr;

        /// Removes the whole map, and returns whether it existed. See [`StateStore::delete`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put("apples", 5)?;
        /// assert!(stock.clear()?);
        /// assert!(!stock.clear()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        clear() -> bool = delete;

        /// Returns how long the map still lives; `None` if it is absent. See [`StateStore::ttl`].
        ///
        /// ```
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put("apples", 5)?;
        /// assert_eq!(stock.ttl()?, Some(millpond::Ttl::Never));
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        ttl() -> Option<Ttl> = ttl;

        /// Gives the map a time to live of `ttl`, counted from now; returns `false` if it is absent. See
        /// [`StateStore::expire`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put("apples", 5)?;
        /// assert!(stock.expire(Duration::from_secs(3600))?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// [`InvalidTtl`](crate::Error::InvalidTtl), and the [common ones](StateStore#values).
        expire(ttl: Duration) -> bool = expire;

        /// Removes the time to live of the map, and returns whether it had one. See [`StateStore::persist`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let store = millpond::StateStore::memory();
        /// # let stock = store.map::<u32>("stock");
        /// stock.put("apples", 5)?;
        /// stock.expire(Duration::from_secs(3600))?;
        /// assert!(stock.persist()?);
        /// # Ok::<(), millpond::Error>(())
        /// ```
        ///
        /// # Errors
        /// Only the [common ones](StateStore#values).
        persist() -> bool = persist;
    }

    /// Sets many fields, all or none, and returns how many of them are new. See [`StateStore::map_put_many`].
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let stock = store.map::<u32>("stock");
    /// assert_eq!(stock.put_many([("apples", 5), ("pears", 7)])?, 2);
    /// assert_eq!(stock.put_many([("apples", 4), ("plums", 9)])?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode) if the value cannot be written as JSON, [`TooLarge`](crate::Error::TooLarge),
    /// [`InvalidKey`](crate::Error::InvalidKey) if the name of a field is too long,
    /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
    pub fn put_many<F: AsRef<str>>(&self, fields: impl IntoIterator<Item = (F, V)>) -> Result<u64> {
        self.store.map_put_many(&self.key, fields)
    }

    /// Returns whether the map has no fields: then its key is absent.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # let stock = store.map::<u32>("stock");
    /// assert!(stock.is_empty()?);
    /// stock.put("apples", 5)?;
    /// assert!(!stock.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType) if the key holds another kind.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}
