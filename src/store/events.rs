//! Owns the documented group of events: each is processed once, however often it is delivered. Knows nothing of how a
//! transaction commits.

use std::fmt;
use std::time::Duration;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{EntryAction, Op};
use crate::store::cas_backoff::CasBackoff;
use crate::store::execute::{self, Execute};
use crate::store::state_store::StateStore;
use crate::store::transaction::Transaction;
use crate::value::Value;

/// # Events
///
/// A program that reads events usually gets some of them twice: the input repeats them, or the program was killed
/// before it had noted how far it came. [`process_once`](Self::process_once) applies the effect of each event once.
/// [`operator`](Self::operator) is the same for a whole stream.
impl StateStore {
    /// Lets `f` process an event in a [transaction](Self::transaction), unless the event of this id was processed
    /// before; returns `None` then. The effect of `f` and the receipt that the event was processed are committed
    /// together, all or nothing, also across a crash.
    ///
    /// `ttl` is how long the receipt is kept, a `Duration` or an `Option` of one; `None` means `default_ttl`, or no
    /// limit. It should be longer than the input may repeat an event. The id follows the rules of keys, and each
    /// namespace has ids of its own. `f` may run several times, as in any transaction.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let store = millpond::StateStore::memory();
    /// let day = Duration::from_secs(86_400);
    /// let spent = store.process_once("order-17", day, |tx| tx.incr("spent:anna", 250))?;
    /// assert_eq!(spent, Some(250));
    /// let again = store.process_once("order-17", day, |tx| tx.incr("spent:anna", 250))?;
    /// assert_eq!(again, None);
    /// assert_eq!(store.get("spent:anna")?, Some(250));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Receipts
    /// A receipt is stored beside the keys of the namespace, as `{namespace}:__millpond:receipt:{id}`. It is neither
    /// listed nor counted, and no key of the program can collide with it. [`clear`](Self::clear) removes the receipts
    /// of its namespace and of the namespaces inside; so does a [`delete_prefix`](Self::delete_prefix) that covers a
    /// whole namespace, and no other one. Afterwards the events may be processed again, for instance to build a state
    /// from the beginning. All clients of a server share the receipts.
    ///
    /// # On Redis
    /// An event costs one round trip for its receipt, one for each thing that `f` looks at, and one for all writes: two
    /// if `f` only puts, three if it increments one counter, two for an event that was processed before.
    ///
    /// A lost reply does not leave it in doubt. The server is asked for the receipt, which is different for each
    /// attempt: if it is there, the result of `f` is returned. If not, the server is kept from applying the attempt
    /// late, and the event is processed again within `redis.timeout`. Asking may take that time once more. Only if the
    /// server stays away is the error [`Unavailable`](Error::Unavailable) with `maybe_applied`. After any error it is
    /// safe to try the event again, in this program or another.
    ///
    /// During an outage, an event is processed if transactions are served, with
    /// [`exclusive`](crate::RedisOptions::exclusive), and if its receipt is known or counts as absent
    /// ([`on_unknown_key`](crate::RedisOptions::on_unknown_key)). Otherwise the error is
    /// [`Unavailable`](Error::Unavailable): the event was not processed, and can be tried again later. With
    /// `on_unknown_key = "absent"` the program vouches that an event which it processed before the outage, and of which
    /// it knows nothing any more, is not delivered again.
    ///
    /// # Errors
    /// Those of `f`, with nothing written; [`InvalidKey`](Error::InvalidKey) for the id,
    /// [`InvalidTtl`](Error::InvalidTtl), [`Conflict`](Error::Conflict) as a transaction.
    #[doc(alias = "deduplicate")]
    #[doc(alias = "exactly_once")]
    pub fn process_once<R>(
        &self,
        event_id: impl AsRef<str>,
        ttl: impl Into<Option<Duration>>,
        mut f: impl FnMut(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let receipt = self.context().receipt(event_id.as_ref())?;
        let ttl = self.context().ttl_or_default(ttl.into())?;
        let mut backoff = CasBackoff::new(self.context().shared.limit);
        loop {
            let attempt = ProcessingAttempt::new(&receipt, ttl);
            let mut result = None;
            let outcome = self.transaction(|tx| {
                result = None;
                result = attempt.run(tx, &mut f)?;
                Ok(())
            });
            let lost = match outcome {
                Ok(()) => return Ok(result),
                // An error of `f` leaves no result.
                Err(error) if result.is_none() || !error.maybe_applied() => return Err(error),
                Err(lost) => lost,
            };
            match self.was_applied(&attempt) {
                Some(true) => return Ok(result),
                Some(false) if backoff.wait() => {}
                Some(false) => return Err(not_applied(lost)),
                None => return Err(lost),
            }
        }
    }

    /// Returns a processor of events: a closure over this store that processes each event once, as
    /// [`process_once`](Self::process_once) does. `ttl` is how long the receipt of each event is kept.
    ///
    /// ```
    /// # use std::time::Duration;
    /// struct Order {
    ///     customer: &'static str,
    ///     cents: i64,
    /// }
    ///
    /// let store = millpond::StateStore::memory();
    /// let totals = store.operator(Duration::from_secs(86_400), |tx, order: &Order| {
    ///     tx.incr("orders", 1)?;
    ///     tx.incr(format!("spent:{}", order.customer), order.cents)
    /// });
    /// let order = Order { customer: "anna", cents: 250 };
    /// for id in ["17", "18", "17"] {
    ///     match totals.apply(id, &order)? {
    ///         Some(spent) => println!("{} has spent {spent}", order.customer),
    ///         None => println!("order {id} was counted before"),
    ///     }
    /// }
    /// assert_eq!(store.get("spent:anna")?, Some(500));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[doc(alias = "StatefulOperator")]
    pub fn operator<E: ?Sized, R, F: Fn(&mut Transaction<'_>, &E) -> Result<R>>(
        &self,
        ttl: impl Into<Option<Duration>>,
        f: F,
    ) -> Operator<F> {
        Operator { store: self.clone(), ttl: ttl.into(), f }
    }

    /// Returns whether an attempt was applied whose reply was lost; `None` if the server does not tell in time. An
    /// attempt that was not applied will never be.
    fn was_applied(&self, attempt: &ProcessingAttempt<'_>) -> Option<bool> {
        let server = self.without_fallback();
        let mut backoff = CasBackoff::new(self.context().shared.limit);
        loop {
            // INVARIANT: this is a write, though it changes nothing: before a write, the server is kept from applying
            // commands whose replies are missing. It does no harm if it is repeated.
            let unchanged = Some(attempt.value.bytes.clone());
            match execute::swap(&server, attempt.receipt.clone(), unchanged, Some(attempt.value.clone())) {
                Ok(is_there) => return Some(is_there),
                Err(error) if error.is_transient() && backoff.wait() => {}
                Err(_) => return None,
            }
        }
    }
}

/// Returns the error of an attempt whose reply was lost and that was not applied.
fn not_applied(lost: Error) -> Error {
    if let Error::Unavailable { permanent, source, .. } = lost {
        return Error::Unavailable { maybe_applied: false, permanent, source };
    }
    lost
}

/// One attempt to process an event.
struct ProcessingAttempt<'r> {
    receipt: &'r Key<'static>,
    /// What the receipt holds if this attempt was applied; no other attempt has the same.
    value: Value,
    ttl: Option<Millis>,
}

