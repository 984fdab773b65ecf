//! Owns how a damaged directory is made one that opens, of all that is whole in its files. What is damage is
//! decided by recovery.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use smol_str::SmolStr;

use crate::backend::file::core::File;
use crate::backend::file::format::line::{FileKind, Line, LineFault, LineStamp, parse_stamp};
use crate::backend::file::fs::OsFileSystem;
use crate::backend::file::journal::writer;
use crate::backend::file::layout::{Layout, Listing, failed};
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::{LinePosition, LineReader, START};
use crate::backend::file::read::recovery;
use crate::backend::file::read::recovery::Recovered;
use crate::backend::file::report::{Loss, Repair};
use crate::backend::file::snapshot;
use crate::backend::file::snapshot::SnapshotWriter;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::queue::QueueValue;
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::backend::local::table::fuzzy_scan::FuzzyScan;
use crate::backend::local::table::shards::Table;
use crate::clock::{ManualClock, Now, SystemClock};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};

impl File {
    /// Makes a damaged store one that opens.
    pub(crate) fn repair(dir: &Path) -> Result<Repair> {
        let layout = Layout { dir: dir.to_path_buf(), fs: Arc::new(OsFileSystem) };
        layout.check_directory()?;
        let _lock = DirectoryLock::take(&layout)?;
        let entries = |table: &Table| {
            let now = Now::of(&SystemClock);
            table.reclaim_all(&now);
            table.len(&now)
        };
        match recovery::read(&ReadContext::new(&layout, false, &mut |_| ())) {
            Ok(Recovered { table, .. }) => {
                Ok(Repair { copy: None, entries: entries(&table), lost: Vec::new(), incomplete: Vec::new() })
            }
            Err(Error::Corrupt { path, line, offset, reason }) => {
                let listing = layout.list()?;
                let Salvage { table, begun, sequence, time, mut lost } = Salvage::read(&layout, &listing)?;
                // Lines that are missing at the end of a file leave no damaged place.
                if lost.iter().all(|loss| loss.path != path) {
                    lost.insert(0, Loss { path, line, offset, bytes: 0, reason });
                }
                let table = table.finish();
                let incomplete = remove_gaps(&table, begun);
                let copy = copy(&layout, &listing)?;
                let mark = LineStamp { sequence, durable: sequence, time };
                write(&table, mark, &layout, &listing)?;
                Ok(Repair { copy: Some(copy), entries: entries(&table), lost, incomplete })
            }
            Err(error) => Err(error),
        }
    }
}

/// All that is whole.
struct Salvage {
    table: BulkLoader,
    /// The keys of maps and queues of which the beginning was lost.
    begun: BTreeSet<SmolStr>,
    sequence: u64,
    time: u64,
    lost: Vec<Loss>,
}

impl Salvage {
    /// Reads the files in the order in which they were written.
    fn read(layout: &Layout, listing: &Listing) -> Result<Self> {
        let mut salvage =
            Self { table: BulkLoader::new(), begun: BTreeSet::new(), sequence: 0, time: 0, lost: Vec::new() };
        let mut report = |_| ();
        let input = ReadContext::new(layout, false, &mut report);
        let numbers: BTreeSet<u64> = listing.snapshots.iter().chain(&listing.journals).copied().collect();
        for number in numbers {
            if listing.snapshots.contains(&number) {
                salvage.snapshot(&input, number)?;
            }
            if listing.journals.contains(&number) {
                let path = layout.journal(number);
                salvage.lines(&input, &path, FileKind::Journal)?;
            } else {
                let missing = ("the journal is missing".to_owned(), 0);
                salvage.record_loss(&layout.journal(number), START, missing);
            }
        }
        Ok(salvage)
    }

