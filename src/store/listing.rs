//! Owns the documented group of listings: keys and entries by prefix.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::vec;

use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::json;
use crate::key::Key;
use crate::op::Cursor;
use crate::stats::counter::Operation;
use crate::store::state_store::{StateStore, on_backend};

/// # Listing
///
/// A prefix is any text that a key can begin with; the empty one means every key of this namespace. Keys
/// are returned without the namespace of the handle that lists them.
///
/// On Memory and File a listing costs what it lists. On Redis it costs a scan of the whole database
/// (`SCAN`, page by page, never `KEYS`), also for [`len`](Self::len) and [`is_empty`](Self::is_empty).
/// While others write, a key that exists throughout is listed; one that is created or removed may be. No
/// connection and no lock is held between the items of [`scan`](Self::scan) and
/// [`entries`](Self::entries).
impl StateStore {
    /// Lists the keys that begin with `prefix`, sorted, each once.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("rule:b", 1), ("rule:a", 1), ("session:7", 1)])?;
    /// assert_eq!(store.keys("rule:")?, ["rule:a", "rule:b"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) for a prefix that no key can begin with, and the [common ones](#values).
    pub fn keys(&self, prefix: impl AsRef<str>) -> Result<Vec<String>> {
        self.keys_page(prefix.as_ref(), None, usize::MAX)
    }

    /// Lists at most `limit` of the keys that begin with `prefix` and sort after `after`, sorted, each
    /// once. `after` need not exist, or ever have existed.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.batch_put((0..5).map(|n| (format!("order:{n}"), n)))?;
    /// let first = store.keys_page("order:", None, 3)?;
    /// let rest = store.keys_page("order:", first.last().map(String::as_str), 3)?;
    /// assert_eq!((first.len(), rest.len()), (3, 2));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    pub fn keys_page(
        &self,
        prefix: impl AsRef<str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let prefix = self.full_prefix(prefix.as_ref())?;
        let namespace = &self.context().namespace;
        let after = after.map(|after| [namespace.text(), after].concat());
        let keys = self.counted(
            Operation::Other,
            ("keys", &prefix),
            || on_backend!(self, backend => backend.keys(&prefix, after.as_deref(), limit)),
        )?;
        Ok(keys.iter().map(|key| namespace.strip(key)).collect())
    }

    /// Iterates over the keys that begin with `prefix`, in no order. On Redis a key may come twice.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("rule:b", 1), ("rule:a", 1), ("session:7", 1)])?;
    /// for key in store.scan("rule:") {
    ///     assert!(key?.starts_with("rule:"));
    /// }
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// The iterator yields the error and ends.
    #[must_use]
    pub fn scan(&self, prefix: impl AsRef<str>) -> Keys {
        Keys { pages: Pages::new(self, prefix.as_ref()), page: Vec::new().into_iter() }
    }

    /// Iterates over the values whose keys begin with `prefix`, with their keys, in no order. Maps and queues are
    /// skipped. On Redis an entry may come twice. While the server is disconnected, a value of which this process
    /// knows only a part is skipped too, such as a counter that it has incremented without having read it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("visits:anna", 3), ("visits:ben", 4)])?;
    /// let mut sum = 0;
    /// for entry in store.entries::<u32>("visits:") {
    ///     let (_key, visits) = entry?;
    ///     sum += visits;
    /// }
    /// assert_eq!(sum, 7);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// The iterator yields the error, [`Decode`](Error::Decode) included, and ends.
    #[must_use]
    pub fn entries<T: DeserializeOwned>(&self, prefix: impl AsRef<str>) -> Entries<T> {
        Entries { pages: Pages::new(self, prefix.as_ref()), page: Vec::new().into_iter(), value: PhantomData }
    }

    /// Counts the keys that begin with `prefix`.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("session:7", 1), ("session:8", 1), ("rule:a", 1)])?;
    /// assert_eq!(store.count("session:")?, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    pub fn count(&self, prefix: impl AsRef<str>) -> Result<u64> {
        let prefix = self.full_prefix(prefix.as_ref())?;
        self.counted(
            Operation::Other,
            ("count", &prefix),
            || on_backend!(self, backend => backend.count(&prefix)),
        )
    }

    /// Counts all keys of this namespace.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let sessions = store.namespace("session");
    /// sessions.batch_put([("7", "anna"), ("8", "ben")])?;
    /// assert_eq!(sessions.len()?, 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn len(&self) -> Result<u64> {
        self.count("")
    }

    /// Returns whether this namespace holds no key.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.put("rule:a", 1)?;
    /// assert!(store.namespace("session").is_empty()?);
    /// assert!(!store.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.keys_page("", None, 1)?.is_empty())
    }

    /// Removes every key that begins with `prefix`, and returns how many there were. It is not atomic: keys that
    /// are written meanwhile may stay.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("session:7", 1), ("session:8", 1), ("rule:a", 1)])?;
    /// assert_eq!(store.delete_prefix("session:")?, 2);
    /// assert_eq!(store.keys("")?, ["rule:a"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Partial`](Error::Partial) if some were removed; [`Unsupported`](Error::Unsupported) on Redis
    /// if the prefix and the `key_prefix` of the store are both empty, since that would remove everything in the
    /// database.
    pub fn delete_prefix(&self, prefix: impl AsRef<str>) -> Result<u64> {
        let prefix = self.full_prefix(prefix.as_ref())?;
        self.counted(
            Operation::Delete,
            ("delete_prefix", &prefix),
            || on_backend!(self, backend => backend.remove(&prefix)),
        )
    }

    /// Removes every key of this namespace, and returns how many there were, as
    /// [`delete_prefix`](Self::delete_prefix) with an empty prefix does.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// store.batch_put([("cache:a", 1), ("cache:b", 1), ("rule:a", 1)])?;
    /// assert_eq!(store.namespace("cache").clear()?, 2);
    /// assert_eq!(store.keys("")?, ["rule:a"]);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`delete_prefix`](Self::delete_prefix).
    pub fn clear(&self) -> Result<u64> {
        self.delete_prefix("")
    }

    pub(super) fn full_prefix(&self, prefix: &str) -> Result<String> {
        let context = self.context();
        context.check_open()?;
        context.namespace.prefix(prefix)
    }
}

