//! Owns what the File variant asks of the operating system, so that tests can let it fail or forget. Knows
//! nothing of lines and of which file means what.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// What lies under a name; a link counts as what it points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    File,
    Directory,
    Other,
}

/// A file that is read.
pub(crate) trait ReadableFile: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadableFile for R {}

/// The calls that change or read files.
pub(crate) trait FileSystem: Send + Sync {
    fn file_type(&self, path: &Path) -> io::Result<FileType>;

    /// Makes one directory in one that is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory that are text.
    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn len(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>>;

    /// Makes an empty file, in the place of one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Makes an empty file where there is none.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    /// Opens a file to change it.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Brings the names in a directory to the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file that is changed.
pub(crate) trait WritableFile: Send + Sync {
    /// Writes from a place on; tells how much of it.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file to this length.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Brings what was written to the disk.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`Disk::sync`], where the file was cut or became longer and nothing else of the file system is changed
    /// before somebody relies on that.
    ///
    /// A file system may say that all is well though it could not note where the new part lies: ext4 does if its own
    /// journal has failed in the course of another sync. It notices with its next change, such as a renaming, and
    /// says so from then on.
    fn sync_data_and_len(&self) -> io::Result<()>;

    /// Writes all the bytes: in one call where the system takes them.
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

/// What is written to where nothing is to be written.
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

/// The file system.
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
        // A change that changes nothing.
        match self.metadata().and_then(|found| self.set_modified(found.modified()?)) {
            // Only the owner of a file may set its times: the sync has to tell by itself.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            Ok(()) | Err(_) => self.sync_data(),
        }
    }
}
