//! Owns the errors. Knows nothing of the code that raises them.
//!
//! - `constructors`: how this crate makes errors;
//! - `display`: their texts;
//! - `kinds`: what a program asks an error.

mod constructors;
mod display;
mod kinds;

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

/// Everything that can go wrong, sorted by what a caller would do about it.
///
/// An operation on a single key that returns an error has left the state unchanged, or the type of the error
/// says that this is unknown ([`Unavailable`](Error::Unavailable) with `maybe_applied`,
/// [`Poisoned`](Error::Poisoned)).
///
/// `{}` prints one line that says what happened to what, and why: it is enough to act on. `{:#}` prints the texts of
/// all [`source`](std::error::Error::source)s behind it, with `: ` between them and without repeats. Except for
/// [`Decode`](Error::Decode) and [`StorageFull`](Error::StorageFull), the text of an error already quotes its source, so
/// a program that walks the sources itself prints that reason twice.
///
/// ```
/// use millpond::StateStore;
///
/// let store = StateStore::memory();
/// store.put_bytes("photo", b"\xff\xd8")?;
/// let error = store.get::<String>("photo").unwrap_err();
/// let text = "decoding the value under key \"photo\": it holds bytes, not JSON: use get_bytes";
/// assert_eq!(error.to_string(), text);
/// assert_eq!(format!("{error:#}"), format!("{text}: expected value at line 1 column 1"));
/// store.close()?;
/// assert_eq!(store.put("k", 1).unwrap_err().to_string(), "the store is unavailable: it is closed");
/// # Ok::<(), millpond::Error>(())
/// ```
///
/// Keys are named in full, with their namespace.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The key breaks a rule: it is empty, longer than 512 bytes with its namespace, contains a control
    /// character, or a part of it is reserved. Nothing was done.
    #[non_exhaustive]
    InvalidKey {
        /// The key with its namespace.
        key: String,
        /// The rule that it breaks.
        reason: &'static str,
    },

    /// The time to live is zero, or longer than 1000 years. Nothing was done.
    #[non_exhaustive]
    InvalidTtl {
        /// The time to live that was given.
        ttl: Duration,
    },

    /// An option of the configuration or of the URL is unknown, or its value is not allowed.
    #[non_exhaustive]
    InvalidConfig {
        /// The option, for instance `redis.pool_size`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The value is larger than `max_value_bytes`. Nothing was sent or written; a value of this size that another client
    /// has put on a Redis server is not read.
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
    #[non_exhaustive]
    NotAnInteger {
        /// The key with its namespace.
        key: String,
    },

    /// A counter would leave the range of `i64`. Nothing was changed.
    #[non_exhaustive]
    Overflow {
        /// The key with its namespace.
        key: String,
    },

    /// The value cannot be written as JSON: it contains a number that is not finite, a map whose keys are not
    /// strings, or more than 127 levels of nesting (which could not be read back). Nothing was changed.
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
    #[non_exhaustive]
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },

    /// A write would have made a store in memory exceed one of its [bounds](crate::MemoryStore#bounds), and nothing could
    /// be evicted for it. Nothing was changed.
    #[non_exhaustive]
    Full {
        /// A key of the write, with its namespace.
        key: String,
        /// The option that sets the bound: `max_entries` or `max_bytes`.
        option: &'static str,
        /// The bound.
        limit: u64,
    },

    /// A file of the store is damaged in a place that a crash cannot explain. The store was not opened and
    /// nothing on disk was changed; [`FileStore::repair`](crate::FileStore::repair) saves all undamaged entries.
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

    /// The bytes that were read are not a whole export: they are cut off, damaged, of an unknown version, or something
    /// else. Nothing was changed.
    #[non_exhaustive]
    InvalidExport {
        /// The line, counted from one.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },

    /// The program's own reader or writer of an export failed. An import has changed nothing.
    #[non_exhaustive]
    Stream {
        /// The attempted action, as a participle: `reading`.
        action: &'static str,
        /// The error of the reader or writer.
        source: io::Error,
    },

    /// The store is already open, in another process or in this one.
    #[non_exhaustive]
    Locked {
        /// The directory of the store.
        path: PathBuf,
        /// The process that has it open, if its lock file says so and can be read.
        process: Option<u32>,
    },

    /// A write to the disk failed in a way that leaves the content of the disk unknown, this write included. Reads
    /// are still served; every write is refused until the store is opened again.
    #[non_exhaustive]
    Poisoned {
        /// The directory of the store.
        path: PathBuf,
    },

    /// The server cannot be reached or did not answer in time, or the store is closed.
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
    #[non_exhaustive]
    Denied {
        /// The error of the server.
        source: Cause,
    },

    /// The server replied with an error that no other variant covers.
    #[non_exhaustive]
    Server {
        /// The command.
        command: String,
        /// The error of the server.
        source: Cause,
    },

    /// Other writers kept changing the entry for as long as an operation may take. Nothing was changed.
    #[non_exhaustive]
    Conflict {
        /// The key with its namespace.
        key: String,
    },

    /// Somebody else held the lock, or was inside the gate, for as long as this call would wait. Nothing was changed.
    #[non_exhaustive]
    Busy {
        /// The name of the lock with its namespace. A gate has none: the name is empty.
        name: String,
        /// How long this call has waited.
        waited: Duration,
    },

    /// A lock is no longer held by this guard. Nothing was changed.
    #[non_exhaustive]
    LockLost {
        /// The name of the lock with its namespace.
        name: String,
        /// How it was lost.
        how: LockLoss,
    },

    /// The closure of a transaction returned an error made by [`Error::abort`]. Nothing was changed.
    Aborted(Cause),

    /// An operation over many keys stopped after it had been applied to some of them.
    #[non_exhaustive]
    Partial {
        /// How many entries are known to be done.
        done: u64,
        /// Why it stopped.
        source: Box<Error>,
    },

    /// The operation is not possible with this build, this server or this configuration.
    #[non_exhaustive]
    Unsupported {
        /// What is not possible, and why.
        what: String,
    },
}

/// The command of the login, of which the source of an error says all.
pub(crate) const LOGIN: &str = "HELLO";

/// The cause of the error of a store that was closed.
#[derive(Debug)]
pub(crate) struct StoreClosed;
