//! Owns how a whole table becomes the files of a store: a snapshot, and a journal without lines. Knows nothing of what
//! they replace.

use std::time::UNIX_EPOCH;

use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::journal::writer;
use crate::backend::file::layout::Layout;
use crate::backend::file::snapshot::SnapshotWriter;
use crate::backend::local::table::fuzzy_scan::FuzzyScan;
use crate::backend::local::table::shards::Table;
use crate::clock::{ManualClock, Now};
use crate::config::SyncPolicy;
use crate::error::Result;

/// Writes a table that nobody changes. The names of the files are durable when this returns. After an error, some of the
/// files may be there, but not the finished snapshot.
pub(crate) fn write(table: &Table, stamp: LineStamp, layout: &Layout, number: u64) -> Result<()> {
    let sync = SyncPolicy::Always;
    let path = layout.unfinished_snapshot_path(number);
    let mut writer = SnapshotWriter::create(layout, &path, number, stamp, sync)?;
    // At this time no entry has expired: the next opening removes those that have.
    let beginning = ManualClock::new(UNIX_EPOCH);
    let now = Now::of(&beginning);
    let mut scan = FuzzyScan::new();
    while let Some((key, change)) = scan.next(table, &now) {
        writer.add(key, change)?;
    }
    writer.finish(stamp)?;
    let (disk, journal) = writer::create_journal(layout, number)?;
    writer::write_header(&*disk, &journal, layout.contents, (number, stamp), sync)?;
    let finished = layout.snapshot_path(number);
    layout.rename(&path, &finished)?;
    // INVARIANT: nothing is deleted before the name of its replacement is durable.
    layout.sync().inspect_err(|_| drop(layout.remove(&finished)))
}
