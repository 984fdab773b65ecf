//! Owns [`StateStore`]: how it is opened, cloned, divided into namespaces and closed. The operations stand
//! in the files beside this one, a group each; what they mean is decided by the backends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "redis")]
use crate::backend::fallback::open::Fallback;
use crate::backend::file::core::File;
use crate::backend::file::report::Progress;
use crate::backend::memory::Memory;
use crate::backend::{Backend, CHUNK, Status};
use crate::clock::{Clock, Millis, SystemClock};
use crate::config::{StateBackend, StateConfig};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Answer, EntryAction, Op, Query, Reply};
use crate::store::context::{Context, SharedState};
use crate::store::single_flight::SingleFlight;

/// The variable that [`StateStore::from_env`] reads.
const ENV_URL: &str = "MILLPOND_URL";

/// A store of state: values, counters and listings under text keys, kept in memory, in files or in Redis.
///
/// A clone is another handle on the same store; handles may be used from any thread. Every method takes
/// `&self`, blocks until it is done, and needs no async runtime.
///
/// Fork before stores are opened. In a child of the process that opened it, a Redis store refuses every
/// operation with [`Unavailable`](Error::Unavailable), and dropping it there does not disturb the parent: its
/// connections and what waits are the parent's alone. A File store must not be touched there. A store that
/// such a child opens itself is not dependable either, since locks which other threads held at the fork stay
/// locked in it.
///
/// # Examples
/// ```
/// use millpond::StateStore;
///
/// # fn main() -> millpond::Result<()> {
/// let store = StateStore::open("memory:")?;
/// store.put("greeting", "hello")?;
/// assert_eq!(store.get::<String>("greeting")?.as_deref(), Some("hello"));
/// assert_eq!(store.incr("visits", 1)?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum StateStore {
    /// State in this process, gone with it.
    Memory(MemoryStore),
    /// State in this process and in a directory of files.
    File(FileStore),
    /// State on a Redis server, and in memory while that cannot be reached.
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

/// A handle on a store in memory.
#[derive(Clone)]
pub struct MemoryStore(pub(crate) Handle<Memory>);

/// A handle on a store in a directory.
///
/// The state lies in memory, a little over twice the bytes of keys and values; reads never touch the disk, and
/// wait for no sync. Each mutation is a line of a journal, in JSON, and is handed to the operating system by
/// `write(2)` before the call returns; those of several threads may share one. A background thread replaces the
/// journal by a snapshot now and then, so that the directory stays within 3 times the live data, as its text takes
/// in a snapshot, plus 1 MiB. Writers that are ahead of it are held up for a few milliseconds at a time, and where
/// that is not enough, as with values of many kilobytes, until it is done.
///
/// # What can be lost
/// Nothing that was acknowledged when the program is killed, on any level. When the power fails:
///
/// | `sync` | lost |
/// | --- | --- |
/// | `"always"` | nothing that was acknowledged; threads that write at the same time share their syncs |
/// | `"1s"`, any interval | at most what was written in the last interval, and while its sync ran |
/// | `"never"` | what the operating system had not yet written; where it wrote later lines but not earlier ones, the store refuses to open, and [`repair`](Self::repair) takes what is whole |
///
/// A line is there as a whole or not at all: so are batches of [`write`](StateStore::write) and transactions.
/// Readers of this process may see a change before it is on the disk; a write that changes nothing, and so may
/// rest on it, waits for it too.
///
/// Bit rot in the lines that were synced last before a crash cannot be told from a torn write, and costs them.
/// Anywhere else it is found: the store refuses to open ([`Corrupt`](Error::Corrupt)), and [`repair`](Self::repair)
/// keeps a copy and saves the rest.
///
/// # What is assumed
/// A local file system whose `fdatasync` means what it says, whose `rename` is atomic, and whose directories
/// can be synced; on Windows they cannot, and a rename may be lost with the power. Sectors of 512 bytes may be
/// written in any order, and lost each by itself. On Linux a sync that made a journal longer is asked for twice: on
/// a failing disk the first may say that all is well (seen on ext4, whose own journal had failed in another sync).
/// Network file systems (NFS, SMB) are not promised: their locks and their writes are not dependable.
///
/// One process has the directory open at a time; others may look into it ([`open_read_only`](Self::open_read_only)).
/// Nothing else may change or delete its files: what is written to a journal that somebody deleted is gone.
///
/// # When something fails
/// A write for which there is no room is [`StorageFull`](Error::StorageFull): nothing has changed, in memory or on
/// disk, and it works again when there is room. After a sync that failed even once the store takes no more writes
/// ([`Poisoned`](Error::Poisoned)) until it is opened anew, since nobody knows what reached the disk; reads go on.
///
/// # The files
/// `snapshot-<n>.jsonl` is the state before `journal-<n>.jsonl`; every line is one JSON object and carries the CRC-32
/// of itself. While it is open, a journal that is synced ends with zeros, which make its syncs cheaper:
/// `tr -d '\0' < journal-1.jsonl | jq .` shows it.
#[derive(Clone)]
pub struct FileStore(pub(crate) Handle<File>);

