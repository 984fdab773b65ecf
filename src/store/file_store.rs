//! Owns what can be done to a directory of files besides working with the store in it: opening it with progress or
//! for reading only, and repairing it.

use std::path::Path;
use std::sync::Arc;

use crate::backend::file::report::{Progress, Repair};
use crate::backend::file::store::File;
use crate::config::{StateBackend, StateConfig};
use crate::error::{Error, Result};
use crate::store::context::Context;
use crate::store::open::shared_state;
use crate::store::state_store::{FileStore, Handle, StateStore};
use crate::store_clock::StoreClock;
use crate::util::log_later::FlushOnDrop;

impl FileStore {
    /// Opens a store as [`StateStore::with_config`] does, and reports the progress: about once for each MiB that
    /// was read, and at the end. A million small entries take about half a second.
    ///
    /// The progress may begin again with another total, if a snapshot turns out to be damaged and the one before it
    /// still exists.
    ///
    /// # Errors
    /// As [`StateStore::with_config`]; [`InvalidConfig`](Error::InvalidConfig) for another backend than File.
    ///
    /// # Examples
    /// ```
    /// use millpond::{FileStore, StateBackend, StateConfig};
    ///
    /// # fn main() -> millpond::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().to_path_buf();
    /// let config = StateConfig::default().backend(StateBackend::File { path });
    /// let store = FileStore::open_with_progress(config, |progress| {
    ///     eprintln!("{} of {} bytes", progress.read, progress.total);
    /// })?;
    /// # store.put("a", 1)
    /// # }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is used up when a store is opened")]
    pub fn open_with_progress(config: StateConfig, mut report: impl FnMut(Progress)) -> Result<StateStore> {
        match config.backend {
            StateBackend::File { .. } => StateStore::open_with(&config, StoreClock::system(), &mut report),
            StateBackend::Memory | StateBackend::Redis { .. } => {
                Err(Error::invalid_config("backend", "only a File store is read when it is opened"))
            }
        }
    }

    /// Reads the store in `path` as it is now, up to its last whole line, even if another process has it open: for
    /// inspecting the state of a running program. Later writes are not visible.
    ///
    /// A directory without a store in it is read as an empty store.
    ///
    /// No lock is taken, and nothing on disk is changed, now or later; a torn end is skipped. Every operation
    /// that could write returns [`Unsupported`](Error::Unsupported).
    ///
    /// # Errors
    /// [`Io`](Error::Io) if the directory does not exist or may not be read; [`Corrupt`](Error::Corrupt);
    /// [`Unsupported`](Error::Unsupported) for a later version of the format; [`InvalidConfig`](Error::InvalidConfig)
    /// if it holds the replay queue of a Redis store.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// let store = millpond::StateStore::open(&format!("file:{}", path.display()))?;
    /// store.put("orders", 17)?;
    /// let seen = millpond::FileStore::open_read_only(path)?;
    /// assert_eq!(seen.get("orders")?, Some(17));
    /// assert!(seen.put("orders", 18).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<StateStore> {
        let _lines = FlushOnDrop;
        let backend = Arc::new(File::open_read_only(path.as_ref(), StoreClock::system())?);
        let context = Context::new(shared_state(&StateConfig::default(), None));
        Ok(StateStore::File(Self(Handle { backend, context })))
    }

    /// Repairs a store that is [`Corrupt`](Error::Corrupt), so that it opens with everything that is whole in its
    /// files.
    ///
    /// The files are first copied, as they are, into a directory beside them, `damaged-1` or the next free number.
    /// Then every line whose checksum is right is read, in order, and the result is written as a new
    /// snapshot; if the program crashes meanwhile, the old files still exist and can be repaired again. If nothing is
    /// damaged, nothing is changed. A damaged replay queue of a Redis store is repaired too, and stays one. The torn end that a crash leaves is no damage: opening the store truncates it.
    ///
    /// The content of a damaged line is lost: its keys may have an older value, or one that had been deleted.
    /// [`Repair::lost`] lists the damaged places, [`Repair::incomplete`] the maps and queues of which parts are
    /// known to be missing. Nobody may have the store open.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked), [`Io`](Error::Io), [`StorageFull`](Error::StorageFull) (the copy takes as much
    /// room as the files); [`Unsupported`](Error::Unsupported) for a later version of the format;
    /// [`InvalidConfig`](Error::InvalidConfig) for a replay queue that is not damaged. After an error
    /// the store is what it was before, though there may be a copy, or a part of one.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> millpond::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// # millpond::StateStore::open(&format!("file:{}", path.display()))?.put("orders", 17)?;
    /// let repair = millpond::FileStore::repair(path)?;
    /// for loss in &repair.lost {
    ///     eprintln!("{}, line {}: {} bytes: {}", loss.path.display(), loss.line, loss.bytes, loss.reason);
    /// }
    /// assert_eq!((repair.entries, repair.backup), (1, None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn repair(path: impl AsRef<Path>) -> Result<Repair> {
        let _lines = FlushOnDrop;
        File::repair(path.as_ref())
    }
}
