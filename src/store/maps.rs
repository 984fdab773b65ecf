//! Maps: named fields under one key.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::json;
use crate::op::{Query, Reply};
use crate::store::context::Context;
use crate::store::state_store::StateStore;

/// # Maps
///
/// A map holds values under the names of fields: any UTF-8 of at most 512 bytes. On Redis it is a hash.
/// Changing or reading one field costs one field, not the map. Its time to live is that of the key: the
/// write that creates the map gives it `default_ttl`, later ones keep it, [`expire`](Self::expire) and
/// [`persist`](Self::persist) change it. A map without fields is not there.
///
/// All of these return [`WrongType`](crate::Error::WrongType) where the key holds something else, and
/// [`InvalidKey`](crate::Error::InvalidKey) for a field whose name is too long; nothing is changed then.
impl StateStore {
    /// Sets a field, and tells whether it is new.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// assert!(store.map_put("stock", "apples", 5)?);
    /// assert!(!store.map_put("stock", "apples", 4)?);
    /// assert_eq!(store.map_get::<u32>("stock", "apples")?, Some(4));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge). On Redis, where an answer was
    /// lost and the write was repeated, [`Unavailable`](crate::Error::Unavailable) says that it is applied,
    /// since nobody knows whether the field was new.
    pub fn map_put(&self, key: &str, field: &str, value: impl Serialize) -> Result<bool> {
        Ok(self.map_put_many(key, [(field, value)])? > 0)
    }

    /// Sets many fields, all or none, and tells how many of them are new. Of two with one name the later
    /// holds.
    ///
    /// # Errors
    /// As [`map_put`](Self::map_put).
    pub fn map_put_many<F: AsRef<str>, V: Serialize>(
        &self,
        key: &str,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<u64> {
        let op = self.context().map_put(key, fields)?;
        match op.action.is_empty() {
            true => self.ask(&op.key, &Query::MapLength).map(|_| 0),
            false => self.run(op)?.count(),
        }
    }

    /// Reads a field.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode).
    pub fn map_get<T: DeserializeOwned>(&self, key: &str, field: &str) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        let field = Context::field(&key, field)?;
        json::decode_found(&key, self.ask(&key, &Query::Field(field))?.found()?)
    }

    /// Reads many fields, in their order, all as of one moment.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first field that is no `T`.
    pub fn map_get_many<T: DeserializeOwned>(
        &self,
        key: &str,
        fields: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Vec<Option<T>>> {
        let key = self.context().key(key)?;
        let fields = Context::fields(&key, fields)?;
        let found = match fields.is_empty() {
            true => self.ask(&key, &Query::MapLength).map(|_| Vec::new())?,
            false => self.ask(&key, &Query::Fields(fields))?.each()?,
        };
        found.into_iter().map(|found| json::decode_found(&key, found)).collect()
    }

    /// Removes a field, and tells whether it was there.
    ///
    /// # Errors
    /// None of its own.
    pub fn map_delete(&self, key: &str, field: &str) -> Result<bool> {
        self.run(self.context().map_delete(key, field)?)?.flag()
    }

    /// Tells whether a field is there.
    ///
    /// # Errors
    /// None of its own.
    pub fn map_contains(&self, key: &str, field: &str) -> Result<bool> {
        let key = self.context().key(key)?;
        let field = Context::field(&key, field)?;
        Ok(self.ask(&key, &Query::Field(field))?.found()?.is_some())
    }

    /// Reads all fields, as of one moment.
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), for the first field that is no `T`.
    pub fn map_entries<T: DeserializeOwned>(&self, key: &str) -> Result<BTreeMap<String, T>> {
        let key = self.context().key(key)?;
        let fields = self.ask(&key, &Query::Map)?.map()?.into_iter();
        fields.map(|(field, bytes)| Ok((field.into(), json::decode(&key, bytes)?))).collect()
    }

    /// The names of all fields, sorted.
    ///
    /// # Errors
    /// None of its own.
    pub fn map_keys(&self, key: &str) -> Result<Vec<String>> {
        let names = self.ask(&self.context().key(key)?, &Query::Names)?.names()?;
        Ok(names.into_iter().map(Into::into).collect())
    }

    /// How many fields there are.
    ///
    /// # Errors
    /// None of its own.
    pub fn map_len(&self, key: &str) -> Result<u64> {
        self.ask(&self.context().key(key)?, &Query::MapLength)?.count()
    }

    /// Adds to a counter in a field, which begins at 0, and returns the new number.
    ///
    /// # Errors
    /// [`NotAnInteger`](crate::Error::NotAnInteger), [`Overflow`](crate::Error::Overflow), with the field as
    /// it was. On Redis it is never repeated after a lost answer, unless `redis.exactly_once` is set.
    pub fn map_incr(&self, key: &str, field: &str, by: i64) -> Result<i64> {
        self.run(self.context().map_incr(key, field, by)?).and_then(Reply::number)
    }
}
