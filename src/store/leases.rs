//! Owns the documented group of leases: values of a queue that are handed out for a time, and come back unless they
//! are done.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use crate::backend::Backend;
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::{Error, LeaseId, Result};
use crate::json;
use crate::key::Key;
use crate::op::{LeaseAction, Op, Reply};
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;

/// # Leases
///
/// [`lease`](Self::lease) leases the first value of a queue for a time. During the lease nobody
/// else gets the value. [`Leased::ack`] removes it for good, and [`Leased::nack`] returns it to the queue at once. If
/// neither is called, for instance because the program died, the value comes back when the lease expires. So every
/// value is handed out **at least once**, and nothing is lost; if a consumer outlives its lease, another
/// one may get the same value.
///
/// Values come back to the front of the queue, in the order in which they were leased. The next `lease` on
/// the queue notices expired leases, and returns at most 1000 of their values to the queue. If more leases have
/// expired, each further `lease` hands out the value whose lease expired first, and returns 1000 more, the last ones
/// first, so that leases find all values in the order in which their leases expired. Pops, [`queue_len`](Self::queue_len) and
/// [`queue_range`](Self::queue_range) do not see their values before. Leases are no part of the key: writing to it,
/// deleting it and its expiry leave them alone, but [`clear`](Self::clear) and
/// [`delete_prefix`](Self::delete_prefix) drop them. On Redis they are stored beside the queue, under
/// `{key}:__millpond:leases` and `:leased`, and go by the clock of the server.
impl StateStore {
    /// Leases the first value of a queue for the time `lease`; returns `None` if there is none.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// if let Some(mail) = store.lease::<String>("mails", Duration::from_secs(30))? {
    ///     assert_eq!(mail.value(), "hello"); // … send it …
    ///     mail.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for the lease, [`WrongType`](crate::Error::WrongType);
    /// [`Decode`](crate::Error::Decode), with the bytes in its field `raw`: the value stays leased, and comes back
    /// unless [`undecoded`](Self::undecoded) ends its lease.
    /// A [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt; a value that it may have leased comes
    /// back.
    #[doc(alias = "take")]
    #[doc(alias = "reserve")]
    pub fn lease<T: DeserializeOwned>(
        &self,
        queue: impl AsRef<str>,
        lease: Duration,
    ) -> Result<Option<Leased<T>>> {
        let key = self.context().key(queue.as_ref())?;
        let action = self.lease_action(lease)?;
        let op = Op { key: key.clone(), action };
        self.decode_leased(&key, on_backend!(self, backend => backend.apply_lease(op, None))?)
    }

    /// Leases the first value of a queue as [`lease`](Self::lease) does, and waits for one if there is none; returns
    /// `None` after `timeout`. On Memory and File a push wakes it; on Redis it polls, at intervals of at most 50
    /// milliseconds.
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    pub fn lease_wait<T: DeserializeOwned>(
        &self,
        queue: impl AsRef<str>,
        lease: Duration,
        timeout: Duration,
    ) -> Result<Option<Leased<T>>> {
        let key = self.context().key(queue.as_ref())?;
        let action = self.lease_action(lease)?;
        let end = deadline_after(timeout);
        on_backend!(self, backend => backend.attempt_until(&key, end, || {
            self.context().check_open()?;
            let op = Op { key: key.clone(), action: action.clone() };
            self.decode_leased(&key, backend.apply_lease(op, Some(end))?)
        }))
    }

    /// Returns the value that a [`lease`](Self::lease) on this store has leased and could not decode, as bytes; `None`
    /// for any other error. It ends the lease of a value that no consumer can use, which would come back for ever.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// store.push_back("numbers", "not a number")?;
    /// if let Err(error) = store.lease::<u64>("numbers", Duration::from_secs(30)) {
    ///     let bytes = store.undecoded(&error).expect("a value that is not a number");
    ///     store.push_back("rejects", String::from_utf8_lossy(bytes.value()))?;
    ///     bytes.ack()?;
    /// }
    /// assert_eq!(store.queue_len("rejects")?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn undecoded(&self, error: &Error) -> Option<Leased<Bytes>> {
        let Error::Decode { key, raw, lease: Some(LeaseId(id)), .. } = error else {
            return None;
        };
        let (queue, id) = (Key::listed(key.clone()), id.clone());
        Some(Leased { store: self.clone(), queue, id, item: raw.clone() })
    }

    fn lease_action(&self, lease: Duration) -> Result<LeaseAction> {
        Ok(LeaseAction::Lease { lease: Millis::new(lease)?, ttl_if_created: self.context().default_ttl() })
    }

    fn decode_leased<T: DeserializeOwned>(&self, queue: &Key<'_>, reply: Reply) -> Result<Option<Leased<T>>> {
        let Some((id, bytes)) = reply.leased()? else {
            return Ok(None);
        };
        let item = json::decode(queue, bytes).map_err(|error| with_lease(error, &id))?;
        Ok(Some(Leased { store: self.clone(), queue: queue.clone().into_owned(), id, item }))
    }
}

fn with_lease(error: Error, id: &SmolStr) -> Error {
    if let Error::Decode { key, raw, source, .. } = error {
        return Error::Decode { key, raw, lease: Some(LeaseId(id.clone())), source };
    }
    error
}

/// A leased value of a queue: see [`StateStore::lease`].
///
/// Dropping it does nothing: the value comes back when the lease expires.
#[must_use = "a value that is not acknowledged comes back after its lease"]
pub struct Leased<T> {
    store: StateStore,
    queue: Key<'static>,
    id: SmolStr,
    item: T,
}

impl<T> Leased<T> {
    /// Returns the value.
    pub fn value(&self) -> &T {
        &self.item
    }

    /// Removes the value for good. Returns `false` if the lease had expired and the value was returned to the queue:
    /// it was, or will be, handed out again.
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) on Redis; the call may be repeated.
    pub fn ack(&self) -> Result<bool> {
        self.end_lease(false)
    }

    /// Returns the value to the front of the queue. Returns `false` if that has happened already, because the lease
    /// expired.
    ///
    /// # Errors
    /// As [`ack`](Self::ack); [`WrongType`](crate::Error::WrongType) if the key of the queue holds
    /// another kind by now: the value stays leased.
    pub fn nack(&self) -> Result<bool> {
        self.end_lease(true)
    }

    /// Returns the value itself. That does not complete it: it still comes back when the lease expires.
    pub fn into_inner(self) -> T {
        self.item
    }

    fn end_lease(&self, back: bool) -> Result<bool> {
        let context = self.store.context();
        context.check_open()?;
        let action =
            LeaseAction::EndLease { id: self.id.clone(), back, ttl_if_created: context.default_ttl() };
        let op = Op { key: self.queue.clone(), action };
        on_backend!(&self.store, backend => backend.apply_lease(op, None))?.flag()
    }
}

impl<T: fmt::Debug> fmt::Debug for Leased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue: &str = &self.queue;
        f.debug_struct("Leased").field("queue", &queue).field("item", &self.item).finish_non_exhaustive()
    }
}
