//! Owns the names of the files in a store's directory, and how the directory is created and listed. Knows nothing
//! of the content of the files.

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::file::contents::Contents;
use crate::backend::file::fs::{Access, FileSystem, FileType, WritableFile};
use crate::error::{Error, Result};

/// Suffix of a file that is being written.
const UNFINISHED: &str = ".tmp";

/// The directory of a store.
///
/// INVARIANT: after the opening, all files are found through the handle on the directory to which `fs` is bound. A
/// path is only the name of a file below `dir`, and what an error shows.
#[derive(Clone)]
pub(crate) struct Layout {
    /// The absolute path that the directory had when it was opened.
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn FileSystem>,
    /// What the directory is opened as, which new files are marked with.
    pub(crate) contents: Contents,
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.fmt(f)
    }
}

/// The store's files in the directory; the lists of numbers are sorted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) snapshots: Vec<u64>,
    pub(crate) journals: Vec<u64>,
    /// Unfinished files.
    pub(crate) leftovers: Vec<PathBuf>,
}

impl Layout {
    /// Opens the directory, and creates it and its ancestors unless they exist.
    pub(crate) fn create(dir: &Path, fs: &dyn FileSystem, contents: Contents) -> Result<Self> {
        Self::create_and_note(dir, fs, contents, &mut Vec::new())
    }

    /// As [`Layout::create`], and adds each directory that it has created to `created`, also if it fails.
    pub(crate) fn create_and_note(
        dir: &Path,
        fs: &dyn FileSystem,
        contents: Contents,
        created: &mut Vec<PathBuf>,
    ) -> Result<Self> {
        let path = absolute(dir);
        let missing: Vec<&Path> =
            path.ancestors().take_while(|dir| fs.file_type(non_empty(dir)).is_err()).collect();
        for dir in missing.into_iter().rev() {
            let access = if dir == path { Access::Owner } else { Access::Default };
            match fs.create_dir(dir, access) {
                // Another process has just created it, or it is a dangling link, which cannot be opened.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                outcome => {
                    outcome.map_err(|error| failed("creating", &path, error))?;
                    created.push(dir.to_path_buf());
                }
            }
            let parent = non_empty(non_empty(dir).parent().unwrap_or(dir));
            fs.sync_dir(parent).map_err(|error| failed("syncing", parent, error))?;
        }
        Self::bind(path, fs, contents)
    }

    /// Opens the directory, which must exist.
    pub(crate) fn open_existing(dir: &Path, fs: &dyn FileSystem, contents: Contents) -> Result<Self> {
        Self::bind(absolute(dir), fs, contents)
    }

    fn bind(dir: PathBuf, fs: &dyn FileSystem, contents: Contents) -> Result<Self> {
        check_directory(&dir, fs)?;
        let fs = fs.bind(non_empty(&dir)).map_err(|error| failed("opening", &dir, error))?;
        Ok(Self { dir, fs, contents })
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    pub(crate) fn journal_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("journal-{number}.jsonl"))
    }

    pub(crate) fn snapshot_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{number}.jsonl"))
    }

    /// A snapshot has this path while it is written.
    pub(crate) fn unfinished_snapshot_path(&self, number: u64) -> PathBuf {
        unfinished_path(&self.snapshot_path(number))
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        self.fs.read_dir(&self.dir).map_err(|error| failed("listing", &self.dir, error))
    }

    /// Lists the store's files; other files are ignored.
    pub(crate) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for name in self.names()? {
            if let Some(number) = parse_number(&name, "journal-") {
                listing.journals.push(number);
            } else if let Some(number) = parse_number(&name, "snapshot-") {
                listing.snapshots.push(number);
            } else if is_unfinished(&name) {
                listing.leftovers.push(self.dir.join(name));
                continue;
            } else {
                continue;
            }
            self.check_regular_file(&self.dir.join(&name))?;
        }
        listing.journals.sort_unstable();
        listing.snapshots.sort_unstable();
        Ok(listing)
    }

    /// The snapshots and journals of a listing whose numbers are in a range.
    pub(crate) fn paths<'l>(
        &'l self,
        listing: &'l Listing,
        range: impl RangeBounds<u64> + 'l,
    ) -> impl Iterator<Item = PathBuf> + 'l {
        let snapshots = listing.snapshots.iter().map(|number| (number, self.snapshot_path(*number)));
        let journals = listing.journals.iter().map(|number| (number, self.journal_path(*number)));
        snapshots.chain(journals).filter(move |(number, _)| range.contains(number)).map(|(_, path)| path)
    }

    /// Fails unless the path is a regular file: opening a named pipe would block until another process writes to it.
    /// Links are followed; a dangling link passes, and fails when it is opened.
    pub(crate) fn check_regular_file(&self, path: &Path) -> Result<()> {
        match self.fs.file_type(path) {
            Ok(FileType::Directory | FileType::Other) => {
                let reason = io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file");
                Err(failed("opening", path, reason))
            }
            Ok(FileType::File) | Err(_) => Ok(()),
        }
    }

    /// Opens a file for writing.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn WritableFile>> {
        self.fs.open(path).map_err(|error| failed("opening", path, error))
    }

    /// Gives an unfinished file its finished name.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.fs.rename(from, to).map_err(|error| failed("renaming", from, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        self.fs.remove(path).map_err(|error| failed("deleting", path, error))
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_dir(&self.dir)
    }

    /// Makes the name of the directory durable. If this process may not read the parent, that is left to the creator
    /// of the directory.
    pub(crate) fn sync_parent(&self) -> Result<()> {
        match self.sync_dir(&self.dir.join("..")) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.fs.sync_dir(dir).map_err(|error| failed("syncing", dir, error))
    }
}

/// Fails unless the directory exists and is one.
fn check_directory(dir: &Path, fs: &dyn FileSystem) -> Result<()> {
    match fs.file_type(non_empty(dir)) {
        Ok(FileType::Directory) => Ok(()),
        Ok(FileType::File | FileType::Other) => {
            let reason = io::Error::new(io::ErrorKind::NotADirectory, "it is a file, not a directory");
            Err(failed("opening", dir, reason))
        }
        Err(error) => Err(failed("opening", dir, error)),
    }
}

/// Returns the path as it is seen from the root. If the working directory has no path, the path stays relative.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Returns the path, or `.` for the empty path.
fn non_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// A file has this path while it is written, and `path` afterwards.
pub(crate) fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

fn is_unfinished(name: &str) -> bool {
    let Some(name) = name.strip_suffix(UNFINISHED) else { return false };
    ["snapshot-", "journal-"].into_iter().any(|prefix| parse_number(name, prefix).is_some())
}

/// The number in a file's name. Only the spelling that [`Layout`] writes is valid.
fn parse_number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".jsonl")?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number < u64::MAX && number.to_string() == digits).then_some(number)
}

/// Turns an error of the operating system into one of this crate.
pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_path_buf();
    let is_full = matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    if is_full { Error::StorageFull { path, source } } else { Error::Io { action, path, source } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_the_exact_spelling_are_files_of_the_store() {
        assert_eq!(parse_number("journal-17.jsonl", "journal-"), Some(17));
        for name in
            ["journal-0.jsonl", "journal-017.jsonl", "journal-+1.jsonl", "journal-.jsonl", "journal-1"]
        {
            assert_eq!(parse_number(name, "journal-"), None, "{name}");
        }
    }
}
