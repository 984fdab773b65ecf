//! Owns [`StateStore`], its handles, and the dispatch to a backend. Opening and the operations are in the files
//! beside this one; the backends decide what an operation means.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "redis")]
use crate::backend::fallback::open::FallbackBackend;
use crate::backend::file::store::File;
use crate::backend::memory::Memory;
use crate::store::context::Context;

/// A store of state: values, counters, maps, queues, leases and locks under text keys, kept in memory, in files or
/// in Redis.
///
/// A clone is another handle on the same store; handles may be used from any thread. Every method takes
/// `&self`, blocks until it is done, and needs no async runtime.
///
/// Fork before you open a store. In a child of the process that opened it, a Redis store refuses every
/// operation with [`Unavailable`](crate::Error::Unavailable), and dropping it in the child does not disturb the
/// parent: the connections and the replay queue belong to the parent alone. A File store must not be touched in the
/// child. A store that such a child opens itself is not dependable either, since mutexes that other threads held at
/// the fork stay locked in the child.
///
/// # Examples
/// ```
/// use millpond::StateStore;
///
/// let store = StateStore::open("memory:")?;
/// store.put("greeting", "hello")?;
/// assert_eq!(store.get::<String>("greeting")?.as_deref(), Some("hello"));
/// assert_eq!(store.incr("visits", 1)?, 1);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum StateStore {
    /// State in this process, gone when the process ends.
    Memory(MemoryStore),
    /// State in this process and in a directory of files.
    File(FileStore),
    /// State on a Redis server, and in memory while the server cannot be reached.
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

/// A handle on a store in memory.
///
/// # Bounds
/// [`MemoryOptions`](crate::MemoryOptions) can bound the number of entries (`max_entries`), and what they take
/// (`max_bytes`): the `bytes` and the `overhead` of [`memory_usage`](StateStore::memory_usage). The bounds hold whatever
/// other threads do. Expired entries make room first. Then, if a write would exceed a bound:
///
/// - With `when_full = "refuse"`, the default, it fails with [`Full`](crate::Error::Full) and changes nothing; a
///   [`write`](StateStore::write) or a transaction is refused as a whole. Reads, deletes, changes of a time to live, and
///   writes that leave no more than they find, go on.
/// - With `when_full = "evict"`, other entries are removed until there is room: of ten random entries the one that has
///   not been used for longest, as Redis does it with `allkeys-lru`; of at most 64 entries, the one of all. Reads of its
///   content and writes use an entry; `contains`, `ttl`, `kind` and listings do not. A map or a queue goes as a whole. A
///   write evicts none of the entries that it changes, and if it is too large for the bounds alone, it is refused and
///   evicts nothing. [`Event::Evicted`](crate::Event::Evicted) reports evictions, and
///   [`stats`](StateStore::stats) counts them.
///
/// Locks, receipts of [`process_once`](StateStore::process_once), leased values and delayed values are no entries of the
/// program. They count in `max_bytes` alone, and are never evicted; nor is a queue while a value of it is leased or
/// delayed. Leasing, returning and ending a lease always succeed, so that a full queue can be worked off: each value that
/// is leased may take some tens of bytes beyond `max_bytes`, and a value that returns to a queue that had become empty
/// makes it an entry beyond `max_entries`. While a transaction is applied, what it frees may still be there.
///
/// ```
/// use millpond::{Error, StateStore};
///
/// let store = StateStore::open("memory:?max_entries=2")?;
/// store.batch_put([("a", 1), ("b", 2)])?;
/// assert!(matches!(store.put("c", 3), Err(Error::Full { .. })));
///
/// let cache = StateStore::open("memory:?max_entries=2&when_full=evict")?;
/// cache.batch_put([("a", 1), ("b", 2)])?;
/// assert_eq!(cache.get("a")?, Some(1));
/// cache.put("c", 3)?;
/// assert_eq!(cache.keys("")?, ["a", "c"]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore(pub(crate) Handle<Memory>);

