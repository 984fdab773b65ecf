//! Owns how the entries of a table become a snapshot and come back out of one. Knows nothing of journals.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::backend::file::format::line;
use crate::backend::file::format::line::{FileKind, Line, LineStamp};
use crate::backend::file::fs::WritableFile;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::line_reader::LineReader;
use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::table::bulk_load::BulkLoader;
use crate::config::SyncPolicy;
use crate::error::Result;

/// From which size on a line of entries is written out.
const LINE: u64 = 32 * 1024;

/// After so many bytes they are brought to the disk: a sync of all at the end would keep others' syncs waiting.
const SYNCED: u64 = 8 << 20;

/// Writes a snapshot to a new file.
pub(crate) struct SnapshotWriter<'a> {
    path: &'a Path,
    disk: Arc<dyn WritableFile>,
    pending: Vec<(SmolStr, Change)>,
    pending_bytes: u64,
    line: Vec<u8>,
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
        mark: LineStamp,
        sync: SyncPolicy,
    ) -> Result<Self> {
        let disk = layout.fs.create(path).map_err(|error| failed("creating", path, error))?;
        let (pending, line, sum) = (Vec::new(), Vec::new(), crc32fast::Hasher::new());
        let mut writer =
            Self { path, disk, pending, pending_bytes: 0, line, sum, count: 0, weight: 0, len: 0 };
        line::header(&mut writer.line, FileKind::Snapshot, number, mark, sync);
        writer.write()?;
        Ok(writer)
    }

    /// Writes one piece of a walk, and tells how long the file is by now.
    pub(crate) fn add(&mut self, key: SmolStr, change: Change) -> Result<u64> {
        match change {
            Change::Set(_) => self.count += 1,
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
        if self.pending_bytes >= LINE {
            self.write_part()?;
        }
        Ok(self.len)
    }

    /// Writes the end, brings all of it to the disk, and tells its size and the weight of what is in it.
    pub(crate) fn finish(mut self, mark: LineStamp) -> Result<(u64, u64)> {
        self.write_part()?;
        let sum = self.sum.clone().finalize();
        line::footer(&mut self.line, self.count, sum, mark);
        self.write()?;
        self.sync()?;
        Ok((self.len, self.weight))
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync_data().map_err(|error| failed("syncing", self.path, error))
    }

    fn write_part(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        line::entries(&mut self.line, self.pending.iter().map(|(key, change)| (key, change)));
        self.pending.clear();
        self.weight += self.pending_bytes;
        self.pending_bytes = 0;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        self.sum.update(&self.line);
        self.disk.write_all_at(self.len, &self.line).map_err(|error| failed("writing", self.path, error))?;
        let before = self.len;
        self.len += self.line.len() as u64;
        self.line.clear();
        if self.len / SYNCED > before / SYNCED {
            self.sync()?;
        }
        Ok(())
    }
}

/// What a snapshot holds.
pub(crate) struct Loaded {
    pub(crate) entries: BulkLoader,
    /// The keys of those that only the journal behind it makes whole.
    pub(crate) incomplete: Vec<SmolStr>,
    /// Where the journal behind it begins, and up to where that journal was on the disk when the snapshot
    /// took its place.
    pub(crate) stamp: LineStamp,
    pub(crate) len: u64,
}

