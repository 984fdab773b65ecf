//! Owns the lock on a store's directory. Knows nothing of what it protects.

use std::fs::{File, OpenOptions, TryLockError};

use super::layout::{Layout, failed};
use crate::error::{Error, Result};

/// Holds the directory until it is dropped.
///
/// INVARIANT: the file is never renamed or deleted. Whoever opened it by its name would otherwise lock
/// another file than whoever holds it.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    pub(super) fn take(layout: &Layout) -> Result<Self> {
        let path = layout.lock();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("opening", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: layout.dir.clone() }),
            Err(TryLockError::Error(error)) => Err(failed("locking", &path, error)),
        }
    }

    /// What a process that is started gets of it.
    #[cfg(test)]
    pub(super) fn copy(&self) -> File {
        self.file.try_clone().unwrap()
    }
}

impl Drop for DirectoryLock {
    /// Closing the file would let go of it too, but not before every process that was started meanwhile has
    /// closed its copy: between fork and exec there is one.
    fn drop(&mut self) {
        // If it fails, closing the file is what remains.
        let _ = self.file.unlock();
    }
}
