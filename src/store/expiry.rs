//! Owns the documented group of expiry: how long entries live.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::clock::Ttl;
use crate::error::Result;
use crate::stats::counter::Operation;
use crate::store::execute;
use crate::store::state_store::{StateStore, on_backend};

/// # Expiry
///
/// A time to live is stored as the time at which it ends, in milliseconds. From then on the entry is absent for
/// every operation. Memory and File go by the clock of the store, Redis by the clock of its server.
impl StateStore {
    /// Returns how long an entry still lives; `None` if the key is absent. [`Ttl::In`] is never zero.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// use millpond::Ttl;
    ///
    /// store.put("rule:limit", 250)?;
    /// assert_eq!(store.ttl("rule:limit")?, Some(Ttl::Never));
    /// store.expire("rule:limit", Duration::from_secs(60))?;
    /// assert!(matches!(store.ttl("rule:limit")?, Some(Ttl::In(left)) if left <= Duration::from_secs(60)));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn ttl(&self, key: impl AsRef<str>) -> Result<Option<Ttl>> {
        let key = self.context().key(key.as_ref())?;
        self.counted(Operation::Other, ("ttl", &key), || on_backend!(self, backend => backend.ttl(&key)))
    }

    /// Gives an entry a time to live of `ttl`, counted from now; returns `false` if the key is absent.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.map_put("cart:7", "apples", 3)?;
    /// assert!(store.expire("cart:7", Duration::from_secs(1800))?); // the whole cart, half an hour from now
    /// assert!(!store.expire("cart:8", Duration::from_secs(1800))?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn expire(&self, key: impl AsRef<str>, ttl: Duration) -> Result<bool> {
        execute::expire(self, key.as_ref(), ttl)
    }

    /// Removes the time to live of an entry, and returns whether it had one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.put_with_ttl("draft:7", "Dear all", Duration::from_secs(600))?;
    /// assert!(store.persist("draft:7")?); // it stays from now on
    /// assert_eq!(store.ttl("draft:7")?, Some(millpond::Ttl::Never));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn persist(&self, key: impl AsRef<str>) -> Result<bool> {
        execute::persist(self, key.as_ref())
    }

    /// Reads a value and gives its entry a time to live of `ttl`, counted from now: for sessions that stay while they
    /// are used.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let half_hour = Duration::from_secs(1800);
    /// store.put_with_ttl("session:7", "anna", half_hour)?;
    /// let user: Option<String> = store.get_and_touch("session:7", half_hour)?; // at each request
    /// assert_eq!(user.as_deref(), Some("anna"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl), [`WrongType`](crate::Error::WrongType);
    /// [`Decode`](crate::Error::Decode), after the time to live was set.
    pub fn get_and_touch<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        ttl: Duration,
    ) -> Result<Option<T>> {
        execute::get_and_touch(self, key.as_ref(), ttl)
    }
}
