//! Owns the errors and their wording. Knows nothing of the code that raises them.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use smol_str::SmolStr;

use crate::bytes::Bytes;

/// What the operations of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, from any library.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The kind of entry that is stored under a key.
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

/// The name of a lease in its store: see [`StateStore::undecoded`](crate::StateStore::undecoded).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseId {
    pub(crate) id: SmolStr,
    pub(crate) attempts: u64,
}

/// How a lock was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockLoss {
    /// Its time to live ran out, and nobody has taken it since.
    Expired,
    /// Its time to live ran out, and somebody else holds it.
    TakenByAnother,
    /// Nobody holds it although its time to live has not run out: the store lost it, or somebody removed it by
    /// hand.
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
/// An operation on a single key that returns an error has left the state unchanged, or the type of the error
/// says that this is unknown ([`Unavailable`](Error::Unavailable) with `maybe_applied`,
/// [`Poisoned`](Error::Poisoned)). The text of an error never repeats the text of its source; print the
/// chain of [`source`](std::error::Error::source) to see all of it.
///
/// Keys are named in full, with their namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key breaks a rule: it is empty, longer than 512 bytes with its namespace, contains a control
    /// character, or a part of it is reserved. Nothing was done.
    #[error("invalid key {key:?}: {reason}")]
    #[non_exhaustive]
    InvalidKey {
        /// The key with its namespace.
        key: String,
        /// The rule that it breaks.
        reason: &'static str,
    },

    /// The time to live is zero, or longer than 1000 years. Nothing was done.
    #[error("invalid time to live {ttl:?}: it must be more than zero and at most 1000 years")]
    #[non_exhaustive]
    InvalidTtl {
        /// The time to live that was given.
        ttl: Duration,
    },

    /// An option of the configuration or of the URL is unknown, or its value is not allowed.
    #[error("invalid configuration of {field}: {reason}")]
    #[non_exhaustive]
    InvalidConfig {
        /// The option, for instance `redis.pool_size`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The value is larger than `max_value_bytes`. Nothing was sent or written; a value of this size that another client
    /// has put on a Redis server is not read.
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

    /// The key holds an entry of another kind than the operation works on. Nothing was changed.
    #[error("wrong kind under key {key:?}: expected a {expected}, found {}", found_text(*.found))]
    #[non_exhaustive]
    WrongType {
        /// The key with its namespace.
        key: String,
        /// The kind that the operation works on.
        expected: Kind,
        /// The kind of the entry; `None` if this crate has no name for it, as for a Redis set.
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

    /// The value cannot be written as JSON: it contains a number that is not finite, a map whose keys are not
    /// strings, or more than 127 levels of nesting (which could not be read back). Nothing was changed.
    #[error("encoding the value for key {key:?} as JSON")]
    #[non_exhaustive]
    Encode {
        /// The key with its namespace.
        key: String,
        /// The error of the encoder.
        source: Cause,
    },

    /// The stored value cannot be read as the type that was asked for.
    ///
    /// An operation that only reads has left the entry unchanged. An operation that removes or replaces has been
    /// applied, and `raw` is the old value. A [`lease`](crate::StateStore::lease) has leased the value, and
    /// [`undecoded`](crate::StateStore::undecoded) returns it, so that its lease can be ended.
    #[error("decoding the value under key {key:?}")]
    #[non_exhaustive]
    Decode {
        /// The key with its namespace.
        key: String,
        /// The stored bytes.
        raw: Bytes,
        /// The lease of the value, if it was taken from a queue.
        lease: Option<LeaseId>,
        /// The error of the decoder.
        source: Cause,
    },

    /// The operating system refused a call that the File variant needs.
    #[error("{action} {} failed", .path.display())]
    #[non_exhaustive]
    Io {
        /// The attempted action, as a participle: `writing`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },

    /// No space is left: the disk is full, or a file may not grow. Memory and disk are unchanged, and the store
    /// works again as soon as there is space.
    #[error("no space left to write {}", .path.display())]
    #[non_exhaustive]
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },

    /// A file of the store is damaged in a place that a crash cannot explain. The store was not opened and
    /// nothing on disk was changed; [`FileStore::repair`](crate::FileStore::repair) saves all undamaged entries.
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

    /// The store is already open, in another process or in this one.
    #[error("the store at {} is already open", .path.display())]
    #[non_exhaustive]
    Locked {
        /// The directory of the store.
        path: PathBuf,
    },

    /// A write to the disk failed in a way that leaves the content of the disk unknown, this write included. Reads
    /// are still served; every write is refused until the store is opened again.
    #[error(
        "the store at {} takes no more writes: a write to disk failed, or its files were taken away; open it again",
        .path.display()
    )]
    #[non_exhaustive]
    Poisoned {
        /// The directory of the store.
        path: PathBuf,
    },

    /// The server cannot be reached or did not answer in time, or the store is closed.
    #[error("the store is unavailable{}", if *.maybe_applied { "; the operation may have been applied" } else { "" })]
    #[non_exhaustive]
    Unavailable {
        /// Whether the server may nevertheless have received the operation and carried it out.
        maybe_applied: bool,
        /// Whether the store stays unavailable to this process: it was closed, or another process opened it.
        permanent: bool,
        /// What happened.
        source: Cause,
    },

    /// The server refused access: the password is wrong, or a permission is missing. Never retried.
    #[error("the server denied access")]
    #[non_exhaustive]
    Denied {
        /// The error of the server.
        source: Cause,
    },

    /// The server replied with an error that no other variant covers.
    #[error("the server failed to run {command}")]
    #[non_exhaustive]
    Server {
        /// The command.
        command: String,
        /// The error of the server.
        source: Cause,
    },

    /// Other writers kept changing the entry for as long as an operation may take. Nothing was changed.
    #[error("gave up on key {key:?}: others kept changing it")]
    #[non_exhaustive]
    Conflict {
        /// The key with its namespace.
        key: String,
    },

    /// Somebody else held the lock for as long as this call would wait. Nothing was changed.
    #[error("the lock {name:?} is still held by another after {waited:?}")]
    #[non_exhaustive]
    Busy {
        /// The name of the lock with its namespace.
        name: String,
        /// How long this call has waited.
        waited: Duration,
    },

    /// A lock is no longer held by this guard. Nothing was changed.
    #[error("the lock {name:?} was lost: {how}")]
    #[non_exhaustive]
    LockLost {
        /// The name of the lock with its namespace.
        name: String,
        /// How it was lost.
        how: LockLoss,
    },

    /// The closure of a transaction returned an error made by [`Error::abort`]. Nothing was changed.
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

    /// The operation is not possible with this build, this server or this configuration.
    #[error("not supported: {what}")]
    #[non_exhaustive]
    Unsupported {
        /// What is not possible, and why.
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
    /// Returns whether the same call can succeed later without any other change than time passing.
    ///
    /// True for [`Unavailable`](Self::Unavailable) (except for a closed store, and for one that another process
    /// opened), [`StorageFull`](Self::StorageFull), [`Conflict`](Self::Conflict), [`Busy`](Self::Busy),
    /// [`Locked`](Self::Locked), and for a [`Partial`](Self::Partial) that stopped for one of these. It does not mean that repeating is
    /// harmless: check `maybe_applied` before you repeat a write.
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.is_transient());
    /// ```
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { permanent, .. } => !permanent,
            Self::StorageFull { .. } | Self::Conflict { .. } | Self::Busy { .. } | Self::Locked { .. } => {
                true
            }
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

    /// Wraps an error of the program, so that the closure of a [`transaction`](crate::StateStore::transaction) can
    /// return it. It becomes the [`source`](std::error::Error::source) of the [`Aborted`](Self::Aborted) that the
    /// transaction returns.
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
        // An error of serde quotes the text that it cannot read. That text may be a misplaced URL with a
        // password.
        let mask = |text: String, instead: &str| if text.contains('@') { instead.to_owned() } else { text };
        Self::InvalidConfig {
            field: mask(field.into(), "an option"),
            reason: mask(reason.into(), "it cannot be read, and is not shown since it may hold a password"),
        }
    }

    /// Wraps the error that stopped an operation over many entries; if none was done, returns the error itself.
    pub(crate) fn partial(done: u64, source: Self) -> Self {
        match done {
            0 => source,
            _ => Self::Partial { done, source: Box::new(source) },
        }
    }

    /// The store cannot serve now, and the operation was not applied.
    #[cfg(feature = "redis")]
    pub(crate) fn unavailable(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: false, permanent: false, source: source.into() }
    }

    /// Nobody knows whether the operation was applied.
    pub(crate) fn in_doubt(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: true, permanent: false, source: source.into() }
    }

    fn permanently_unavailable(source: impl Into<Cause>) -> Self {
        Self::Unavailable { maybe_applied: false, permanent: true, source: source.into() }
    }

    /// Another process opened the store.
    #[cfg(feature = "redis")]
    pub(crate) fn forked() -> Self {
        Self::permanently_unavailable(
            "the store was opened by another process: fork before a store is opened, not after",
        )
    }

    /// The store was closed while this many operations were queued for its server.
    #[cfg(feature = "redis")]
    pub(crate) fn abandoned(operations: u64) -> Self {
        Self::permanently_unavailable(format!(
            "{operations} operations that were queued for the server are lost: it was unreachable until the store \
             was closed"
        ))
    }

    /// The store was closed by its owner.
    pub(crate) fn closed() -> Self {
        Self::permanently_unavailable("the store is closed")
    }

    /// Marks the error `maybe_applied`: this attempt failed, but an earlier one may have been applied.
    #[cfg(feature = "redis")]
    pub(crate) fn after_lost_reply(self) -> Self {
        if let Self::Unavailable { permanent, source, .. } = self {
            Self::Unavailable { maybe_applied: true, permanent, source }
        } else {
            Self::in_doubt(self)
        }
    }

    /// Returns whether the operation may have been applied although it failed: the reply of the server was lost. Then
    /// repeating the operation may apply it twice.
    ///
    /// ```
    /// let error = millpond::StateStore::memory().put("", 1).unwrap_err();
    /// assert!(!error.maybe_applied());
    /// ```
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Self::Unavailable { maybe_applied: true, .. })
    }
}