impl<'r> ProcessingAttempt<'r> {
    fn new(receipt: &'r Key<'static>, ttl: Option<Millis>) -> Self {
        // The number of the process: in a forked one, the random numbers go on as in this one.
        let unique = format!("\"{:x}-{:032x}\"", std::process::id(), fastrand::u128(..));
        Self { receipt, value: Value::json(unique.as_bytes()), ttl }
    }

    /// Processes the event, unless there is a receipt.
    fn run<R>(
        &self,
        tx: &mut Transaction<'_>,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let mut target = tx;
        let found: Option<Bytes> = target.read(self.receipt)?;
        if found.is_some() {
            return Ok(None);
        }
        let result = f(target)?;
        let action = EntryAction::Put { value: self.value.clone(), ttl: self.ttl };
        target.run(Op { key: self.receipt.clone(), action })?.done()?;
        Ok(Some(result))
    }
}

/// A closure that processes each event of a stream once: see [`StateStore::operator`].
///
/// It may be used by several threads at the same time if its closure may.
pub struct Operator<F> {
    store: StateStore,
    ttl: Option<Duration>,
    f: F,
}

impl<F> Operator<F> {
    /// Processes an event, unless the event of this id was processed before; returns `None` then. See
    /// [`StateStore::process_once`].
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// let words = store.operator(None, |tx, word: &str| tx.map_incr("words", word, 1));
    /// assert_eq!(words.apply("line 1", "mill")?, Some(1));
    /// assert_eq!(words.apply("line 2", "mill")?, Some(2));
    /// assert_eq!(words.apply("line 2", "mill")?, None);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`process_once`](StateStore::process_once).
    pub fn apply<E: ?Sized, R>(&self, event_id: impl AsRef<str>, event: &E) -> Result<Option<R>>
    where
        F: Fn(&mut Transaction<'_>, &E) -> Result<R>,
    {
        self.store.process_once(event_id, self.ttl, |tx| (self.f)(tx, event))
    }
}

impl<F: Clone> Clone for Operator<F> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), ttl: self.ttl, f: self.f.clone() }
    }
}

impl<F> fmt::Debug for Operator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("store", &self.store).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
