//! Owns what can be done to a directory of files besides working with the store in it: repairing it.

use std::path::Path;

use crate::backend::file::report::Repair;
use crate::backend::file::store::File;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::store::state_store::FileStore;
use crate::util::log_later::FlushOnDrop;

impl FileStore {
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