/// A handle on a store in a directory.
///
/// The state is held in memory and takes a little over twice the bytes of keys and values. Reads never touch the
/// disk and wait for no sync. Each mutation is a line of a journal, in JSON, and is handed to the operating system
/// by `write(2)` before the call returns; the mutations of several threads may share a line. A background thread
/// replaces the journal by a snapshot now and then, so that the directory stays within 3 times the live data, as
/// text in a snapshot, plus 1 MiB. Writers that outrun that thread are paused for a few milliseconds at a time; if
/// that is not enough, as with values of many kilobytes, they wait until it is done.
///
/// # What can be lost
/// If the program is killed, nothing that was acknowledged is lost, on any level. If the power fails:
///
/// | `sync` | lost |
/// | --- | --- |
/// | `"always"` | nothing that was acknowledged; threads that write at the same time share their syncs |
/// | `"1s"`, any interval | at most the writes of the last interval, and those made while its sync ran |
/// | `"never"` | everything that the operating system had not yet written; if it wrote later lines but not earlier ones, the store refuses to open, and [`repair`](Self::repair) keeps the lines that are whole |
///
/// A line survives as a whole or not at all, and so do batches of [`write`](StateStore::write) and transactions.
/// Readers of this process may see a change before it is on the disk. A write that changes nothing may depend on
/// such a change, so it waits for the sync too.
///
/// Bit rot in the lines that were synced last before a crash cannot be distinguished from a torn write, and those
/// lines are lost. Anywhere else it is detected: the store refuses to open ([`Corrupt`](crate::Error::Corrupt)), and
/// [`repair`](Self::repair) keeps a copy and saves the rest.
///
/// # What is assumed
/// The store needs a local file system whose `fdatasync` keeps its promise, whose `rename` is atomic, and whose
/// directories can be synced; on Windows they cannot, and a power failure may undo a rename. Sectors of 512 bytes
/// may be written in any order, and each may be lost alone. On Linux a sync that made a journal longer is requested
/// twice: on a failing disk the first may report success (seen on ext4, after its own journal had failed in another
/// sync). Nothing is promised on network file systems (NFS, SMB): their locks and writes are not dependable.
///
/// One process at a time has the directory open; others may read it ([`OpenOptions::read_only`](crate::OpenOptions::read_only)).
/// Nothing else may change or delete its files. If another program deletes, renames or replaces the journal, or
/// deletes the directory, the next sync, [`flush`](StateStore::flush) or [`close`](StateStore::close) returns
/// [`Poisoned`](crate::Error::Poisoned); where writes are not synced one by one, so does a write within a second. What
/// was acknowledged in that second is lost with the files.
///
/// # The directory
/// A store keeps to the directory that its path named when it was opened. On Unix it finds its files through a handle
/// on that directory: neither a change of the working directory, nor a rename of the directory or of its parents,
/// leads it to other files. Errors show the absolute path that the directory had when it was opened.
///
/// The directory is created with mode 0700, its missing parents as the umask allows, and files with mode 0600; an
/// existing directory keeps its mode. A symbolic link may lead to the directory, but one in place of `LOCK` is refused,
/// and one in place of a file that is about to be created is not followed.
///
/// A directory holds either a File store or the replay queue of a Redis store (`fallback=file:…`), and opens only as
/// what it holds.
///
/// # Time
/// What has expired stays expired. The store's time never goes back: if the system clock is set back, time stands
/// still until the clock has caught up. If that would take more than a day, the clock was wrong for a while: then all
/// that had expired by the store's time is removed from the files, by a compaction, and the store follows the clock
/// again. This happens while the store is opened, or in the background after a write. Only an expiry that reads alone
/// had seen is forgotten if the process is then killed: the next line, of a write or of the closing, records it.
///
/// # When something fails
/// If there is no room for a write, it returns [`StorageFull`](crate::Error::StorageFull): nothing has changed, in
/// memory or on disk, and writes work again when there is room. After a single failed sync the store refuses all
/// writes ([`Poisoned`](crate::Error::Poisoned)) until it is opened again, since the state of the disk is unknown;
/// reads go on.
///
/// # The files
/// `snapshot-<n>.jsonl` is the state before `journal-<n>.jsonl`. Every line is one JSON object and carries its own
/// CRC-32. While the store is open, a journal that is synced ends with zeros, which make its syncs cheaper:
/// `tr -d '\0' < journal-1.jsonl | jq .` shows it.
///
/// `LOCK` also notes how far the journal reached when the store was last closed: a journal that has lost lines at its
/// end since then is [`Corrupt`](crate::Error::Corrupt), and not taken for a shorter one. A directory without the note
/// opens too. Copy it with the other files, and delete it with them.
///
/// While the store is open, copy it by [`backup`](Self::backup): files that are copied one after the other may come from
/// different moments, and such a copy may not open.
#[derive(Clone)]
pub struct FileStore(pub(crate) Handle<File>);

