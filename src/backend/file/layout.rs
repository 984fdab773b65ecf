//! Owns the names of the files in a store's directory, and how the directory is made and listed. Knows
//! nothing of what is in the files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const TEMPORARY: &str = ".tmp";

/// The directory of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
}

/// What of ours lies in the directory; each list is sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) snapshots: Vec<u64>,
    pub(super) journals: Vec<u64>,
    pub(super) leftovers: Vec<PathBuf>,
}

impl Layout {
    /// Makes the directory where it is missing, and what it lies in.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !above(dir).exists()).collect();
        fs::create_dir_all(dir).map_err(|error| match dir.is_file() {
            true => failed(
                "opening",
                dir,
                io::Error::new(io::ErrorKind::NotADirectory, "it is a file, not a directory"),
            ),
            false => failed("creating", dir, error),
        })?;
        for made in missing {
            sync_directory(above(above(made).parent().unwrap_or(made)))?;
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    pub(super) fn journal(&self, number: u64) -> PathBuf {
        self.dir.join(format!("journal-{number}.jsonl"))
    }

    pub(super) fn snapshot(&self, number: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{number}.jsonl"))
    }

    /// Where a snapshot is written before it is whole.
    pub(super) fn unfinished(&self, number: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{number}.jsonl{TEMPORARY}"))
    }

    /// Lists what is ours; everything else is passed over.
    pub(super) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let opening = |error| failed("listing", &self.dir, error);
        for item in fs::read_dir(&self.dir).map_err(opening)? {
            let item = item.map_err(opening)?;
            let name = item.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = number(name, "journal-") {
                listing.journals.push(number);
            } else if let Some(number) = number(name, "snapshot-") {
                listing.snapshots.push(number);
            } else if name.strip_suffix(TEMPORARY).is_some_and(|name| number(name, "snapshot-").is_some()) {
                listing.leftovers.push(self.dir.join(name));
                continue;
            } else {
                continue;
            }
            refuse_other_than_file(&item)?;
        }
        listing.journals.sort_unstable();
        listing.snapshots.sort_unstable();
        Ok(listing)
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> Result<()> {
        sync_directory(&self.dir)
    }

    /// Makes the name of the directory durable; where its parent may not be read, that is up to whoever
    /// made it.
    pub(super) fn sync_parent(&self) -> Result<()> {
        let parent = self.dir.parent().map_or(Path::new("."), above);
        match sync_directory(parent) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }
}

/// The empty path is where we are.
fn above(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn sync_directory(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", dir, error))?;
    }
    Ok(())
}

/// Refuses what is no file: whoever opens a named pipe waits until somebody writes to it. A link counts as
/// what it points to, and where that is nothing, opening it will tell.
fn refuse_other_than_file(item: &fs::DirEntry) -> Result<()> {
    let path = item.path();
    match fs::metadata(&path) {
        Ok(found) if !found.is_file() => {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file");
            Err(failed("opening", &path, reason))
        }
        _ => Ok(()),
    }
}

/// The number in the name of one of our files; a number has one spelling.
fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".jsonl")?;
    let number: u64 = digits.parse().ok()?;
    (number > 0 && number < u64::MAX && number.to_string() == digits).then_some(number)
}

/// Sorts what the operating system said.
pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
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
