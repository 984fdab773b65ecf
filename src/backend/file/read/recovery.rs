//! Owns what the files mean when a store is opened: which of them count, what a torn tail is and what is
//! damage. It only reads; what is to be changed on disk it hands out.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};

use smol_str::SmolStr;

use crate::backend::file::format::line;
use crate::backend::file::format::line::{FileKind, Line, LineFault, LineStamp, parse_stamp};
use crate::backend::file::layout::{Layout, Listing, failed};
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::{LinePosition, LineReader, START, corrupt};
use crate::backend::file::snapshot;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::backend::local::table::shards::Table;
use crate::error::{Error, Result};

const MISSING: &str = "a part of a map or of a queue is missing";

/// A header is shorter than this, and one as this version writes it than that.
const MAX_HEADER: u64 = 512;
const MAX_TORN_HEADER: usize = 200;

/// The state that the files hold.
pub(crate) struct Recovered {
    pub(crate) table: Table,
    /// The place and the time of the last line.
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    /// Where to go on; `None` where the store is new.
    pub(crate) tail: Option<Tail>,
    /// The snapshot and the journals before the last.
    pub(crate) older_bytes: u64,
    /// The snapshot's size against what its entries were thought to take.
    pub(crate) bytes_per_weight: Option<f64>,
    /// Files that count no more.
    pub(crate) obsolete: Vec<PathBuf>,
}

/// The end of the last journal.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    /// How much of it stays, and how long it is.
    pub(crate) valid_len: u64,
    pub(crate) len: u64,
    /// How many of the bytes that go a crash has torn.
    pub(crate) torn_bytes: u64,
    /// From where on no later line says that it reached the disk.
    pub(crate) rewrite_from: u64,
}

/// Reads the state, or says what is wrong. Nothing on disk is changed.
pub(crate) fn read(input: &ReadContext<'_>) -> Result<Recovered> {
    read_files(input).inspect(|_| input.end())
}

fn read_files(input: &ReadContext<'_>) -> Result<Recovered> {
    let layout = input.layout;
    let listing = layout.list()?;
    let (mut reading, first) = newest_snapshot(input, &listing)?;
    let last = listing.journals.last().copied().unwrap_or(0).max(first);
    let mut obsolete = listing.leftovers.clone();
    obsolete.extend(layout.paths(&listing, ..first));
    if listing.journals.is_empty() && !reading.has_snapshot {
        return Ok(reading.recovered(None, obsolete));
    }

    let beginning = read_first_line(layout, &layout.journal(last))?;
    if matches!(beginning, FirstLine::Torn) && first == last && !reading.has_snapshot {
        obsolete.push(layout.journal(last));
        return Ok(reading.recovered(None, obsolete));
    }
    // A last journal without lines was begun by a rotation that may have come to nothing.
    let end = if !matches!(beginning, FirstLine::Lines) && last > first { last - 1 } else { last };
    if let FirstLine::Header(mark) = beginning {
        reading.durable = reading.durable.max(mark.durable);
    }
    let mut tail = None;
    for number in first..=end {
        let found = reading.journal(input, number, number == end)?;
        if number < end {
            reading.older_bytes += found.len;
        }
        tail = Some(found);
    }
    if end < last {
        let path = layout.journal(last);
        match (beginning, tail.take()) {
            (FirstLine::Header(mark), Some(found))
                if mark.sequence == reading.sequence && found.torn_bytes == 0 =>
            {
                reading.older_bytes += found.len;
                tail = Some(reading.journal(input, last, true)?);
            }
            (_, found) => {
                obsolete.push(path);
                tail = found;
            }
        }
    }
    reading.check_complete()?;
    Ok(reading.recovered(tail, obsolete))
}

/// Loads the newest whole snapshot whose journals are there, and tells with which journal to go on.
fn newest_snapshot(input: &ReadContext<'_>, listing: &Listing) -> Result<(Recovery, u64)> {
    let layout = input.layout;
    let mut damage = None;
    for number in listing.snapshots.iter().rev().copied() {
        let newest =
            listing.journals.last().copied().unwrap_or(0).max(*listing.snapshots.last().unwrap_or(&0));
        let complete = (number..=newest).all(|number| listing.journals.binary_search(&number).is_ok());
        input.begin(listing, number);
        match (snapshot::load(input, number), damage.is_some() && !complete) {
            (Ok(loaded), false) => {
                return Ok((Recovery::new_after(loaded, &layout.snapshot(number)), number));
            }
            (Err(error @ Error::Corrupt { .. }), _) => damage = damage.or(Some(error)),
            (Err(error), _) => return Err(error),
            (Ok(_), true) => {}
        }
    }
    match damage {
        Some(damage) if !listing.journals.starts_with(&[1]) => Err(damage),
        Some(damage) if (1..).zip(&listing.journals).any(|(number, found)| number != *found) => Err(damage),
        Some(damage) if listing.journals.last() < listing.snapshots.last() => Err(damage),
        _ => {
            input.begin(listing, 1);
            Ok((Recovery::new(), 1))
        }
    }
}

