//! Owns what can be done to a directory of files besides working with the store in it: copying it while
//! the store runs, and repairing it.

use std::path::Path;

use crate::backend::file::report::Repair;
use crate::backend::file::store::File;
use crate::config::check_path;
use crate::error::{Error, Result};
use crate::store::state_store::FileStore;
use crate::util::log_later::FlushOnDrop;

impl FileStore {
    /// Copies the store into the directory `dir` while it runs. The copy is a File store of its own: open it with
    /// [`StateStore::open`](crate::StateStore::open), or copy it back to restore it. (A copy by `cp -r` of a store that
    /// is open may be damaged.)
    ///
    /// The copy has everything that was acknowledged before this call. Of the writes that other threads make meanwhile
    /// it has the first ones, up to some line: all or nothing of each batch and each transaction. TTLs, leases, locks and
    /// the store's time are in it. Writers go on during the copy. A compaction may delete files that are being copied;
    /// their space on the disk is free once the copy is done. Several backups may run at once.
    ///
    /// The whole store is copied, also through the handle of a [namespace](crate::StateStore::namespace), and also from
    /// a store that was opened with [`read_only`](crate::OpenOptions::read_only): then the copy is what that handle sees.
    ///
    /// `dir` must be missing or empty, and outside of the store's own directory. It gets mode 0700 if this creates it,
    /// its files mode 0600. When this returns, the whole copy is on the disk. While it runs, nobody can open the copy
    /// ([`Locked`](Error::Locked)). If it fails, it deletes everything that it has created; if the disk fails at that
    /// too, a part of the copy may stay. The same happens if the program is killed meanwhile. Such a part does not open
    /// ([`Corrupt`](Error::Corrupt)): delete it. On Windows it may open as an empty store.
    ///
    /// # Errors
    /// - [`Io`](Error::Io) if `dir` is not empty (its source has the kind
    ///   [`DirectoryNotEmpty`](std::io::ErrorKind::DirectoryNotEmpty)), is no directory, is the directory of the store
    ///   or is in it ([`InvalidInput`](std::io::ErrorKind::InvalidInput)), or cannot be written;
    /// - [`StorageFull`](Error::StorageFull): the copy takes as much room as the files of the store;
    /// - [`Locked`](Error::Locked) if somebody opens or backs up another store in `dir` at this moment;
    /// - [`InvalidConfig`](Error::InvalidConfig) if `dir` is a text that cannot be meant, such as a URL;
    /// - [`Poisoned`](Error::Poisoned) if the state of the disk is unknown, since the files may not hold what was
    ///   acknowledged;
    /// - [`Unavailable`](Error::Unavailable) after [`close`](crate::StateStore::close).
    ///
    /// # Examples
    /// ```
    /// use millpond::StateStore;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, copy) = (dir.path().join("state"), dir.path().join("monday"));
    /// let store = StateStore::open(format!("file:{}", path.display()))?;
    /// store.put("orders", 17)?;
    /// if let StateStore::File(file) = &store {
    ///     file.backup(&copy)?;
    /// }
    /// store.put("orders", 18)?;
    ///
    /// let restored = StateStore::open(format!("file:{}", copy.display()))?;
    /// assert_eq!(restored.get("orders")?, Some(17));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<()> {
        let _lines = FlushOnDrop;
        self.0.context.check_open()?;
        check_path(dir.as_ref()).map_err(|reason| Error::invalid_config("dir", reason))?;
        self.0.backend.back_up(dir.as_ref())
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
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// # millpond::StateStore::open(&format!("file:{}", path.display()))?.put("orders", 17)?;
    /// let repair = millpond::FileStore::repair(path)?;
    /// for loss in &repair.lost {
    ///     eprintln!("{}, line {}: {} bytes: {}", loss.path.display(), loss.line, loss.bytes, loss.reason);
    /// }
    /// assert_eq!((repair.entries, repair.backup), (1, None));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn repair(path: impl AsRef<Path>) -> Result<Repair> {
        let _lines = FlushOnDrop;
        File::repair(path.as_ref())
    }
}
