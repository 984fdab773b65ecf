//! Owns the ways to open a [`StateStore`]: which backend a configuration names, and the state that all handles on
//! the new store share. Knows nothing of what a backend does when it opens.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::backend::CHUNK;
#[cfg(feature = "redis")]
use crate::backend::fallback::open::FallbackBackend;
use crate::backend::file::contents::Contents;
use crate::backend::file::report::Progress;
use crate::backend::file::store::File;
use crate::backend::memory::Memory;
use crate::clock::Millis;
use crate::config::{MemoryOptions, StateBackend, StateConfig, config_from_env};
use crate::error::Result;
use crate::store::context::{Context, ErrorMaker, SharedState};
use crate::store::failing::ErrorKind;
use crate::store::gate::Gate;
use crate::store::renewals::Renewals;
use crate::store::single_flight::SingleFlight;
use crate::store::slow_log::SlowLog;
#[cfg(feature = "redis")]
use crate::store::state_store::RedisStore;
use crate::store::state_store::{FileStore, Handle, MemoryStore, StateStore};
use crate::store_clock::StoreClock;
use crate::util::log_later::FlushOnDrop;

/// # Opening
impl StateStore {
    /// Opens a store in memory with the default options.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// assert!(store.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn memory() -> Self {
        Self::memory_with(None)
    }

    /// Opens a store in memory whose every operation fails, if there is a failure.
    pub(crate) fn memory_with(failure: Option<ErrorMaker>) -> Self {
        let shared = SharedState { failure, ..shared_state(&StateConfig::default(), None) };
        let context = Context::new(shared);
        Self::Memory(MemoryStore(Handle {
            backend: Arc::new(Memory::new(StoreClock::system(), &MemoryOptions::default())),
            context,
        }))
    }

    /// Opens a backend with the default options.
    ///
    /// ```
    /// use millpond::{StateBackend, StateStore};
    ///
    /// let store = StateStore::new(StateBackend::memory())?;
    /// assert!(matches!(store, StateStore::Memory(_)));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn new(backend: StateBackend) -> Result<Self> {
        Self::with_config(StateConfig::default().backend(backend))
    }

    /// Opens the store that a URL names; [`StateConfig::from_url`] lists the forms of URLs.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}?sync=1s", dir.path().display());
    /// let store = millpond::StateStore::open(url)?; // for instance file:./state?sync=1s
    /// assert!(matches!(store, millpond::StateStore::File(_)));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn open(url: impl AsRef<str>) -> Result<Self> {
        Self::with_config(StateConfig::from_url(url.as_ref())?)
    }

    /// Opens the store that the URL in the environment variable `MILLPOND_URL` names.
    ///
    /// ```no_run
    /// // with MILLPOND_URL=redis://127.0.0.1:6379?key_prefix=orders in the environment
    /// let store = millpond::StateStore::from_env()?;
    /// println!("{store:?}");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig) if the variable is not set, and as
    /// [`with_config`](Self::with_config).
    pub fn from_env() -> Result<Self> {
        Self::with_config(config_from_env()?)
    }

    /// Opens a store with all its options, after checking every one of them.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// use millpond::{StateConfig, StateStore};
    /// # use std::time::Duration;
    ///
    /// let store = StateStore::with_config(StateConfig::default().default_ttl(Duration::from_secs(3600)))?;
    /// store.put("session:7", "anna")?;
    /// assert!(matches!(store.ttl("session:7")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`InvalidConfig`](crate::Error::InvalidConfig), naming the option, also if a text cannot be meant (a path with a line
    ///   break at its end), or if a directory holds a replay queue instead of a File store, or the other way round;
    /// - for a file [`Locked`](crate::Error::Locked), [`Corrupt`](crate::Error::Corrupt), [`Io`](crate::Error::Io),
    ///   [`StorageFull`](crate::Error::StorageFull);
    /// - for Redis [`Denied`](crate::Error::Denied), [`Unsupported`](crate::Error::Unsupported) (a server older than 6.2, a
    ///   build without TLS), and [`Unavailable`](crate::Error::Unavailable) if there is nothing to fall back to.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is used up when a store is opened")]
    pub fn with_config(config: StateConfig) -> Result<Self> {
        Self::open_with(&config, StoreClock::system(), &mut |_| ())
    }

    /// Returns a store whose every operation fails with an error of this kind, so that a program can test what it does
    /// then. It holds nothing, and needs no server.
    ///
    /// ```
    /// use millpond::{Error, ErrorKind, StateStore};
    ///
    /// fn greet(store: &StateStore) -> &'static str {
    ///     match store.get::<String>("name") {
    ///         Ok(_) => "hello",
    ///         Err(Error::Unavailable { .. }) => "hello, stranger",
    ///         Err(_) => "good bye",
    ///     }
    /// }
    /// assert_eq!(greet(&StateStore::failing(ErrorKind::Unavailable)), "hello, stranger");
    /// ```
    #[must_use]
    pub fn failing(kind: ErrorKind) -> Self {
        Self::memory_with(Some(Box::new(move || kind.error())))
    }

    /// Opens a store, and reports how far a File store has been read.
    pub(crate) fn open_with(
        config: &StateConfig,
        clock: StoreClock,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let _lines = FlushOnDrop;
        config.validate()?;
        let default_ttl = config.default_ttl.map(Millis::new).transpose()?;
        let context = Context::new(shared_state(config, default_ttl));
        let recorder = Arc::clone(&context.shared.recorder);
        match &config.backend {
            StateBackend::Memory => Ok(Self::Memory(MemoryStore(Handle {
                backend: Arc::new(Memory::new(clock, &config.memory)),
                context,
            }))),
            StateBackend::File { path } => {
                let backend =
                    Arc::new(File::open(path, &config.file, clock, report, Contents::Store, recorder)?);
                Ok(Self::File(FileStore(Handle { backend, context })))
            }
            #[cfg(feature = "redis")]
            StateBackend::Redis { url, key_prefix } => {
                let backend = Arc::new(FallbackBackend::open(url, key_prefix, config, clock, recorder)?);
                Ok(Self::Redis(RedisStore(Handle { backend, context })))
            }
            #[cfg(not(feature = "redis"))]
            StateBackend::Redis { .. } => {
                Err(crate::Error::Unsupported { what: "Redis: this build has no `redis` feature".to_owned() })
            }
        }
    }
}

/// Returns the state that all handles on a store with this configuration share.
pub(crate) fn shared_state(config: &StateConfig, default_ttl: Option<Millis>) -> SharedState {
    SharedState {
        default_ttl,
        max_value_bytes: config.max_value_bytes,
        chunk: match config.backend {
            // A longer pipeline is filled only by a longer chunk.
            StateBackend::Redis { .. } => CHUNK.max(config.redis.pipeline_batch_size),
            StateBackend::Memory | StateBackend::File { .. } => CHUNK,
        },
        limit: config.redis.timeout,
        closed: AtomicBool::new(false),
        failure: None,
        single_flight: SingleFlight::default(),
        gate: Gate::default(),
        renewals: Arc::new(Renewals::new(config.redis.timeout)),
        name: config.name.clone(),
        #[cfg(feature = "metrics")]
        metrics: crate::stats::facade::MetricHandles::register(
            config.name.as_deref(),
            match config.backend {
                StateBackend::Memory => "memory",
                StateBackend::File { .. } => "file",
                StateBackend::Redis { .. } => "redis",
            },
        ),
        recorder: Arc::default(),
        slow_log: config.slow.map(|threshold| SlowLog::new(threshold, config.name.as_deref())),
    }
}