/// What a journal holds besides lines.
enum FirstLine {
    /// It has lines, or is damaged.
    Lines,
    /// A header and nothing else.
    Header(LineStamp),
    /// A part of a header, as a crash leaves it.
    Torn,
}

/// Looks whether a journal holds nothing but a header, or a part of one.
fn read_first_line(layout: &Layout, path: &Path) -> Result<FirstLine> {
    let mut bytes = Vec::new();
    match layout.fs.read(path) {
        Ok(file) => file.take(MAX_HEADER + 1).read_to_end(&mut bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(corrupt(path, START, "the file is missing"));
        }
        Err(error) => Err(error),
    }
    .map_err(|error| failed("opening", path, error))?;
    if bytes.len() as u64 > MAX_HEADER {
        return Ok(FirstLine::Lines);
    }
    if let Ok(Line::Header { kind: FileKind::Journal, mark, .. }) = line::decode(&bytes) {
        return Ok(FirstLine::Header(mark));
    }
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &bytes[..written];
    let begun = line::START.starts_with(&text[..written.min(line::START.len())]);
    let torn = begun && bytes.len() <= MAX_TORN_HEADER && memchr::memchr2(b'\n', 0, text).is_none();
    Ok(if torn { FirstLine::Torn } else { FirstLine::Lines })
}

/// What has been read so far.
struct Recovery {
    table: BulkLoader,
    has_snapshot: bool,
    sequence: u64,
    /// The largest sequence that a whole line vouches for.
    durable: u64,
    time: u64,
    older_bytes: u64,
    bytes_per_weight: Option<f64>,
    /// The entries that were not whole after some line, and the error for those that stay so.
    incomplete: BTreeMap<SmolStr, Error>,
}

/// The first damage in a journal.
struct Damage {
    at: LinePosition,
    error: Error,
    whole_lines_follow: bool,
}

impl Recovery {
    fn new() -> Self {
        Self {
            table: BulkLoader::new(),
            has_snapshot: false,
            sequence: 0,
            durable: 0,
            time: 0,
            older_bytes: 0,
            bytes_per_weight: None,
            incomplete: BTreeMap::new(),
        }
    }

    fn new_after(loaded: snapshot::Loaded, path: &Path) -> Self {
        let LineStamp { sequence, durable, time } = loaded.stamp;
        let table = loaded.entries;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes need not be exact")]
        let bytes_per_weight = (table.bytes() > 0).then(|| loaded.len as f64 / table.bytes() as f64);
        let incomplete =
            loaded.incomplete.into_iter().map(|key| (key, corrupt(path, START, MISSING))).collect();
        Self {
            table,
            has_snapshot: true,
            sequence,
            durable,
            time,
            older_bytes: loaded.len,
            bytes_per_weight,
            incomplete,
        }
    }

    fn recovered(self, tail: Option<Tail>, obsolete: Vec<PathBuf>) -> Recovered {
        let Self { table, sequence, time, older_bytes, bytes_per_weight: scale, .. } = self;
        let table = table.finish();
        Recovered { table, sequence, time, tail, older_bytes, bytes_per_weight: scale, obsolete }
    }

