//! Owns the errors and their wording. Knows nothing of what raises them.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::bytes::Bytes;

/// What the operations of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, whatever library it came from.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What kind of thing lies under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A single value: JSON text or bytes (a Redis string).
    Value,
    /// A map of fields (a Redis hash).
    Map,
    /// A queue (a Redis list).
    Queue,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::Map => "map",
            Self::Queue => "queue",
        })
    }
}

/// How a lock was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockLoss {
    /// Its time ran out, and nobody has taken it since.
    Expired,
    /// Its time ran out, and somebody else has it.
    TakenByAnother,
    /// Nobody has it although its time has not run out: the store lost it, or somebody removed it by hand.
    NotHeld,
}

impl fmt::Display for LockLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it expired",
            Self::TakenByAnother => "it was taken by another",
            Self::NotHeld => "it is not held",
        })
    }
}

/// Everything that can go wrong, sorted by what a caller would do about it.
///
/// An operation on a single key that returns an error has left the state as it was, or says in its type
/// that it cannot know ([`Unavailable`](Error::Unavailable) with `maybe_applied`,
/// [`Poisoned`](Error::Poisoned)). The text of an error never repeats the text of its source; print the
/// chain of [`source`](std::error::Error::source) to see all of it.
///
/// Keys are named in full, with their namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key breaks a rule: it is empty, longer than 512 bytes with its namespace, holds a control
    /// character, or a part of it is reserved. Nothing was done.
    #[error("invalid key {key:?}: {reason}")]
    #[non_exhaustive]
    InvalidKey {
        /// The key with its namespace.
        key: String,
        /// Which rule it breaks.
        reason: &'static str,
    },

    /// The time to live is zero, or longer than 1000 years. Nothing was done.
    #[error("invalid time to live {ttl:?}: it must be more than zero and at most 1000 years")]
    #[non_exhaustive]
    InvalidTtl {
        /// What was given.
        ttl: Duration,
    },

    /// An option of the configuration or of the URL is unknown or has a value that it cannot have.
    #[error("invalid configuration of {field}: {reason}")]
    #[non_exhaustive]
    InvalidConfig {
        /// The option, `redis.pool_size` for instance.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The value is larger than `max_value_bytes`. Nothing was sent or written.
    #[error("value for key {key:?} is too large: {bytes} bytes, {limit} are allowed")]
    #[non_exhaustive]
    TooLarge {
        /// The key with its namespace.
        key: String,
        /// The size of the value.
        bytes: usize,
        /// The limit that it exceeds.
        limit: usize,
    },

    /// The key holds another kind of thing than the operation works on. Nothing was changed.
    #[error("wrong kind under key {key:?}: expected a {expected}, found {}", found_text(*.found))]
    #[non_exhaustive]
    WrongType {
        /// The key with its namespace.
        key: String,
        /// What the operation works on.
        expected: Kind,
        /// What is there; `None` where it is something that this crate has no name for, such as a Redis
        /// set.
        found: Option<Kind>,
    },

    /// A counter operation met a value that is not the text of an integer. Nothing was changed.
    #[error("value under key {key:?} is not an integer")]
    #[non_exhaustive]
    NotAnInteger {
        /// The key with its namespace.
        key: String,
    },

    /// A counter would leave the range of `i64`. Nothing was changed.
    #[error("counter under key {key:?} would leave the range of a 64-bit integer")]
    #[non_exhaustive]
    Overflow {
        /// The key with its namespace.
        key: String,
    },

    /// The value cannot be written as JSON: a number that is not finite, a map whose keys are no strings,
    /// more than 127 levels of nesting (which could not be read back).
    /// Nothing was changed.
    #[error("encoding the value for key {key:?} as JSON")]
    #[non_exhaustive]
    Encode {
        /// The key with its namespace.
        key: String,
        /// What the encoder said.
        source: Cause,
    },

    /// The stored value cannot be read as the type that was asked for.
    ///
    /// A reading operation has left the entry as it is. One that removes or replaces has acted, and `raw`
    /// is what was there.
    #[error("decoding the value under key {key:?}")]
    #[non_exhaustive]
    Decode {
        /// The key with its namespace.
        key: String,
        /// The stored bytes.
        raw: Bytes,
        /// What the decoder said.
        source: Cause,
    },

    /// The operating system refused something that the File variant needs.
    #[error("{action} {} failed", .path.display())]
    #[non_exhaustive]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// There is no room left: the disk is full, or a file may not grow. Memory and disk are unchanged, and
    /// the store works again once there is room.
    #[error("no space left to write {}", .path.display())]
    #[non_exhaustive]
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file of the store is damaged in a place that a crash cannot explain. The store was not opened and
    /// nothing on disk was changed; [`FileStore::repair`](crate::FileStore::repair) saves what is whole.
    #[error("{} is damaged at line {line} (byte {offset}): {reason}", .path.display())]
    #[non_exhaustive]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// The line, counted from one.
        line: u64,
        /// Where the line begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },

    /// The store is open elsewhere: in another process, or a second time in this one.
    #[error("the store at {} is already open", .path.display())]
    #[non_exhaustive]
    Locked {
        /// The directory of the store.
        path: PathBuf,
    },

    /// A write to the disk failed in a way after which nobody can know what the disk holds. Reads go on;
    /// every write is refused until the store is opened anew. Whether this write is on the disk is not
    /// known.
    #[error("the store at {} takes no more writes after a failed write to disk; open it anew", .path.display())]
    #[non_exhaustive]
    Poisoned {
        /// The directory of the store.
        path: PathBuf,
    },

    /// The server cannot be reached or did not answer in time, or the store is closed.
    #[error("the store is unavailable{}", if *.maybe_applied { "; the operation may have been applied" } else { "" })]
    #[non_exhaustive]
    Unavailable {
        /// Whether the server may have received, and carried out, the operation all the same.
        maybe_applied: bool,
        /// What happened.
        source: Cause,
    },

    /// The server knows the client and refuses: a wrong password, a missing permission. Never retried.
    #[error("the server denied access")]
    #[non_exhaustive]
    Denied {
        /// What the server said.
        source: Cause,
    },

    /// The server answered with an error that has no variant of its own.
    #[error("the server failed to run {command}")]
    #[non_exhaustive]
    Server {
        /// The command.
        command: String,
        /// What the server said.
        source: Cause,
    },

    /// Others kept changing the entry for as long as an operation may take. Nothing was changed.
    #[error("gave up on key {key:?}: others kept changing it")]
    #[non_exhaustive]
    Conflict {
        /// The key with its namespace.
        key: String,
    },

    /// A lock is no longer held by this guard. Nothing was changed.
    #[error("the lock {name:?} was lost: {how}")]
    #[non_exhaustive]
    LockLost {
        /// The name of the lock with its namespace.
        name: String,
        /// What became of it.
        how: LockLoss,
    },

    /// The closure of a transaction gave up with an error of its own, made by [`Error::abort`]. Nothing was
    /// changed.
    #[error("the transaction was aborted")]
    Aborted(#[source] Cause),

    /// An operation over many keys stopped after it had been applied to some of them.
    #[error("stopped after {done} entries were done")]
    #[non_exhaustive]
    Partial {
        /// How many entries are known to be done.
        done: u64,
        /// Why it stopped.
        source: Box<Error>,
    },

    /// This build, this server or this configuration cannot do it.
    #[error("not supported: {what}")]
    #[non_exhaustive]
    Unsupported {
        /// What cannot be done, and why.
        what: String,
    },
}

fn found_text(found: Option<Kind>) -> &'static str {
    match found {
        Some(Kind::Value) => "a value",
        Some(Kind::Map) => "a map",
        Some(Kind::Queue) => "a queue",
        None => "something else",
    }
}

