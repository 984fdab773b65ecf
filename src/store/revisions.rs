//! Owns revisions: states of one thing that are kept under one name, one after the other. Knows nothing of how a batch is
//! written.

use std::fmt;
use std::marker::PhantomData;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Clock as _, SystemClock};
use crate::error::Result;
use crate::store::state_store::StateStore;
use crate::store::write_batch::WriteBatch;
use crate::util::sortable_id;

/// How often the last revision is looked for, if others delete it at the same time.
const ATTEMPTS: usize = 3;

/// # Revisions
///
/// A program that keeps its whole state in one value can save it again and again, and go back to an earlier one. Each
/// state is a revision, with an id that sorts by time. They are ordinary entries: that of a revision of `app` is
/// `app:revision:<id>`, and `app:last_revision` holds the id of the one that was saved last. Both are written at once, or
/// neither.
impl StateStore {
    /// Returns a handle on the revisions of one thing. Making it has no effect on the store; if the name breaks a rule for
    /// keys, the operations return the error.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<Vec<u32>>("app");
    /// let first = revisions.save(&vec![1])?;
    /// let second = revisions.save(&vec![1, 2])?;
    /// assert_eq!(revisions.last()?, Some((second, vec![1, 2])));
    /// assert_eq!(revisions.load(&first)?, Some(vec![1]));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "PersistenceStore")]
    pub fn revisions<T>(&self, name: impl AsRef<str>) -> Revisions<T> {
        Revisions { store: self.clone(), name: name.as_ref().to_owned(), item: PhantomData }
    }
}

/// The revisions of one thing: see [`StateStore::revisions`].
pub struct Revisions<T> {
    store: StateStore,
    name: String,
    item: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Revisions<T> {
    /// Saves a revision, and returns its id: 13 digits, the time in milliseconds, a `-`, and 10 random characters. An id is
    /// greater than every one that this process has made before, whatever the clock does, and no other process makes it.
    ///
    /// It is one [`write`](StateStore::write) of two entries, also during an outage. They live for `default_ttl`, or
    /// without limit. Older revisions stay until [`keep`](Self::keep) deletes them.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<String>("app");
    /// let id = revisions.save(&"ready".to_owned())?;
    /// assert_eq!(store.get::<String>("app:last_revision")?, Some(id));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`write`](StateStore::write): then nothing was saved, or, with
    /// [`maybe_applied`](crate::Error::maybe_applied), nobody knows; [`InvalidKey`](crate::Error::InvalidKey),
    /// [`Encode`](crate::Error::Encode), [`TooLarge`](crate::Error::TooLarge).
    #[doc(alias = "persist")]
    pub fn save(&self, value: &T) -> Result<String> {
        let id = sortable_id::make_id(now());
        let mut batch = WriteBatch::new();
        batch.put(self.key(&id), value)?.put(self.last_key(), &id)?;
        self.store.write(&batch)?;
        Ok(id)
    }

    /// Reads a revision; `None` if there is none with this id.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<u32>("app");
    /// let id = revisions.save(&7)?;
    /// assert_eq!(revisions.load(&id)?, Some(7));
    /// assert_eq!(revisions.load("no id")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`get`](StateStore::get), such as [`Decode`](crate::Error::Decode) if the revision is not a `T`.
    #[doc(alias = "restore_revision")]
    pub fn load(&self, id: impl AsRef<str>) -> Result<Option<T>> {
        if sortable_id::is_id(id.as_ref()) {
            return self.store.get(self.key(id.as_ref()));
        }
        // A text that is no id names no key, and still the store may be closed, or the name break a rule.
        self.store.context().key(&self.last_key()).map(|_| None)
    }

    /// Reads the revision that was saved last, with its id; `None` if none was saved.
    ///
    /// If several processes save at the same time, it is the one whose save took effect last, and its id need not be the
    /// greatest.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<u32>("app");
    /// assert_eq!(revisions.last()?, None);
    /// let id = revisions.save(&7)?;
    /// assert_eq!(revisions.last()?, Some((id, 7)));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`get`](StateStore::get), such as [`Decode`](crate::Error::Decode) if the revision is not a `T`.
    #[doc(alias = "restore_last_revision")]
    pub fn last(&self) -> Result<Option<(String, T)>> {
        for _ in 0..ATTEMPTS {
            let Some(id) = self.last_id()? else { break };
            if let Some(value) = self.load(&id)? {
                return Ok(Some((id, value)));
            }
        }
        Ok(None)
    }

    /// Lists the ids of all revisions, the oldest first. On Redis it walks over the whole database, as
    /// [`keys`](StateStore::keys) does.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<u32>("app");
    /// let ids = [revisions.save(&1)?, revisions.save(&2)?];
    /// assert_eq!(revisions.list()?, ids);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`keys`](StateStore::keys).
    pub fn list(&self) -> Result<Vec<String>> {
        let prefix = self.key("");
        let keys = self.store.keys(&prefix)?;
        let ids = keys.iter().filter_map(|key| key.strip_prefix(&*prefix));
        Ok(ids.filter(|id| sortable_id::is_id(id)).map(ToOwned::to_owned).collect())
    }

    /// Deletes all revisions but the newest `count`, and returns how many were deleted. The one that was saved last is
    /// never deleted. It lists the revisions first.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<u32>("app");
    /// for state in 1..=5 {
    ///     revisions.save(&state)?;
    /// }
    /// assert_eq!(revisions.keep(2)?, 3);
    /// assert_eq!(revisions.list()?.len(), 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`keys`](StateStore::keys) and [`batch_delete`](StateStore::batch_delete), such as
    /// [`Partial`](crate::Error::Partial).
    pub fn keep(&self, count: usize) -> Result<u64> {
        let mut ids = self.list()?;
        let last = self.last_id()?;
        if let Some(at) = ids.iter().position(|id| Some(id) == last.as_ref()) {
            let last = ids.remove(at);
            ids.push(last);
        }
        ids.truncate(ids.len().saturating_sub(count.max(1)));
        self.delete(&ids)
    }

    /// Deletes all revisions, and returns how many. A revision that is saved at the same time may stay, and then
    /// [`last`](Self::last) may not find it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let revisions = store.revisions::<u32>("app");
    /// revisions.save(&7)?;
    /// assert_eq!(revisions.clear()?, 1);
    /// assert_eq!(revisions.last()?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`keys`](StateStore::keys) and [`batch_delete`](StateStore::batch_delete), such as
    /// [`Partial`](crate::Error::Partial).
    #[doc(alias = "clear_all_revisions")]
    pub fn clear(&self) -> Result<u64> {
        let ids = self.list()?;
        self.store.delete(self.last_key())?;
        self.delete(&ids)
    }

    fn delete(&self, ids: &[String]) -> Result<u64> {
        self.store.batch_delete(ids.iter().map(|id| self.key(id)))
    }

    fn last_id(&self) -> Result<Option<String>> {
        self.store.get(self.last_key())
    }

    fn key(&self, id: &str) -> String {
        format!("{}:revision:{id}", self.name)
    }

    fn last_key(&self) -> String {
        format!("{}:last_revision", self.name)
    }
}

/// Returns the time in milliseconds since 1970.
fn now() -> u64 {
    let since = SystemClock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl<T> Clone for Revisions<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), name: self.name.clone(), item: PhantomData }
    }
}

impl<T> fmt::Debug for Revisions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revisions").field("name", &self.name).finish_non_exhaustive()
    }
}
