//! Owns [`StateStore::transaction`], the loop that repeats a transaction until its reads still hold, and
//! [`Transaction`], through which the closure reads and writes. Knows nothing of how a backend commits.

use std::borrow::Cow;
use std::fmt;

use smol_str::SmolStr;

use crate::backend::Backend;
use crate::backend::local::overlay::Overlay;
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Answer, Op, Presence, Query, Reply};
use crate::stats::counter::Operation;
use crate::store::cas_backoff::CasBackoff;
use crate::store::cas_loop::CasStep;
use crate::store::context::Context;
use crate::store::execute::{self, Execute};
use crate::store::state_store::{StateStore, on_backend};

/// # Transactions
impl StateStore {
    /// Lets `f` read and write any keys of this namespace, and commits its writes, all or none, if everything
    /// that it read still holds at that moment. Otherwise `f` runs again, on the current state.
    ///
    /// Reads see the transaction's own writes. The writes are committed together, also across a crash; nobody sees
    /// a part of them. `f` may run several times, so it should have no other side effects. It runs under no
    /// lock and may use the store itself; but if it writes that way to a key that it also reads in the
    /// transaction, it runs again each time. On Redis it occupies one connection of the pool
    /// (`WATCH`, `MULTI`, `EXEC`): each thing that it looks at, such as a value, a field, or the length of a
    /// queue before a push, is one round trip the first time, and all writes together are one more.
    ///
    /// On Redis, one run waits for the server for at most `redis.timeout` in all, and no run begins once the call has
    /// lasted that long: the waits of a call end within twice that time. The time of `f` itself does not count.
    ///
    /// To give up, return an error; [`Error::abort`] makes one of the program's own. Nothing is written then, and
    /// the error is returned only if everything that `f` read still holds.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// # store.put("anna", 100)?;
    /// let moved = store.transaction(|tx| {
    ///     let anna: i64 = tx.get("anna")?.unwrap_or(0);
    ///     if anna < 30 {
    ///         return Ok(false);
    ///     }
    ///     tx.put("anna", anna - 30)?;
    ///     tx.incr("ben", 30)?;
    ///     tx.push_back("transfers", ("anna", "ben", 30))?;
    ///     Ok(true)
    /// })?;
    /// assert!(moved);
    /// assert_eq!(store.get::<i64>("ben")?, Some(30));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `f`; [`Conflict`](Error::Conflict) if others kept changing what it reads for as long as
    /// an operation may take (`redis.timeout`, on every backend). A
    /// [lost reply](crate::RedisStore#lost-replies) of Redis leaves it in doubt:
    /// [`Unavailable`](Error::Unavailable) says that all of it may have been applied.
    pub fn transaction<R>(&self, f: impl FnMut(&mut Transaction<'_>) -> Result<R>) -> Result<R> {
        self.counted(Operation::Transaction, ("transaction", ""), || self.run_transaction(f))
    }

    /// As [`transaction`](Self::transaction), with a closure that may fail with an error of any type that an [`Error`]
    /// can be turned into, such as `anyhow::Error`, `Box<dyn std::error::Error>` or an enum of the program: `?` works on
    /// all of them inside.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = millpond::StateStore::memory();
    /// let outcome = store.try_transaction(|tx| {
    ///     tx.put("begun", true)?;
    ///     let amount: i64 = "12a".parse()?;
    ///     tx.incr("sum", amount)?;
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// });
    /// assert_eq!(outcome.unwrap_err().to_string(), "invalid digit found in string");
    /// assert!(!store.contains("begun")?, "nothing was written");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `f`, with nothing written, and those of [`transaction`](Self::transaction).
    pub fn try_transaction<R, E: From<Error>>(
        &self,
        mut f: impl FnMut(&mut Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut failure = None;
        let outcome = self.transaction(|tx| {
            f(tx).map_err(|error| {
                failure = Some(error);
                Error::abort("the closure failed")
            })
        });
        match (outcome, failure) {
            (Err(Error::Aborted(_)), Some(failure)) => Err(failure),
            (outcome, _) => Ok(outcome?),
        }
    }

    /// Runs the closure until a run of it is committed.
    fn run_transaction<R>(&self, mut f: impl FnMut(&mut Transaction<'_>) -> Result<R>) -> Result<R> {
        let context = self.context();
        let mut backoff = CasBackoff::new(context.shared.limit);
        loop {
            context.check_open()?;
            let mut outcome = None;
            let mut first_key = None;
            let is_committed = on_backend!(self, backend => backend.transact(&mut |base, now| {
                let mut staged = StagedChanges { overlay: Overlay::new(base, now), first_key: None };
                let mut transaction = Transaction { context: Cow::Borrowed(context), now, staged: &mut staged };
                // A store that was closed in the meantime takes no writes, not even these.
                let result = f(&mut transaction).and_then(|value| context.check_open().map(|()| value));
                first_key = staged.first_key.take();
                let changes = if result.is_ok() { staged.overlay.into_changes() } else { Vec::new() };
                outcome = Some(result);
                changes
            }))?;
            match outcome {
                Some(outcome) if is_committed => return outcome,
                _ if backoff.wait() => {}
                _ => return Err(Error::Conflict { key: first_key.unwrap_or_default() }),
            }
        }
    }
}

/// Reads and writes of one run of the closure of [`StateStore::transaction`](crate::StateStore::transaction).
///
/// Its methods are those of the [`StateStore`] by the same names. They see the writes of the transaction itself, and
/// nobody else sees those before the transaction ends. On Redis, each of them can also return
/// [`Unavailable`](Error::Unavailable), [`Denied`](Error::Denied) and [`Server`](Error::Server). If the closure returns
/// the error, nothing is written.
pub struct Transaction<'t> {
    pub(crate) context: Cow<'t, Context>,
    pub(crate) now: &'t Now<'t>,
    staged: &'t mut (dyn RunState + 't),
}

/// What all handles on one run of a transaction share.
trait RunState {
    fn run(&mut self, op: Op<'_>) -> Result<Reply>;

    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer>;

    /// Ends a lease of a queue; returns `false` if it had ended before.
    fn end_lease(&mut self, queue: &Key<'_>, id: &SmolStr) -> Result<bool>;

    /// Returns the first key that was read or written.
    fn first_key(&self) -> Option<&str>;
}

/// The changes of one run that were not yet made.
struct StagedChanges<'t> {
    overlay: Overlay<'t>,
    /// The first key that was read or written, which a conflict names.
    first_key: Option<String>,
}

impl StagedChanges<'_> {
    fn note_key(&mut self, key: &Key<'_>) {
        if self.first_key.is_none() {
            self.first_key = Some(key.to_string());
        }
    }
}

impl RunState for StagedChanges<'_> {
    fn run(&mut self, op: Op<'_>) -> Result<Reply> {
        self.note_key(&op.key);
        self.overlay.apply(op)
    }

    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.note_key(key);
        self.overlay.ask(key, query)
    }

    fn end_lease(&mut self, queue: &Key<'_>, id: &SmolStr) -> Result<bool> {
        self.note_key(queue);
        self.overlay.end_lease(queue, id)
    }

    fn first_key(&self) -> Option<&str> {
        self.first_key.as_deref()
    }
}