    /// A whole snapshot says all that was true before its journal; of a damaged one, what is whole is newer than
    /// what was read before.
    fn snapshot(&mut self, input: &ReadContext<'_>, number: u64) -> Result<()> {
        match snapshot::load(input, number) {
            Ok(loaded) => {
                let LineStamp { sequence, time, .. } = loaded.stamp;
                self.table = loaded.entries;
                self.begun.clear();
                (self.sequence, self.time) = (self.sequence.max(sequence), self.time.max(time));
                // What was lost before it does not matter.
                self.lost.clear();
                Ok(())
            }
            Err(Error::Corrupt { .. }) => {
                self.lines(input, &input.layout.snapshot(number), FileKind::Snapshot)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the whole lines of a file.
    fn lines(&mut self, input: &ReadContext<'_>, path: &Path, kind: FileKind) -> Result<()> {
        let mut lines = LineReader::open(input, path)?;
        let losses = self.lost.len();
        let mut ended = false;
        while let Some(line) = lines.next()? {
            let (at, bytes) = (lines.at, lines.len());
            let fault = match line {
                Ok(line) => match self.take(line, kind) {
                    Ok(is_end) => {
                        ended |= is_end;
                        continue;
                    }
                    Err((reason, lost)) => (reason, lost.unwrap_or(bytes)),
                },
                Err(fault @ LineFault::Version(_)) => return Err(lines.refuse(fault)),
                Err(LineFault::Damaged(reason)) => (reason.to_owned(), bytes),
                Err(LineFault::Malformed(reason)) => (reason, bytes),
            };
            self.record_loss(path, at, fault);
            if let Some(line) = lines.embedded_line() {
                // What it lacks is told of already.
                let _ = self.take(line, kind);
            }
        }
        if kind == FileKind::Snapshot && self.lost.len() == losses {
            let reason = if ended { "lines of the snapshot are missing" } else { "the snapshot has no end" };
            self.record_loss(path, lines.at, (reason.to_owned(), 0));
        }
        Ok(())
    }

    /// Takes one line; tells whether it is the last of a snapshot. What is wrong with it comes with how many bytes
    /// are lost, where that is not the line.
    fn take(&mut self, line: Line, kind: FileKind) -> std::result::Result<bool, (String, Option<u64>)> {
        let expected = match &line {
            Line::Header { .. } => self.sequence,
            _ => self.sequence.saturating_add(1),
        };
        let mut gap = Ok(false);
        if let Some(mark) = parse_stamp(&line).filter(|_| kind == FileKind::Journal) {
            if mark.sequence < expected {
                return Err((
                    format!("line {} of the sequence stands here a second time", mark.sequence),
                    None,
                ));
            }
            if mark.sequence > expected && expected > 0 {
                let missing = match mark.sequence - 1 {
                    last if last == expected => format!("line {last} of the sequence is missing"),
                    last => format!("lines {expected} to {last} of the sequence are missing"),
                };
                gap = Err((missing, Some(0)));
            }
        }
        if let Some(LineStamp { sequence, time, .. }) = parse_stamp(&line) {
            (self.sequence, self.time) = (self.sequence.max(sequence), self.time.max(time));
        }
        match (line, kind) {
            (Line::Commit { changes, .. }, FileKind::Journal)
            | (Line::Entries { changes }, FileKind::Snapshot) => {
                for (key, change) in changes {
                    self.apply(&key, change);
                }
            }
            (Line::Footer { .. }, FileKind::Snapshot) => return Ok(true),
            (Line::Header { kind: said, .. }, _) if said == kind => {}
            (Line::Opened { .. } | Line::Closed { .. }, FileKind::Journal) => {}
            _ => return Err(("this line does not belong here".to_owned(), None)),
        }
        gap
    }

    /// Makes a change. Parts of a map or a queue whose beginning was lost are the beginning.
    fn apply(&mut self, key: &SmolStr, change: Change) {
        let is_absent = || self.table.read(key, |found| found.is_none());
        let content = match change {
            Change::SetFields(fields) if !self.lost.is_empty() && is_absent() => {
                Content::Map(Box::new(MapValue::new(fields)))
            }
            Change::SetItems { at, values, .. } if !self.lost.is_empty() && is_absent() => {
                Content::Queue(Box::new(QueueValue::new(at, values)))
            }
            change => {
                if matches!(change, Change::Set(_) | Change::Remove) {
                    self.begun.remove(key);
                }
                return self.table.apply(key, change);
            }
        };
        self.begun.insert(key.clone());
        self.table.apply(key, Change::Set(Entry { content, deadline: None }));
    }

    /// Notes what is lost; neighbours are one, and what is missing behind a damaged place was there.
    fn record_loss(
        &mut self,
        path: &Path,
        LinePosition { line, offset }: LinePosition,
        (reason, bytes): (String, u64),
    ) {
        match self.lost.last_mut() {
            Some(last) if last.path == path && last.offset + last.bytes == offset => {
                last.bytes += bytes;
                if bytes == 0 {
                    last.reason = format!("{}; {reason}", last.reason);
                }
            }
            _ => self.lost.push(Loss { path: path.to_path_buf(), line, offset, bytes, reason }),
        }
    }
}

/// Leaves nothing in pieces; tells of what a part was missing.
fn remove_gaps(table: &Table, mut incomplete: BTreeSet<SmolStr>) -> Vec<String> {
    let beginning = ManualClock::new(UNIX_EPOCH);
    let now = Now::of(&beginning);
    for key in table.all_keys(None, usize::MAX).0 {
        let left =
            table.read(&key, |found| found.filter(|entry| !entry.is_complete()).map(Entry::without_gaps));
        if let Some(left) = left {
            table.apply(&key, left.map_or(Change::Remove, Change::Set), &now);
            incomplete.insert(key);
        }
    }
    incomplete.into_iter().map(String::from).collect()
}

/// Writes all of it as a snapshot and an empty journal, and deletes what they replace.
fn write(table: &Table, mark: LineStamp, layout: &Layout, listing: &Listing) -> Result<()> {
    let newest = listing.snapshots.iter().chain(&listing.journals).max();
    let number = newest.copied().unwrap_or_default() + 1;
    let (snapshot, journal) = (layout.unfinished_snapshot(number), layout.journal(number));
    if let Err(error) = write_new(table, mark, layout, number) {
        // What stays is cleared away at the next opening, or by the next repair.
        let _ = (layout.remove(&snapshot), layout.remove(&journal));
        return Err(error);
    }
    let leftovers = listing.leftovers.iter().filter(|path| **path != snapshot).cloned();
    for path in layout.paths(listing, ..).chain(leftovers) {
        if let Err(error) = layout.remove(&path) {
            log::warn!("{} counts no more, and could not be deleted: {error}", path.display());
        }
    }
    Ok(())
}

/// Writes a snapshot and an empty journal that take the place of all others.
fn write_new(table: &Table, mark: LineStamp, layout: &Layout, number: u64) -> Result<()> {
    let sync = SyncPolicy::Always;
    let path = layout.unfinished_snapshot(number);
    let mut writer = SnapshotWriter::create(layout, &path, number, mark, sync)?;
    // What has expired is left to the next opening.
    let beginning = ManualClock::new(UNIX_EPOCH);
    let now = Now::of(&beginning);
    let mut walk = FuzzyScan::new();
    while let Some((key, change)) = walk.next(table, &now) {
        writer.add(key, change)?;
    }
    writer.finish(mark)?;
    let (disk, begun) = writer::create(layout, number)?;
    writer::write_header(&*disk, &begun, number, mark.sequence, mark.time, sync)?;
    let whole = layout.snapshot(number);
    layout.fs.rename(&path, &whole).map_err(|error| failed("renaming", &path, error))?;
    // INVARIANT: nothing is deleted before what replaces it has its name for good.
    layout.sync().inspect_err(|_| drop(layout.remove(&whole)))
}

/// Copies the files as they are into a new directory beside them.
fn copy(layout: &Layout, listing: &Listing) -> Result<PathBuf> {
    let free =
        (1..u64::MAX).map(|number| layout.dir.join(format!("damaged-{number}"))).find(|dir| !dir.exists());
    let dir = free.unwrap_or_else(|| layout.dir.join("damaged"));
    fs::create_dir(&dir).map_err(|error| failed("creating", &dir, error))?;
    for path in layout.paths(listing, ..) {
        let to = dir.join(path.file_name().unwrap_or_default());
        fs::copy(&path, &to)
            .and_then(|_| fs::OpenOptions::new().write(true).open(&to)?.sync_all())
            .map_err(|error| failed("copying", &path, error))?;
    }
    layout.fs.sync_dir(&dir).map_err(|error| failed("syncing", &dir, error))?;
    layout.sync()?;
    Ok(dir)
}
