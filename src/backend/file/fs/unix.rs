//! Owns the calls of the File variant to a Unix system, which finds files through the handle of their directory.
//! Knows nothing of lines and of the meaning of a file.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::backend::file::fs::calls::{
    Access, FileSystem, FileType, LockableFile, ReadableFile, Volume, WritableFile,
};

/// The permissions of a new file: its owner may read and write it.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The file system of the operating system.
#[derive(Default)]
pub(crate) struct UnixFileSystem {
    bound: Option<Arc<BoundDir>>,
}

/// A directory that is found by its handle.
struct BoundDir {
    path: PathBuf,
    handle: OwnedFd,
}

impl BoundDir {
    /// The path as seen from the directory, if it is in it.
    fn relative<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.strip_prefix(&self.path).ok().map(non_empty)
    }
}

/// Returns the path, or `.` for the empty path.
fn non_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl UnixFileSystem {
    /// The directory at which the system begins to look for a path, and the path from there.
    fn locate<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        match &self.bound {
            Some(bound) => match bound.relative(path) {
                Some(relative) => (bound.handle.as_fd(), relative),
                None => (CWD, path),
            },
            None => (CWD, path),
        }
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (dir, path) = self.locate(path);
        let opened = retry_on_intr(|| rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, FILE_MODE))?;
        Ok(File::from(opened))
    }

    fn open_writable(&self, path: &Path, flags: OFlags) -> io::Result<UnixFile> {
        let file = self.open_at(path, flags)?;
        let located = self.bound.as_ref().and_then(|bound| Some((bound, bound.relative(path)?)));
        let place = match located {
            Some((dir, name)) => {
                let id = find_open(&file)?.id;
                Some(OpenedAt { dir: Arc::clone(dir), name: name.to_path_buf(), id })
            }
            None => None,
        };
        Ok(UnixFile { file, place })
    }
}

