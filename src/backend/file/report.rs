//! Owns the public reports of opening and repairing a directory of files. Knows nothing of how either is done.

use std::path::PathBuf;

/// Progress of the opening of a File store; see [`OpenOptions::progress`](crate::OpenOptions::progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the files that have been read.
    pub read: u64,
    /// Bytes in all files that are read.
    pub total: u64,
}

/// Outcome of [`FileStore::repair`](crate::FileStore::repair).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// Directory with copies of the damaged files; `None` if nothing was damaged, in which case nothing was changed.
    pub backup: Option<PathBuf>,
    /// Number of entries that the store contains now, without expired ones.
    pub entries: u64,
    /// Damaged places, in the order of the files.
    pub lost: Vec<DamagedRegion>,
    /// Keys, including their namespaces, of maps and queues of which parts are known to be missing.
    pub incomplete: Vec<String>,
}

/// A damaged place in a file of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedRegion {
    /// Path of the file before the repair.
    pub path: PathBuf,
    /// Number of the line in the file, counted from one.
    pub line: u64,
    /// Offset of the place, in bytes from the start of the file.
    pub offset: u64,
    /// Number of bytes that could not be read; 0 if something is missing at this place.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}
