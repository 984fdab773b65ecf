//! Owns what a program is told of outages: events, counts, and what became of the operations that waited.
//! Knows nothing of how an outage is lived through.

use std::time::{Duration, SystemTime};

use crate::bytes::Bytes;
use crate::error::Error;

/// A change of state that a program may want to know of: see [`StateStore::on_event`](crate::StateStore::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server cannot be reached any more; what is served from now on, if anything, comes from memory.
    #[non_exhaustive]
    Away {
        /// What was seen of it.
        cause: String,
    },
    /// The server is back, and nothing waits any more.
    #[non_exhaustive]
    Connected {
        /// How many operations that waited were done there.
        replayed: u64,
        /// How many the server refused: see [`StateStore::take_rejected`](crate::StateStore::take_rejected).
        rejected: u64,
        /// How many met what others had written: see
        /// [`StateStore::take_conflicts`](crate::StateStore::take_conflicts).
        conflicts: u64,
        /// For how long it was away.
        away_for: Duration,
    },
    /// The server has lost data: what this process had seen there, or had done there, is gone. It was emptied,
    /// or restarted without what it held, or another one stands in its place. It is told once for each loss,
    /// when the next connection is made. With an eviction policy that takes any key (`allkeys-*`) the server may
    /// lose what this is noticed by alone.
    #[non_exhaustive]
    HistoryLost {
        /// What shows it.
        cause: String,
    },
}

/// Counts since the store was opened: see [`StateStore::stats`](crate::StateStore::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// How often the server went away.
    pub outages: u64,
    /// Operations that were done in memory and queued for the server. Neighbours on one key may become one there,
    /// so more are queued than replayed.
    pub queued: u64,
    /// Operations of the queue that were done on the server.
    pub replayed: u64,
    /// Operations that wait now.
    pub pending: u64,
    /// Writes of the queue that met a value which somebody else had written meanwhile.
    pub conflicts: u64,
    /// Operations of the queue that the server refused for good.
    pub rejected: u64,
    /// Operations of which nobody can know whether the server has done them.
    pub uncertain: u64,
    /// Connections with an unanswered write that were closed on the server's side, so that it cannot come
    /// late.
    pub buried: u64,
}

/// An operation that waits for the server: see [`StateStore::pending`](crate::StateStore::pending).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingOperation {
    /// The key with its namespace.
    pub key: String,
    /// The Redis command that it becomes.
    pub operation: &'static str,
    /// The field of a map that it is about, where it is one.
    pub field: Option<String>,
    /// The bytes that it carries, or the number that it adds, where that is one.
    pub value: Option<Bytes>,
    /// Since when it waits.
    pub since: SystemTime,
    /// Why it waits.
    pub reason: PendingReason,
}

/// Why an operation waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PendingReason {
    /// The server is away.
    Away,
    /// It may have been done before the server lost its memory, and doing it again could double it. It is not
    /// done again.
    Uncertain,
}

/// An operation of the queue that the server refused: see
/// [`StateStore::take_rejected`](crate::StateStore::take_rejected).
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// The key with its namespace.
    pub key: String,
    /// The Redis command that it was.
    pub operation: &'static str,
    /// The field of a map that it was about, where it was one.
    pub field: Option<String>,
    /// The bytes that it carried, or the number that it was to add, where that was one.
    pub value: Option<Bytes>,
    /// Why it was refused.
    pub error: Error,
}

/// A write of the queue that met what somebody else had written meanwhile: see
/// [`StateStore::take_conflicts`](crate::StateStore::take_conflicts).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteConflict {
    /// The key with its namespace.
    pub key: String,
    /// What this process wrote; `None` where it deleted.
    pub mine: Option<Bytes>,
    /// What was there, its first 4096 bytes; `None` where it was deleted, or is a map or a queue.
    pub theirs: Option<Bytes>,
    /// Whether this process's write was made all the same.
    pub applied: bool,
}