/// A handle on a store in Redis.
///
/// Operations are commands, transactions or scripts on pooled connections, each within
/// [`timeout`](crate::RedisOptions::timeout), its retries included. If the reply to a write is lost, the server is
/// kept from applying that write late before the next write is sent. [Outages](StateStore#outages) describes what
/// happens while the server cannot be reached and when it is back; [`RedisOptions`](crate::RedisOptions) sets it.
///
/// # Lost replies
/// A write that was not sent is tried again, and so is a read. If a write was sent and its reply is lost, nobody knows
/// whether the server has applied it. It is **not** made again, since other clients may have written since, and the
/// second attempt would undo that: even a `put` or a `delete` is not harmless. Instead:
///
/// - A `put`, `update`, `batch_put` or [`write`](crate::StateStore::write) is done if the server holds what it has
///   written: one script compares that. [`ack`](crate::Leased::ack), [`nack`](crate::Leased::nack) and the extension
///   and the release of a lock are repeated, since nobody else has their lease or their token.
/// - Anything else fails with [`Unavailable`](crate::Error::Unavailable) and `maybe_applied`: look before you repeat
///   it.
/// - If an outage begins, a `put`, a `delete` and a batch of them are queued. The server applies them after the outage
///   if it holds what this process had seen before, and takes them for done if it holds what they have written;
///   anything else is a conflict, which [`on_conflict`](crate::RedisOptions::on_conflict) decides.
/// - With [`exactly_once`](crate::RedisOptions::exactly_once) the server is asked for the lost reply of any write.
#[cfg(feature = "redis")]
#[derive(Clone)]
pub struct RedisStore(pub(crate) Handle<FallbackBackend>);

/// The content of every variant: the shared backend, and this handle's view of it.
pub(crate) struct Handle<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) context: Context,
}

impl<B> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), context: self.context.clone() }
    }
}

/// Runs an expression against the backend of a store, whichever variant it is.
macro_rules! on_backend {
    ($store:expr, $backend:ident => $run:expr) => {
        match $store {
            $crate::store::state_store::StateStore::Memory(handle) => {
                let $backend = &*handle.0.backend;
                let _lines = $crate::util::log_later::FlushOnDrop;
                $run
            }
            $crate::store::state_store::StateStore::File(handle) => {
                let $backend = &*handle.0.backend;
                let _lines = $crate::util::log_later::FlushOnDrop;
                $run
            }
            #[cfg(feature = "redis")]
            $crate::store::state_store::StateStore::Redis(handle) => {
                let $backend = &*handle.0.backend;
                let _lines = $crate::util::log_later::FlushOnDrop;
                $run
            }
        }
    };
}
pub(crate) use on_backend;

/// Runs the first expression against the backend of a Redis store, or the second one for Memory and File, which have
/// no server to lose.
macro_rules! on_redis {
    ($store:expr, $backend:ident => $run:expr, else => $other:expr) => {
        match $store {
            $crate::store::state_store::StateStore::Memory(_)
            | $crate::store::state_store::StateStore::File(_) => $other,
            #[cfg(feature = "redis")]
            $crate::store::state_store::StateStore::Redis(handle) => {
                let $backend = &*handle.0.backend;
                let _lines = $crate::util::log_later::FlushOnDrop;
                $run
            }
        }
    };
}
pub(crate) use on_redis;

impl StateStore {
    pub(crate) fn context(&self) -> &Context {
        match self {
            Self::Memory(store) => &store.0.context,
            Self::File(store) => &store.0.context,
            #[cfg(feature = "redis")]
            Self::Redis(store) => &store.0.context,
        }
    }
}

/// Names the place of the state, without secrets: `Redis { host: "10.0.0.7:6379", db: 0, prefix: "web", namespace: "" }`.
impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(store) => store.fmt(f),
            Self::File(store) => store.fmt(f),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.fmt(f),
        }
    }
}

/// Returns the namespace as the program named it.
fn namespace_of(context: &Context) -> &str {
    let text = context.namespace.text();
    text.strip_suffix(':').unwrap_or(text)
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("namespace", &namespace_of(&self.0.context)).finish()
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.backend.path();
        let namespace = namespace_of(&self.0.context);
        f.debug_struct("File").field("path", &path).field("namespace", &namespace).finish()
    }
}

#[cfg(feature = "redis")]
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.backend.place();
        f.debug_struct("Redis")
            .field("host", &place.host)
            .field("db", &place.db)
            .field("prefix", &place.prefix)
            .field("namespace", &namespace_of(&self.0.context))
            .finish()
    }
}
