//! Owns the documented group of expiry: how long entries live.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::clock::Ttl;
use crate::error::{Error, Result};
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

    /// Returns a handle on the same store on which a read of a value renews its time to live: the value then lives for
    /// `default_ttl` from now. So sessions, and what is cached, stay for as long as they are used.
    ///
    /// - [`get`](Self::get), [`get_bytes`](Self::get_bytes), [`batch_get`](Self::batch_get), the same reads in a
    ///   [`transaction`](Self::transaction), and those of a value's handle renew. Everything else is as on any other
    ///   handle: `contains`, `ttl`, `kind`, listings, writes, and reads of maps and queues renew nothing.
    /// - An entry without a time to live stays without one. One that has longer than `default_ttl` left keeps that:
    ///   a read never shortens a life.
    /// - The read and the renewal are one step: an entry that was read has not expired before its renewal.
    /// - Such a read is a write where it renews: on File a line in the journal, on Redis a script; a transaction that
    ///   makes it can meet a conflict. It counts as a `get` in [`stats`](Self::stats). Use this handle where reads
    ///   should renew, and the store itself elsewhere.
    /// - During an outage of Redis it is treated as [`get_and_touch`](Self::get_and_touch) is: the value is read
    ///   locally, and the renewal is queued. What the server holds then decides: an entry that has no time to live on
    ///   the server gets none.
    ///
    /// ```
    /// use millpond::{ManualClock, OpenOptions};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let clock = Arc::new(ManualClock::default());
    /// let store = OpenOptions::new().clock(clock.clone()).open("memory:?default_ttl=30m")?;
    /// let sessions = store.sliding()?;
    /// sessions.put("7", "anna")?;
    /// for _request in 0..5 {
    ///     clock.advance(Duration::from_secs(20 * 60));
    ///     assert_eq!(sessions.get::<String>("7")?.as_deref(), Some("anna"));
    /// }
    /// clock.advance(Duration::from_secs(30 * 60));
    /// assert_eq!(sessions.get::<String>("7")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig) if the store has no `default_ttl`: nothing would be renewed.
    pub fn sliding(&self) -> Result<Self> {
        let missing = || Error::invalid_config("default_ttl", "sliding handles renew it, so it must be set");
        let ttl = self.context().default_ttl().ok_or_else(missing)?;
        let mut sliding = self.clone();
        sliding.context_mut().renewed_ttl = Some(ttl);
        Ok(sliding)
    }
}