impl Error {
    /// Tells whether the same call can succeed later with nothing but time gone by.
    ///
    /// True for [`Unavailable`](Self::Unavailable) (but not of a closed store, nor of one that another process
    /// opened),
    /// [`StorageFull`](Self::StorageFull),
    /// [`Conflict`](Self::Conflict), [`Locked`](Self::Locked), and for a [`Partial`](Self::Partial) that
    /// stopped for one of these. It does not say that repeating is harmless: look at `maybe_applied` before
    /// an increment is repeated.
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => !source.is::<Closed>() && !is_final(source),
            Self::StorageFull { .. } | Self::Conflict { .. } | Self::Locked { .. } => true,
            Self::Partial { source, .. } => source.is_transient(),
            Self::InvalidKey { .. }
            | Self::InvalidTtl { .. }
            | Self::InvalidConfig { .. }
            | Self::TooLarge { .. }
            | Self::WrongType { .. }
            | Self::NotAnInteger { .. }
            | Self::Overflow { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::Poisoned { .. }
            | Self::LockLost { .. }
            | Self::Aborted(_)
            | Self::Denied { .. }
            | Self::Server { .. }
            | Self::Unsupported { .. } => false,
        }
    }

    /// Wraps an error of the program's own, for the closure of a
    /// [`transaction`](crate::StateStore::transaction) to give up with. It is the
    /// [`source`](std::error::Error::source) of the [`Aborted`](Self::Aborted) that the transaction returns.
    ///
    /// ```
    /// use millpond::{Error, StateStore};
    ///
    /// let store = StateStore::memory();
    /// let refused = store.transaction(|tx| match tx.get::<i64>("balance")? {
    ///     Some(balance) if balance >= 10 => tx.put("balance", balance - 10),
    ///     _ => Err(Error::abort("not enough money")),
    /// });
    /// assert!(matches!(refused, Err(Error::Aborted(cause)) if cause.to_string() == "not enough money"));
    /// ```
    pub fn abort(cause: impl Into<Cause>) -> Self {
        Self::Aborted(cause.into())
    }

    pub(crate) fn invalid_config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        // A URL in the wrong place of a configuration is quoted by whoever cannot read it, and may hold a
        // password.
        let shown = |text: String, instead: &str| if text.contains('@') { instead.to_owned() } else { text };
        Self::InvalidConfig {
            field: shown(field.into(), "an option"),
            reason: shown(reason.into(), "it cannot be read, and is not shown since it may hold a password"),
        }
    }

    /// Wraps what stopped an operation over many entries; with nothing done it is the plain cause.
    pub(crate) fn partial(done: u64, source: Self) -> Self {
        match done {
            0 => source,
            _ => Self::Partial { done, source: Box::new(source) },
        }
    }

    /// The store belongs to another process.
    #[cfg(feature = "redis")]
    pub(crate) fn forked() -> Self {
        Self::Unavailable { maybe_applied: false, source: Forked.into() }
    }

    /// The store has ended before this many operations were done that waited for its server.
    #[cfg(feature = "redis")]
    pub(crate) fn abandoned(operations: u64) -> Self {
        Self::Unavailable { maybe_applied: false, source: Abandoned(operations).into() }
    }

    /// The store was closed by its owner.
    pub(crate) fn closed() -> Self {
        Self::Unavailable { maybe_applied: false, source: Closed.into() }
    }
}

