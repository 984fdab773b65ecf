//! Owns how a damaged directory is replaced by one that opens, with everything that is valid in its files. What is
//! damage is decided by recovery.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use smol_str::SmolStr;

use crate::backend::file::clock::MonotonicClock;
use crate::backend::file::closing_note;
use crate::backend::file::contents::Contents;
use crate::backend::file::format::line::{FileKind, Line, LineFault};
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::{Access, OsFileSystem};
use crate::backend::file::layout::{Layout, Listing, failed};
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::{LinePosition, LineReader, START};
use crate::backend::file::recovery;
use crate::backend::file::recovery::contents_of;
use crate::backend::file::report::{DamagedRegion, Repair};
use crate::backend::file::snapshot;
use crate::backend::file::store::File;
use crate::backend::file::table_files;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::queue::QueueValue;
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::backend::local::table::shards::Table;
use crate::clock::{ManualClock, Now};
use crate::error::{Error, Result};
use crate::store_clock::StoreClock;
use crate::util::log_later::log_later;

impl File {
    /// Repairs the store in `dir` if it is damaged, or a damaged replay queue.
    pub(crate) fn repair(dir: &Path) -> Result<Repair> {
        Self::repair_in(&Layout::open_existing(dir, &OsFileSystem::default(), Contents::Store)?)
    }

