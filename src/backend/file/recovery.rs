//! Owns what the files mean when a store is opened: which of them count, which damage is a torn tail, and which is
//! corruption. Only reads; returns what the caller must change on disk.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use smol_str::SmolStr;

use crate::backend::file::closing_note;
use crate::backend::file::contents::{Contents, QUEUE_HEADER};
use crate::backend::file::format::line;
use crate::backend::file::format::line::{FileKind, Line, LineFault};
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::layout::{Layout, Listing, failed};
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::{LinePosition, LineReader, START, corrupt};
use crate::backend::file::snapshot;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::backend::local::table::shards::Table;
use crate::error::{Error, Result};

const MISSING_PART: &str = "a part of a map or of a queue is missing";
const MISPLACED: &str = "this line is out of place";

/// Any header is shorter than `MAX_HEADER`, and a header of this version is no longer than `MAX_TORN_HEADER`.
const MAX_HEADER: u64 = 512;
const MAX_TORN_HEADER: usize = 240;

/// State read from the files.
pub(crate) struct Recovered {
    pub(crate) table: Table,
    /// Sequence and time of the last line.
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// Where to continue; `None` if the store is new.
    pub(crate) tail: Option<Tail>,
    /// Bytes of the snapshot, and of the journals before the last.
    pub(crate) older_bytes: u64,
    /// Size of the snapshot divided by the weight of its entries.
    pub(crate) bytes_per_weight: Option<f64>,
    /// Files that are no longer needed.
    pub(crate) obsolete: Vec<PathBuf>,
    /// What the headers are marked with.
    pub(crate) marked: Contents,
}

impl Recovered {
    /// What the directory holds; `None` if there are no files.
    pub(crate) fn contents(&self) -> Option<Contents> {
        self.tail.as_ref()?;
        Some(contents_of(self.marked, &self.table))
    }

    /// Fails unless the directory is empty, or holds what it is opened as.
    pub(crate) fn check_contents(&self, layout: &Layout) -> Result<()> {
        self.contents().map_or(Ok(()), |contents| contents.check(layout.contents, &layout.dir))
    }
}

/// What a directory holds whose files have this mark.
pub(crate) fn contents_of(marked: Contents, table: &Table) -> Contents {
    match marked {
        Contents::ReplayQueue => Contents::ReplayQueue,
        Contents::Store => {
            let header = table.read(QUEUE_HEADER, |found| match found.map(|entry| &entry.content) {
                Some(Content::Value(value)) => Some(value.bytes.clone()),
                Some(Content::Map(_) | Content::Queue(_)) | None => None,
            });
            // Of most stores, not even the keys are looked at.
            let keys = if header.is_some() { table.all_keys(None, usize::MAX).0 } else { Vec::new() };
            Contents::of_unmarked(header.as_deref(), keys.iter().map(|key| &**key))
        }
    }
}

/// The end of the last journal.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// How much of the file is valid, and its length.
    pub(crate) valid_len: u64,
    pub(crate) len: u64,
    /// Of the truncated bytes, how many belong to a torn write.
    pub(crate) torn_bytes: u64,
    /// Offset from which on no later line proves that the bytes reached the disk.
    pub(crate) rewrite_from: u64,
}

/// Reads the state, or fails with the first damage. Nothing on disk is changed.
pub(crate) fn read(context: &ReadContext<'_>) -> Result<Recovered> {
    read_files(context).inspect(|_| context.end())
}

/// Fails if a directory without a lock file, such as a copy, holds something else than what it is opened as: then not
/// even the lock file may be created. Any other error is found again once the directory is locked.
pub(crate) fn check_unlocked(layout: &Layout) -> Result<()> {
    if layout.fs.file_type(&layout.lock_path()).is_ok() {
        return Ok(());
    }
    match read(&ReadContext::new(layout, false, &mut |_| ())) {
        Ok(recovered) => recovered.check_contents(layout),
        Err(_) => Ok(()),
    }
}

