//! Owns the end of the journal: appends lines, cuts a torn one back, and goes on in a new file. Knows
//! nothing of the table and of who waits for a sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::file::format::line;
use crate::backend::file::format::line::{FileKind, LineStamp};
use crate::backend::file::fs::WritableFile;
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::local::change::Change;
use crate::config::SyncPolicy;
use crate::error::Result;
use crate::key::Key;

/// A line buffer larger than this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// How far a journal that is synced often is filled with zeros: to the next multiple. What is written over bytes
/// that are there leaves the file's length alone, and its sync has less to do.
const PREFILL: u64 = 128 * 1024;

/// Whether lines are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalState {
    Open,
    /// The store is closed, or closing.
    Closed,
    /// The files may be another process's.
    ReadOnly,
}

/// The writer. Whoever holds it, behind its lock, is the only one who changes the store.
pub(crate) struct Journal {
    pub(crate) number: u64,
    /// Where the next line begins.
    pub(crate) len: u64,
    /// Up to where the file reaches: from `len` on there is nothing but zeros.
    prefilled: u64,
    /// Whether it is filled ahead.
    prefills: bool,
    /// The place of the last line.
    pub(crate) sequence: u64,
    /// At which length the directory's size is looked at again.
    pub(crate) next_size_check: u64,
    pub(crate) state: JournalState,
    pub(crate) disk: Arc<dyn WritableFile>,
    pub(crate) path: PathBuf,
    line: Vec<u8>,
    /// The time that the last line with one has.
    time: u64,
}

impl Journal {
    pub(crate) fn new(
        path: PathBuf,
        disk: Arc<dyn WritableFile>,
        number: u64,
        len: u64,
        sequence: u64,
        sync: SyncPolicy,
    ) -> Self {
        Self {
            number,
            len,
            prefilled: len,
            prefills: prefills(sync),
            sequence,
            next_size_check: 0,
            state: JournalState::Open,
            disk,
            path,
            line: Vec::new(),
            time: 0,
        }
    }

    /// How long the file may be after the next line, with what is filled ahead.
    pub(crate) fn max_len_after_next(&self) -> u64 {
        if self.prefills { self.prefilled.max(self.len) + PREFILL } else { self.len }
    }