impl FileSystem for UnixFileSystem {
    fn bind(&self, dir: &Path) -> io::Result<Arc<dyn FileSystem>> {
        let handle = self.open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)?.into();
        Ok(Arc::new(Self { bound: Some(Arc::new(BoundDir { path: dir.to_path_buf(), handle })) }))
    }

    fn file_type(&self, path: &Path) -> io::Result<FileType> {
        let (dir, path) = self.locate(path);
        let found = rustix::fs::statat(dir, path, AtFlags::empty())?;
        let found = rustix::fs::FileType::from_raw_mode(found.st_mode);
        Ok(if found.is_file() {
            FileType::File
        } else if found.is_dir() {
            FileType::Directory
        } else {
            FileType::Other
        })
    }

    fn create_dir(&self, dir: &Path, access: Access) -> io::Result<()> {
        let mode = match access {
            Access::Owner => Mode::RWXU,
            Access::Default => Mode::RWXU | Mode::RWXG | Mode::RWXO,
        };
        let (parent, dir) = self.locate(dir);
        Ok(rustix::fs::mkdirat(parent, dir, mode)?)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let (parent, dir) = self.locate(dir);
        Ok(rustix::fs::unlinkat(parent, dir, AtFlags::REMOVEDIR)?)
    }

    fn contains(&self, outer: &Path, inner: &Path) -> io::Result<bool> {
        let (parent, outer) = self.locate(outer);
        let outer = find_named(parent, outer)?.id;
        for ancestor in std::fs::canonicalize(inner)?.ancestors() {
            if find_named(CWD, ancestor)?.id == outer {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        let handle = self.open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for item in Dir::new(handle)? {
            match &*item?.file_name().to_string_lossy() {
                "." | ".." => {}
                name => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let (dir, path) = self.locate(path);
        let found = rustix::fs::statat(dir, path, AtFlags::empty())?;
        Ok(u64::try_from(found.st_size).unwrap_or_default())
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        Ok(Box::new(self.open_at(path, OFlags::RDONLY)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(self.open_writable(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        Ok(Arc::new(self.open_writable(path, OFlags::WRONLY)?))
    }

    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>> {
        let refused = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        // Without `NONBLOCK`, opening a named pipe may block.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match self.open_writable(path, flags) {
            Ok(opened) if opened.file.metadata()?.is_file() => Ok(Arc::new(opened)),
            Ok(_) => refused("this is no regular file"),
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                refused("it is a symbolic link, which is not followed")
            }
            Err(error) => Err(error),
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut source = self.open_at(from, OFlags::RDONLY)?;
        let mut copy = self.open_at(to, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        io::copy(&mut source, &mut copy)?;
        copy.set_permissions(source.metadata()?.permissions())?;
        copy.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.locate(from), self.locate(to));
        Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (dir, path) = self.locate(path);
        Ok(rustix::fs::unlinkat(dir, path, AtFlags::empty())?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)?.sync_all()
    }

    fn volume(&self, dir: &Path) -> io::Result<Volume> {
        let dir = self.open_at(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let found = rustix::fs::fstatvfs(&dir)?;
        Ok(Volume { free: found.f_bavail.saturating_mul(found.f_frsize), network: network(&dir)? })
    }
}

/// Returns the name of the network file system that contains a file; `None` for a local one.
#[cfg(target_os = "linux")]
fn network(file: &File) -> io::Result<Option<&'static str>> {
    // The numbers are those of `statfs(2)`, and of `linux/magic.h`.
    const NAMES: [(u32, &str); 9] = [
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x0102_1997, "9P"),
        (0x5346_414F, "AFS"),
        (0x00C3_6400, "Ceph"),
        (0x0BD0_0BD0, "Lustre"),
        (0x0116_1970, "GFS2"),
    ];
    // The type has another width and sign on each architecture; the number has 32 bits.
    let kind = i128::from(rustix::fs::fstatfs(file)?.f_type) & i128::from(u32::MAX);
    Ok(NAMES.iter().find(|(number, _)| kind == i128::from(*number)).map(|(_, name)| *name))
}

#[cfg(not(target_os = "linux"))]
fn network(_file: &File) -> io::Result<Option<&'static str>> {
    Ok(None)
}

impl LockableFile for UnixFile {
    fn try_lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

/// A file that is open for writing.
struct UnixFile {
    file: File,
    /// The directory in which it was opened, and its name there.
    place: Option<OpenedAt>,
}

struct OpenedAt {
    dir: Arc<BoundDir>,
    name: PathBuf,
    /// The file that has this name, unless it was replaced or deleted.
    id: FileId,
}

impl WritableFile for UnixFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, at)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.sync_data()?;
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        // Sets the time of modification to its present value.
        match self.file.metadata().and_then(|metadata| self.file.set_modified(metadata.modified()?)) {
            // Only the owner of a file may set its times: then the second sync alone must do.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            Ok(()) | Err(_) => self.sync_data(),
        }
    }

    fn is_in_place(&self) -> bool {
        let has_name = |open: Result<FoundFile, Errno>| match open {
            Ok(open) => open.links > 0,
            // If nothing else is known, the next sync reports that the file cannot be reached.
            Err(error) => error != Errno::STALE,
        };
        let Some(OpenedAt { dir, name, id }) = &self.place else { return has_name(find_open(&self.file)) };
        match find_named(dir.handle.as_fd(), name) {
            Ok(named) => named.id == *id,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::LOOP) => false,
            // A process that may no longer look into the directory can still write to its open file.
            Err(_) => has_name(find_open(&self.file)),
        }
    }
}

/// The device and the inode of a file: no two files have the same. The types of these numbers differ between systems.
type FileId = (i128, i128);

struct FoundFile {
    id: FileId,
    /// How many names the file has.
    links: i128,
}

fn find_open(file: &File) -> Result<FoundFile, Errno> {
    #[cfg(target_os = "linux")]
    if let Some(found) = find_without_times(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)? {
        return Ok(found);
    }
    rustix::fs::fstat(file).map(|found| FoundFile::from_stat(&found))
}

fn find_named(dir: BorrowedFd<'_>, name: &Path) -> Result<FoundFile, Errno> {
    #[cfg(target_os = "linux")]
    if let Some(found) = find_without_times(dir, name, AtFlags::empty())? {
        return Ok(found);
    }
    rustix::fs::statat(dir, name, AtFlags::empty()).map(|found| FoundFile::from_stat(&found))
}

/// Looks for a file and does not ask for its times: since Linux 6.13, a file whose times were read gets more exact times
/// at its next write, and then each sync takes half as long again. `None` if the system lacks this call.
#[cfg(target_os = "linux")]
fn find_without_times(dir: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> Result<Option<FoundFile>, Errno> {
    use rustix::fs::{StatxFlags, makedev, statx};
    match statx(dir, path, flags, StatxFlags::INO | StatxFlags::NLINK) {
        Ok(found) => Ok(Some(FoundFile {
            id: (makedev(found.stx_dev_major, found.stx_dev_minor).into(), found.stx_ino.into()),
            links: found.stx_nlink.into(),
        })),
        // It is older than Linux 4.11, or a sandbox allows only older calls.
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

impl FoundFile {
    fn from_stat(found: &rustix::fs::Stat) -> Self {
        Self { id: (found.st_dev.into(), found.st_ino.into()), links: found.st_nlink.into() }
    }
}
