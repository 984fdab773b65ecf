//! Owns the documented group of expiry: how long entries live.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::clock::Ttl;
use crate::error::Result;
use crate::store::execute;
use crate::store::state_store::{StateStore, on_backend};

/// # Expiry
///
/// A time to live is stored as the time at which it ends, in milliseconds. From then on the entry is absent for
/// every operation. Memory and File go by the clock of the store, Redis by the clock of its server.
impl StateStore {
    /// Returns how long an entry still lives; `None` if the key is absent. [`Ttl::In`] is never zero.
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn ttl(&self, key: impl AsRef<str>) -> Result<Option<Ttl>> {
        let key = self.context().key(key.as_ref())?;
        on_backend!(self, backend => backend.ttl(&key))
    }

    /// Gives an entry a time to live of `ttl`, counted from now; returns `false` if the key is absent.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn expire(&self, key: impl AsRef<str>, ttl: Duration) -> Result<bool> {
        execute::expire(self, key.as_ref(), ttl)
    }

    /// Removes the time to live of an entry, and returns whether it had one.
    ///
    /// # Errors
    /// Only the [common ones](#values).
    pub fn persist(&self, key: impl AsRef<str>) -> Result<bool> {
        execute::persist(self, key.as_ref())
    }

    /// Reads a value and gives its entry a time to live of `ttl`, counted from now: for sessions that stay while they
    /// are used.
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
