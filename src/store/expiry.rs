//! Expiry: how long entries stay.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::clock::Ttl;
use crate::error::Result;
use crate::json;
use crate::op::EntryAction;
use crate::store::state_store::{StateStore, on_backend};

/// # Expiry
///
/// A time to live is kept as the point in time at which the entry is gone, in milliseconds. From then on
/// the entry is absent for every operation. Memory and File go by the clock of the store, Redis by the
/// clock of its server.
impl StateStore {
    /// How long an entry still has; `None` where nothing is there. [`Ttl::In`] is never zero.
    ///
    /// # Errors
    /// None of its own.
    pub fn ttl(&self, key: &str) -> Result<Option<Ttl>> {
        let key = self.context().key(key)?;
        on_backend!(self, backend => backend.ttl(&key))
    }

    /// Lets an entry be gone after `ttl`, counted from now; `false` where nothing is there.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl).
    pub fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        self.run(self.context().expire(key, ttl)?)?.flag()
    }

    /// Takes the time to live off an entry, and tells whether it had one.
    ///
    /// # Errors
    /// None of its own.
    pub fn persist(&self, key: &str) -> Result<bool> {
        self.run(self.context().op(key, EntryAction::Persist)?)?.flag()
    }

    /// Reads a value and lets it be gone after `ttl`, counted from now: for sessions that stay while they
    /// are used.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl), [`WrongType`](crate::Error::WrongType);
    /// [`Decode`](crate::Error::Decode), after the time to live was set.
    pub fn get_and_touch<T: DeserializeOwned>(&self, key: &str, ttl: Duration) -> Result<Option<T>> {
        let op = self.context().touch(key, ttl)?;
        let key = op.key.clone();
        json::decode_found(&key, self.run(op)?.found()?)
    }
}
