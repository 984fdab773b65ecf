//! Outages: what a program can ask and be told while the Redis server is away.

use std::time::Duration;

use crate::error::Result;
use crate::outage::{Event, PendingOperation, Rejected, Stats, WriteConflict};
use crate::store::state_store::StateStore;
#[cfg(feature = "redis")]
use crate::store::state_store::{Handle, RedisStore};

/// # Outages
///
/// A Redis store whose server cannot be reached, at opening or at any later moment, is **away**. The
/// operation that notices pays its one limit; from then on no operation touches the network, until a thread
/// in the background has found the server again. Meanwhile, with `fallback = "memory"`:
///
/// | operations | while away |
/// | --- | --- |
/// | reads, listings, `count`, `len` | what this process has seen or written: see [`shadow_bytes`](crate::RedisOptions::shadow_bytes). A key of which nothing is known: see [`unknown`](crate::RedisOptions::unknown) |
/// | `put*`, `batch_put*`, `write`, `delete`, `expire`, `persist`, `incr` and its like, `update`, `get_and_touch`, map writes, pushes, `queue_trim` | done here, and queued for the server. What they return is what is known here |
/// | `set_if_not_exists`, `compare_and_set`, `get_and_delete`, `get_and_put`, `modify`, pops, `take` and its `done`, transactions, `clear`, `delete_prefix` | [`Unavailable`](crate::Error::Unavailable), since the answer depends on what others may have changed; with [`exclusive`](crate::RedisOptions::exclusive) served on every key that is known here, and queued as what it led to |
/// | locks | [`Unavailable`](crate::Error::Unavailable) |
///
/// What is queued is bounded by `max_pending`, `max_pending_bytes` and `max_away`: beyond them writes are refused
/// with [`Unavailable`](crate::Error::Unavailable), and nothing that waits is dropped.
///
/// When the server is back, what was queued is done there, in order and each operation once, also where
/// answers are lost on the way; then the store is [`Connected`](crate::Status::Connected) again. Memory and
/// File are never away: for them all of this says that nothing happened.
impl StateStore {
    /// A handle on the same store for which being away is always
    /// [`Unavailable`](crate::Error::Unavailable), at once: for what must be seen by others.
    #[must_use]
    pub fn strict(&self) -> Self {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(RedisStore(handle)) => {
                let backend = std::sync::Arc::new(handle.backend.strict());
                Self::Redis(RedisStore(Handle { backend, context: handle.context.clone() }))
            }
            other => other.clone(),
        }
    }

    /// Lets `listener` be told whenever the server goes away or comes back, by the thread that noticed: that
    /// operation waits for it, so it should be quick. It may use the store. It is not told what was before: see
    /// [`status`](Self::status). Listeners add up and stay until the store is dropped, so one that holds the store
    /// itself keeps it for ever.
    pub fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.on_event(listener),
            _ => drop(listener),
        }
    }

    /// Counts since the store was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.stats(),
            _ => Stats::default(),
        }
    }

    /// The operations that wait for the server, the first in front, and behind them those of which nobody can
    /// know whether it has done them.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingOperation> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.pending(),
            _ => Vec::new(),
        }
    }

    /// Takes out the operations that waited and that the server refused for good. They are not tried again.
    #[must_use]
    pub fn take_rejected(&self) -> Vec<Rejected> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.take_rejected(),
            _ => Vec::new(),
        }
    }

    /// Takes out the writes that waited and met what somebody else had written meanwhile: the first 10 000 of
    /// them.
    #[must_use]
    pub fn take_conflicts(&self) -> Vec<WriteConflict> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.take_conflicts(),
            _ => Vec::new(),
        }
    }

    /// Tries now whether a server that is away is back, and returns when what waited is done there. Where it is
    /// not away there is nothing to do, and nothing is asked.
    ///
    /// # Errors
    /// [`Unavailable`](crate::Error::Unavailable) where it is still away; [`Denied`](crate::Error::Denied) where it
    /// is back and refuses this client.
    pub fn reconnect(&self) -> Result<()> {
        self.context().check_open()?;
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.0.backend.reconnect(),
            _ => Ok(()),
        }
    }

    /// As [`close`](Self::close), and waits for the server for at most `timeout`, if operations wait for it.
    ///
    /// # Errors
    /// As [`close`](Self::close); [`Unavailable`](crate::Error::Unavailable) where operations are left that
    /// were not done: they are lost, and closing again does not bring them back. To wait without closing, call
    /// [`reconnect`](Self::reconnect) again and again.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "only a server is waited for"))]
    pub fn close_within(&self, timeout: Duration) -> Result<()> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) if self.begin_close() => store.0.backend.close_within(timeout),
            _ => self.close(),
        }
    }
}