#[cfg(feature = "redis")]
fn is_final(source: &Cause) -> bool {
    source.is::<Forked>() || source.is::<Abandoned>()
}

/// Only a store on a server can be met in two processes.
#[cfg(not(feature = "redis"))]
fn is_final(_source: &Cause) -> bool {
    false
}

/// Why a server is not available that cannot be reached, as opposed to one that is merely slow or busy with
/// others.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct Unreachable {
    pub(crate) cause: Cause,
    /// Whether it is only this connection that is known to be silent or gone.
    pub(crate) doubtful: bool,
}

/// Why an operation got no connection: others had all of them. Whether the server is away, they find out.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Exhausted(pub(crate) Cause);

/// Why nobody knows whether a call was made that the server had noted: its notes are gone.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Forgotten(pub(crate) Cause);

#[cfg(feature = "redis")]
impl Error {
    /// Whether it says that the server has forgotten what it had done.
    pub(crate) fn is_forgotten(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => source.is::<Forgotten>(),
            _ => false,
        }
    }

    /// Whether it says that others had all the connections.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => source.is::<Exhausted>(),
            _ => false,
        }
    }

    /// Whether it says that the server cannot be reached, and how.
    pub(crate) fn unreachable(&self) -> Option<&Unreachable> {
        match self {
            Self::Unavailable { source, .. } => source.downcast_ref(),
            Self::Partial { source, .. } => source.unreachable(),
            _ => None,
        }
    }

    /// The same error to an operation that the server may have done before: that it is refused here does not
    /// undo it.
    pub(crate) fn after_lost_answer(self) -> Self {
        let source = match self {
            Self::Unavailable { source, .. } => source,
            other => other.into(),
        };
        Self::Unavailable { maybe_applied: true, source }
    }

    /// Whether it says that the server may have done what was asked for.
    pub(crate) fn maybe_applied(&self) -> bool {
        matches!(self, Self::Unavailable { maybe_applied: true, .. })
    }
}

/// Why a store is not available in a child of the process that opened it.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("the store was opened by another process: fork before a store is opened, not after")]
pub(crate) struct Forked;

/// What becomes of operations that wait when a store ends.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("{0} operations that waited for the server are lost: it was away to the end")]
struct Abandoned(u64);

/// Why a closed store is not available.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;