fn read_files(context: &ReadContext<'_>) -> Result<Recovered> {
    let layout = context.layout;
    // Read before the journals: a running store may be closed meanwhile.
    let closed_at = closing_note::read(layout)?;
    let listing = layout.list()?;
    let (mut recovery, first) = read_newest_snapshot(context, &listing)?;
    recovery.synced = recovery.synced.max(closed_at);
    let last = listing.journals.last().copied().unwrap_or(0).max(first);
    let mut obsolete = listing.leftovers.clone();
    obsolete.extend(layout.paths(&listing, ..first));
    if listing.journals.is_empty() && !recovery.has_snapshot {
        recovery.check_new(&layout.journal_path(1))?;
        return Ok(recovery.finish(None, obsolete));
    }

    let beginning = read_beginning(layout, &layout.journal_path(last))?;
    if matches!(beginning, Beginning::TornHeader) && first == last && !recovery.has_snapshot {
        recovery.check_new(&layout.journal_path(last))?;
        obsolete.push(layout.journal_path(last));
        return Ok(recovery.finish(None, obsolete));
    }
    // A last journal without lines was begun by a rotation that may have failed.
    let has_lines = matches!(beginning, Beginning::Lines);
    let end = if !has_lines && last > first { last - 1 } else { last };
    if let Beginning::HeaderOnly(stamp) = beginning {
        recovery.synced = recovery.synced.max(stamp.synced);
    }
    let mut tail = None;
    for number in first..=end {
        let journal = recovery.read_journal(context, number, number == end)?;
        if number < end {
            recovery.older_bytes += journal.len;
        }
        tail = Some(journal);
    }
    if end < last {
        match (beginning, tail.take()) {
            (Beginning::HeaderOnly(stamp), Some(previous))
                if stamp.sequence == recovery.sequence && previous.torn_bytes == 0 =>
            {
                recovery.older_bytes += previous.len;
                tail = Some(recovery.read_journal(context, last, true)?);
            }
            (_, previous) => {
                obsolete.push(layout.journal_path(last));
                tail = previous;
            }
        }
    }
    recovery.check_complete()?;
    Ok(recovery.finish(tail, obsolete))
}