/// # Namespaces
impl Transaction<'_> {
    /// Returns a handle on the same transaction whose keys are in a namespace of this handle, as those of
    /// [`StateStore::namespace`] are.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.transaction(|tx| {
    ///     tx.namespace("orders").put("17", "paid")?;
    ///     tx.incr("paid", 1)
    /// })?;
    /// assert_eq!(store.get::<String>("orders:17")?.as_deref(), Some("paid"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn namespace(&mut self, name: impl AsRef<str>) -> Transaction<'_> {
        let mut context = self.context.clone().into_owned();
        context.namespace = context.namespace.child(name.as_ref());
        Transaction { context: Cow::Owned(context), now: self.now, staged: &mut *self.staged }
    }

    /// Returns the kind and the deadline of a key; `None` if the key is absent.
    pub(crate) fn presence(&mut self, key: &str) -> Result<Option<Presence>> {
        let mut target = self;
        let key = target.context.key(key)?;
        target.ask(&key, &Query::Presence)?.presence()
    }

    /// Ends a lease of a queue of this store, if the transaction is committed; returns `false` if it had ended before.
    pub(crate) fn end_lease(&mut self, queue: &Key<'_>, id: &SmolStr) -> Result<bool> {
        self.context.check_open()?;
        self.staged.end_lease(queue, id)
    }

    /// Completes an optimistic change. Within a transaction one round is enough: nobody else writes to the overlay.
    pub(crate) fn complete<R>(&mut self, key: Key<'_>, step: CasStep<R>) -> Result<R> {
        match step {
            CasStep::Done(outcome) => Ok(outcome),
            CasStep::Swap { expected, new, outcome } => {
                execute::swap(self, key, expected, new)?;
                Ok(outcome)
            }
        }
    }
}

impl Execute for &mut Transaction<'_> {
    fn context(&self) -> &Context {
        &self.context
    }

    fn run(&mut self, op: Op<'_>) -> Result<Reply> {
        self.staged.run(op)
    }

    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.staged.ask(key, query)
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("first_key", &self.staged.first_key()).finish_non_exhaustive()
    }
}
