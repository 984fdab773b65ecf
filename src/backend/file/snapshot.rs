//! Owns how the entries of a table are written to a snapshot and read back. Knows nothing of journals.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::backend::file::contents::Contents;
use crate::backend::file::format::line;
use crate::backend::file::format::line::{FileKind, Line};
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::WritableFile;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::LineReader;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::config::SyncPolicy;
use crate::error::Result;

/// Entries of at least this weight make up one line.
const LINE_WEIGHT: u64 = 32 * 1024;

/// The file is synced every this many bytes: one large sync at the end would delay the syncs of the journal.
const SYNC_INTERVAL: u64 = 8 << 20;

/// Writes a snapshot to a new file.
pub(crate) struct SnapshotWriter<'a> {
    path: &'a Path,
    disk: Arc<dyn WritableFile>,
    pending: Vec<(SmolStr, Change)>,
    pending_bytes: u64,
    line: Vec<u8>,
    /// Checksum of all lines so far.
    sum: crc32fast::Hasher,
    count: u64,
    weight: u64,
    len: u64,
}

impl<'a> SnapshotWriter<'a> {
    pub(crate) fn create(
        layout: &Layout,
        path: &'a Path,
        number: u64,
        stamp: LineStamp,
        sync: SyncPolicy,
    ) -> Result<Self> {
        let disk = layout.fs.create(path).map_err(|error| failed("creating", path, error))?;
        let (pending, line, sum) = (Vec::new(), Vec::new(), crc32fast::Hasher::new());
        let mut writer =
            Self { path, disk, pending, pending_bytes: 0, line, sum, count: 0, weight: 0, len: 0 };
        line::encode_header(&mut writer.line, (FileKind::Snapshot, layout.contents), number, stamp, sync);
        writer.write_line()?;
        Ok(writer)
    }

    /// Adds one item of a fuzzy scan, and returns the length of the file so far.
    pub(crate) fn add(&mut self, key: SmolStr, change: Change) -> Result<u64> {
        match change {
            Change::Set(_) => self.count += 1,
            // It had expired since the scan set it.
            Change::Remove => self.count -= 1,
            Change::Nothing
            | Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => {}
        }
        self.pending_bytes += change.weight(&key);
        self.pending.push((key, change));
        if self.pending_bytes >= LINE_WEIGHT {
            self.write_pending()?;
        }
        Ok(self.len)
    }

    /// Writes the footer and syncs the file.
    pub(crate) fn finish(mut self, stamp: LineStamp) -> Result<SnapshotSize> {
        self.write_pending()?;
        let sum = self.sum.clone().finalize();
        line::encode_footer(&mut self.line, self.count, sum, stamp);
        self.write_line()?;
        self.sync()?;
        Ok(SnapshotSize { len: self.len, weight: self.weight })
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync_data().map_err(|error| failed("syncing", self.path, error))
    }

    fn write_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        line::encode_entries(&mut self.line, self.pending.iter().map(|(key, change)| (key, change)));
        self.pending.clear();
        self.weight += self.pending_bytes;
        self.pending_bytes = 0;
        self.write_line()
    }

    fn write_line(&mut self) -> Result<()> {
        self.sum.update(&self.line);
        self.disk.write_all_at(self.len, &self.line).map_err(|error| failed("writing", self.path, error))?;
        let before = self.len;
        self.len += self.line.len() as u64;
        self.line.clear();
        if self.len / SYNC_INTERVAL > before / SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }
}

/// Size of a finished snapshot.
pub(crate) struct SnapshotSize {
    pub(crate) len: u64,
    /// Weight of its entries.
    pub(crate) weight: u64,
}

/// Content of a snapshot.
pub(crate) struct Loaded {
    pub(crate) entries: BulkLoader,
    /// Keys of the entries that only the journal behind the snapshot completes.
    pub(crate) incomplete: Vec<SmolStr>,
    /// Last sequence and time before the journal behind the snapshot, and the synced sequence of that journal when
    /// the snapshot was finished.
    pub(crate) stamp: LineStamp,
    pub(crate) len: u64,
    pub(crate) contents: Contents,
}

/// The entries of a snapshot while it is read.
struct EntryLoader {
    entries: BulkLoader,
    /// The key of the last entry; empty, which is no valid key, before the first.
    last: SmolStr,
    /// Keys of the entries that have more than one part.
    partial: BTreeSet<SmolStr>,
}

impl EntryLoader {
    fn new() -> Self {
        Self { entries: BulkLoader::new(), last: SmolStr::default(), partial: BTreeSet::new() }
    }

