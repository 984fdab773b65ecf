//! Owns what every backend can do: reads, and [`Op`]s carried out one by one, one after another, or all at
//! once. Knows nothing of Rust types, namespaces or JSON: keys are full keys, values are bytes.

#[cfg(feature = "redis")]
pub(crate) mod fallback;
pub(crate) mod file;
pub(crate) mod local;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::time::{Instant, SystemTime};

use crate::backend::local::change::Change;
use crate::bytes::Bytes;
use crate::clock::{Millis, Now, Ttl};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{
    Answer, Cursor, EntryAction, Grant, LeaseAction, LockAction, Op, Page, Query, ReadSource, Reply, Write,
};

/// How many entries an operation over many of them handles at a time.
pub(crate) const CHUNK: usize = 1000;

/// Whether the store has its backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The backend serves. Memory and File are always connected.
    Connected,
    /// The Redis server cannot be reached, and memory serves in its place, or nothing.
    #[non_exhaustive]
    Away {
        /// Since when.
        since: SystemTime,
        /// How many operations wait to be done on the server.
        pending: u64,
    },
}

/// One run of a transaction: reads, and decides what is to be changed, in order. Deadlines are by the time
/// it is given.
pub(crate) type TransactionBody<'w> =
    dyn FnMut(&mut dyn ReadSource, &Now<'_>) -> Vec<(Key<'static>, Change)> + 'w;

/// The small core that each variant provides. Everything else is built on it, once.
pub(crate) trait Backend {
    /// Reads a value.
    fn get(&self, key: &Key<'_>) -> Result<Option<Bytes>>;

    /// Reads values, each with its own outcome. Where reading stopped, the list ends with the error.
    fn get_many(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>>;

    /// Reads a part of what lies under a key.
    fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer>;

    /// How long whatever lies under the key still has; `None` where nothing does.
    fn ttl(&self, key: &Key<'_>) -> Result<Option<Ttl>>;

    /// Carries out one mutation of an entry.
    fn apply(&self, op: Op<'_>) -> Result<Reply>;

    /// Carries out mutations of entries one after another, whether or not earlier ones failed; each has its own
    /// outcome. If the backend had to stop, the list ends with the error.
    fn apply_each(&self, ops: Vec<Op<'_>>) -> Vec<Result<Reply>>;

    /// Carries out a mutation of a queue's leases, until `end` if it is a part of a longer wait.
    fn apply_lease(&self, op: Op<'_, LeaseAction>, end: Option<Instant>) -> Result<Reply>;

    /// Carries out a mutation of a lock.
    fn apply_lock(&self, op: Op<'_, LockAction>) -> Result<Reply>;

    /// Carries out all writes or none.
    fn commit(&self, writes: Vec<Op<'_, Write>>) -> Result<()>;

    /// Takes the first value of a queue, and waits until `end` for there to be one.
    fn pop_wait(&self, key: &Key<'_>, end: Instant) -> Result<Option<Bytes>>;

    /// Makes attempts until one yields something, or `end` comes: another one whenever something may have
    /// been pushed to the queue, and some tens of milliseconds after the last at the latest.
    fn attempt_until<R>(
        &self,
        queue: &Key<'_>,
        end: Instant,
        attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>>;

    /// Takes a lock, and waits until `end` for it to be free. Those who wait get it in the order in which
    /// they came.
    fn lock_wait(&self, name: &Key<'_>, ttl: Millis, end: Instant) -> Result<Option<Grant>>;

    /// Lets `work` read, and then makes its changes, all of them or none, if all that it read still holds;
    /// `false` where it does not. After a failure of the backend all that `work` reads fails, nothing is
    /// changed, and the failure is returned whatever `work` made of it.
    fn transact(&self, work: &mut TransactionBody<'_>) -> Result<bool>;

    /// One step of a walk over all keys that begin with `prefix`; a key present throughout the walk comes
    /// at least once.
    fn page(&self, prefix: &str, from: &Cursor) -> Result<Page>;

    /// The first `limit` keys that begin with `prefix` and come behind `after`, sorted, each once.
    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>>;

    /// How many keys begin with `prefix`.
    fn count(&self, prefix: &str) -> Result<u64>;

    /// The keys of this crate's own that [`Backend::remove`] takes along.
    fn cleared(&self, _prefix: &str) -> Vec<Key<'static>> {
        Vec::new()
    }

    /// Removes every key that begins with `prefix` and tells how many there were.
    fn remove(&self, prefix: &str) -> Result<u64> {
        let mut done = 0;
        let mut from = Some(Cursor::Start);
        while let Some(cursor) = from {
            let page = self.page(prefix, &cursor).map_err(|error| Error::partial(done, error))?;
            let delete = |key| Op { key: Key::listed(key), action: EntryAction::Delete };
            for outcome in self.apply_each(page.keys.into_iter().map(delete).collect()) {
                let removed = outcome.and_then(Reply::flag).map_err(|error| Error::partial(done, error))?;
                done += u64::from(removed);
            }
            from = page.next;
        }
        for key in self.cleared(prefix) {
            let removed = self.apply(Op { key, action: EntryAction::Delete });
            removed.map_err(|error| Error::partial(done, error))?;
        }
        Ok(done)
    }

    /// Makes everything acknowledged so far as durable as the backend can.
    fn flush(&self) -> Result<()>;

    /// Flushes and lets go of files and connections. No operation follows.
    fn close(&self) -> Result<()>;

    /// Tells whether something serves in the place of the backend, which is away.
    fn stands_in(&self) -> bool {
        false
    }

    /// Tells whether the backend serves.
    fn status(&self) -> Status {
        Status::Connected
    }
}
