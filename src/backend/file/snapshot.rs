//! Owns how the entries of a table become a snapshot and come back out of one. Knows nothing of journals.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use smol_str::SmolStr;

use super::layout::failed;
use super::lines::Lines;
use super::record::{self, FileKind, Line, Mark};
use crate::backend::local::change::{Change, Entry};
use crate::config::SyncPolicy;
use crate::error::Result;

/// From which size on a line of entries is written out.
const LINE: u64 = 32 * 1024;

/// Writes a snapshot to a new file.
pub(super) struct Writer<'a> {
    path: &'a Path,
    file: std::fs::File,
    pending: Vec<(SmolStr, Change)>,
    pending_bytes: u64,
    line: Vec<u8>,
    sum: crc32fast::Hasher,
    count: u64,
    weight: u64,
    len: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn create(path: &'a Path, number: u64, mark: Mark, sync: SyncPolicy) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| failed("creating", path, error))?;
        let (pending, line, sum) = (Vec::new(), Vec::new(), crc32fast::Hasher::new());
        let mut writer =
            Self { path, file, pending, pending_bytes: 0, line, sum, count: 0, weight: 0, len: 0 };
        record::header(&mut writer.line, FileKind::Snapshot, number, mark, sync);
        writer.write()?;
        Ok(writer)
    }

    /// Writes one piece of a walk.
    pub(super) fn add(&mut self, key: SmolStr, change: Change) -> Result<()> {
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
        if self.pending_bytes >= LINE { self.write_part() } else { Ok(()) }
    }

    /// Writes the end, brings all of it to the disk, and tells its size and the weight of what is in it.
    pub(super) fn finish(mut self, mark: Mark) -> Result<(u64, u64)> {
        self.write_part()?;
        let sum = self.sum.clone().finalize();
        record::end(&mut self.line, self.count, sum, mark);
        self.write()?;
        self.file.sync_all().map_err(|error| failed("syncing", self.path, error))?;
        Ok((self.len, self.weight))
    }

    fn write_part(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        record::part(&mut self.line, self.pending.iter().map(|(key, change)| (key, change)));
        self.pending.clear();
        self.weight += self.pending_bytes;
        self.pending_bytes = 0;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        self.sum.update(&self.line);
        self.file.write_all(&self.line).map_err(|error| failed("writing", self.path, error))?;
        self.len += self.line.len() as u64;
        self.line.clear();
        Ok(())
    }
}

/// What a snapshot holds.
pub(super) struct Loaded {
    /// Sorted by key.
    pub(super) entries: Vec<(SmolStr, Entry)>,
    /// The keys of those that only the journal behind it makes whole.
    pub(super) pieced: Vec<SmolStr>,
    /// Where the journal behind it begins, and up to where that journal was on the disk when the snapshot
    /// took its place.
    pub(super) mark: Mark,
    pub(super) len: u64,
}

/// Reads a snapshot, all of it or not at all.
pub(super) fn load(path: &Path, number: u64) -> Result<Loaded> {
    let mut lines = Lines::open(path)?;
    let mut entries: Vec<(SmolStr, Entry)> = Vec::new();
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
            Line::Part { changes } if begun => {
                for (key, change) in changes {
                    if !take_in(&mut entries, &key, change) {
                        return Err(lines.corrupt("the entries are not in order"));
                    }
                }
            }
            Line::End { count, sum: expected, mark } if begun => {
                if count != entries.len() as u64 || expected != sum.finalize() {
                    return Err(lines.corrupt("the snapshot is not the one that was written"));
                }
                if lines.next()?.is_some() {
                    return Err(lines.corrupt("the snapshot goes on behind its end"));
                }
                let pieced = entries.iter().filter(|(_, entry)| !entry.is_whole());
                let pieced = pieced.map(|(key, _)| key.clone()).collect();
                return Ok(Loaded { entries, pieced, mark, len: lines.offset });
            }
            _ => return Err(lines.corrupt("this line does not belong here")),
        }
        sum.update(lines.bytes());
    }
}

/// Adds one piece of a walk to those before, unless it does not belong there.
fn take_in(entries: &mut Vec<(SmolStr, Entry)>, key: &str, change: Change) -> bool {
    let last = entries.last_mut();
    match (change, last) {
        (Change::Set(entry), last) if last.as_ref().is_none_or(|(last, _)| **last < *key) => {
            entries.push((SmolStr::new(key), entry));
        }
        (change @ (Change::SetFields(_) | Change::SetItems { .. }), Some((last, entry))) if *last == key => {
            // No part goes: there is none to be dropped.
            entry.amend(change);
        }
        (Change::Remove, Some((last, _))) if *last == key => drop(entries.pop()),
        _ => return false,
    }
    true
}
