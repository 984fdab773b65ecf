//! Owns the reports of outages to the program: events, counts, and what happened to queued operations. Knows
//! nothing of how the store works during an outage.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, SystemTime};

use crate::bytes::Bytes;
use crate::error::Error;
use crate::text::{count, moment, shown};

/// Whether the backend of a store serves: see [`StateStore::status`](crate::StateStore::status).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The backend serves operations. Memory and File are always connected.
    Connected,
    /// The Redis server cannot be reached. Memory serves operations in its place, or they fail.
    #[non_exhaustive]
    Disconnected {
        /// When the outage began.
        since: SystemTime,
        /// How many operations are queued for the server.
        pending: u64,
        /// Why the server is not used: the failure of the last attempt to reconnect, or before the first attempt what
        /// began the outage. A missing permission is named here.
        reason: String,
        /// The server has never been reached since the store was opened: its address may be wrong.
        never_reached: bool,
    },
    /// The store is closed, and no operation succeeds any more.
    Closed,
}

/// A change in the connection to the server, or an eviction: see [`StateStore::on_event`](crate::StateStore::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server can no longer be reached: an outage begins. Operations that are served from now on, if any, are
    /// served from memory.
    #[non_exhaustive]
    Disconnected {
        /// The error that showed it.
        cause: String,
    },
    /// The outage is over: the server can be reached again, and the queue is empty.
    #[non_exhaustive]
    Reconnected {
        /// How many queued operations were done on the server.
        replayed: u64,
        /// How many queued operations the server refused: see
        /// [`StateStore::take_rejected`](crate::StateStore::take_rejected).
        rejected: u64,
        /// How many queued writes met a value that somebody else had written in the meantime: see
        /// [`StateStore::take_conflicts`](crate::StateStore::take_conflicts).
        conflicts: u64,
        /// How long the outage lasted.
        away_for: Duration,
    },
    /// The server has lost data that this process had read or written. There are two causes:
    ///
    /// - The data is gone: the server was emptied, or restarted without its data, or replaced by another server.
    /// - The server has gone back to an earlier state: it was restarted from an older snapshot or from a log that was
    ///   cut, or a replica that lagged behind has taken over. A count of writes that is stored on the server is then
    ///   lower than this process had seen.
    ///
    /// Each loss is reported once: when the next connection is made, or after a write. Values that were seen before the
    /// loss are not served in an outage. If the server has gone back, queued writes replace what it holds, also with
    /// [`OnConflict::RemoteWins`](crate::OnConflict::RemoteWins): nobody can tell its older values from newer writes of
    /// others.
    ///
    /// A server that has gone back is not noticed if it has lost less than two milliseconds of writes, or only writes of
    /// others that this process does not know of, or if others have since counted as many writes as were lost. Pops,
    /// leases and locks are not counted. A write that changed nothing, such as a `delete` of an absent key, is counted.
    /// Under an eviction policy that may remove any key (`allkeys-*`), the server may evict the key `__millpond:epoch`
    /// alone, and that is reported as a loss.
    #[non_exhaustive]
    DataLost {
        /// What showed the loss.
        cause: String,
    },
    /// A store in memory has evicted entries, since it had reached one of its [bounds](crate::MemoryStore#bounds). The
    /// first eviction is reported at once; then one event each second at most says what was evicted since the last one.
    #[non_exhaustive]
    Evicted {
        /// How many entries were evicted since the last event of this kind.
        entries: u64,
        /// What they took, as `max_bytes` counts it.
        bytes: u64,
    },
}

/// One line for people, without what is 0.
///
/// ```
/// # use millpond::Event;
/// fn log(event: &Event) {
///     eprintln!("state store: {event}");
/// }
/// ```
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected { cause } => write!(f, "disconnected from the server: {cause}"),
            Self::Reconnected { replayed, rejected, conflicts, away_for } => {
                f.write_str("connected to the server again")?;
                if *away_for >= Duration::from_secs(1) {
                    write!(f, " after {}", shown(*away_for))?;
                }
                if *replayed > 0 {
                    write!(f, "; replayed: {}", count(*replayed, "operation"))?;
                }
                if *rejected > 0 {
                    write!(f, "; rejected: {}", count(*rejected, "operation"))?;
                }
                if *conflicts > 0 {
                    write!(f, "; met writes of other clients: {}", count(*conflicts, "operation"))?;
                }
                Ok(())
            }
            Self::Evicted { entries, bytes } => {
                let entries = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
                write!(f, "the store is full: evicted {entries} of {}", count(*bytes, "byte"))
            }
            Self::DataLost { cause } => write!(f, "the server has lost its data or a part of it: {cause}"),
        }
    }
}

