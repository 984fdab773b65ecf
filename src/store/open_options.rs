//! Owns [`OpenOptions`]: what a program can ask for when it opens a store, besides the configuration. Knows nothing of
//! the backends.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::backend::file::report::Progress;
use crate::backend::file::store::File;
use crate::clock::Clock;
use crate::config::{StateBackend, StateConfig};
use crate::error::{Error, Result};
use crate::store::context::Context;
use crate::store::open::shared_state;
use crate::store::state_store::{FileStore, Handle, StateStore};
use crate::store_clock::StoreClock;
use crate::util::log_later::FlushOnDrop;

/// Opens a store with another clock, with reports of the progress, or for reading only.
///
/// ```
/// use millpond::{OpenOptions, StateBackend, StateConfig, StateStore};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().to_path_buf();
/// let url = format!("file:{}", path.display());
/// let store = OpenOptions::new()
///     .progress(|progress| eprintln!("{} of {} bytes", progress.read, progress.total))
///     .open(&url)?;
/// store.put("orders", 17)?;
///
/// let seen = OpenOptions::new().read_only(true).open(&url)?; // also from another process
/// assert_eq!(seen.get("orders")?, Some(17));
/// assert!(seen.put("orders", 18).is_err());
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Default)]
#[must_use = "nothing is opened before `open` or `with_config`"]
pub struct OpenOptions<'p> {
    clock: Option<Arc<dyn Clock>>,
    progress: Option<Box<dyn FnMut(Progress) + 'p>>,
    read_only: bool,
}

impl<'p> OpenOptions<'p> {
    /// Begins with what [`StateStore::with_config`] does.
    ///
    /// ```
    /// let store = millpond::OpenOptions::new().open("memory:")?;
    /// assert!(store.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the time from `clock`: for tests, which set the clock themselves, such as a
    /// [`ManualClock`](crate::ManualClock).
    ///
    /// A Redis server goes by its own clock and ignores this one; the operations that are served locally during an
    /// outage go by this one.
    ///
    /// ```
    /// use millpond::{ManualClock, OpenOptions};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let clock = Arc::new(ManualClock::default());
    /// let store = OpenOptions::new().clock(clock.clone()).open("memory:")?;
    /// store.put_with_ttl("session:7", "anna", Duration::from_secs(60))?;
    /// clock.advance(Duration::from_secs(60));
    /// assert!(!store.contains("session:7")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Reports how far a File store has been read: about once for each MiB, and at the end. A million small entries take
    /// about half a second. No other backend reads anything when it is opened.
    ///
    /// The progress may begin again with another total, if a snapshot turns out to be damaged and the one before it
    /// still exists.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}", dir.path().display());
    /// # millpond::StateStore::open(&url)?.put("orders", 17)?;
    /// let mut percent = 0;
    /// millpond::OpenOptions::new().progress(|progress| percent = 100 * progress.read / progress.total).open(&url)?;
    /// assert_eq!(percent, 100);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn progress(mut self, report: impl FnMut(Progress) + 'p) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Reads a File store as it is now, up to its last whole line, even if another process has it open: for inspecting
    /// the state of a running program. Later writes are not visible.
    ///
    /// A directory without a store in it is read as an empty store. No lock is taken, and nothing on disk is changed,
    /// now or later; a torn end is skipped. Every operation that could write returns
    /// [`Unsupported`](Error::Unsupported). No other backend can be opened so.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let url = format!("file:{}", dir.path().display());
    /// # let running = millpond::StateStore::open(&url)?;
    /// # running.put("orders", 17)?;
    /// let seen = millpond::OpenOptions::new().read_only(true).open(&url)?; // while another process writes
    /// assert_eq!(seen.get("orders")?, Some(17));
    /// assert!(seen.delete("orders").unwrap_err().is_unsupported());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens the store that a URL names, as [`StateStore::open`] does.
    ///
    /// ```
    /// let refused = millpond::OpenOptions::new().read_only(true).open("memory:");
    /// assert!(refused.unwrap_err().is_invalid_config());
    /// ```
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn open(self, url: impl AsRef<str>) -> Result<StateStore> {
        self.with_config(StateConfig::from_url(url.as_ref())?)
    }

    /// Opens a store with all its options, as [`StateStore::with_config`] does.
    ///
    /// ```
    /// use millpond::{OpenOptions, StateBackend, StateConfig};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    ///
    /// let config = StateConfig::default().backend(StateBackend::file(path));
    /// let store = OpenOptions::new().progress(|progress| println!("{progress:?}")).with_config(config)?;
    /// assert!(store.is_empty()?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`StateStore::with_config`]. With [`read_only`](Self::read_only): [`Io`](Error::Io) if the directory does not
    /// exist or may not be read, and [`InvalidConfig`](Error::InvalidConfig) for another backend than File.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is used up when a store is opened")]
    pub fn with_config(self, config: StateConfig) -> Result<StateStore> {
        let clock = self.clock.map_or_else(StoreClock::system, StoreClock::foreign);
        if self.read_only {
            return open_read_only(&config, clock);
        }
        let mut report = self.progress.unwrap_or_else(|| Box::new(|_| ()));
        StateStore::open_with(&config, clock, &mut *report)
    }
}

fn open_read_only(config: &StateConfig, clock: StoreClock) -> Result<StateStore> {
    let _lines = FlushOnDrop;
    config.validate()?;
    let path: &Path = match &config.backend {
        StateBackend::File { path, .. } => path,
        StateBackend::Memory | StateBackend::Redis { .. } => {
            return Err(Error::invalid_config("backend", "only a File store can be opened for reading only"));
        }
    };
    let backend = Arc::new(File::open_read_only(path, clock)?);
    let context = Context::new(shared_state(config, None));
    Ok(StateStore::File(FileStore(Handle { backend, context })))
}

impl fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions").field("read_only", &self.read_only).finish_non_exhaustive()
    }
}
