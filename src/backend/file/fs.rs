//! Owns the calls of the File variant to the operating system, so that tests can make them fail or lose data. Knows
//! nothing of lines and of the meaning of a file.

use std::fs::{self, File, OpenOptions, TryLockError};
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

/// A file that is open for reading.
pub(crate) trait ReadableFile: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadableFile for R {}

/// The calls that change or read files.
pub(crate) trait FileSystem: Send + Sync {
    fn file_type(&self, path: &Path) -> io::Result<FileType>;

    /// Creates a directory in an existing one.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory that are valid UTF-8.
    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn len(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>>;

    /// Creates an empty file, or truncates an existing one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Creates an empty file; fails if there is one.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens an existing file for writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens a file to lock it, and creates it unless it exists.
    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>>;

    /// Copies a file, including its permissions, and syncs the copy.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that processes lock against each other.
pub(crate) trait LockableFile: Send + Sync {
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
}

/// The file system of the operating system.
pub(crate) struct OsFileSystem;

impl FileSystem for OsFileSystem {
    fn file_type(&self, path: &Path) -> io::Result<FileType> {
        let found = fs::metadata(path)?.file_type();
        Ok(if found.is_file() {
            FileType::File
        } else if found.is_dir() {
            FileType::Directory
        } else {
            FileType::Other
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .filter_map(|item| item.map(|item| item.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).open(path)?))
    }

    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(options.open(path)?))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::copy(from, to)?;
        OpenOptions::new().write(true).open(to)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    }
}

impl LockableFile for File {
    fn try_lock(&self) -> Result<(), TryLockError> {
        self.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.unlock()
    }
}

impl WritableFile for File {
    #[cfg(unix)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, at)
    }

    #[cfg(not(unix))]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        use std::io::{Seek as _, Write as _};
        let mut file = self;
        file.seek(io::SeekFrom::Start(at))?;
        file.write(bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.sync_data()?;
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        // Sets the time of modification to its present value.
        match self.metadata().and_then(|metadata| self.set_modified(metadata.modified()?)) {
            // Only the owner of a file may set its times: then the second sync alone must do.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            Ok(()) | Err(_) => self.sync_data(),
        }
    }
}
