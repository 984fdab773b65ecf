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
use crate::op::{DeadLetters, LeaseAction, NewLease, Op, Reply};
use crate::stats::counter::Operation;
use crate::store::context::Context;
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
/// `{key}:__millpond:leases`, `:leased`, `:returned` and `:delayed`, and go by the clock of the server.
impl StateStore {
    /// Leases the first value of a queue for the time `lease`; returns `None` if there is none.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// if let Some(mail) = store.lease::<String>("mails", Duration::from_secs(30))? {
    ///     assert_eq!(mail.value(), "hello"); // … send it …
    ///     assert!(mail.ack()?);
    /// }
    /// # Ok::<(), millpond::Error>(())
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
        self.lease_with(queue.as_ref(), lease, None)
    }

    /// Leases the first value of a queue; values that were leased too often go to a queue for dead letters.
    pub(crate) fn lease_with<T: DeserializeOwned>(
        &self,
        queue: &str,
        lease: Duration,
        dead_letters: Option<(u64, &str)>,
    ) -> Result<Option<Leased<T>>> {
        let key = self.context().key(queue)?;
        let action = self.lease_action(&key, lease, dead_letters)?;
        let op = Op { key: key.clone(), action };
        self.decode_leased(
            &key,
            self.counted(
                Operation::Other,
                ("lease", &key),
                || on_backend!(self, backend => backend.apply_lease(op, None)),
            )?,
        )
    }

    /// Leases the first value of a queue as [`lease`](Self::lease) does, and waits for one if there is none; returns
    /// `None` after `timeout`. On Memory and File a push wakes it; on Redis it polls, at intervals of at most 50
    /// milliseconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// let (lease, wait) = (Duration::from_secs(30), Duration::from_secs(5));
    /// store.push_back("mails", "hello")?;
    /// if let Some(mail) = store.lease_wait::<String>("mails", lease, wait)? {
    ///     assert!(mail.ack()?); // … and the next one
    /// }
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lease`](Self::lease).
    pub fn lease_wait<T: DeserializeOwned>(
        &self,
        queue: impl AsRef<str>,
        lease: Duration,
        timeout: Duration,
    ) -> Result<Option<Leased<T>>> {
        self.lease_wait_with(queue.as_ref(), lease, timeout, None)
    }

    /// As [`lease_with`](Self::lease_with), and waits for a value if there is none.
    pub(crate) fn lease_wait_with<T: DeserializeOwned>(
        &self,
        queue: &str,
        lease: Duration,
        timeout: Duration,
        dead_letters: Option<(u64, &str)>,
    ) -> Result<Option<Leased<T>>> {
        let key = self.context().key(queue)?;
        let action = self.lease_action(&key, lease, dead_letters)?;
        let end = deadline_after(timeout);
        self.counted_wait(Operation::Other, || {
            on_backend!(self, backend => backend.attempt_until(&key, end, || {
                self.context().check_open()?;
                let op = Op { key: key.clone(), action: action.clone() };
                self.decode_leased(&key, backend.apply_lease(op, Some(end))?)
            }))
        })
    }

    /// Returns the value that a [`lease`](Self::lease) on this store has leased and could not decode, as bytes; `None`
    /// for any other error. It ends the lease of a value that no consumer can use, which would come back for ever.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// store.push_back("numbers", "not a number")?;
    /// if let Err(error) = store.lease::<u64>("numbers", Duration::from_secs(30)) {
    ///     let bytes = store.undecoded(&error).expect("a value that is not a number");
    ///     store.push_back("rejects", String::from_utf8_lossy(bytes.value()))?;
    ///     assert!(bytes.ack()?);
    /// }
    /// assert_eq!(store.queue_len("rejects")?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn undecoded(&self, error: &Error) -> Option<Leased<Bytes>> {
        let Error::Decode { key, raw, lease: Some(lease), .. } = error else {
            return None;
        };
        let queue = Key::listed(key.clone());
        Some(Leased { store: self.clone(), queue, lease: lease.clone(), item: raw.clone() })
    }

    fn lease_action(
        &self,
        queue: &Key<'_>,
        lease: Duration,
        dead_letters: Option<(u64, &str)>,
    ) -> Result<LeaseAction> {
        let dead_letters = dead_letters.map(|(most_attempts, name)| {
            let dead = self.context().key(name)?.into_owned();
            if dead == *queue {
                let reason = "a queue cannot be its own queue for dead letters";
                return Err(Error::InvalidKey { key: queue.to_string(), reason });
            }
            Ok(DeadLetters { most_attempts, queue: dead })
        });
        let (lease, ttl_if_created) = (Millis::new(lease)?, self.context().default_ttl());
        Ok(LeaseAction::Lease { lease, dead_letters: dead_letters.transpose()?, ttl_if_created })
    }

    fn decode_leased<T: DeserializeOwned>(&self, queue: &Key<'_>, reply: Reply) -> Result<Option<Leased<T>>> {
        let Some(NewLease { id, bytes, attempts }) = reply.leased()? else {
            return Ok(None);
        };
        let lease = LeaseId { id, attempts };
        let item = json::decode(queue, bytes).map_err(|error| with_lease(error, &lease))?;
        Ok(Some(Leased { store: self.clone(), queue: queue.clone().into_owned(), lease, item }))
    }
}

fn with_lease(error: Error, lease: &LeaseId) -> Error {
    if let Error::Decode { key, raw, source, .. } = error {
        return Error::Decode { key, raw, lease: Some(lease.clone()), source };
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
    lease: LeaseId,
    item: T,
}

impl<T> Leased<T> {
    /// Returns the value.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// let mail = store.lease::<String>("mails", Duration::from_secs(30))?.expect("a mail");
    /// assert_eq!(mail.value(), "hello");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn value(&self) -> &T {
        &self.item
    }

    /// Returns how often the value has been handed out by [`lease`](StateStore::lease) and
    /// [`lease_wait`](StateStore::lease_wait), this time included: 1 the first time, and 2 after a
    /// [`nack`](Self::nack), or after a lease that expired. A consumer can put a value aside that it has met too
    /// often, or let [`dead_letter_after`](crate::handle::Queue::dead_letter_after) do so.
    ///
    /// The number survives the end of the program, on Redis as far as the data of the server does. It counts one stay in
    /// the queue: a value that is popped and pushed again is a new one.
    ///
    /// On Redis the queue is a plain list, which any client may change. The numbers of returned values are stored beside
    /// it, under `{key}:__millpond:returned`, with the hash of each value. So a value never gets the number of a value
    /// with other bytes. The number begins again at 1 if values leave the queue by other ways than a lease before the
    /// returned value is leased again: by a pop, a trim or a deletion, for instance, or if more than eight values are
    /// pushed in front of it. Values with the same bytes cannot be told apart: if one of them is returned and then
    /// removed by another way, and a new one takes its place, the new one may continue its number. A value that comes
    /// back during an outage begins again at 1 once the server is back.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// while let Some(mail) = store.lease::<String>("mails", Duration::from_secs(30))? {
    ///     if mail.attempts() > 3 {
    ///         store.push_back("undeliverable", mail.value())?;
    ///         assert!(mail.ack()?);
    ///     } else {
    ///         assert!(mail.nack()?); // … sending failed …
    ///     }
    /// }
    /// assert_eq!(store.queue_len("undeliverable")?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn attempts(&self) -> u64 {
        self.lease.attempts
    }

    /// Removes the value for good. Returns `false` if the lease had expired and the value was returned to the queue:
    /// it was, or will be, handed out again.
    ///
    /// [`Transaction::ack`](crate::Transaction::ack) does so in one step with writes, such as that of a result.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// let mail = store.lease::<String>("mails", Duration::from_secs(30))?.expect("a mail");
    /// if !mail.ack()? {
    ///     eprintln!("{:?} was slow, and may be sent twice", mail.value());
    /// }
    /// assert!(store.lease::<String>("mails", Duration::from_secs(30))?.is_none());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) on Redis; the call may be repeated.
    #[must_use = "after `false`, the value is handed out again"]
    pub fn ack(&self) -> Result<bool> {
        self.end_lease(false)
    }

    /// Returns the value to the front of the queue. Returns `false` if that has happened already, because the lease
    /// expired.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// let mail = store.lease::<String>("mails", Duration::from_secs(30))?.expect("a mail");
    /// assert!(mail.nack()?); // the mail server is down: another worker may try
    /// assert_eq!(store.queue_len("mails")?, 1);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ack`](Self::ack); [`WrongType`](crate::Error::WrongType) if the key of the queue holds
    /// another kind by now: the value stays leased.
    #[must_use = "after `false`, the lease had ended already, and the value may have another consumer"]
    pub fn nack(&self) -> Result<bool> {
        self.end_lease(true)
    }

    /// Makes the lease end `lease` from now, sooner or later than before. Returns `false` if the lease had expired and
    /// the value was returned to the queue: it was, or will be, handed out again, and the consumer should stop its work.
    ///
    /// A consumer that does not know how long it needs takes a short lease and extends it from time to time: if the
    /// consumer dies, the value comes back soon.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// store.push_back_many("films", ["a", "b"])?;
    /// let lease = Duration::from_secs(30);
    /// if let Some(film) = store.lease::<String>("films", lease)? {
    ///     for _part in 0..10 {
    ///         // … convert a part …
    ///         if !film.extend(lease)? {
    ///             return Ok(()); // another consumer converts it
    ///         }
    ///     }
    ///     assert!(film.ack()?);
    /// }
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::Error::InvalidTtl) for the lease; otherwise as [`ack`](Self::ack). During an outage, a
    /// lease from before the outage cannot be extended ([`Unavailable`](crate::Error::Unavailable)).
    #[must_use = "after `false`, the value is handed out again"]
    pub fn extend(&self, lease: Duration) -> Result<bool> {
        let lease = Millis::new(lease)?;
        self.apply(LeaseAction::ExtendLease { id: self.lease.id.clone(), lease })
    }

    /// Returns the value itself. That does not complete it: it still comes back when the lease expires.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let store = millpond::StateStore::memory();
    /// store.push_back("mails", "hello")?;
    /// let mail = store.lease::<String>("mails", Duration::from_secs(30))?.expect("a mail");
    /// assert!(mail.ack()?);
    /// let text: String = mail.into_inner();
    /// assert_eq!(text, "hello");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn into_inner(self) -> T {
        self.item
    }

    /// Returns the context of the store that granted the lease.
    pub(crate) fn context(&self) -> &Context {
        self.store.context()
    }

    pub(crate) fn queue(&self) -> &Key<'static> {
        &self.queue
    }

    /// Returns the id of the lease.
    pub(crate) fn id(&self) -> &SmolStr {
        &self.lease.id
    }

    fn end_lease(&self, back: bool) -> Result<bool> {
        let ttl_if_created = self.store.context().default_ttl();
        self.apply(LeaseAction::EndLease { id: self.lease.id.clone(), back, ttl_if_created })
    }

    fn apply(&self, action: LeaseAction) -> Result<bool> {
        self.store.context().check_open()?;
        let op = Op { key: self.queue.clone(), action };
        self.store
            .counted(
                Operation::Other,
                ("end_lease", &self.queue),
                || on_backend!(&self.store, backend => backend.apply_lease(op, None)),
            )?
            .flag()
    }
}

impl<T: fmt::Debug> fmt::Debug for Leased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue: &str = &self.queue;
        f.debug_struct("Leased").field("queue", &queue).field("item", &self.item).finish_non_exhaustive()
    }
}
