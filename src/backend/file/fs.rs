//! Owns what the File variant asks of the operating system, so that tests can let it fail or forget. Knows
//! nothing of lines and of which file means what.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// What lies under a name; a link counts as what it points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Other,
}

/// A file that is read.
pub(crate) trait Reader: Read + Seek + Send {}

impl<R: Read + Seek + Send> Reader for R {}

/// The calls that change or read files.
pub(crate) trait Storage: Send + Sync {
    fn kind(&self, path: &Path) -> io::Result<Kind>;

    /// Makes one directory in one that is there.
    fn make_directory(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory that are text.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn len(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Box<dyn Reader>>;

    /// Makes an empty file, in the place of one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Makes an empty file where there is none.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Opens a file to change it.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Brings the names in a directory to the disk.
    fn sync_directory(&self, dir: &Path) -> io::Result<()>;
}

/// An open file that is changed.
pub(crate) trait Disk: Send + Sync {
    /// Writes from a place on; tells how much of it.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file to this length.
    fn cut(&self, len: u64) -> io::Result<()>;

    /// Brings what was written to the disk.
    fn sync(&self) -> io::Result<()>;

    /// As [`Disk::sync`], where the file was cut or became longer and nothing else of the file system is changed
    /// before somebody relies on that.
    ///
    /// A file system may say that all is well though it could not note where the new part lies: ext4 does if its own
    /// journal has failed in the course of another sync. It notices with its next change, such as a renaming, and
    /// says so from then on.
    fn sync_length(&self) -> io::Result<()>;

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
pub(crate) struct NoDisk;

impl Disk for NoDisk {
    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn cut(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_length(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The file system.
pub(crate) struct FileSystem;

impl Storage for FileSystem {
    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let found = fs::metadata(path)?.file_type();
        Ok(if found.is_file() {
            Kind::File
        } else if found.is_dir() {
            Kind::Directory
        } else {
            Kind::Other
        })
    }

    fn make_directory(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .filter_map(|item| item.map(|item| item.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Reader>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, dir: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    }
}

impl Disk for File {
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

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_length(&self) -> io::Result<()> {
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
