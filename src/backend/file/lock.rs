//! Owns the lock on a store's directory. Knows nothing of what it protects.

use std::fs::{File, OpenOptions, TryLockError};

use crate::backend::file::layout::{Layout, failed};
use crate::error::{Error, Result};

/// Holds the directory until it is dropped.
///
/// INVARIANT: the file is never renamed or deleted. Whoever opened it by its name would otherwise lock
/// another file than whoever holds it.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: Option<File>,
    process: u32,
}

impl DirectoryLock {
    pub(crate) fn take(layout: &Layout) -> Result<Self> {
        let path = layout.lock();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("opening", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file: Some(file), process: std::process::id() }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: layout.dir.clone() }),
            Err(TryLockError::Error(error)) => Err(failed("locking", &path, error)),
        }
    }

    /// Whether it was taken by this process, and not by the parent that this one was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// What a process that is started gets of it.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> File {
        self.file.as_ref().unwrap().try_clone().unwrap()
    }

    /// For a directory that no other process can see.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { file: None, process: std::process::id() }
    }
}

impl Drop for DirectoryLock {
    /// Closing the file would let go of it too, but not before every process that was started meanwhile has
    /// closed its copy: between fork and exec there is one.
    fn drop(&mut self) {
        // What a fork has copied is one lock with the parent's.
        if self.is_ours() {
            // If it fails, closing the file is what remains.
            let _ = self.file.as_ref().map(File::unlock);
        }
    }
}
