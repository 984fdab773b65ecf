//! Owns the documented group of questions about the store itself: its status, its counts, and what is queued.

use crate::backend::Backend;
use crate::outage::{PendingOperation, Stats, Status};
use crate::store::state_store::{StateStore, on_backend, on_redis};

/// # Looking inside
///
/// These methods ask no server and never fail: for a health check, a page of metrics, or a log.
impl StateStore {
    /// Returns whether the backend serves the operations, or memory in its place. It asks no server.
    ///
    /// [`Connected`](Status::Connected) means: the last exchange with the server worked, and no operation
    /// is queued for it.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// use millpond::Status;
    ///
    /// match store.status() {
    ///     Status::Disconnected { since, pending, .. } => println!("degraded since {since:?}, {pending} queued"),
    ///     status => println!("{status}"),
    /// }
    /// assert_eq!(store.status(), Status::Connected);
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        if self.context().is_closed() {
            return Status::Closed;
        }
        on_backend!(self, backend => backend.status())
    }

    /// Returns counts since the store was opened.
    ///
    /// ```
    /// # let store = millpond::StateStore::memory();
    /// let stats = store.stats();
    /// println!("outages: {}, queued: {}, refused: {}", stats.outages, stats.pending, stats.rejected);
    /// assert_eq!(stats.outages, 0);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        on_redis!(self, backend => backend.stats(), else => Stats::default())
    }

    /// Returns at most `limit` of the operations that are not done on the server: first those that are in doubt, of which
    /// nobody can know whether the server has applied them, then those that are queued for it, the oldest first.
    ///
    /// Neighbours on one key are merged in the queue: [`calls`](PendingOperation::calls) says how many calls an
    /// operation stands for. Other threads may write meanwhile; they wait for at most a thousand operations to be
    /// copied at a time. How many are queued is in [`stats`](Self::stats).
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// for operation in store.pending(10) {
    ///     println!("{} of {}, for {} calls", operation.command, operation.key, operation.calls);
    /// }
    /// ```
    ///
    /// Operations in doubt are listed until the store is closed. If the queue is in files, a store that is opened after
    /// a crash lists them again, until one that has listed all of them is closed.
    #[must_use]
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "only a server has a queue"))]
    pub fn pending(&self, limit: usize) -> Vec<PendingOperation> {
        on_redis!(self, backend => backend.pending(limit), else => Vec::new())
    }
}
