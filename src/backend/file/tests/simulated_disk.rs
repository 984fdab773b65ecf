//! Owns a simulated disk, which distinguishes written from synced bytes and shows each state that a crash may leave.
//! Knows nothing of calls and their faults.
//!
//! After a crash each sector of 512 bytes has any of its versions since the last sync, and a file has any of its
//! lengths since then. A directory has any subset of the changes since its last sync. After a failed sync the page
//! cache contains bytes that are not on the disk, and no later sync writes them.

use std::collections::BTreeMap;

use fastrand::Rng;

const SECTOR: usize = 512;

/// A change of a file since its last sync.
#[derive(Debug, Clone)]
pub(crate) enum FileChange {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    /// Content as every process sees it.
    pub(crate) cached: Vec<u8>,
    /// Content at the last sync.
    synced: Vec<u8>,
    unsynced: Vec<FileChange>,
}

/// A change of a directory: names, and the inodes that they refer to from now on.
pub(crate) type DirectoryChange = Vec<(String, Option<usize>)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    /// Names and their inodes.
    pub(crate) cached: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    unsynced: Vec<DirectoryChange>,
}

impl Inode {
    /// A file of which all is on the disk.
    pub(crate) fn synced(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), synced: bytes, unsynced: Vec::new() }
    }

    pub(crate) fn has_new_len(&self) -> bool {
        self.cached.len() != self.synced.len()
    }

    pub(crate) fn change(&mut self, change: FileChange) {
        match &change {
            FileChange::Truncate { len } => self.cached.resize(*len, 0),
            FileChange::Write { at, bytes } => {
                let end = at + bytes.len();
                self.cached.resize(self.cached.len().max(end), 0);
                self.cached[*at..end].copy_from_slice(bytes);
            }
        }
        self.unsynced.push(change);
    }

    /// Writes all changes to the disk. After an earlier sync that failed, the result differs from the cached content.
    pub(crate) fn sync(&mut self) {
        let changes = self.unsynced.len();
        self.synced = self.version(self.len_after(changes), |_| changes);
        self.unsynced.clear();
    }

    /// Fails to sync: parts of the changes are on the disk, and the rest is regarded as clean and never written.
    pub(crate) fn lose_unsynced(&mut self, random: &mut Rng) {
        self.synced = self.after_crash(random);
        self.unsynced.clear();
    }

    /// A content that a crash may leave.
    pub(crate) fn after_crash(&self, random: &mut Rng) -> Vec<u8> {
        let changes = self.unsynced.len();
        let len = self.len_after(random.usize(..=changes));
        // In many crashes all sectors are old, or all are new.
        match random.u8(..4) {
            0 => self.version(len, |_| 0),
            1 => self.version(len, |_| changes),
            _ => self.version(len, |_| random.usize(..=changes)),
        }
    }

    fn len_after(&self, changes: usize) -> usize {
        self.unsynced[..changes].iter().fold(self.synced.len(), |len, change| match change {
            FileChange::Truncate { len } => *len,
            FileChange::Write { at, bytes } => len.max(at + bytes.len()),
        })
    }

    /// Content of this length, with each sector as it is after the number of changes that `changes_of` returns for it.
    fn version(&self, len: usize, mut changes_of: impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut version = self.synced.clone();
        version.resize(len, 0);
        for start in (0..len).step_by(SECTOR) {
            let sector = start..(start + SECTOR).min(len);
            for change in &self.unsynced[..changes_of(start)] {
                match change {
                    // If the file grows again, it reads as zeros there.
                    FileChange::Truncate { len } => {
                        version[sector.start.max(*len).min(sector.end)..sector.end].fill(0);
                    }
                    FileChange::Write { at, bytes } => {
                        let (from, to) = ((*at).max(sector.start), (at + bytes.len()).min(sector.end));
                        if from < to {
                            version[from..to].copy_from_slice(&bytes[from - at..to - at]);
                        }
                    }
                }
            }
        }
        version
    }
}

impl Directory {
    pub(crate) fn is_changed(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(crate) fn change(&mut self, change: DirectoryChange) {
        apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.synced = self.cached.clone();
        self.unsynced.clear();
    }

    /// A directory that a crash may leave.
    pub(crate) fn after_crash(&self, random: &mut Rng) -> Self {
        let mut names = self.synced.clone();
        for change in self.unsynced.iter().filter(|_| random.bool()) {
            apply(&mut names, change);
        }
        Self { cached: names.clone(), synced: names, unsynced: Vec::new() }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &DirectoryChange) {
    for (name, inode) in change {
        match inode {
            Some(inode) => drop(names.insert(name.clone(), *inode)),
            None => drop(names.remove(name)),
        }
    }
}
