//! Owns the documented group of atomic steps on one value: each reads and writes with nothing in between.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::json;
use crate::store::cas_loop::CasStep;
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Atomic steps
///
/// Each of these operations reads and writes one value, and nobody else can write it in between.
impl StateStore {
    /// Sets the value of a key if the key is absent, and returns whether it did. `ttl` is the time to live
    /// of the new entry; `None` means `default_ttl`, or no limit. A key that holds a map or a queue is not absent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// let day = Some(Duration::from_secs(86_400));
    /// assert!(store.set_if_not_exists("seen:order-17", true, day)?);
    /// assert!(!store.set_if_not_exists("seen:order-17", true, day)?); // a duplicate
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl). A
    /// [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt.
    pub fn set_if_not_exists(&self, key: &str, value: impl Serialize, ttl: Option<Duration>) -> Result<bool> {
        execute::set_if_not_exists(self, key, &value, ttl)
    }

    /// Replaces the value of a key if it is still the expected one, and returns whether it did; keeps the
    /// time to live. If nothing is expected, it sets the value of an absent key, with `default_ttl`.
    ///
    /// The stored JSON is compared by meaning: integers exactly, an integer with a float as `f64`, and the
    /// order of fields does not matter.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// assert!(store.compare_and_set("leader", None::<&str>, "anna")?);
    /// assert!(!store.compare_and_set("leader", Some("ben"), "carl")?);
    /// assert!(store.compare_and_set("leader", Some("anna"), "ben")?);
    /// store.put("stock", 5)?;
    /// assert!(store.compare_and_set("stock", Some(&5), &4)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put); [`WrongType`](crate::Error::WrongType); [`Conflict`](crate::Error::Conflict) if others
    /// kept changing the entry without changing its meaning, for as long as an operation may take
    /// (`redis.timeout`, on every backend).
    pub fn compare_and_set<T: Serialize + ?Sized, U: Serialize + ?Sized>(
        &self,
        key: &str,
        expected: Option<&T>,
        new: &U,
    ) -> Result<bool> {
        let key = self.context().key(key)?;
        let expected = expected.map(|expected| json::encode(&key, expected)).transpose()?;
        let new = self.context().encode(&key, new)?;
        let Some(expected) = expected else {
            return execute::swap(self, key, None, Some(new));
        };
        // Most often the stored text is the very text that is expected.
        if execute::swap(self, key.clone(), Some(expected.bytes.clone()), Some(new.clone()))? {
            return Ok(true);
        }
        self.cas_loop(&key, |found| Ok(CasStep::compare(found, Some(&expected), &new)))
    }

    /// Removes the value of a key and returns it.
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType); [`Decode`](crate::Error::Decode), after the removal: its field `raw`
    /// holds the removed bytes. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in
    /// doubt.
    pub fn get_and_delete<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        execute::get_and_delete(self, key)
    }

    /// Sets the value of a key, as [`put`](Self::put) does, and returns the previous value.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`WrongType`](crate::Error::WrongType); [`Decode`](crate::Error::Decode), after the
    /// replacement: its field `raw` holds the replaced bytes. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in
    /// doubt.
    pub fn get_and_put<T: DeserializeOwned>(&self, key: &str, value: impl Serialize) -> Result<Option<T>> {
        execute::get_and_put(self, key, &value)
    }

    /// Reads the value of a key, passes it to `f`, and writes the value that `f` returns; returns the new value.
    ///
    /// `f` gets `None` if the key is absent, and deletes the entry by returning `None`. The time to live is kept; an
    /// entry that this creates gets `default_ttl`. Nobody's write is lost: if another writer changes the value in
    /// between, `f` runs again on the changed value. It runs under no lock and may use the store.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// let longest = store.modify("longest", |known: Option<u32>| Some(known.unwrap_or(0).max(7)))?;
    /// assert_eq!(longest, Some(7));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge),
    /// [`WrongType`](crate::Error::WrongType), all with the entry unchanged; [`Conflict`](crate::Error::Conflict) if
    /// others kept changing it for as long as an operation may take (`redis.timeout`, on every backend). A closure
    /// that writes its own key through the store counts as another: its write stays, and each attempt meets the next.
    pub fn modify<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut f: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        self.cas_loop(&key, |found| CasStep::modify(self.context(), &key, found, &mut f))
    }

    /// Reads the value of a key, or sets the one that `f` computes if the key is absent; one thread at a time.
    pub(crate) fn get_or_insert_with<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        f: impl FnOnce() -> T,
    ) -> Result<T> {
        if let Some(found) = self.get(key)? {
            return Ok(found);
        }
        let full = self.context().key(key)?;
        self.context().shared.single_flight.run(&full, || {
            if let Some(found) = self.get(key)? {
                return Ok(found);
            }
            let computed = f();
            loop {
                if self.set_if_not_exists(key, &computed, None)? {
                    return Ok(computed);
                }
                // Another process was quicker; its entry may be gone again already, hence the loop.
                if let Some(found) = self.get(key)? {
                    return Ok(found);
                }
            }
        })
    }
}