/// A handle on a store in Redis.
///
/// Operations are commands, transactions or scripts on pooled connections, each within
/// [`timeout`](crate::RedisOptions::timeout), its retries included. A write whose answer was lost is stopped
/// from being applied late before the next one leaves. What happens while the server cannot be reached, and
/// when it comes back, stands at [Outages](StateStore#outages) and is set by [`RedisOptions`](crate::RedisOptions).
#[cfg(feature = "redis")]
#[derive(Clone)]
pub struct RedisStore(pub(crate) Handle<Fallback>);

/// What every variant holds: the shared backend, and which part of it this handle speaks of.
pub(crate) struct Handle<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) context: Context,
}

impl<B> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), context: self.context.clone() }
    }
}

/// Runs an expression against the backend of whichever variant it is.
macro_rules! on_backend {
    ($store:expr, $backend:ident => $run:expr) => {
        match $store {
            $crate::store::state_store::StateStore::Memory(handle) => {
                let $backend = &*handle.0.backend;
                $run
            }
            $crate::store::state_store::StateStore::File(handle) => {
                let $backend = &*handle.0.backend;
                $run
            }
            #[cfg(feature = "redis")]
            $crate::store::state_store::StateStore::Redis(handle) => {
                let $backend = &*handle.0.backend;
                $run
            }
        }
    };
}
pub(crate) use on_backend;

impl StateStore {
    /// Opens a store in memory with the default options.
    #[must_use]
    pub fn memory() -> Self {
        let context = Context::new(shared_state(&StateConfig::default(), None));
        Self::Memory(MemoryStore(Handle { backend: Arc::new(Memory::new(Arc::new(SystemClock))), context }))
    }

