//! Owns the contract of the backends: reads, and mutations that are carried out one by one, one after another, or all
//! at once. Knows nothing of Rust types, namespaces or JSON: keys are full keys, values are bytes.

#[cfg(feature = "redis")]
pub(crate) mod fallback;
pub(crate) mod file;
pub(crate) mod inspect;
pub(crate) mod local;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod transfer;

use std::time::Instant;

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{
    Answer, Cursor, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, ReadSource, Reply,
    WindowBuckets, Write,
};
use crate::outage::Status;
use crate::stats::EntryStats;

/// How many entries an operation on many entries handles at a time.
pub(crate) const CHUNK: usize = 1000;

/// One run of a transaction: it reads, and returns the changes to make, in order. It must compute deadlines from the
/// time that is passed to it.
pub(crate) type TransactionBody<'w> =
    dyn FnMut(&mut dyn ReadSource, &Now<'_>) -> Vec<(Key<'static>, Change)> + 'w;

/// Returns the sum of a sliding window whose map has these fields.
fn window_sum(key: &Key<'_>, width: Millis, now: &Now<'_>, fields: &[(SmolStr, Bytes)]) -> Result<i64> {
    let buckets = WindowBuckets::read(width, now.millis(), fields);
    buckets.map(|buckets| buckets.sum()).ok_or_else(|| Error::NotAnInteger { key: key.to_string() })
}

/// The core that each variant implements. Everything else is written once, on top of it.
///
/// An expired entry counts as absent everywhere. If a mutation fails and [`Error::maybe_applied`] holds, it may have had
/// its effect.
pub(crate) trait Backend {
    /// Reads a value; `None` if the key is absent.
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>>;

    /// Reads several values, each with its own outcome, in the order of `keys`. If the backend had to stop early, the
    /// list is shorter and ends with the error.
    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>>;

    /// Answers a query about one key.
    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer>;

    /// Returns the sum of a sliding window, by the clock of the backend.
    fn window_sum(&self, key: &Key<'_>, width: Millis) -> Result<i64>;

    /// Returns the TTL of an entry of any kind; `None` if the key is absent.
    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>>;

    /// Carries out one mutation of an entry.
    fn apply(&self, op: Op<'_>) -> Result<Reply>;

    /// Carries out mutations of entries, one after another, even if earlier ones failed; each has its own outcome.
    /// If the backend had to stop early, the list is shorter and ends with the error.
    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>>;

    /// Carries out a mutation of a queue's leases. `end` is the end of the wait that the call is part of, if any.
    fn apply_lease(&self, op: Op<'_, LeaseAction>, end: Option<Instant>) -> Result<Reply>;

    /// Carries out a mutation of a lock.
    fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply>;

    /// Carries out all writes or none.
    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()>;

    /// Takes the first value of a queue, and waits for one until `end`; `None` if there was none.
    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>>;

    /// Repeats `attempt` until it yields something or `end` has passed. The next attempt follows when a value may have
    /// been pushed to the queue, and after some tens of milliseconds at the latest.
    fn attempt_until<R>(
        &self,
        queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>>;

    /// Takes a lock, and waits until `end` for its release; `None` if it stayed taken. Waiting callers get the lock
    /// in the order in which they came.
    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>>;

    /// Runs `work`, and then makes all of its changes if everything that it read is still valid. Otherwise makes none
    /// and returns `false`. After a failure of the backend, every further read of `work` fails, nothing is
    /// changed, and the failure is returned whatever `work` returned.
    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool>;

    /// Lists some of the keys that begin with `prefix`, and returns where to continue. A key that is present during
    /// the whole scan is listed at least once.
    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page>;

    /// Returns the first `limit` keys that begin with `prefix` and come after `after`, sorted, each once.
    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>>;

    /// Returns how many keys begin with `prefix`.
    fn count(&self, prefix: &str) -> Result<u64>;

    /// Returns the reserved keys that [`Backend::remove`] must remove too.
    fn keys_to_clear(&self, _prefix: &str) -> Vec<Key<'static>> {
        Vec::new()
    }

    /// Removes every key that begins with `prefix` and returns how many there were. After an error some keys may be
    /// removed; the error contains their number.
    fn remove(&self, prefix: &str) -> Result<u64> {
        let mut done = 0;
        let mut next = Some(Cursor::Start);
        while let Some(cursor) = next {
            let page = self.page(prefix, &cursor).map_err(|error| Error::partial(done, error))?;
            let delete = |key| Op { key: Key::listed(key), action: EntryAction::Delete };
            for outcome in self.apply_each(page.keys.into_iter().map(delete).collect()) {
                let removed = outcome.and_then(Reply::flag).map_err(|error| Error::partial(done, error))?;
                done += u64::from(removed);
            }
            next = page.next;
        }
        for key in self.keys_to_clear(prefix) {
            let outcome = self.apply(Op { key, action: EntryAction::Delete });
            outcome.map_err(|error| Error::partial(done, error))?;
        }
        Ok(done)
    }

    /// Makes everything acknowledged so far as durable as the backend can.
    fn flush(&self) -> Result<()>;

    /// Flushes, and releases files and connections. No operation may follow.
    fn close(&self) -> Result<()>;

    /// Returns whether operations are served locally because the backend is disconnected.
    fn stands_in(&self) -> bool {
        false
    }

    /// Returns whether the backend knows only a part of what the key holds, because it is disconnected.
    fn is_partial(&self, _key: &Key<'_>) -> bool {
        false
    }

    /// Returns the counts of the local table.
    fn entry_stats(&self) -> EntryStats {
        EntryStats::default()
    }

    /// Returns whether the backend is connected.
    fn status(&self) -> Status {
        Status::Connected
    }
}
