//! Owns how the journal is replaced by a snapshot while writers continue. Knows nothing of when that is due and of how
//! a mutation is decided.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::backend::file::core::Core;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::journal::writer;
use crate::backend::file::snapshot::{SnapshotSize, SnapshotWriter};
use crate::backend::local::table::fuzzy_scan::FuzzyScan;
use crate::clock::{Clock as _, ManualClock, Now};
use crate::error::{Error, Result};
use crate::util::log_later::{FlushOnDrop, log_later};

/// Compacts, and checks the size again, because deletions during the compaction may still be in the snapshot and no
/// later write may come to notice.
pub(crate) fn run(core: &Arc<Core>) {
    // INVARIANT: written last, when no writer waits for this compaction: a logger may be a writer.
    let _lines = FlushOnDrop;
    let running = core.pacer.end_on_drop();
    let outcome = compact(core, &mut || ());
    let is_compacted = matches!(outcome, Ok(Some(_)));
    match outcome {
        Ok(Some(_) | None) | Err(Error::Poisoned { .. }) => {}
        Err(error) => {
            if core.pacer.note_failed() {
                log_later!(
                    Warn,
                    "compacting {} failed, so its files grow until it succeeds: {error:#}",
                    core.layout.dir.display()
                );
            }
        }
    }
    drop(running);
    if is_compacted {
        let mut journal = core.journal.lock();
        journal.next_size_check = 0;
        core.check_size(&mut journal, 0, 0);
    }
}

/// Replaces all files by a new journal and the snapshot of the state before it; `None` if the store is closing.
/// Writers continue meanwhile: a test writes in `write_now`.
pub(crate) fn compact(core: &Core, write_now: &mut dyn FnMut()) -> Result<Option<SnapshotSize>> {
    let (number, begin) = rotate(core)?;
    write_now();
    let path = core.layout.unfinished_snapshot_path(number);
    let written = write(core, number, begin, &path);
    let Ok(Some(size)) = written else {
        // If the file stays, the next opening deletes it.
        let _ = core.layout.remove(&path);
        return written;
    };
    write_now();
    let finished = core.layout.snapshot_path(number);
    core.layout.rename(&path, &finished).inspect_err(|_| drop(core.layout.remove(&path)))?;
    // INVARIANT: nothing is deleted before the name of its replacement is durable.
    core.layout.sync()?;
    write_now();
    remove_replaced(core, number)?;
    core.pacer.note_compacted(size.len, size.weight);
    step_back(core, begin.time);
    Ok(Some(size))
}

/// Deletes the files that the snapshot of this number replaces.
fn remove_replaced(core: &Core, number: u64) -> Result<()> {
    let _no_backup_begins = core.deletion.lock();
    let listing = core.layout.list()?;
    core.layout.paths(&listing, ..number).try_for_each(|path| core.layout.remove(&path))
}

/// Lets the clock follow the system clock again if it was far ahead of it at `time`, when this compaction began.
///
/// INVARIANT: the files hold no entry any more that had expired by then, and memory holds none after this.
fn step_back(core: &Core, time: u64) {
    if core.clock.is_far_ahead() {
        let _no_writer = core.journal.lock();
        core.state.table.reclaim_all(&Now::of(&clock_at(core, time)));
        core.clock.step_back(time);
    }
}

/// A clock that stands at a time of the store.
fn clock_at(core: &Core, millis: u64) -> ManualClock {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    ManualClock::new(time.unwrap_or_else(|| core.clock.now()))
}

/// Begins a new journal; returns its number, and the stamp of the state at its beginning.
fn rotate(core: &Core) -> Result<(u64, LineStamp)> {
    // Most lines are synced before the lock is taken, which makes writers wait.
    core.durability.wait(core.durability.written())?;
    let number = core.journal.lock().number + 1;
    let (next, path) = writer::create_journal(&core.layout, number)?;
    let mut journal = core.journal.lock();
    core.durability.check()?;
    let time = Now::of(&core.clock).millis();
    let before = journal.len;
    if let Err(error) = journal.rotate(next, path.clone(), time, core.sync, &core.durability) {
        // INVARIANT: a header without lines behind it must not stay, or recovery would take its file for the
        // journal to continue.
        if let Err(cause) = core.layout.fs.remove(&path) {
            return Err(core.durability.poison("the rotation", &cause));
        }
        return Err(error);
    }
    core.pacer.note_rotated(before);
    Ok((number, LineStamp { sequence: journal.sequence, synced: journal.sequence, time }))
}

/// Writes the snapshot from the table, which keeps changing: the new journal repeats the changes made meanwhile.
fn write(core: &Core, number: u64, begin: LineStamp, path: &Path) -> Result<Option<SnapshotSize>> {
    let mut writer = SnapshotWriter::create(&core.layout, path, number, begin, core.sync)?;
    // Entries that had expired when the journal began are expired for each of its lines: the clock does not go back.
    let beginning = clock_at(core, begin.time);
    let now = Now::of(&beginning);
    let mut scan = FuzzyScan::new();
    while let Some((key, change)) = scan.next(&core.state.table, &now) {
        let written = writer.add(key, change)?;
        core.pacer.note_snapshot_bytes(written);
        if core.pacer.is_stopping() {
            return Ok(None);
        }
    }
    // INVARIANT: the lines whose changes the scan saw are on the disk before the snapshot counts, or a power cut
    // could leave half of a commit.
    let synced = core.durability.written();
    core.durability.wait(synced)?;
    writer.finish(LineStamp { synced, ..begin }).map(Some)
}