    /// Opens a backend with the default options.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn new(backend: StateBackend) -> Result<Self> {
        Self::with_config(StateConfig::default().backend(backend))
    }

    /// Opens what a URL says; [`StateConfig::from_url`] has its forms.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn open(url: &str) -> Result<Self> {
        Self::with_config(StateConfig::from_url(url)?)
    }

    /// Opens the URL in the environment variable `MILLPOND_URL`.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig) where the variable is not set, and as
    /// [`with_config`](Self::with_config).
    pub fn from_env() -> Result<Self> {
        match std::env::var(ENV_URL) {
            Ok(url) => Self::open(&url),
            Err(error) => Err(Error::invalid_config(ENV_URL, error.to_string())),
        }
    }

    /// Opens a store with all its options, after checking every one of them.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig), naming the option;
    /// for a file [`Locked`](Error::Locked), [`Corrupt`](Error::Corrupt), [`Io`](Error::Io),
    /// [`StorageFull`](Error::StorageFull);
    /// for Redis [`Denied`](Error::Denied), [`Unsupported`](Error::Unsupported) (a server older than 6.2, a
    /// build without TLS), and [`Unavailable`](Error::Unavailable) where nothing is to fall back to.
    pub fn with_config(config: StateConfig) -> Result<Self> {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// Opens a store that takes the time from `clock`: for tests, which move it by hand.
    ///
    /// A Redis server has a clock of its own and asks this one nothing; what is served while it is away does.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is given away when it is used")]
    pub fn with_clock(config: StateConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_with(&config, clock, &mut |_| ())
    }

    pub(crate) fn open_with(
        config: &StateConfig,
        clock: Arc<dyn Clock>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        config.validate()?;
        let default_ttl = config.default_ttl.map(Millis::new).transpose()?;
        let context = Context::new(shared_state(config, default_ttl));
        match &config.backend {
            StateBackend::Memory => {
                Ok(Self::Memory(MemoryStore(Handle { backend: Arc::new(Memory::new(clock)), context })))
            }
            StateBackend::File { path } => {
                let backend = Arc::new(File::open(path, &config.file, clock, report)?);
                Ok(Self::File(FileStore(Handle { backend, context })))
            }
            #[cfg(feature = "redis")]
            StateBackend::Redis { url, key_prefix } => {
                let backend = Arc::new(Fallback::open(url, key_prefix, config, clock)?);
                Ok(Self::Redis(RedisStore(Handle { backend, context })))
            }
            #[cfg(not(feature = "redis"))]
            StateBackend::Redis { .. } => {
                Err(Error::Unsupported { what: "Redis: this build has no `redis` feature".to_owned() })
            }
        }
    }

    /// The same store with every key under `name:`.
    ///
    /// Namespaces nest; a store sees the keys of the namespaces inside it, with their names in front. An
    /// empty name is the same store. This never fails: a name that makes no valid key is told of by the
    /// operations.
    ///
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// let store = millpond::StateStore::memory();
    /// let orders = store.namespace("orders");
    /// orders.put("17", "paid")?;
    /// assert_eq!(orders.keys("")?, ["17"]);
    /// assert_eq!(store.keys("")?, ["orders:17"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn namespace(&self, name: &str) -> Self {
        let mut inner = self.clone();
        let context = inner.context_mut();
        context.namespace = context.namespace.child(name);
        inner
    }

    /// Tells whether the backend serves, or memory in its place. It asks nobody.
    ///
    /// [`Connected`](Status::Connected) means: the last exchange with the server worked, and no operation
    /// waits for it.
    #[must_use]
    pub fn status(&self) -> Status {
        on_backend!(self, backend => backend.status())
    }

    /// Makes everything acknowledged so far as durable as the backend can: on File it is on the disk when
    /// this returns, and so is what waits for a Redis server in files. Otherwise there is nothing to do.
    ///
    /// # Errors
    /// [`Poisoned`](Error::Poisoned) on File; [`Unavailable`](Error::Unavailable) after
    /// [`close`](Self::close).
    pub fn flush(&self) -> Result<()> {
        self.context().check_open()?;
        on_backend!(self, backend => backend.flush())
    }

    /// Ends the store for all its handles: flushes it and lets go of its files and connections. Every
    /// later operation, on any handle, returns [`Unavailable`](Error::Unavailable). Closing twice does
    /// nothing.
    ///
    /// A Redis store whose server is away waits for it for one
    /// [`timeout`](crate::RedisOptions::timeout) if operations wait: see [`close_within`](Self::close_within).
    ///
    /// Dropping the last handle does the same, but waits for no server, and logs what failed.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(&self) -> Result<()> {
        if self.begin_close() { on_backend!(self, backend => backend.close()) } else { Ok(()) }
    }

    /// Lets no further operation begin; `false` where that was done before.
    pub(crate) fn begin_close(&self) -> bool {
        !self.context().shared.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn context(&self) -> &Context {
        match self {
            Self::Memory(store) => &store.0.context,
            Self::File(store) => &store.0.context,
            #[cfg(feature = "redis")]
            Self::Redis(store) => &store.0.context,
        }
    }

    /// Carries out one mutation.
    pub(crate) fn run(&self, op: Op<'_>) -> Result<Reply> {
        on_backend!(self, backend => backend.apply(op))
    }

    pub(crate) fn apply(&self, key: Key<'_>, action: EntryAction) -> Result<Reply> {
        self.run(Op { key, action })
    }

    /// Answers a question about one key.
    pub(crate) fn ask(&self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        on_backend!(self, backend => backend.ask(key, query))
    }

    fn context_mut(&mut self) -> &mut Context {
        match self {
            Self::Memory(store) => &mut store.0.context,
            Self::File(store) => &mut store.0.context,
            #[cfg(feature = "redis")]
            Self::Redis(store) => &mut store.0.context,
        }
    }
}

/// What all handles on a store with this configuration have in common.
pub(crate) fn shared_state(config: &StateConfig, default_ttl: Option<Millis>) -> SharedState {
    SharedState {
        default_ttl,
        max_value_bytes: config.max_value_bytes,
        chunk: match config.backend {
            // A longer pipeline needs a longer chunk to be made of.
            StateBackend::Redis { .. } => CHUNK.max(config.redis.pipeline_batch_size),
            StateBackend::Memory | StateBackend::File { .. } => CHUNK,
        },
        limit: config.redis.timeout,
        closed: AtomicBool::new(false),
        single_flight: SingleFlight::default(),
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = match self {
            Self::Memory(_) => "Memory",
            Self::File(_) => "File",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "Redis",
        };
        f.debug_struct(variant).field("namespace", &self.context().namespace.text()).finish_non_exhaustive()
    }
}
