//! The calls of the File variant to the operating system: which there are, and how each system carries them out.

mod calls;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

pub(crate) use self::calls::{
    Access, FileSystem, FileType, LockableFile, ReadOnlyFile, ReadableFile, Volume, WritableFile,
};
#[cfg(not(unix))]
pub(crate) use self::portable::PortableFileSystem as OsFileSystem;
#[cfg(unix)]
pub(crate) use self::unix::UnixFileSystem as OsFileSystem;
