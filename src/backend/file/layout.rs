//! Owns the names of the files in a store's directory, and how the directory is made and listed. Knows
//! nothing of what is in the files.

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::file::fs::{FileSystem, FileType, WritableFile};
use crate::error::{Error, Result};

const TEMPORARY: &str = ".tmp";

/// The directory of a store.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn FileSystem>,
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.fmt(f)
    }
}

/// What of ours lies in the directory; each list is sorted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) snapshots: Vec<u64>,
    pub(crate) journals: Vec<u64>,
    pub(crate) leftovers: Vec<PathBuf>,
}

impl Layout {
    /// Makes the directory where it is missing, and what it lies in.
    pub(crate) fn create(dir: &Path, storage: Arc<dyn FileSystem>) -> Result<Self> {
        let layout = Self { dir: dir.to_path_buf(), fs: storage };
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|dir| layout.fs.file_type(above(dir)).is_err()).collect();
        for dir in missing.into_iter().rev() {
            match layout.fs.create_dir(dir) {
                // Somebody else has made it just now, or it is a link to nowhere, which is told below.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(|error| failed("creating", &layout.dir, error))?,
            }
            layout.sync_dir(above(above(dir).parent().unwrap_or(dir)))?;
        }
        layout.check_directory()?;
        Ok(layout)
    }

    /// Refuses what is there and no directory.
    pub(crate) fn check_directory(&self) -> Result<()> {
        match self.fs.file_type(above(&self.dir)) {
            Ok(FileType::Directory) => Ok(()),
            Ok(FileType::File | FileType::Other) => {
                let reason = io::Error::new(io::ErrorKind::NotADirectory, "it is a file, not a directory");
                Err(failed("opening", &self.dir, reason))
            }
            Err(error) => Err(failed("opening", &self.dir, error)),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    pub(crate) fn journal(&self, number: u64) -> PathBuf {
        self.dir.join(format!("journal-{number}.jsonl"))
    }

    pub(crate) fn snapshot(&self, number: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{number}.jsonl"))
    }

    /// Where a snapshot is written before it is whole.
    pub(crate) fn unfinished_snapshot(&self, number: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{number}.jsonl{TEMPORARY}"))
    }

    /// Lists what is ours; everything else is passed over.
    pub(crate) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let opening = |error| failed("listing", &self.dir, error);
        for name in self.fs.read_dir(&self.dir).map_err(opening)? {
            if let Some(number) = number(&name, "journal-") {
                listing.journals.push(number);
            } else if let Some(number) = number(&name, "snapshot-") {
                listing.snapshots.push(number);
            } else if name.strip_suffix(TEMPORARY).is_some_and(|name| number(name, "snapshot-").is_some()) {
                listing.leftovers.push(self.dir.join(name));
                continue;
            } else {
                continue;
            }
            self.refuse_other_than_file(&self.dir.join(&name))?;
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
        let snapshots = listing.snapshots.iter().map(|number| (number, self.snapshot(*number)));
        let journals = listing.journals.iter().map(|number| (number, self.journal(*number)));
        snapshots.chain(journals).filter(move |(number, _)| range.contains(number)).map(|(_, path)| path)
    }

    /// Refuses what is no file: whoever opens a named pipe waits until somebody writes to it. A link counts as
    /// what it points to, and where that is nothing, opening it will tell.
    fn refuse_other_than_file(&self, path: &Path) -> Result<()> {
        match self.fs.file_type(path) {
            Ok(FileType::Directory | FileType::Other) => {
                let reason = io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file");
                Err(failed("opening", path, reason))
            }
            Ok(FileType::File) | Err(_) => Ok(()),
        }
    }

    /// Opens a file to change it.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn WritableFile>> {
        self.fs.open(path).map_err(|error| failed("opening", path, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        self.fs.remove(path).map_err(|error| failed("deleting", path, error))
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_dir(&self.dir)
    }

    /// Makes the name of the directory durable; where its parent may not be read, that is up to whoever
    /// made it.
    pub(crate) fn sync_parent(&self) -> Result<()> {
        let parent = self.dir.parent().map_or(Path::new("."), above);
        match self.sync_dir(parent) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.fs.sync_dir(dir).map_err(|error| failed("syncing", dir, error))
    }
}

/// The empty path is where we are.
fn above(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The number in the name of one of our files; a number has one spelling.
fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".jsonl")?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number < u64::MAX && number.to_string() == digits).then_some(number)
}

/// Sorts what the operating system said.
pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::StorageFull { path, source }
        }
        _ => Error::Io { action, path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_would_write_are_ours() {
        assert_eq!(number("journal-17.jsonl", "journal-"), Some(17));
        for name in
            ["journal-0.jsonl", "journal-017.jsonl", "journal-+1.jsonl", "journal-.jsonl", "journal-1"]
        {
            assert_eq!(number(name, "journal-"), None, "{name}");
        }
    }
}
