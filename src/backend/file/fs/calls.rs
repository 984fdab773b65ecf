//! Owns which calls the File variant makes to the operating system, so that tests can make them fail or lose data.
//! Knows nothing of lines and of the meaning of a file.

use std::fs::TryLockError;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// What a path refers to; links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    File,
    Directory,
    Other,
}

/// Who may access a new directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner only.
    Owner,
    /// The default of the process, its umask.
    Default,
}

/// A file that is open for reading.
pub(crate) trait ReadableFile: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadableFile for R {}

/// The calls that change or read files.
pub(crate) trait FileSystem: Send + Sync {
    /// Returns the same file system, which finds all paths below `dir` through the directory that `dir` names now:
    /// neither a change of the working directory nor a rename of `dir` or of its parents redirects them.
    fn bind(&self, dir: &Path) -> io::Result<Arc<dyn FileSystem>>;

    fn file_type(&self, path: &Path) -> io::Result<FileType>;

    /// Creates a directory in an existing one.
    fn create_dir(&self, dir: &Path, access: Access) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns whether the directory `inner` is the directory `outer` or is below it, whatever links the paths contain.
    fn contains(&self, outer: &Path, inner: &Path) -> io::Result<bool>;

    /// The names in a directory. Bytes that are not valid UTF-8 are replaced, so such a name is never that of a file of
    /// the store.
    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn len(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>>;

    /// Creates an empty file, in place of a file or a link of that name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        match self.create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(path)?;
                self.create_new(path)
            }
            outcome => outcome,
        }
    }

    /// Creates an empty file that is accessible to its owner only; fails if the name is taken, also by a link.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens an existing file for writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens a file to lock it, and creates it unless it exists. Fails for a link.
    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>>;

    /// Copies a file to a new one, including its permissions, and syncs the copy.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Returns what the file system that contains a directory says of itself. Not every system tells.
    fn volume(&self, dir: &Path) -> io::Result<Volume> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    /// How many bytes this process may still write.
    pub(crate) free: u64,
    /// The name of a network file system.
    pub(crate) network: Option<&'static str>,
}

/// A file that processes lock against each other.
pub(crate) trait LockableFile: WritableFile {
    /// Locks the file if no other process has.
    fn try_lock(&self) -> Result<(), TryLockError>;

    fn unlock(&self) -> io::Result<()>;
}

/// A file that is open for writing.
pub(crate) trait WritableFile: Send + Sync {
    /// Writes at an offset, and returns how many of the bytes.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Makes the content durable.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`WritableFile::sync_data`], for a file whose length has changed, if nothing else in the file system is
    /// changed before a caller relies on the new length.
    ///
    /// A file system may report success though it could not store where the new part of the file is: ext4 does if its
    /// own journal failed during another sync. It notices at its next change, such as a rename, and reports errors
    /// from then on. So this makes such a change, and syncs again.
    fn sync_data_and_len(&self) -> io::Result<()>;

    /// Returns whether the file still has the name under which it was opened. If not, another program has deleted,
    /// renamed or replaced it, or deleted its directory, and the next opening will not find it.
    fn is_in_place(&self) -> bool;

    /// Writes all the bytes, in one call if the system accepts them.
    fn write_all_at(&self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(at, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The file of a store that is open read-only: every call fails.
pub(crate) struct ReadOnlyFile;

impl WritableFile for ReadOnlyFile {
    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_in_place(&self) -> bool {
        true
    }
}