/// Loads the newest valid snapshot of which all journals exist; returns the number of the journal to continue with.
fn read_newest_snapshot(context: &ReadContext<'_>, listing: &Listing) -> Result<(Recovery, u64)> {
    let newest = listing.journals.last().max(listing.snapshots.last()).copied().unwrap_or(0);
    let mut damage = None;
    for number in listing.snapshots.iter().rev().copied() {
        let has_all_journals =
            (number..=newest).all(|number| listing.journals.binary_search(&number).is_ok());
        context.begin(listing, number);
        match snapshot::load(context, number) {
            Ok(loaded) if damage.is_none() || has_all_journals => {
                return Ok((Recovery::new_after(loaded, &context.layout.snapshot_path(number)), number));
            }
            Ok(_) => {}
            Err(error @ Error::Corrupt { .. }) => damage = damage.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if let Some(damage) = damage {
        // Without a snapshot every journal since the first is needed.
        let starts_late = listing.journals.first() != Some(&1);
        let has_gap = (1..).zip(&listing.journals).any(|(number, found)| number != *found);
        let ends_early = listing.journals.last() < listing.snapshots.last();
        if starts_late || has_gap || ends_early {
            return Err(damage);
        }
    }
    context.begin(listing, 1);
    Ok((Recovery::new(), 1))
}

/// What a journal begins with.
enum Beginning {
    /// It has lines behind the header, or is damaged.
    Lines,
    HeaderOnly(LineStamp),
    /// Part of a header, as a crash may leave it.
    TornHeader,
}

/// Reads whether a journal contains only a header, or part of one.
fn read_beginning(layout: &Layout, path: &Path) -> Result<Beginning> {
    let mut bytes = Vec::new();
    match layout.fs.read(path) {
        Ok(file) => file.take(MAX_HEADER + 1).read_to_end(&mut bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(path, START, "the file is missing"));
        }
        Err(error) => Err(error),
    }
    .map_err(|error| failed("opening", path, error))?;
    if bytes.len() as u64 > MAX_HEADER {
        return Ok(Beginning::Lines);
    }
    if let Ok(Line::Header { kind: FileKind::Journal, stamp, .. }) = line::decode(&bytes) {
        return Ok(Beginning::HeaderOnly(stamp));
    }
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &bytes[..written];
    let begins_as_line = line::START.starts_with(&text[..written.min(line::START.len())]);
    let is_torn =
        begins_as_line && bytes.len() <= MAX_TORN_HEADER && memchr::memchr2(b'\n', 0, text).is_none();
    Ok(if is_torn { Beginning::TornHeader } else { Beginning::Lines })
}

/// What has been read so far.
struct Recovery {
    table: BulkLoader,
    has_snapshot: bool,
    sequence: u64,
    /// The highest synced sequence that any valid line records, or the note of the last closing.
    synced: u64,
    marked: Contents,
    time: u64,
    older_bytes: u64,
    bytes_per_weight: Option<f64>,
    /// Entries that were incomplete after some line, and the errors for those that stay so.
    incomplete: BTreeMap<SmolStr, Error>,
}

/// One journal while it is read.
struct JournalScan {
    number: u64,
    /// Whether the sync policy of the lines is other than never.
    is_synced: bool,
    /// Offset of the line that closed the store.
    closed_at: Option<u64>,
    header_end: u64,
    damage: Option<Damage>,
    /// Sequences and offsets of the lines that no line so far records as synced.
    unsynced: VecDeque<(u64, u64)>,
}

/// The first damage in a journal.
struct Damage {
    at: LinePosition,
    error: Error,
    valid_lines_follow: bool,
}

impl Recovery {
    fn new() -> Self {
        Self {
            table: BulkLoader::new(),
            has_snapshot: false,
            sequence: 0,
            synced: 0,
            marked: Contents::Store,
            time: 0,
            older_bytes: 0,
            bytes_per_weight: None,
            incomplete: BTreeMap::new(),
        }
    }

    fn new_after(loaded: snapshot::Loaded, path: &Path) -> Self {
        let LineStamp { sequence, synced, time } = loaded.stamp;
        let table = loaded.entries;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes need not be exact")]
        let bytes_per_weight = (table.bytes() > 0).then(|| loaded.len as f64 / table.bytes() as f64);
        let incomplete =
            loaded.incomplete.into_iter().map(|key| (key, corrupt(path, START, MISSING_PART))).collect();
        Self {
            table,
            has_snapshot: true,
            sequence,
            synced,
            marked: loaded.contents,
            time,
            older_bytes: loaded.len,
            bytes_per_weight,
            incomplete,
        }
    }

    fn finish(self, tail: Option<Tail>, obsolete: Vec<PathBuf>) -> Recovered {
        let Self { table, sequence, time, older_bytes, bytes_per_weight, marked, .. } = self;
        let table = table.finish();
        Recovered { table, sequence, time, tail, older_bytes, bytes_per_weight, obsolete, marked }
    }

    /// Fails if a directory without a first line cannot be a new one, because its store was closed with lines.
    fn check_new(&self, journal: &Path) -> Result<()> {
        if self.synced == 0 {
            return Ok(());
        }
        Err(corrupt(journal, START, format!("lines up to {} of the sequence are missing", self.synced)))
    }

    /// Reads and applies one journal. Only the last journal may have a torn tail, because each of the others was
    /// synced before the next was begun.
    fn read_journal(&mut self, context: &ReadContext<'_>, number: u64, is_last: bool) -> Result<Tail> {
        let path = context.layout.journal_path(number);
        let mut lines = LineReader::open(context, &path)?;
        let mut scan = JournalScan {
            number,
            is_synced: true,
            closed_at: None,
            header_end: 0,
            damage: None,
            unsynced: VecDeque::new(),
        };
        while let Some(line) = lines.next()? {
            if scan.closed_at.is_some() {
                return Err(lines.corrupt("the journal continues behind its last line"));
            }
            match (line, &mut scan.damage) {
                (line, Some(damage)) => {
                    self.note_line_after_damage(damage, line.ok().or_else(|| lines.embedded_line()).as_ref());
                }
                (Ok(line), None) => self.read_line(line, &lines, &mut scan)?,
                (Err(fault @ LineFault::Damaged(_)), None) if lines.at.line > 1 => {
                    let error = lines.refuse(fault);
                    let damage = Damage { at: lines.at, error, valid_lines_follow: false };
                    let damage = scan.damage.insert(damage);
                    self.note_line_after_damage(damage, lines.embedded_line().as_ref());
                }
                (Err(fault), None) => return Err(lines.refuse(fault)),
            }
        }
        if lines.offset == 0 {
            return Err(corrupt(&path, START, "the file is empty"));
        }
        self.end_journal(path, &lines, scan, is_last)
    }

    /// Applies one valid line of a journal.
    fn read_line(&mut self, line: Line, lines: &LineReader<'_, '_>, scan: &mut JournalScan) -> Result<()> {
        self.check_sequence(&line, scan.number, lines)?;
        match line {
            Line::Header { is_synced, contents, .. } => {
                scan.is_synced = is_synced;
                if contents == Contents::ReplayQueue {
                    self.marked = contents;
                }
            }
            Line::Opened { is_synced, .. } => scan.is_synced = is_synced,
            Line::Closed { .. } => scan.closed_at = Some(lines.at.offset),
            Line::Commit { changes, .. } => {
                for (key, change) in changes {
                    self.apply(&key, change, lines);
                }
            }
            Line::Entries { .. } | Line::Footer { .. } => {}
        }
        if lines.at.line == 1 {
            scan.header_end = lines.offset;
        } else if scan.closed_at.is_none() {
            scan.unsynced.push_back((self.sequence, lines.at.offset));
        }
        while scan.unsynced.front().is_some_and(|(sequence, _)| *sequence <= self.synced) {
            scan.unsynced.pop_front();
        }
        Ok(())
    }

    /// Decides where a journal ends.
    fn end_journal(
        &mut self,
        path: PathBuf,
        lines: &LineReader<'_, '_>,
        scan: JournalScan,
        is_last: bool,
    ) -> Result<Tail> {
        let JournalScan { number, is_synced, closed_at, header_end, damage, unsynced } = scan;
        let end = lines.offset;
        let damaged_at = self.classify_tail(lines, damage, is_last, is_synced)?;
        // A synced journal is filled ahead with zeros; in others zeros are lost bytes.
        let lost_zeros = if is_synced { 0 } else { lines.trailing_zeros };
        let torn_bytes = end - damaged_at.unwrap_or(end) + lost_zeros;
        let valid_len = damaged_at.or(closed_at).unwrap_or(end);
        // The synced sequence may have grown by lines behind the damage.
        let first_unsynced = unsynced.iter().find(|(sequence, _)| *sequence > self.synced);
        let unsynced_from = first_unsynced.map_or(valid_len, |(_, offset)| *offset);
        // If no line behind the header is known to be synced, neither is the header.
        let rewrite_from = if unsynced_from <= header_end { 0 } else { unsynced_from };
        if closed_at.is_some() {
            // The closing line is truncated.
            self.sequence = self.sequence.saturating_sub(1);
        }
        Ok(Tail { number, path, valid_len, len: end + lines.trailing_zeros, torn_bytes, rewrite_from })
    }

    /// Applies one change. Applied to a snapshot of a later state, it may leave a queue with a gap or a map without
    /// fields, which a later change completes.
    fn apply(&mut self, key: &str, change: Change, lines: &LineReader<'_, '_>) {
        let may_break = match change {
            Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => true,
            Change::Nothing
            | Change::Set(_)
            | Change::Remove
            | Change::SetDeadline(_)
            | Change::SetFields(_) => false,
        };
        self.table.apply(key, change);
        if may_break && !self.is_complete(key) && !self.incomplete.contains_key(key) {
            self.incomplete.insert(SmolStr::new(key), lines.corrupt(MISSING_PART));
        }
    }

    fn is_complete(&self, key: &str) -> bool {
        self.table.read(key, |found| found.is_none_or(Entry::is_complete))
    }

    /// Fails if an entry is incomplete after all lines.
    fn check_complete(&mut self) -> Result<()> {
        let incomplete = std::mem::take(&mut self.incomplete);
        match incomplete.into_iter().find(|(key, _)| !self.is_complete(key)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Notes a valid line behind the first damage.
    fn note_line_after_damage(&mut self, damage: &mut Damage, line: Option<&Line>) {
        if let Some(stamp) = line.and_then(Line::stamp) {
            damage.valid_lines_follow = true;
            self.synced = self.synced.max(stamp.synced);
        }
    }

    /// Checks that a valid line is the next of the sequence, and takes over its stamp.
    fn check_sequence(&mut self, line: &Line, number: u64, lines: &LineReader<'_, '_>) -> Result<()> {
        let is_first = lines.at.line == 1;
        let is_in_place = match line {
            Line::Header { kind: FileKind::Journal, number: named, .. } => is_first && *named == number,
            Line::Opened { .. } | Line::Commit { .. } | Line::Closed { .. } => !is_first,
            Line::Header { kind: FileKind::Snapshot, .. } | Line::Entries { .. } | Line::Footer { .. } => {
                false
            }
        };
        let Some(stamp) = line.stamp().filter(|_| is_in_place) else {
            return Err(lines.corrupt(MISPLACED));
        };
        let expected = if is_first { self.sequence } else { self.sequence.saturating_add(1) };
        if stamp.sequence != expected {
            let reason = format!("line {expected} of the sequence is missing: this is {}", stamp.sequence);
            return Err(lines.corrupt(reason));
        }
        self.sequence = stamp.sequence;
        self.synced = self.synced.max(stamp.synced);
        if stamp.time > 0 {
            self.time = stamp.time;
        }
        Ok(())
    }

    /// Decides whether damage, or a missing end, may come from a crash, and returns the offset to truncate at.
    fn classify_tail(
        &self,
        lines: &LineReader<'_, '_>,
        damage: Option<Damage>,
        is_last: bool,
        is_synced: bool,
    ) -> Result<Option<u64>> {
        match damage {
            Some(damage) if !is_last || self.sequence < self.synced => Err(damage.error),
            Some(damage) if damage.valid_lines_follow && !is_synced => Err(damage.error),
            Some(damage) => Ok(Some(damage.at.offset)),
            None if is_last && self.sequence < self.synced => {
                Err(lines.corrupt(format!("lines up to {} of the sequence are missing", self.synced)))
            }
            None => Ok(None),
        }
    }
}