/// One line for people: `connected`, `closed`, or since when and why the server is not used.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Disconnected { since, pending, reason, never_reached } => {
                write!(f, "disconnected since {}: {reason}", moment(*since))?;
                match pending {
                    0 => {}
                    pending => write!(f, "; queued: {}", count(*pending, "operation"))?,
                }
                f.write_str(if *never_reached { "; the server was never reached" } else { "" })
            }
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// A registered listener: see [`StateStore::on_event`](crate::StateStore::on_event).
///
/// Dropping it changes nothing: the listener stays registered until [`stop`](Self::stop) is called or the store is
/// dropped.
pub struct ListenerHandle {
    stop: Option<Stop>,
}

type Stop = Box<dyn FnOnce() + Send + Sync + UnwindSafe + RefUnwindSafe>;

impl ListenerHandle {
    /// The handle of a listener that is never called, since its store has no server to lose.
    pub(crate) fn of_nothing() -> Self {
        Self { stop: None }
    }

    /// A handle that calls `stop` to remove the listener.
    pub(crate) fn new(stop: impl FnOnce() + Send + Sync + UnwindSafe + RefUnwindSafe + 'static) -> Self {
        Self { stop: Some(Box::new(stop)) }
    }

    /// Ends the listening, and drops the listener. A call of the listener that another thread has begun may still be
    /// under way when this returns; no further one begins.
    ///
    /// ```
    /// use millpond::StateStore;
    ///
    /// let store = StateStore::memory();
    /// let listening = store.on_event(|event| eprintln!("{event}"));
    /// listening.stop();
    /// ```
    pub fn stop(self) {
        if let Some(stop) = self.stop {
            stop();
        }
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle").finish_non_exhaustive()
    }
}

/// An operation that is queued for the server: see [`StateStore::pending`](crate::StateStore::pending).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingOperation {
    /// The key with its namespace.
    pub key: String,
    /// The Redis command that it will be.
    pub command: &'static str,
    /// How many calls of the program it stands for: neighbours on one key are merged.
    pub calls: u64,
    /// The field, if it writes one field of a map.
    pub field: Option<String>,
    /// The bytes that it writes, or the number that it adds, if it is a single one.
    pub value: Option<Bytes>,
    /// When it was queued.
    pub since: SystemTime,
    /// Why it is still pending.
    pub reason: PendingReason,
}

/// Why an operation is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PendingReason {
    /// It waits for the end of the outage.
    Away,
    /// It may have been done before the server lost its data, and doing it again could double it. It is not done
    /// again.
    Uncertain,
}

/// A queued operation that the server refused: see
/// [`StateStore::take_rejected`](crate::StateStore::take_rejected).
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejected {
    /// The key with its namespace.
    pub key: String,
    /// The Redis command that it was.
    pub operation: &'static str,
    /// The field, if it was to write one field of a map.
    pub field: Option<String>,
    /// The bytes that it was to write, or the number that it was to add, if it was a single one.
    pub value: Option<Bytes>,
    /// Why the server refused it.
    pub error: Error,
}

/// A queued write that met a value that somebody else had written in the meantime: see
/// [`StateStore::take_conflicts`](crate::StateStore::take_conflicts).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteConflict {
    /// The key with its namespace.
    pub key: String,
    /// The value that this process wrote; `None` if it deleted the key.
    pub local: Option<Bytes>,
    /// The first 4096 bytes of the value that was found on the server; `None` if the key was deleted, or is a map
    /// or a queue.
    pub remote: Option<Bytes>,
    /// Whether this process's write was replayed all the same.
    pub applied: bool,
}