    /// Reads one journal and applies it. Only the last one may have a torn tail: all of the others was on
    /// the disk before the next one was begun.
    fn journal(&mut self, input: &ReadContext<'_>, number: u64, is_last: bool) -> Result<Tail> {
        let path = input.layout.journal(number);
        let mut lines = LineReader::open(input, &path)?;
        let mut vouched = true;
        let mut closed = None;
        let mut header = 0;
        let mut damage: Option<Damage> = None;
        let mut open_lines: VecDeque<(u64, u64)> = VecDeque::new();
        while let Some(line) = lines.next()? {
            if closed.is_some() {
                return Err(lines.corrupt("the journal goes on behind its last line"));
            }
            let line = match (line, &mut damage) {
                (line, Some(damage)) => {
                    self.note_line_after_damage(damage, line.ok().or_else(|| lines.embedded_line()).as_ref());
                    continue;
                }
                (Ok(line), None) => line,
                (Err(fault @ LineFault::Damaged(_)), None) if lines.at.line > 1 => {
                    let error = lines.refuse(fault);
                    let mut begun = Damage { at: lines.at, error, whole_lines_follow: false };
                    self.note_line_after_damage(&mut begun, lines.embedded_line().as_ref());
                    damage = Some(begun);
                    continue;
                }
                (Err(fault), None) => return Err(lines.refuse(fault)),
            };
            self.check_sequence(&line, number, &lines)?;
            match line {
                Line::Header { vouched: says, .. } | Line::Opened { vouched: says, .. } => vouched = says,
                Line::Closed { .. } => closed = Some(lines.at.offset),
                Line::Commit { changes, .. } => {
                    for (key, change) in changes {
                        self.replay(&key, change, &lines);
                    }
                }
                Line::Entries { .. } | Line::Footer { .. } => {}
            }
            if lines.at.line == 1 {
                header = lines.offset;
            } else if closed.is_none() {
                open_lines.push_back((self.sequence, lines.at.offset));
            }
            while open_lines.front().is_some_and(|(sequence, _)| *sequence <= self.durable) {
                open_lines.pop_front();
            }
        }
        let end = lines.offset;
        let len = end + lines.trailing_zeros;
        if end == 0 {
            return Err(corrupt(&path, START, "the file is empty"));
        }
        let cut = self.classify_tail(&lines, damage, is_last, vouched)?;
        // What is synced is filled ahead with zeros; elsewhere they stand where something is lost.
        let torn = end - cut.unwrap_or(end) + if vouched { 0 } else { lines.trailing_zeros };
        let keep = cut.or(closed).unwrap_or(end);
        let unvouched = open_lines.iter().find(|(sequence, _)| *sequence > self.durable);
        let unvouched = unvouched.map_or(keep, |(_, offset)| *offset);
        // Where no line behind it is vouched for, neither is the header.
        let unvouched = if unvouched <= header { 0 } else { unvouched };
        if closed.is_some() {
            self.sequence = self.sequence.saturating_sub(1);
        }
        Ok(Tail { number, path, valid_len: keep, len, torn_bytes: torn, rewrite_from: unvouched })
    }

    /// Applies one fact. Over a snapshot of a later state it may leave a queue with a gap or a map without
    /// fields, which a later fact makes whole.
    fn replay(&mut self, key: &str, change: Change, lines: &LineReader<'_, '_>) {
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
            self.incomplete.insert(SmolStr::new(key), lines.corrupt(MISSING));
        }
    }

    fn is_complete(&self, key: &str) -> bool {
        self.table.read(key, |found| found.is_none_or(Entry::is_complete))
    }

    /// Checks that all is whole once all lines are read.
    fn check_complete(&mut self) -> Result<()> {
        let pieced = std::mem::take(&mut self.incomplete);
        match pieced.into_iter().find(|(key, _)| !self.is_complete(key)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Takes note of a whole line behind the first damage.
    fn note_line_after_damage(&mut self, damage: &mut Damage, line: Option<&Line>) {
        if let Some(mark) = line.and_then(parse_stamp) {
            damage.whole_lines_follow = true;
            self.durable = self.durable.max(mark.durable);
        }
    }

    /// Checks that a whole line is the one that comes next, and takes note of what it says.
    fn check_sequence(&mut self, line: &Line, number: u64, lines: &LineReader<'_, '_>) -> Result<()> {
        let is_first = lines.at.line == 1;
        let expected = match line {
            Line::Header { kind: FileKind::Journal, number: named, .. } if is_first && *named == number => {
                self.sequence
            }
            Line::Opened { .. } | Line::Commit { .. } | Line::Closed { .. } if !is_first => {
                self.sequence.saturating_add(1)
            }
            _ => return Err(lines.corrupt("this line does not belong here")),
        };
        let Some(mark) = parse_stamp(line) else {
            return Err(lines.corrupt("this line does not belong here"));
        };
        if mark.sequence != expected {
            let reason = format!("line {expected} of the sequence is missing: this is {}", mark.sequence);
            return Err(lines.corrupt(reason));
        }
        self.sequence = mark.sequence;
        self.durable = self.durable.max(mark.durable);
        if mark.time > 0 {
            self.time = mark.time;
        }
        Ok(())
    }

    /// Decides whether damage, or a missing end, is what a crash leaves; then it tells where to cut.
    fn classify_tail(
        &self,
        lines: &LineReader<'_, '_>,
        damage: Option<Damage>,
        is_last: bool,
        vouched: bool,
    ) -> Result<Option<u64>> {
        match damage {
            Some(damage) if !is_last || self.sequence < self.durable => Err(damage.error),
            Some(damage) if damage.whole_lines_follow && !vouched => Err(damage.error),
            Some(damage) => Ok(Some(damage.at.offset)),
            None if is_last && self.sequence < self.durable => {
                Err(lines.corrupt(format!("lines up to {} of the sequence are missing", self.durable)))
            }
            None => Ok(None),
        }
    }
}
