//! Owns the lock on a store's directory. Knows nothing of what it protects.

use std::fs::TryLockError;
use std::process;
use std::sync::Arc;

use crate::backend::file::closing_note;
use crate::backend::file::fs::LockableFile;
use crate::backend::file::layout::{Layout, failed};
use crate::error::{Error, Result};

/// Locks the directory until it is dropped.
///
/// INVARIANT: the lock file is never renamed, and is deleted only by the holder of its lock, or a process that opens it
/// by its name could lock another file than the current holder. The lock on a deleted file counts for nothing.
pub(crate) struct DirectoryLock {
    file: Arc<dyn LockableFile>,
    process: u32,
}

impl DirectoryLock {
    pub(crate) fn take(layout: &Layout) -> Result<Self> {
        let path = layout.lock_path();
        let file = layout.fs.open_lockable(&path).map_err(|error| failed("opening", &path, error))?;
        match file.try_lock() {
            Ok(()) if file.is_in_place() => Ok(Self { file, process: process::id() }),
            // The backup that had created it has failed, and has just deleted it.
            Ok(()) => Err(Error::Locked { path: layout.dir.clone(), process: None }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Locked { path: layout.dir.clone(), process: closing_note::holder(layout) })
            }
            Err(TryLockError::Error(error)) => Err(failed("locking", &path, error)),
        }
    }

    /// Says in the lock file which process holds the lock. Nothing but the text of an error depends on that.
    pub(crate) fn note_holder(&self, layout: &Layout) {
        let _ = closing_note::write_holder(&*self.file, layout, self.process);
    }

    /// The lock file.
    pub(crate) fn file(&self) -> &dyn LockableFile {
        &*self.file
    }

    /// Whether this process took the lock, and not the parent that it was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == process::id()
    }

    /// Keeps the file open, as a copy in another process does.
    #[cfg(test)]
    pub(crate) fn keep_open(&self) -> Arc<dyn LockableFile> {
        Arc::clone(&self.file)
    }
}

impl Drop for DirectoryLock {
    /// Unlocks explicitly: closing the file unlocks it only once each process that was started meanwhile has closed
    /// its copy, of which there is one between fork and exec.
    fn drop(&mut self) {
        // A forked child shares the lock with its parent and must not release it.
        if self.is_ours() {
            // If this fails, closing the file unlocks it.
            let _ = self.file.unlock();
        }
    }
}