    /// Appends a commit as one line, and tells how long that is.
    pub(crate) fn commit(
        &mut self,
        changes: &[(Key<'_>, Change)],
        time: u64,
        durability: &Durability,
    ) -> Result<u64> {
        let before = self.len;
        self.append(time, durability, |line, mark| {
            line::commit(line, mark, changes.iter().map(|(key, change)| (&**key, change)));
        })?;
        Ok(self.len - before)
    }

    /// Appends the line that says from where on, and how, the store goes on.
    pub(crate) fn opened(&mut self, time: u64, sync: SyncPolicy, durability: &Durability) -> Result<()> {
        self.append(time, durability, |line, mark| line::opened(line, mark, sync))
    }

    /// Appends the last line, which is the end of the file.
    pub(crate) fn closed(&mut self, time: u64, durability: &Durability) -> Result<()> {
        self.prefills = false;
        // If it fails, they stay: they mean nothing.
        let _ = self.trim();
        self.append(time, durability, line::closed)
    }

    fn append(
        &mut self,
        time: u64,
        durability: &Durability,
        encode: impl FnOnce(&mut Vec<u8>, LineStamp),
    ) -> Result<()> {
        let sequence = self.sequence.saturating_add(1);
        self.line.clear();
        let said = if time == self.time { 0 } else { time };
        encode(&mut self.line, LineStamp { sequence, durable: durability.synced(), time: said });
        self.write(durability)?;
        self.len += self.line.len() as u64;
        self.sequence = sequence;
        self.time = time;
        if self.line.capacity() > KEPT_BUFFER {
            self.line = Vec::new();
        }
        durability.note_written(sequence);
        Ok(())
    }

    /// Writes the line to the end of the file.
    fn write(&mut self, durability: &Durability) -> Result<()> {
        let end = self.len + self.line.len() as u64;
        let grows = end > self.prefilled;
        let fills = self.prefills && grows;
        if fills {
            match self.prefill(end) {
                Ok(()) => {
                    durability.note_grown();
                    return Ok(());
                }
                // There may be room for the line alone.
                Err(_) => self.prefills = false,
            }
        }
        if let Err(error) = self.disk.write_all_at(self.len, &self.line) {
            // A part of the line may have been written: the next would merge with it.
            let cut = self.disk.truncate(self.len);
            // With zeros behind it the line may have been written as a whole. A power cut could bring it back.
            let cut = match cut {
                Ok(()) if fills => durability.exclusively(|| self.disk.sync_data_and_len()),
                cut => cut,
            };
            return Err(match cut {
                Ok(()) => {
                    self.prefilled = self.len;
                    failed("writing", &self.path, error)
                }
                Err(cut) => durability.poison("cutting back a torn line", &cut),
            });
        }
        self.prefilled = self.prefilled.max(end);
        if grows {
            durability.note_grown();
        }
        Ok(())
    }

    /// Writes the line, which ends at `end`, and zeros behind it.
    fn prefill(&mut self, end: u64) -> io::Result<()> {
        let text = self.line.len();
        let filled = end.next_multiple_of(PREFILL);
        let zeros = usize::try_from(filled - end).unwrap_or_default();
        self.line.resize(text + zeros, 0);
        let outcome = self.disk.write_all_at(self.len, &self.line);
        self.line.truncate(text);
        match outcome {
            Ok(()) => self.prefilled = filled,
            // If it fails, there are zeros, and the line is written over what there is of it.
            Err(_) => drop(self.disk.truncate(self.len)),
        }
        outcome
    }

    /// Takes off what was filled ahead.
    fn trim(&mut self) -> io::Result<()> {
        if self.prefilled > self.len {
            self.disk.truncate(self.len)?;
            self.prefilled = self.len;
        }
        Ok(())
    }

    /// Goes on in `next`, an empty file whose name is durable.
    ///
    /// INVARIANT: all of this file is on the disk before the first line of the next one, and the next
    /// one's header before any line behind it.
    pub(crate) fn rotate(
        &mut self,
        next: Arc<dyn WritableFile>,
        path: PathBuf,
        time: u64,
        sync: SyncPolicy,
        durability: &Durability,
    ) -> Result<()> {
        durability.wait(self.sequence)?;
        let number = self.number + 1;
        let len = write_header(&*next, &path, number, self.sequence, time, sync)?;
        durability.switch_file(Arc::clone(&next));
        if let Err(error) = self.trim() {
            log::debug!("the zeros at the end of {} stay: {error}", self.path.display());
        }
        (self.number, self.len, self.disk, self.path, self.next_size_check) = (number, len, next, path, 0);
        (self.prefilled, self.prefills, self.time) = (len, prefills(sync), time);
        Ok(())
    }
}

/// Whether a journal is filled ahead: where it is synced often.
fn prefills(sync: SyncPolicy) -> bool {
    match sync {
        SyncPolicy::Always | SyncPolicy::Every(_) => true,
        SyncPolicy::Never => false,
    }
}

/// Makes an empty journal and its name durable.
pub(crate) fn create(layout: &Layout, number: u64) -> Result<(Arc<dyn WritableFile>, PathBuf)> {
    let path = layout.journal(number);
    let disk = layout.fs.create_new(&path).map_err(|error| failed("creating", &path, error))?;
    match layout.sync() {
        Ok(()) => Ok((disk, path)),
        Err(error) => {
            // Nothing was lost: a file without a header is cleared away at the next opening too.
            let _ = layout.remove(&path);
            Err(error)
        }
    }
}

/// Writes the first line of a journal and brings it to the disk.
pub(crate) fn write_header(
    disk: &dyn WritableFile,
    path: &Path,
    number: u64,
    sequence: u64,
    time: u64,
    sync: SyncPolicy,
) -> Result<u64> {
    let mut line = Vec::new();
    line::header(&mut line, FileKind::Journal, number, LineStamp { sequence, durable: sequence, time }, sync);
    disk.write_all_at(0, &line)
        .and_then(|()| disk.sync_data_and_len())
        .map_err(|error| failed("writing", path, error))?;
    Ok(line.len() as u64)
}