    pub(crate) fn repair_in(layout: &Layout) -> Result<Repair> {
        recovery::check_unlocked(layout)?;
        let _lock = DirectoryLock::take(layout)?;
        match recovery::read(&ReadContext::new(layout, false, &mut |_| ())) {
            Ok(recovered) => {
                recovered.check_contents(layout)?;
                Ok(Repair {
                    backup: None,
                    entries: count_entries(&recovered.table, recovered.time),
                    lost: Vec::new(),
                    incomplete: Vec::new(),
                })
            }
            Err(Error::Corrupt { path, line, offset, reason }) => {
                replace_damaged(layout, DamagedRegion { path, line, offset, bytes: 0, reason })
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies the files of a damaged store, and replaces them.
fn replace_damaged(layout: &Layout, first_damage: DamagedRegion) -> Result<Repair> {
    let listing = layout.list()?;
    let Salvage { table, without_beginning, sequence, time, mut lost, marked } =
        Salvage::read(layout, &listing)?;
    // Salvage does not notice lines that are missing at the end of a file.
    if lost.iter().all(|loss| loss.path != first_damage.path) {
        lost.insert(0, first_damage);
    }
    let table = table.finish();
    let incomplete = remove_gaps(&table, without_beginning);
    let copy = copy_files(layout, &listing)?;
    let layout = &Layout { contents: contents_of(marked, &table), ..layout.clone() };
    // INVARIANT: the sequence goes on behind the lines of which the closing note knows, or the note would be taken for
    // that of lost lines again.
    let sequence = sequence.max(closing_note::read(layout)?);
    replace_files(&table, LineStamp { sequence, synced: sequence, time }, layout, &listing)?;
    Ok(Repair { backup: Some(copy), entries: count_entries(&table, time), lost, incomplete })
}

/// Counts the entries that the next opening finds: its time is not earlier than `newest`, that of the newest line.
fn count_entries(table: &Table, newest: u64) -> u64 {
    let clock = MonotonicClock::new(StoreClock::system(), newest);
    let now = Now::of(&clock);
    table.reclaim_all(&now);
    table.len(&now)
}

/// Everything that is valid in the files.
struct Salvage {
    table: BulkLoader,
    /// Keys of maps and queues whose first parts were lost.
    without_beginning: BTreeSet<SmolStr>,
    sequence: u64,
    time: u64,
    lost: Vec<DamagedRegion>,
    /// What the headers are marked with.
    marked: Contents,
}

/// What became of a valid line.
enum Salvaged {
    Applied,
    /// It ends a snapshot.
    Footer,
    /// It was applied, but lines before it are missing.
    AppliedAfterGap(String),
    Rejected(String),
}

impl Salvage {
    /// Reads the files in the order in which they were written.
    fn read(layout: &Layout, listing: &Listing) -> Result<Self> {
        let mut salvage = Self {
            table: BulkLoader::new(),
            without_beginning: BTreeSet::new(),
            sequence: 0,
            time: 0,
            lost: Vec::new(),
            marked: Contents::Store,
        };
        let mut report = |_| ();
        let context = ReadContext::new(layout, false, &mut report);
        let numbers: BTreeSet<u64> = listing.snapshots.iter().chain(&listing.journals).copied().collect();
        for number in numbers {
            if listing.snapshots.contains(&number) {
                salvage.read_snapshot(&context, number)?;
            }
            if listing.journals.contains(&number) {
                salvage.read_lines(&context, &layout.journal_path(number), FileKind::Journal)?;
            } else {
                salvage.record_loss(
                    &layout.journal_path(number),
                    START,
                    "the journal is missing".to_owned(),
                    0,
                );
            }
        }
        Ok(salvage)
    }

    /// A valid snapshot replaces everything read before. The valid lines of a damaged one are applied to it, because
    /// they are newer.
    fn read_snapshot(&mut self, context: &ReadContext<'_>, number: u64) -> Result<()> {
        match snapshot::load(context, number) {
            Ok(loaded) => {
                let LineStamp { sequence, time, .. } = loaded.stamp;
                self.mark(loaded.contents);
                self.table = loaded.entries;
                self.without_beginning.clear();
                (self.sequence, self.time) = (self.sequence.max(sequence), self.time.max(time));
                // Earlier losses do not affect the snapshot.
                self.lost.clear();
                Ok(())
            }
            Err(Error::Corrupt { .. }) => {
                self.read_lines(context, &context.layout.snapshot_path(number), FileKind::Snapshot)
            }
            Err(error) => Err(error),
        }
    }

    /// Applies the valid lines of a file.
    fn read_lines(&mut self, context: &ReadContext<'_>, path: &Path, kind: FileKind) -> Result<()> {
        let mut lines = LineReader::open(context, path)?;
        let losses = self.lost.len();
        let mut has_footer = false;
        while let Some(line) = lines.next()? {
            let (reason, lost_bytes) = match line {
                Ok(line) => match self.apply_line(line, kind) {
                    Salvaged::Applied => continue,
                    Salvaged::Footer => {
                        has_footer = true;
                        continue;
                    }
                    Salvaged::AppliedAfterGap(reason) => (reason, 0),
                    Salvaged::Rejected(reason) => (reason, lines.len()),
                },
                Err(fault @ LineFault::Version(_)) => return Err(lines.refuse(fault)),
                Err(LineFault::Damaged(reason)) => (reason.to_owned(), lines.len()),
                Err(LineFault::Malformed(reason)) => (reason, lines.len()),
            };
            self.record_loss(path, lines.at, reason, lost_bytes);
            if let Some(line) = lines.embedded_line() {
                // A gap before this line is part of the loss recorded above.
                let _ = self.apply_line(line, kind);
            }
        }
        if kind == FileKind::Snapshot && self.lost.len() == losses {
            let reason =
                if has_footer { "lines of the snapshot are missing" } else { "the snapshot has no end" };
            self.record_loss(path, lines.at, reason.to_owned(), 0);
        }
        Ok(())
    }

    fn mark(&mut self, contents: Contents) {
        if contents == Contents::ReplayQueue {
            self.marked = contents;
        }
    }

    fn apply_line(&mut self, line: Line, kind: FileKind) -> Salvaged {
        let stamp = line.stamp();
        let mut gap = None;
        if let Some(LineStamp { sequence, .. }) = stamp.filter(|_| kind == FileKind::Journal) {
            let is_header = matches!(line, Line::Header { .. });
            let expected = if is_header { self.sequence } else { self.sequence.saturating_add(1) };
            if sequence < expected {
                return Salvaged::Rejected(format!("line {sequence} of the sequence is repeated"));
            }
            if sequence > expected && expected > 0 {
                let last = sequence - 1;
                gap = Some(if last == expected {
                    format!("line {last} of the sequence is missing")
                } else {
                    format!("lines {expected} to {last} of the sequence are missing")
                });
            }
        }
        if let Some(LineStamp { sequence, time, .. }) = stamp {
            (self.sequence, self.time) = (self.sequence.max(sequence), self.time.max(time));
        }
        match (line, kind) {
            (Line::Commit { changes, .. }, FileKind::Journal)
            | (Line::Entries { changes }, FileKind::Snapshot) => {
                for (key, change) in changes {
                    self.apply_change(&key, change);
                }
            }
            (Line::Footer { .. }, FileKind::Snapshot) => return Salvaged::Footer,
            (Line::Header { kind: named, contents, .. }, _) if named == kind => self.mark(contents),
            (Line::Opened { .. } | Line::Closed { .. }, FileKind::Journal) => {}
            (Line::Header { .. }, _)
            | (Line::Entries { .. } | Line::Footer { .. }, FileKind::Journal)
            | (Line::Opened { .. } | Line::Commit { .. } | Line::Closed { .. }, FileKind::Snapshot) => {
                return Salvaged::Rejected("this line is out of place".to_owned());
            }
        }
        gap.map_or(Salvaged::Applied, Salvaged::AppliedAfterGap)
    }

    /// Applies a change. If something was lost, a part of an absent map or queue becomes its beginning.
    fn apply_change(&mut self, key: &SmolStr, change: Change) {
        let is_beginning = || !self.lost.is_empty() && self.table.read(key, |found| found.is_none());
        let content = match change {
            Change::SetFields(fields) if is_beginning() => Content::Map(Box::new(MapValue::new(fields))),
            Change::SetItems { at, values, .. } if is_beginning() => {
                Content::Queue(Box::new(QueueValue::new(at, values)))
            }
            Change::Set(_) | Change::Remove => {
                self.without_beginning.remove(key);
                return self.table.apply(key, change);
            }
            Change::Nothing
            | Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => return self.table.apply(key, change),
        };
        self.without_beginning.insert(key.clone());
        self.table.apply(key, Change::Set(Entry { content, deadline: None }));
    }

    /// Records a loss, or adds it to the loss directly before it.
    fn record_loss(&mut self, path: &Path, at: LinePosition, reason: String, bytes: u64) {
        let LinePosition { line, offset } = at;
        match self.lost.last_mut() {
            Some(last) if last.path == path && last.offset + last.bytes == offset => {
                last.bytes += bytes;
                if bytes == 0 {
                    last.reason = format!("{}; {reason}", last.reason);
                }
            }
            _ => self.lost.push(DamagedRegion { path: path.to_path_buf(), line, offset, bytes, reason }),
        }
    }
}

/// Removes the gaps of incomplete entries; returns the keys of all entries of which parts are missing.
fn remove_gaps(table: &Table, mut incomplete: BTreeSet<SmolStr>) -> Vec<String> {
    let beginning = ManualClock::new(UNIX_EPOCH);
    let now = Now::of(&beginning);
    for key in table.all_keys(None, usize::MAX).0 {
        let replacement =
            table.read(&key, |found| found.filter(|entry| !entry.is_complete()).map(Entry::without_gaps));
        if let Some(replacement) = replacement {
            table.apply(&key, replacement.map_or(Change::Remove, Change::Set), &now);
            incomplete.insert(key);
        }
    }
    incomplete.into_iter().map(String::from).collect()
}

/// Writes the table as a snapshot with an empty journal, and deletes the files that they replace.
fn replace_files(table: &Table, stamp: LineStamp, layout: &Layout, listing: &Listing) -> Result<()> {
    let newest = listing.snapshots.iter().chain(&listing.journals).max();
    let number = newest.copied().unwrap_or_default() + 1;
    let (snapshot, journal) = (layout.unfinished_snapshot_path(number), layout.journal_path(number));
    if let Err(error) = table_files::write(table, stamp, layout, number) {
        // If the files stay, the next opening or repair deletes them.
        let _ = (layout.remove(&snapshot), layout.remove(&journal));
        return Err(error);
    }
    let leftovers = listing.leftovers.iter().filter(|path| **path != snapshot).cloned();
    for path in layout.paths(listing, ..).chain(leftovers) {
        if let Err(error) = layout.remove(&path) {
            log_later!(Warn, "{} is no longer needed but cannot be deleted: {error}", path.display());
        }
    }
    Ok(())
}

/// Copies the files, as they are, into a new directory beside them.
fn copy_files(layout: &Layout, listing: &Listing) -> Result<PathBuf> {
    let unused = (1..u64::MAX)
        .map(|number| layout.dir.join(format!("damaged-{number}")))
        .find(|dir| layout.fs.file_type(dir).is_err());
    let dir = unused.unwrap_or_else(|| layout.dir.join("damaged"));
    layout.fs.create_dir(&dir, Access::Owner).map_err(|error| failed("creating", &dir, error))?;
    for path in layout.paths(listing, ..) {
        let to = dir.join(path.file_name().unwrap_or_default());
        layout.fs.copy(&path, &to).map_err(|error| failed("copying", &path, error))?;
    }
    layout.fs.sync_dir(&dir).map_err(|error| failed("syncing", &dir, error))?;
    layout.sync()?;
    Ok(dir)
}