/// Reads a snapshot, all of it or not at all.
pub(crate) fn load(input: &ReadContext<'_>, number: u64) -> Result<Loaded> {
    let mut lines = LineReader::open(input, &input.layout.snapshot(number))?;
    let mut entries = BulkLoader::new();
    let (mut last, mut parted) = (SmolStr::default(), BTreeSet::new());
    let mut sum = crc32fast::Hasher::new();
    let mut begun = false;
    loop {
        let line = match lines.next()? {
            None => return Err(lines.corrupt("the snapshot has no end")),
            Some(Err(fault)) => return Err(lines.refuse(fault)),
            Some(Ok(line)) => line,
        };
        match line {
            Line::Header { kind: FileKind::Snapshot, number: named, .. } if !begun && named == number => {
                begun = true;
            }
            Line::Entries { changes } if begun => {
                for (key, change) in changes {
                    // No empty key comes before the first.
                    match change {
                        Change::Set(_) if *last < *key => last = key.clone(),
                        Change::SetFields(_) | Change::SetItems { .. } if last == key => {
                            parted.insert(key.clone());
                        }
                        Change::Remove if last == key => {}
                        _ => return Err(lines.corrupt("the entries are not in order")),
                    }
                    entries.apply(&key, change);
                }
            }
            Line::Footer { count, sum: expected, mark } if begun => {
                if count != entries.len() as u64 || expected != sum.finalize() {
                    return Err(lines.corrupt("the snapshot is not the one that was written"));
                }
                if lines.next()?.is_some() || lines.trailing_zeros > 0 {
                    return Err(lines.corrupt("the snapshot goes on behind its end"));
                }
                let is_pieced =
                    |key: &SmolStr| !entries.read(key, |found| found.is_none_or(Entry::is_complete));
                let pieced = parted.into_iter().filter(is_pieced).collect();
                return Ok(Loaded { entries, incomplete: pieced, stamp: mark, len: lines.offset });
            }
            _ => return Err(lines.corrupt("this line does not belong here")),
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
    const KEYS: [&str; 6] = ["map", "queue", "other", "mortal", "a:__millpond:leases", "z:__millpond:leases"];

    /// A table, and the facts since its walk began.
    struct Moving {
        table: Table,
        clock: ManualClock,
        facts: Vec<(&'static str, Change)>,
        random: fastrand::Rng,
        number: i64,
    }

    impl Moving {
        fn new(seed: u64) -> Self {
            let (table, random) = (Table::default(), fastrand::Rng::with_seed(seed));
            let mut moving =
                Self { table, clock: ManualClock::default(), facts: Vec::new(), random, number: 0 };
            for key in KEYS {
                let seconds = moving.random.u64(1..6);
                let ttl_if_created =
                    (key == "mortal").then(|| Millis::new(Duration::from_secs(seconds)).unwrap());
                let is_map = key == "map" || key != "queue" && moving.random.bool();
                let action = match is_map {
                    true => EntryAction::MapPut { fields: moving.fields(LARGE), ttl_if_created },
                    false => {
                        EntryAction::Push { end: End::Back, values: moving.values(LARGE), ttl_if_created }
                    }
                };
                moving.act(key, action);
            }
            moving.facts.clear();
            moving
        }

        fn act(&mut self, key: &'static str, action: EntryAction) {
            let now = Now::of(&self.clock);
            let facts = &mut self.facts;
            // What another kind of thing refuses changes nothing.
            let _ = self.table.commit(key, &now, |found| {
                let (change, _) = plan(key, action, &mut LiveEntry::new(key, found, &now), &now)?;
                facts.push((key, change.clone()));
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

        /// Does something, more often than not to the key that the walk has come to.
        fn step(&mut self, walked: &str) {
            let any = KEYS[self.random.usize(..KEYS.len())];
            let key = KEYS.into_iter().find(|key| *key == walked && self.random.bool()).unwrap_or(any);
            // What has expired stays gone, so that no later fact makes up for it.
            if key == "mortal" && self.table.ttl(key, &Now::of(&self.clock)).is_none() {
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
            (0..times).for_each(|_| self.act(key, action.clone()));
            if self.random.u32(..100) == 0 {
                self.clock.advance(Duration::from_millis(300));
                self.table.reclaim_all(&Now::of(&self.clock));
            }
        }
    }

    fn each<R>(table: &Table, look: impl Fn(Option<&Entry>) -> R) -> Vec<(SmolStr, R)> {
        let keys = table.all_keys(None, usize::MAX).0.into_iter();
        keys.map(|key| (key.clone(), table.read(&key, &look))).collect()
    }

    fn state(table: &Table) -> Vec<(SmolStr, String)> {
        each(table, |found| format!("{found:?}"))
    }

    #[test]
    fn a_snapshot_of_what_moves_and_the_facts_since_then_give_the_last_state() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path(), Arc::new(OsFileSystem)).unwrap();
        let path = layout.snapshot(7);
        let (mut pieced, mut expired) = (0, 0);
        for seed in 0..100 {
            let mut moving = Moving::new(seed);
            let beginning = ManualClock::new(moving.clock.now());
            let mut writer =
                SnapshotWriter::create(&layout, &path, 7, LineStamp::default(), SyncPolicy::Never).unwrap();
            let mut walk = FuzzyScan::new();
            let steps = moving.random.u32(1..300);
            while let Some((key, change)) = walk.next(&moving.table, &Now::of(&beginning)) {
                expired += u32::from(key == "mortal" && change == Change::Remove);
                let walked = key.clone();
                writer.add(key, change).unwrap();
                for _ in 0..moving.random.u32(..steps) {
                    moving.step(&walked);
                }
            }
            writer.finish(LineStamp::default()).unwrap();

            let loaded = load(&ReadContext::new(&layout, false, &mut |_| ()), 7).unwrap();
            pieced += loaded.incomplete.len();
            let table = loaded.entries.finish();
            let epoch = ManualClock::new(UNIX_EPOCH);
            for (key, change) in moving.facts {
                table.apply(key, change, &Now::of(&epoch));
            }
            let mut whole = each(&table, |found| found.is_none_or(Entry::is_complete)).into_iter();
            assert!(whole.all(|(_, is_whole)| is_whole), "seed {seed}");
            moving.table.reclaim_all(&Now::of(&moving.clock));
            table.reclaim_all(&Now::of(&moving.clock));
            assert_eq!(state(&table), state(&moving.table), "seed {seed}");
            assert_eq!(table.bytes(), moving.table.bytes(), "seed {seed}");
        }
        assert!(pieced > 0, "no walk saw a gap");
        assert!(expired > 0, "nothing was taken back");
    }
}
