//! Transactions: reads and writes of several keys, all or nothing.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::store::cas_backoff::CasBackoff;
use crate::store::state_store::{StateStore, on_backend};
use crate::store::transaction_body::Transaction;

/// # Transactions
impl StateStore {
    /// Lets `f` read and write any keys of this namespace, and makes its writes, all or none, if everything
    /// that it read still holds by then. Otherwise `f` runs again, on what is there then.
    ///
    /// Reads see the transaction's own writes. The writes are made at once, also across a crash; nobody sees
    /// a part of them. `f` may run several times, so it should do nothing else that counts; it runs under no
    /// lock and may use the store itself, but what it writes that way to a key that it also reads in the
    /// transaction makes it run again, each time. On Redis it occupies one connection of the pool
    /// (`WATCH`, `MULTI`, `EXEC`): each thing that is looked at, such as a value, a field, or the length of a
    /// queue before a push, is one round trip the first time, and the writes are one more altogether.
    ///
    /// To give up, return an error; the program's own by [`Error::abort`]. Nothing is written then, and the
    /// error is handed out only if what `f` read still holds.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
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
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `f`; [`Conflict`](Error::Conflict) where others kept changing what it reads for as long as
    /// an operation may take (`redis.timeout`, on every backend). On Redis an `EXEC` whose answer was lost is
    /// never repeated: [`Unavailable`](Error::Unavailable) says that all of it may have been applied.
    pub fn transaction<R>(&self, mut f: impl FnMut(&mut Transaction<'_>) -> Result<R>) -> Result<R> {
        let context = self.context();
        let mut patience = CasBackoff::new(context.shared.limit);
        loop {
            context.check_open()?;
            let mut outcome = None;
            let mut key = None;
            let held = on_backend!(self, backend => backend.transact(&mut |base, now| {
                let mut transaction = Transaction::new(context, base, now);
                // A store that was closed meanwhile takes no writes, these neither.
                let result = f(&mut transaction).and_then(|done| context.check_open().map(|()| done));
                key = transaction.first_key().map(ToOwned::to_owned);
                let changes = if result.is_ok() { transaction.into_changes() } else { Vec::new() };
                outcome = Some(result);
                changes
            }))?;
            match outcome {
                Some(outcome) if held => return outcome,
                _ if patience.wait() => {}
                _ => return Err(Error::Conflict { key: key.unwrap_or_default() }),
            }
        }
    }
}
