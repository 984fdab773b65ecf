//! Owns the directory that a backup is written to: how it is made, and how it is undone if the backup fails. Knows
//! nothing of what is written there.

use std::io;
use std::path::{Path, PathBuf};

use crate::backend::file::closing_note;
use crate::backend::file::fs::FileSystem;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::file::lock::DirectoryLock;
use crate::error::{Error, Result};

const LOCK: &str = "LOCK";
const NOT_EMPTY: &str = "the directory is not empty";

/// A directory in which there is nothing but the files of a backup. It is locked, so that nobody opens a part of one.
///
/// INVARIANT: unless [`BackupTarget::finish`] succeeds, all of it is deleted when this is dropped, also by a panic.
pub(crate) struct BackupTarget<'f> {
    pub(crate) layout: Layout,
    /// `None` once the directory is whole.
    lock: Option<DirectoryLock>,
    created: CreatedDirectories<'f>,
}

impl<'f> BackupTarget<'f> {
    /// Creates the directory unless it exists and is empty.
    ///
    /// The lock file says that the journal reaches to the line `sequence`, at the time `time`. So an opening refuses
    /// every part of the backup that a crash may leave.
    pub(crate) fn create(
        dir: &Path,
        fs: &'f dyn FileSystem,
        source: &Layout,
        (sequence, time): (u64, u64),
    ) -> Result<Self> {
        let mut created = CreatedDirectories { fs, dirs: Vec::new() };
        let layout = Layout::create_and_note(dir, fs, source.contents, &mut created.dirs)?;
        let refuse = |kind, reason| Err(failed("backing up to", &layout.dir, io::Error::new(kind, reason)));
        let is_inside = source.fs.contains(&source.dir, &layout.dir);
        if is_inside.map_err(|error| failed("opening", &layout.dir, error))? {
            return refuse(io::ErrorKind::InvalidInput, "it is the directory of the store, or is in it");
        }
        if !layout.names()?.is_empty() {
            return refuse(io::ErrorKind::DirectoryNotEmpty, NOT_EMPTY);
        }
        let lock = match DirectoryLock::take(&layout) {
            Err(error @ Error::Locked { .. }) => return Err(error),
            // If no file can be locked here, no other process has a lock on this one.
            outcome => outcome.inspect_err(|_| drop(layout.remove(&layout.lock_path())))?,
        };
        // Another process may have opened and closed a store here since the directory was found empty.
        let is_ours = layout.names().map(|names| names == [LOCK]);
        if matches!(is_ours, Ok(false)) {
            return refuse(io::ErrorKind::DirectoryNotEmpty, NOT_EMPTY);
        }
        let target = Self { layout, lock: Some(lock), created };
        is_ours?;
        target.note_end(sequence, time)?;
        Ok(target)
    }

    /// INVARIANT: the note is durable before any other file exists.
    fn note_end(&self, sequence: u64, time: u64) -> Result<()> {
        if let Some(lock) = &self.lock {
            closing_note::write(lock.file(), sequence, time)
                .map_err(|error| failed("writing", &self.layout.lock_path(), error))?;
        }
        self.layout.sync()
    }

    fn remove_files(&self) -> Result<()> {
        let listing = self.layout.list()?;
        let mut files = self.layout.paths(&listing, ..).chain(listing.leftovers.iter().cloned());
        files.try_for_each(|path| self.layout.remove(&path))?;
        self.layout.sync()
    }

    /// Keeps the directory, once its names are durable, and unlocks it.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.layout.sync()?;
        self.layout.sync_parent()?;
        if let Some(lock) = &self.lock {
            // A false success of the syncs of names shows here.
            let path = self.layout.lock_path();
            lock.file().sync_data_and_len().map_err(|error| failed("syncing", &path, error))?;
        }
        self.created.dirs.clear();
        self.lock = None;
        Ok(())
    }
}

impl Drop for BackupTarget<'_> {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        // INVARIANT: the note goes last, once the other files are surely gone. If they cannot be deleted, it stays, so
        // that they do not open.
        if self.remove_files().is_ok() {
            let _ = self.layout.remove(&self.layout.lock_path());
        }
        // The directory is deleted after this, and on Windows that needs a lock file which is not open.
        drop(lock);
    }
}

/// Directories that were created for a backup; the outermost comes first. They are deleted when this is dropped.
struct CreatedDirectories<'f> {
    fs: &'f dyn FileSystem,
    dirs: Vec<PathBuf>,
}

impl Drop for CreatedDirectories<'_> {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            // Another process may use it by now.
            let _ = self.fs.remove_dir(dir);
        }
    }
}
