//! Owns the calls of the File variant to a system without directory handles. Knows nothing of lines and of the
//! meaning of a file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::backend::file::fs::calls::{
    Access, FileSystem, FileType, LockableFile, ReadableFile, WritableFile,
};

/// The file system of the operating system.
#[derive(Default)]
pub(crate) struct PortableFileSystem;

impl FileSystem for PortableFileSystem {
    /// The paths of a store are absolute, and the system does not rename a directory while files in it are open.
    fn bind(&self, _dir: &Path) -> io::Result<Arc<dyn FileSystem>> {
        Ok(Arc::new(Self))
    }

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

    fn create_dir(&self, dir: &Path, _access: Access) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn contains(&self, outer: &Path, inner: &Path) -> io::Result<bool> {
        Ok(fs::canonicalize(inner)?.starts_with(fs::canonicalize(outer)?))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|item| Ok(item?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(OpenOptions::new().write(true).open(path)?))
    }

    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"));
        }
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

    /// The system does not sync directories.
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
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
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
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
        self.sync_data()
    }

    /// The system does not delete a file that is open.
    fn is_in_place(&self) -> bool {
        true
    }
}
