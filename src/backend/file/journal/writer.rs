//! Owns the end of the journal: appends lines, truncates a torn line, and continues in a new file. Knows nothing of
//! the table, and of the threads that wait for a sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::file::contents::Contents;
use crate::backend::file::format::line;
use crate::backend::file::format::line::FileKind;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::WritableFile;
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::local::change::Change;
use crate::config::SyncPolicy;
use crate::error::Result;
use crate::key::Key;
use crate::stats::counter::Counter;
use crate::stats::recorder::Recorder;
use crate::util::log_later::log_later;

/// A line buffer of a larger capacity is freed after its line.
const MAX_KEPT_BUFFER: usize = 1 << 20;

/// A journal that is synced often is filled with zeros up to the next multiple of this. Writing over existing bytes
/// does not change the file's length, so that a sync has less to do.
const PREFILL: u64 = 128 * 1024;

/// How often a store that is not synced after each line checks that its journal is still in its place.
const PLACE_INTERVAL: Duration = Duration::from_secs(1);

/// Whether lines may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalState {
    Open,
    /// The store is closed, or closing.
    Closed,
    /// The files may belong to another process.
    ReadOnly,
}

/// The writer of the journal. The thread that holds its lock is the only one that changes the store.
pub(crate) struct Journal {
    pub(crate) number: u64,
    /// Offset of the next line.
    pub(crate) len: u64,
    /// Length of the file: behind `len` it contains only zeros.
    prefilled: u64,
    /// Whether the file is filled ahead with zeros.
    prefills: bool,
    /// Sequence of the last line.
    pub(crate) sequence: u64,
    /// Length at which the directory's size is checked again.
    pub(crate) next_size_check: u64,
    pub(crate) state: JournalState,
    pub(crate) disk: Arc<dyn WritableFile>,
    pub(crate) path: PathBuf,
    line: Vec<u8>,
    /// Time in the last line that has one.
    time: u64,
    contents: Contents,
    /// When the journal was last seen to be in its place.
    seen_in_place: Instant,
}

/// Where a journal continues.
pub(crate) struct JournalEnd {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn WritableFile>,
    pub(crate) number: u64,
    pub(crate) len: u64,
    pub(crate) sequence: u64,
    pub(crate) contents: Contents,
}

impl Journal {
    /// Continues a journal that is synced up to its end. Returns its writer, and its durability.
    pub(crate) fn resume(
        end: JournalEnd,
        dir: PathBuf,
        sync: SyncPolicy,
        recorder: Arc<Recorder>,
    ) -> (Self, Durability) {
        let JournalEnd { path, disk, number, len, sequence, contents } = end;
        let durability = Durability::new(dir, Arc::clone(&disk), sequence, recorder);
        let journal = Self {
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
            contents,
            seen_in_place: Instant::now(),
        };
        (journal, durability)
    }

    /// Estimate of the length of the file after the next line, including the zeros filled ahead.
    pub(crate) fn max_len_after_next(&self) -> u64 {
        if self.prefills { self.prefilled.max(self.len) + PREFILL } else { self.len }
    }

    /// Fails if the journal is no longer in its place; looks at intervals.
    pub(crate) fn check_in_place(&mut self, durability: &Durability) -> Result<()> {
        if self.seen_in_place.elapsed() < PLACE_INTERVAL {
            return Ok(());
        }
        durability.check_in_place()?;
        self.seen_in_place = Instant::now();
        Ok(())
    }

