//! Atomic steps on one value: each reads and writes with nothing in between.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::json;
use crate::key::Key;
use crate::op::EntryAction;
use crate::store::cas_backoff::CasBackoff;
use crate::store::state_store::{StateStore, on_backend};
use crate::value::Value;

/// # Atomic steps
impl StateStore {
    /// Sets the value of a key where nothing is there, and tells whether it did. `ttl` is the time to live
    /// of the new entry; `None` is `default_ttl`, or none. A key that holds a map or a queue is not free.
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
    /// As [`put`](Self::put), and [`InvalidTtl`](Error::InvalidTtl). On Redis it is never repeated after a
    /// lost answer: [`Unavailable`](Error::Unavailable) says whether it may have been applied.
    pub fn set_if_not_exists(&self, key: &str, value: impl Serialize, ttl: Option<Duration>) -> Result<bool> {
        self.run(self.context().set_if_not_exists(key, &value, ttl)?)?.flag()
    }

    /// Replaces the value of a key if it still is what is expected, and tells whether it did; keeps the
    /// time to live. With nothing expected it sets the value where nothing is there, with `default_ttl`.
    ///
    /// The stored JSON is compared by meaning: integers exactly, an integer against a float as `f64`, the
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
    /// As [`put`](Self::put); [`WrongType`](Error::WrongType); [`Conflict`](Error::Conflict) where others
    /// kept changing the entry without changing what it means, for as long as an operation may take
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
            return self.swap(&key, None, Some(new));
        };
        // Most often the stored text is the very text that is expected.
        if self.swap(&key, Some(expected.bytes.clone()), Some(new.clone()))? {
            return Ok(true);
        }
        self.until_settled(&key, |found| {
            Ok(match found {
                Some(found) if json::eq(&found, &expected.bytes) => {
                    Step::Swap { expected: Some(found), new: Some(new.clone()), outcome: true }
                }
                _ => Step::Leave(false),
            })
        })
    }

    /// Removes the value of a key and hands it out.
    ///
    /// # Errors
    /// [`WrongType`](Error::WrongType); [`Decode`](Error::Decode), after the removal: `raw` holds what was
    /// removed. On Redis it is never repeated after a lost answer.
    pub fn get_and_delete<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        let found = self.apply(key.clone(), EntryAction::GetAndDelete)?.found()?;
        json::decode_found(&key, found)
    }

    /// Sets the value of a key, as [`put`](Self::put) does, and hands out the one before.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`WrongType`](Error::WrongType); [`Decode`](Error::Decode), after the
    /// replacement: `raw` holds what was replaced. On Redis it is never repeated after a lost answer.
    pub fn get_and_put<T: DeserializeOwned>(&self, key: &str, value: impl Serialize) -> Result<Option<T>> {
        let op = self.context().get_and_put(key, &value)?;
        let key = op.key.clone();
        json::decode_found(&key, self.run(op)?.found()?)
    }

    /// Reads the value of a key, lets `f` make the new one of it, and writes that; returns the new value.
    ///
    /// `f` gets `None` where nothing is there, and deletes by returning `None`. The time to live is kept; an
    /// entry that this creates gets `default_ttl`. Nobody's write is lost: where another changes the value in
    /// between, `f` runs again on what is there then. It runs under no lock and may use the store.
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
    /// [`Decode`](Error::Decode), [`Encode`](Error::Encode), [`TooLarge`](Error::TooLarge),
    /// [`WrongType`](Error::WrongType), all with the entry as it was; [`Conflict`](Error::Conflict) where
    /// others kept changing it for as long as an operation may take (`redis.timeout`, on every backend).
    pub fn modify<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut f: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>> {
        let key = self.context().key(key)?;
        self.until_settled(&key, |found| {
            let made = f(json::decode_found(&key, found.clone())?);
            let new = made.as_ref().map(|made| self.context().encode(&key, made)).transpose()?;
            Ok(match (found, new) {
                (None, None) => Step::Leave(None),
                (expected, new) => Step::Swap { expected, new, outcome: made },
            })
        })
    }

    /// Reads the value of a key, or sets the one that `f` makes where nothing is; one thread at a time.
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
            let made = f();
            loop {
                if self.set_if_not_exists(key, &made, None)? {
                    return Ok(made);
                }
                // Another was quicker; what it set may be gone again already.
                if let Some(found) = self.get(key)? {
                    return Ok(found);
                }
            }
        })
    }

    /// The one loop of optimistic changes: read, decide, swap if the bytes are still the same.
    fn until_settled<R>(
        &self,
        key: &Key<'_>,
        mut decide: impl FnMut(Option<Bytes>) -> Result<Step<R>>,
    ) -> Result<R> {
        let mut patience = CasBackoff::new(self.context().shared.limit);
        loop {
            let found = on_backend!(self, backend => backend.get(key))?;
            match decide(found)? {
                Step::Leave(outcome) => return Ok(outcome),
                Step::Swap { expected, new, outcome } => {
                    if self.swap(key, expected, new)? {
                        return Ok(outcome);
                    }
                }
            }
            if !patience.wait() {
                return Err(Error::Conflict { key: key.to_string() });
            }
        }
    }

    fn swap(&self, key: &Key<'_>, expected: Option<Bytes>, new: Option<Value>) -> Result<bool> {
        let ttl_if_created = self.context().default_ttl();
        self.apply(key.clone(), EntryAction::Swap { expected, new, ttl_if_created })?.flag()
    }
}

/// What one round of an optimistic change came to.
enum Step<R> {
    /// Nothing is to be written.
    Leave(R),
    /// This is to be written if the entry is still as it was read.
    Swap { expected: Option<Bytes>, new: Option<Value>, outcome: R },
}