    /// Adds one item; `false` if it cannot follow the item before.
    fn add(&mut self, key: &SmolStr, change: Change) -> bool {
        match change {
            Change::Set(_) if *self.last < **key => self.last = key.clone(),
            Change::SetFields(_) | Change::SetItems { .. } if self.last == *key => {
                self.partial.insert(key.clone());
            }
            Change::Remove if self.last == *key => {}
            Change::Nothing
            | Change::Set(_)
            | Change::Remove
            | Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => return false,
        }
        self.entries.apply(key, change);
        true
    }

    fn finish(self, stamp: LineStamp, len: u64, contents: Contents) -> Loaded {
        let Self { entries, partial, .. } = self;
        let is_incomplete = |key: &SmolStr| !entries.read(key, |found| found.is_none_or(Entry::is_complete));
        let incomplete = partial.into_iter().filter(is_incomplete).collect();
        Loaded { entries, incomplete, stamp, len, contents }
    }
}

/// Reads a snapshot completely, or fails.
pub(crate) fn load(context: &ReadContext<'_>, number: u64) -> Result<Loaded> {
    let mut lines = LineReader::open(context, &context.layout.snapshot_path(number))?;
    let mut loader = EntryLoader::new();
    let mut sum = crc32fast::Hasher::new();
    let mut header = None;
    loop {
        let line = match lines.next()? {
            None => return Err(lines.corrupt("the snapshot has no end")),
            Some(Err(fault)) => return Err(lines.refuse(fault)),
            Some(Ok(line)) => line,
        };
        match line {
            Line::Header { kind: FileKind::Snapshot, contents, number: named, .. }
                if header.is_none() && named == number =>
            {
                header = Some(contents);
            }
            Line::Entries { changes } if header.is_some() => {
                for (key, change) in changes {
                    if !loader.add(&key, change) {
                        return Err(lines.corrupt("the entries are not in order"));
                    }
                }
            }
            Line::Footer { count, sum: expected, stamp } if header.is_some() => {
                let contents = header.unwrap_or(Contents::Store);
                if count != loader.entries.len() as u64 || expected != sum.finalize() {
                    return Err(lines.corrupt("the snapshot is not the one that was written"));
                }
                if lines.next()?.is_some() || lines.trailing_zeros > 0 {
                    return Err(lines.corrupt("the snapshot continues behind its end"));
                }
                return Ok(loader.finish(stamp, lines.offset, contents));
            }
            Line::Header { .. }
            | Line::Opened { .. }
            | Line::Commit { .. }
            | Line::Closed { .. }
            | Line::Entries { .. }
            | Line::Footer { .. } => return Err(lines.corrupt("this line is out of place")),
        }
        sum.update(lines.bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::backend::file::fs::OsFileSystem;
    use crate::backend::local::plan::plan;
    use crate::backend::local::table::fuzzy_scan::FuzzyScan;
    use crate::backend::local::table::shards::Table;
    use crate::backend::local::view::LiveEntry;
    use crate::clock::{Clock as _, ManualClock, Millis, Now};
    use crate::op::{End, EntryAction};
    use crate::value::Value;

    const LARGE: i64 = 1000;
    const KEYS: [&str; 6] =
        ["map", "queue", "other", "expiring", "a:__millpond:leases", "z:__millpond:leases"];

    /// A table under change, and its changes since the scan began.
    struct ChangingTable {
        table: Table,
        clock: ManualClock,
        changes: Vec<(&'static str, Change)>,
        random: fastrand::Rng,
        number: i64,
    }

    impl ChangingTable {
        fn new(seed: u64) -> Self {
            let (table, random) = (Table::default(), fastrand::Rng::with_seed(seed));
            let mut changing =
                Self { table, clock: ManualClock::default(), changes: Vec::new(), random, number: 0 };
            for key in KEYS {
                let seconds = changing.random.u64(1..6);
                let ttl_if_created =
                    (key == "expiring").then(|| Millis::new(Duration::from_secs(seconds)).unwrap());
                let is_map = key == "map" || key != "queue" && changing.random.bool();
                let action = if is_map {
                    EntryAction::MapPut { fields: changing.fields(LARGE), ttl_if_created }
                } else {
                    EntryAction::Push { end: End::Back, values: changing.values(LARGE), ttl_if_created }
                };
                changing.apply(key, action);
            }
            changing.changes.clear();
            changing
        }

        fn apply(&mut self, key: &'static str, action: EntryAction) {
            let now = Now::of(&self.clock);
            let changes = &mut self.changes;
            // An operation on another kind of entry fails and changes nothing.
            let _ = self.table.commit(key, &now, |found| {
                let (change, _) = plan(key, action, &mut LiveEntry::new(key, found, &now), &now)?;
                changes.push((key, change.clone()));
                Ok((change, ()))
            });
        }

        fn values(&mut self, count: i64) -> Vec<Value> {
            self.number += count;
            (self.number - count..self.number).map(Value::integer).collect()
        }

        fn field(&mut self) -> SmolStr {
            smol_str::format_smolstr!("{:04}", self.random.i64(..LARGE + 50))
        }

        fn fields(&mut self, count: i64) -> Vec<(SmolStr, Value)> {
            let name = |number: i64| smol_str::format_smolstr!("{:04}", number % (LARGE + 50));
            self.values(count).into_iter().zip(self.number..).map(|(value, at)| (name(at), value)).collect()
        }

        /// Applies a random operation, in most cases to the key that the scan has reached.
        fn step(&mut self, scanned: &str) {
            let any = KEYS[self.random.usize(..KEYS.len())];
            let key = KEYS.into_iter().find(|key| *key == scanned && self.random.bool()).unwrap_or(any);
            // An expired entry is not created again: no later change may make up for it.
            if key == "expiring" && self.table.ttl(key, &Now::of(&self.clock)).is_none() {
                return;
            }
            let end = if self.random.bool() { End::Front } else { End::Back };
            let count = self.random.i64(1..30);
            let action = match self.random.u32(..400) {
                0 => EntryAction::Delete,
                1 => EntryAction::Put { value: Value::integer(count), ttl: None },
                2 => EntryAction::Trim { most: self.random.u64(200..900) },
                3 => EntryAction::Persist,
                4 => EntryAction::Expire { ttl: Millis::new(Duration::from_secs(2)).unwrap() },
                5..130 => EntryAction::Push { end, values: self.values(count), ttl_if_created: None },
                130..260 => EntryAction::Pop { end },
                260..330 => EntryAction::MapDelete { field: self.field() },
                _ => EntryAction::MapPut { fields: self.fields(count), ttl_if_created: None },
            };
            let times = if matches!(action, EntryAction::Pop { .. }) { count } else { 1 };
            (0..times).for_each(|_| self.apply(key, action.clone()));
            if self.random.u32(..100) == 0 {
                self.clock.advance(Duration::from_millis(300));
                self.table.reclaim_all(&Now::of(&self.clock));
            }
        }
    }

    fn map_entries<R>(table: &Table, read: impl Fn(Option<&Entry>) -> R) -> Vec<(SmolStr, R)> {
        let keys = table.all_keys(None, usize::MAX).0.into_iter();
        keys.map(|key| (key.clone(), table.read(&key, &read))).collect()
    }

    fn state(table: &Table) -> Vec<(SmolStr, String)> {
        map_entries(table, |found| format!("{found:?}"))
    }

    #[test]
    fn a_fuzzy_snapshot_and_later_changes_give_the_last_state() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path(), &OsFileSystem::default(), Contents::Store).unwrap();
        let path = layout.snapshot_path(7);
        let (mut incomplete, mut expired) = (0, 0);
        for seed in 0..100 {
            let mut changing = ChangingTable::new(seed);
            let beginning = ManualClock::new(changing.clock.now());
            let mut writer =
                SnapshotWriter::create(&layout, &path, 7, LineStamp::default(), SyncPolicy::Never).unwrap();
            let mut scan = FuzzyScan::new();
            let steps = changing.random.u32(1..300);
            while let Some((key, change)) = scan.next(&changing.table, &Now::of(&beginning)) {
                expired += u32::from(key == "expiring" && change == Change::Remove);
                let scanned = key.clone();
                writer.add(key, change).unwrap();
                for _ in 0..changing.random.u32(..steps) {
                    changing.step(&scanned);
                }
            }
            writer.finish(LineStamp::default()).unwrap();

            let loaded = load(&ReadContext::new(&layout, false, &mut |_| ()), 7).unwrap();
            incomplete += loaded.incomplete.len();
            let table = loaded.entries.finish();
            let epoch = ManualClock::new(UNIX_EPOCH);
            for (key, change) in changing.changes {
                table.apply(key, change, &Now::of(&epoch));
            }
            let mut entries = map_entries(&table, |found| found.is_none_or(Entry::is_complete)).into_iter();
            assert!(entries.all(|(_, is_complete)| is_complete), "seed {seed}");
            changing.table.reclaim_all(&Now::of(&changing.clock));
            table.reclaim_all(&Now::of(&changing.clock));
            assert_eq!(state(&table), state(&changing.table), "seed {seed}");
            assert_eq!(table.bytes(), changing.table.bytes(), "seed {seed}");
        }
        assert!(incomplete > 0, "no scan saw a gap");
        assert!(expired > 0, "no scan removed an entry again");
    }
}
