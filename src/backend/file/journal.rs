//! Owns the end of the journal: appends lines, cuts a torn one back, and goes on in a new file. Knows
//! nothing of the table and of who waits for a sync.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::layout::{Layout, failed};
use super::record::{self, FileKind, Mark};
use super::sync::Durability;
use crate::backend::local::change::Change;
use crate::config::SyncPolicy;
use crate::error::Result;
use crate::key::Key;

/// A line buffer larger than this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// The writer. Whoever holds it, behind its lock, is the only one who changes the store.
pub(super) struct Journal {
    pub(super) number: u64,
    pub(super) len: u64,
    /// The place of the last line.
    pub(super) sequence: u64,
    /// At which length the directory's size is looked at again.
    pub(super) next_look: u64,
    /// Whether the store is closed, or closing.
    pub(super) closed: bool,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    line: Vec<u8>,
    /// The time that the last line with one has.
    time: u64,
}

impl Journal {
    pub(super) fn new(path: PathBuf, disk: Arc<dyn Disk>, number: u64, len: u64, sequence: u64) -> Self {
        Self { number, len, sequence, next_look: 0, closed: false, disk, path, line: Vec::new(), time: 0 }
    }

    /// Appends a commit as one line, and tells how long that is.
    pub(super) fn commit(
        &mut self,
        changes: &[(Key<'_>, Change)],
        time: u64,
        durability: &Durability,
    ) -> Result<u64> {
        let before = self.len;
        self.append(time, durability, |line, mark| {
            record::commit(line, mark, changes.iter().map(|(key, change)| (&**key, change)));
        })?;
        Ok(self.len - before)
    }

    /// Appends the line that says from where on, and how, the store goes on.
    pub(super) fn opened(&mut self, time: u64, sync: SyncPolicy, durability: &Durability) -> Result<()> {
        self.append(time, durability, |line, mark| record::opened(line, mark, sync))
    }

    /// Appends the last line.
    pub(super) fn closed(&mut self, time: u64, durability: &Durability) -> Result<()> {
        self.append(time, durability, record::closed)
    }

    fn append(
        &mut self,
        time: u64,
        durability: &Durability,
        encode: impl FnOnce(&mut Vec<u8>, Mark),
    ) -> Result<()> {
        let sequence = self.sequence.saturating_add(1);
        self.line.clear();
        let said = if time == self.time { 0 } else { time };
        encode(&mut self.line, Mark { sequence, durable: durability.mark(), time: said });
        if let Err(error) = self.disk.append(&self.line) {
            // A part of the line may have been written: the next would merge with it.
            return Err(match self.disk.cut(self.len) {
                Ok(()) => failed("writing", &self.path, error),
                Err(cut) => durability.poison("cutting back a torn line", &cut),
            });
        }
        self.len += self.line.len() as u64;
        self.sequence = sequence;
        self.time = time;
        if self.line.capacity() > KEPT_BUFFER {
            self.line = Vec::new();
        }
        durability.wrote(sequence);
        Ok(())
    }

    /// Goes on in `next`, an empty file whose name is durable.
    ///
    /// INVARIANT: all of this file is on the disk before the first line of the next one, and the next
    /// one's header before any line behind it.
    pub(super) fn rotate(
        &mut self,
        next: File,
        path: PathBuf,
        time: u64,
        sync: SyncPolicy,
        durability: &Durability,
    ) -> Result<()> {
        durability.wait(self.sequence)?;
        let number = self.number + 1;
        let len = write_header(&next, &path, number, self.sequence, time, sync)?;
        let disk: Arc<dyn Disk> = Arc::new(next);
        durability.rotated(Arc::clone(&disk));
        (self.number, self.len, self.disk, self.path, self.next_look) = (number, len, disk, path, 0);
        self.time = time;
        Ok(())
    }
}

/// Opens a journal to append to it.
pub(super) fn open(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).open(path).map_err(|error| failed("opening", path, error))
}

/// Makes an empty journal and its name durable.
pub(super) fn create(layout: &Layout, number: u64) -> Result<(File, PathBuf)> {
    let path = layout.journal(number);
    let file = OpenOptions::new().append(true).create_new(true).open(&path);
    let file = file.map_err(|error| failed("creating", &path, error))?;
    match layout.sync() {
        Ok(()) => Ok((file, path)),
        Err(error) => {
            // Nothing was lost: a file without a header is cleared away at the next opening too.
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Writes the first line of a journal and brings it to the disk.
pub(super) fn write_header(
    file: &File,
    path: &Path,
    number: u64,
    sequence: u64,
    time: u64,
    sync: SyncPolicy,
) -> Result<u64> {
    let mut line = Vec::new();
    record::header(&mut line, FileKind::Journal, number, Mark { sequence, durable: sequence, time }, sync);
    file.append(&line).and_then(|()| file.sync()).map_err(|error| failed("writing", path, error))?;
    Ok(line.len() as u64)
}
