//! Taking: values of a queue that are handed out for a time, and come back unless they are done.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::de::DeserializeOwned;
use smol_str::SmolStr;

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::Result;
use crate::json;
use crate::key::Key;
use crate::op::{LeaseAction, Op, Reply};
use crate::store::state_store::{StateStore, on_backend};
use crate::store::wait::deadline_after;

/// # Taking
///
/// [`take`](Self::take) hands the first value of a queue out for the time of a lease. While it lasts nobody
/// else gets the value. [`Taken::done`] removes it for good, [`Taken::back`] returns it at once, and where
/// neither is said, since the program died for instance, it comes back after the lease. So every value is
/// handed out **at least once**, and nothing is lost; a consumer that outlives its lease may see another one
/// get the same value.
///
/// What comes back lies in front of the queue again, in the order in which it was taken. What has run out is
/// noticed by the next `take` on that queue; pops, [`queue_len`](Self::queue_len) and
/// [`queue_range`](Self::queue_range) do not see it before. Leases are no part of the key: writing to it,
/// deleting it and its expiry leave them alone, but [`clear`](Self::clear) and
/// [`delete_prefix`](Self::delete_prefix) drop them. On Redis they lie beside the queue, under
/// `{key}:__millpond:leases` and `:leased`, and go by the server's clock.
impl StateStore {
    /// Takes the first value of a queue for as long as `lease` lasts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// if let Some(mail) = store.take::<String>("mails", Duration::from_secs(30))? {
    ///     assert_eq!(*mail, "hello"); // … send it …
    ///     mail.done()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) of the lease, [`WrongType`](crate::Error::WrongType);
    /// [`Decode`](crate::Error::Decode) with the bytes in `raw`: the value stays taken, and comes back. On
    /// Redis it is never repeated after a lost answer; what it may have taken comes back.
    pub fn take<T: DeserializeOwned>(&self, queue: &str, lease: Duration) -> Result<Option<Taken<T>>> {
        let key = self.context().key(queue)?;
        let action = self.lease(lease)?;
        let op = Op { key: key.clone(), action };
        self.taken(&key, on_backend!(self, backend => backend.apply_lease(op, None))?)
    }

    /// As [`take`](Self::take), and waits for a value where there is none; `None` after `timeout`. A push
    /// wakes it on Memory and File; on Redis it looks again every 50 milliseconds or sooner.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_wait<T: DeserializeOwned>(
        &self,
        queue: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<Option<Taken<T>>> {
        let key = self.context().key(queue)?;
        let action = self.lease(lease)?;
        let end = deadline_after(timeout);
        on_backend!(self, backend => backend.attempt_until(&key, end, || {
            self.context().check_open()?;
            let op = Op { key: key.clone(), action: action.clone() };
            self.taken(&key, backend.apply_lease(op, Some(end))?)
        }))
    }

    fn lease(&self, lease: Duration) -> Result<LeaseAction> {
        Ok(LeaseAction::Lease { lease: Millis::new(lease)?, ttl_if_created: self.context().default_ttl() })
    }

    fn taken<T: DeserializeOwned>(&self, queue: &Key<'_>, reply: Reply) -> Result<Option<Taken<T>>> {
        let Some((id, bytes)) = reply.leased()? else {
            return Ok(None);
        };
        let item = json::decode(queue, bytes)?;
        Ok(Some(Taken { store: self.clone(), queue: queue.clone().into_owned(), id, item }))
    }
}

/// A value of a queue that was handed out for the time of a lease: see
/// [`StateStore::take`]. It derefs to the value.
///
/// Dropping it does nothing: the value comes back after the lease.
#[must_use = "a value that is not `done` comes back after its lease"]
pub struct Taken<T> {
    store: StateStore,
    queue: Key<'static>,
    id: SmolStr,
    item: T,
}

impl<T> Taken<T> {
    /// Removes the value for good. `false` where the lease had run out and the value has been given back:
    /// it was, or will be, handed out again.
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) on Redis; it may be called again.
    pub fn done(&self) -> Result<bool> {
        self.end(false)
    }

    /// Returns the value to the front of the queue. `false` where that has happened already, after the
    /// lease.
    ///
    /// # Errors
    /// As [`done`](Self::done); [`WrongType`](crate::Error::WrongType) where the key of the queue holds
    /// something else by now: the value stays taken.
    pub fn back(&self) -> Result<bool> {
        self.end(true)
    }

    /// The value itself. It is not done by this.
    pub fn into_inner(self) -> T {
        self.item
    }

    fn end(&self, back: bool) -> Result<bool> {
        let context = self.store.context();
        context.check_open()?;
        let action =
            LeaseAction::EndLease { id: self.id.clone(), back, ttl_if_created: context.default_ttl() };
        let op = Op { key: self.queue.clone(), action };
        on_backend!(&self.store, backend => backend.apply_lease(op, None))?.flag()
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue: &str = &self.queue;
        f.debug_struct("Taken").field("queue", &queue).field("item", &self.item).finish_non_exhaustive()
    }
}
