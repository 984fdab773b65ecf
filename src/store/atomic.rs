//! Owns the documented group of atomic steps on one value: each reads and writes with nothing in between.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::json;
use crate::stats::counter::Operation;
use crate::store::cas_loop::CasStep;
use crate::store::execute;
use crate::store::state_store::StateStore;

/// # Atomic steps
///
/// Each of these operations reads and writes one value, and nobody else can write it in between.
impl StateStore {
    /// Sets the value of a key if the key is absent, and returns whether it did. `ttl` is the time to live
    /// of the new entry, a `Duration` or an `Option` of one; `None` means `default_ttl`, or no limit. A key that holds a map or a queue is not absent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let day = Duration::from_secs(86_400);
    /// assert!(store.set_if_not_exists("seen:order-17", true, day)?);
    /// assert!(!store.set_if_not_exists("seen:order-17", true, day)?); // a duplicate
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`InvalidTtl`](crate::Error::InvalidTtl). A
    /// [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt.
    #[must_use = "whether the value was set is the point of this operation"]
    pub fn set_if_not_exists(
        &self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: impl Into<Option<Duration>>,
    ) -> Result<bool> {
        execute::set_if_not_exists(self, key.as_ref(), &value, ttl.into())
    }

    /// Replaces the value of a key if it is still the expected one, and returns whether it did; keeps the
    /// time to live. If nothing is expected, it sets the value of an absent key, with `default_ttl`.
    ///
    /// The stored JSON is compared by meaning: integers exactly, an integer with a float as `f64`, and the
    /// order of fields does not matter. [`Bytes`](crate::Bytes) are compared byte by byte.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// assert!(store.compare_and_set("leader", None, "anna")?);
    /// assert!(!store.compare_and_set("leader", Some("ben"), "carl")?);
    /// assert!(store.compare_and_set("leader", Some("anna"), "ben")?);
    /// store.put("stock", 5)?;
    /// assert!(store.compare_and_set("stock", Some(&5), &4)?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put); [`WrongType`](crate::Error::WrongType); [`Conflict`](crate::Error::Conflict) if others
    /// kept changing the entry without changing its meaning, for as long as an operation may take
    /// (`redis.timeout`, on every backend).
    #[must_use = "whether the value was replaced is the point of this operation"]
    pub fn compare_and_set<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<str>,
        expected: Option<&T>,
        new: &T,
    ) -> Result<bool> {
        let key = self.context().key(key.as_ref())?;
        let expected = expected.map(|expected| json::encode(&key, expected)).transpose()?;
        let new = self.context().encode(&key, new)?;
        let Some(expected) = expected else {
            return execute::swap(self, key, None, Some(new));
        };
        // Most often the stored text is the very text that is expected.
        let watch = self.watch(|| ("compare_and_set", &key));
        match self.swap(&key, Some(expected.bytes.clone()), Some(new.clone())) {
            // The loop counts it.
            Ok(false) => self.cas_loop(&key, |found| Ok(CasStep::compare(found, Some(&expected), &new))),
            outcome => self.end(Operation::Put, outcome, |_| false, watch),
        }
    }

    /// Removes the value of a key and returns it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("code:anna", 4711)?;
    /// assert_eq!(store.get_and_delete("code:anna")?, Some(4711)); // only one caller can use the code
    /// assert_eq!(store.get_and_delete::<u32>("code:anna")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WrongType`](crate::Error::WrongType); [`Decode`](crate::Error::Decode), after the removal: its field `raw`
    /// holds the removed bytes. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in
    /// doubt.
    pub fn get_and_delete<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        execute::get_and_delete(self, key.as_ref())
    }

    /// Sets the value of a key, as [`put`](Self::put) does, and returns the previous value.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// assert_eq!(store.get_and_put::<String>("door", "open")?, None);
    /// assert_eq!(store.get_and_put::<String>("door", "shut")?.as_deref(), Some("open"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put); [`WrongType`](crate::Error::WrongType); [`Decode`](crate::Error::Decode), after the
    /// replacement: its field `raw` holds the replaced bytes. A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in
    /// doubt.
    pub fn get_and_put<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        value: impl Serialize,
    ) -> Result<Option<T>> {
        execute::get_and_put(self, key.as_ref(), &value, None)
    }

    /// Sets the value of a key for the time `ttl`, and returns the previous value.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let minute = Duration::from_secs(60);
    /// assert_eq!(store.get_and_put_with_ttl::<u32>("code:anna", 4711, minute)?, None);
    /// assert_eq!(store.get_and_put_with_ttl("code:anna", 1234, minute)?, Some(4711));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get_and_put`](Self::get_and_put), and [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn get_and_put_with_ttl<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        value: impl Serialize,
        ttl: Duration,
    ) -> Result<Option<T>> {
        execute::get_and_put(self, key.as_ref(), &value, Some(ttl))
    }

    /// Reads the value of a key, passes it to `f`, and writes the value that `f` returns; returns the new value.
    ///
    /// `f` gets `None` if the key is absent, and deletes the entry by returning `None`. The time to live is kept; an
    /// entry that this creates gets `default_ttl`. Nobody's write is lost: if another writer changes the value in
    /// between, `f` runs again on the changed value. It runs under no lock and may use the store.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// let longest = store.modify("longest", |known: Option<u32>| Some(known.unwrap_or(0).max(7)))?;
    /// assert_eq!(longest, Some(7));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](crate::Error::Decode), [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge),
    /// [`WrongType`](crate::Error::WrongType), all with the entry unchanged; [`Conflict`](crate::Error::Conflict) if
    /// others kept changing it for as long as an operation may take (`redis.timeout`, on every backend). A closure
    /// that writes its own key through the store counts as another: its write stays, and each attempt meets the next.
    pub fn modify<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        mut f: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.try_modify(key, |found| Ok(f(found)))
    }

    /// As [`modify`](Self::modify), with a closure that may fail: then nothing is changed, and its error is returned.
    ///
    /// The error may be of any type that an [`Error`] can be turned into, such as `anyhow::Error`,
    /// `Box<dyn std::error::Error>` or an enum of the program, so that `?` works inside.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = millpond::StateStore::memory();
    /// store.put("port", "80a")?;
    /// let parsed = store.try_modify("port", |port: Option<String>| {
    ///     let port: u16 = port.unwrap_or_default().parse()?;
    ///     Ok::<_, Box<dyn std::error::Error>>(Some((port + 1).to_string()))
    /// });
    /// assert_eq!(parsed.unwrap_err().to_string(), "invalid digit found in string");
    /// assert_eq!(store.get::<String>("port")?.as_deref(), Some("80a"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `f`, and those of [`modify`](Self::modify).
    pub fn try_modify<T: Serialize + DeserializeOwned, E: From<Error>>(
        &self,
        key: impl AsRef<str>,
        mut f: impl FnMut(Option<T>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let key = self.context().key(key.as_ref())?;
        self.cas_loop(&key, |found| CasStep::modify(self.context(), &key, found, &mut f))
    }

    /// As [`modify`](Self::modify), and the entry is gone `ttl` after this change. It is one
    /// [`transaction`](Self::transaction).
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let minute = Duration::from_secs(60);
    /// store.modify_with_ttl("session", minute, |clicks: Option<u32>| Some(clicks.unwrap_or(0) + 1))?;
    /// assert!(store.ttl("session")?.is_some());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`modify`](Self::modify), and [`InvalidTtl`](Error::InvalidTtl).
    pub fn modify_with_ttl<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        ttl: Duration,
        mut f: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        let key = key.as_ref();
        self.transaction(|tx| tx.modify_with_ttl(key, ttl, &mut f))
    }

    /// Changes the value of a key in place by `change`, and returns the new value. If the key is absent, `change` gets
    /// the value that `default` makes. The time to live is kept; an entry that this creates gets `default_ttl`.
    ///
    /// The closures run again if another writer changes the value in between, as those of [`modify`](Self::modify) do.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// assert_eq!(store.upsert("n", || 0, |n| *n += 1)?, 1);
    /// assert_eq!(store.upsert("n", || 0, |n| *n += 1)?, 2);
    /// store.upsert("seen", Vec::new, |seen| seen.push("anna".to_owned()))?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`modify`](Self::modify).
    pub fn upsert<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        mut default: impl FnMut() -> T,
        mut change: impl FnMut(&mut T),
    ) -> Result<T> {
        let key = self.context().key(key.as_ref())?;
        self.cas_loop(&key, |found| CasStep::upsert(self.context(), &key, found, &mut default, &mut change))
    }

    /// Reads the value of a key, or sets the one that `f` computes if the key is absent; one thread at a time.
    pub(crate) fn get_or_insert_with<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        f: impl FnOnce() -> T,
    ) -> Result<T> {
        self.get_or_insert(key, None, f)
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with); a value that this sets is gone after `ttl`.
    pub(crate) fn get_or_insert_with_ttl<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        ttl: Duration,
        f: impl FnOnce() -> T,
    ) -> Result<T> {
        Millis::new(ttl)?;
        self.get_or_insert(key, Some(ttl), f)
    }

    fn get_or_insert<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        ttl: Option<Duration>,
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
                if self.set_if_not_exists(key, &computed, ttl)? {
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
