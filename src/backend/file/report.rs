//! Owns what is told of opening and repairing a directory of files. Knows nothing of how either is done.

use std::path::PathBuf;

/// How far the opening of a File store is: see
/// [`FileStore::open_with_progress`](crate::FileStore::open_with_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many bytes of the files have been read.
    pub read: u64,
    /// How many there are.
    pub total: u64,
}

/// What [`FileStore::repair`](crate::FileStore::repair) found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// Where the files lie as they were; `None` where nothing was damaged, and nothing was changed.
    pub copy: Option<PathBuf>,
    /// How many entries the store holds now, expired ones left out.
    pub entries: u64,
    /// What could not be read, in the order of the files.
    pub lost: Vec<Loss>,
    /// The keys, with their namespaces, of maps and queues of which parts are known to be missing.
    pub incomplete: Vec<String>,
}

/// A damaged place in a file of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The file, as it was called before the repair.
    pub path: PathBuf,
    /// The line, counted from one.
    pub line: u64,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes could not be read; 0 where something is missing there.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}