    /// Appends a commit as one line, and returns the line's length.
    pub(crate) fn append_commit(
        &mut self,
        changes: &[(Key<'_>, Change)],
        time: u64,
        durability: &Durability,
    ) -> Result<u64> {
        let before = self.len;
        self.append_line(time, durability, |line, stamp| {
            line::encode_commit(line, stamp, changes.iter().map(|(key, change)| (&**key, change)));
        })?;
        Ok(self.len - before)
    }

    /// Appends the line that records an opening and the sync policy of the lines behind it.
    pub(crate) fn append_opening(
        &mut self,
        time: u64,
        sync: SyncPolicy,
        durability: &Durability,
    ) -> Result<()> {
        self.append_line(time, durability, |line, stamp| line::encode_opened(line, stamp, sync))
    }

    /// Appends the last line.
    pub(crate) fn append_closing(&mut self, time: u64, durability: &Durability) -> Result<()> {
        self.prefills = false;
        // If this fails, the zeros stay, which recovery ignores.
        let _ = self.trim();
        self.append_line(time, durability, line::encode_closed)
    }

    fn append_line(
        &mut self,
        time: u64,
        durability: &Durability,
        encode: impl FnOnce(&mut Vec<u8>, LineStamp),
    ) -> Result<()> {
        let sequence = self.sequence.saturating_add(1);
        self.line.clear();
        let new_time = if time == self.time { 0 } else { time };
        encode(&mut self.line, LineStamp { sequence, synced: durability.synced(), time: new_time });
        self.write_line(durability)?;
        self.len += self.line.len() as u64;
        durability.recorder().add(Counter::BytesWritten, self.line.len() as u64);
        self.sequence = sequence;
        self.time = time;
        if self.line.capacity() > MAX_KEPT_BUFFER {
            self.line = Vec::new();
        }
        durability.note_written(sequence);
        Ok(())
    }

    /// Writes the line to the end of the file.
    fn write_line(&mut self, durability: &Durability) -> Result<()> {
        let end = self.len + self.line.len() as u64;
        let grows = end > self.prefilled;
        let fills = self.prefills && grows;
        if fills {
            match self.prefill(end) {
                Ok(()) => {
                    durability.note_grown();
                    return Ok(());
                }
                // There may be room for the line without zeros.
                Err(_) => self.prefills = false,
            }
        }
        if let Err(error) = self.disk.write_all_at(self.len, &self.line) {
            // INVARIANT: a partial line must not stay, or the next line would merge with it.
            let mut truncated = self.disk.truncate(self.len);
            if fills && truncated.is_ok() {
                // The failed write with zeros may have contained the entire line, which a power cut could bring back.
                truncated = durability.exclusively(|| self.disk.sync_data_and_len());
            }
            return Err(match truncated {
                Ok(()) => {
                    self.prefilled = self.len;
                    failed("writing", &self.path, error)
                }
                Err(cause) => durability.poison("truncating a torn line", &cause),
            });
        }
        self.prefilled = self.prefilled.max(end);
        if grows {
            durability.note_grown();
        }
        Ok(())
    }

    /// Writes the line, which ends at `end`, and zeros behind it, in one call.
    fn prefill(&mut self, end: u64) -> io::Result<()> {
        let line_len = self.line.len();
        let filled = end.next_multiple_of(PREFILL);
        let zeros = usize::try_from(filled - end).unwrap_or_default();
        self.line.resize(line_len + zeros, 0);
        let outcome = self.disk.write_all_at(self.len, &self.line);
        self.line.truncate(line_len);
        match outcome {
            Ok(()) => self.prefilled = filled,
            // If truncating fails too, the write of the line alone overwrites the partial line.
            Err(_) => drop(self.disk.truncate(self.len)),
        }
        outcome
    }

    /// Removes the zeros that were filled ahead.
    fn trim(&mut self) -> io::Result<()> {
        if self.prefilled > self.len {
            self.disk.truncate(self.len)?;
            self.prefilled = self.len;
        }
        Ok(())
    }

    /// Continues in `next`, an empty file whose name is durable.
    ///
    /// INVARIANT: the old file is synced before the header of the new one is written, and the header before any line
    /// behind it.
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
        let stamp = LineStamp { sequence: self.sequence, synced: self.sequence, time };
        let len = write_header(&*next, &path, self.contents, (number, stamp), sync)?;
        durability.switch_file(Arc::clone(&next));
        if let Err(error) = self.trim() {
            log_later!(Debug, "the zeros at the end of {} stay: {error}", self.path.display());
        }
        (self.number, self.len, self.disk, self.path, self.next_size_check) = (number, len, next, path, 0);
        (self.prefilled, self.prefills, self.time) = (len, prefills(sync), time);
        Ok(())
    }
}

/// Whether a journal is filled ahead with zeros, which pays off if it is synced often.
fn prefills(sync: SyncPolicy) -> bool {
    match sync {
        SyncPolicy::Always | SyncPolicy::Every(_) => true,
        SyncPolicy::Never => false,
    }
}

/// Creates an empty journal with a durable name.
pub(crate) fn create_journal(layout: &Layout, number: u64) -> Result<(Arc<dyn WritableFile>, PathBuf)> {
    let path = layout.journal_path(number);
    let disk = layout.fs.create_new(&path).map_err(|error| failed("creating", &path, error))?;
    match layout.sync() {
        Ok(()) => Ok((disk, path)),
        Err(error) => {
            // If the file stays, the next opening deletes it, because it has no header.
            let _ = layout.remove(&path);
            Err(error)
        }
    }
}

/// Writes and syncs the first line of a journal, and returns the line's length.
pub(crate) fn write_header(
    disk: &dyn WritableFile,
    path: &Path,
    contents: Contents,
    (number, stamp): (u64, LineStamp),
    sync: SyncPolicy,
) -> Result<u64> {
    let mut line = Vec::new();
    line::encode_header(&mut line, (FileKind::Journal, contents), number, stamp, sync);
    disk.write_all_at(0, &line)
        .and_then(|()| disk.sync_data_and_len())
        .map_err(|error| failed("writing", path, error))?;
    Ok(line.len() as u64)
}