/// A scan of keys, page by page, that owns its handle on the store.
struct Pages {
    store: StateStore,
    prefix: String,
    next: Option<Cursor>,
    /// The error of an invalid prefix, until it is returned.
    prefix_error: Option<Error>,
}

impl Pages {
    fn new(store: &StateStore, prefix: &str) -> Self {
        let (prefix, next, prefix_error) = match store.full_prefix(prefix) {
            Ok(prefix) => (prefix, Some(Cursor::Start), None),
            Err(error) => (String::new(), None, Some(error)),
        };
        Self { store: store.clone(), prefix, next, prefix_error }
    }

    /// Returns the next page of full keys, which may be empty; `None` at the end and after an error.
    fn next_page(&mut self) -> Option<Result<Vec<String>>> {
        if let Some(error) = self.prefix_error.take() {
            return Some(Err(error));
        }
        let from = self.next.take()?;
        let page = self.store.context().check_open().and_then(|()| {
            self.store.counted(
                Operation::Other,
                ("scan", &self.prefix),
                || on_backend!(&self.store, backend => backend.page(&self.prefix, &from)),
            )
        });
        Some(page.map(|page| {
            self.next = page.next;
            page.keys
        }))
    }

    fn strip(&self, full: &str) -> String {
        self.store.context().namespace.strip(full)
    }
}

/// An iterator over keys: see [`StateStore::scan`]. It ends after the first error.
pub struct Keys {
    pages: Pages,
    page: vec::IntoIter<String>,
}

impl Iterator for Keys {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(self.pages.strip(&key)));
            }
            match self.pages.next_page()? {
                Ok(keys) => self.page = keys.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl FusedIterator for Keys {}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("prefix", &self.pages.prefix).finish_non_exhaustive()
    }
}

/// An iterator over entries: see [`StateStore::entries`]. It ends after the first error.
pub struct Entries<T> {
    pages: Pages,
    page: vec::IntoIter<Result<(String, T)>>,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Entries<T> {
    fn read_values(&self, keys: Vec<String>) -> Vec<Result<(String, T)>> {
        let mut keys: Vec<Key<'_>> = keys.into_iter().map(Key::listed).collect();
        let found = on_backend!(&self.pages.store, backend => {
            keys.retain(|key| !backend.is_partial(key));
            backend.get_many(&keys)
        });
        keys.iter()
            .zip(found)
            .filter_map(|(key, found)| match found {
                Ok(found) => Some(json::decode(key, found?).map(|value| (self.pages.strip(key), value))),
                Err(Error::WrongType { .. }) => None,
                Err(error) => Some(Err(error)),
            })
            .collect()
    }
}

impl<T: DeserializeOwned> Iterator for Entries<T> {
    type Item = Result<(String, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = match self.page.next() {
                Some(item) => item,
                None => match self.pages.next_page()? {
                    Ok(keys) => {
                        self.page = self.read_values(keys).into_iter();
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            if item.is_err() {
                self.page = Vec::new().into_iter();
                self.pages.next = None;
            }
            return Some(item);
        }
    }
}

impl<T: DeserializeOwned> FusedIterator for Entries<T> {}

impl<T> fmt::Debug for Entries<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("prefix", &self.pages.prefix).finish_non_exhaustive()
    }
}
