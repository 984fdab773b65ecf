//! Owns the opening of a store: which changes are made on disk before it serves. What the files mean is decided by
//! recovery.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::file::clock::MonotonicClock;
use crate::backend::file::compaction;
use crate::backend::file::contents::Contents;
use crate::backend::file::copying::copy_range;
use crate::backend::file::core::Core;
use crate::backend::file::format::stamp::LineStamp;
use crate::backend::file::fs::{OsFileSystem, ReadOnlyFile, WritableFile};
use crate::backend::file::journal::combining::Combiner;
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::journal::writer;
use crate::backend::file::journal::writer::{Journal, JournalEnd, JournalState};
use crate::backend::file::layout::{Layout, failed};
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::pacer::Pacer;
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::recovery;
use crate::backend::file::recovery::{Recovered, Tail};
use crate::backend::file::report::Progress;
use crate::backend::file::store::File;
use crate::backend::file::syncer::Syncer;
use crate::backend::local::state::LocalState;
use crate::backend::local::table::shards::Table;
use crate::backend::local::wait_list::WaitList;
use crate::clock::Now;
use crate::config::{FileOptions, SyncPolicy};
use crate::error::{Error, Result};
use crate::stats::recorder::Recorder;
use crate::store_clock::StoreClock;
use crate::util::log_later::log_later;

/// How often a read-only opening is retried because another process may be replacing the files, and the pause before
/// the first retry, which grows.
const READ_RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

impl File {
    /// Opens the store in `dir`, or creates one.
    pub(crate) fn open(
        dir: &Path,
        options: &FileOptions,
        clock: StoreClock,
        report: &mut dyn FnMut(Progress),
        contents: Contents,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        let layout = Layout::create(dir, &OsFileSystem::default(), contents)?;
        Self::open_in(layout, options, clock, report, recorder)
    }

    /// Opens the store in an existing directory, or creates one.
    pub(crate) fn open_in(
        layout: Layout,
        options: &FileOptions,
        clock: StoreClock,
        report: &mut dyn FnMut(Progress),
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        recovery::check_unlocked(&layout)?;
        let lock = DirectoryLock::take(&layout)?;
        let recovered = recovery::read(&ReadContext::new(&layout, false, report))?;
        // INVARIANT: nothing on disk is changed before this check.
        recovered.check_contents(&layout)?;
        lock.note_holder(&layout);
        let Recovered { table, sequence, time, tail, older_bytes, bytes_per_weight, obsolete, .. } =
            recovered;
        let clock = MonotonicClock::new(clock, time);
        table.reclaim_all(&Now::of(&clock));
        let time = Now::of(&clock).millis();

        let is_new = tail.is_none();
        if is_new && !obsolete.is_empty() {
            remove_obsolete(&layout, &obsolete)?;
        }
        let end = match tail {
            Some(tail) => resume_after(&layout, tail, sequence)?,
            None => create_first_journal(&layout, time, options.sync)?,
        };
        let journal = Journal::resume(end, layout.dir.clone(), options.sync, recorder);
        let pacer = Pacer::new(options, older_bytes, bytes_per_weight);
        let core = build_core(layout, (table, clock), journal, pacer, options.sync);
        if !is_new {
            let mut journal = core.journal.lock();
            journal.append_opening(time, options.sync, &core.durability)?;
            core.durability.wait(journal.sequence)?;
            if obsolete.is_empty() {
                // An earlier process may have failed to make the name of the journal durable. If that fails again, the
                // store is no worse off than it was.
                let _ = core.layout.sync();
            } else {
                remove_obsolete(&core.layout, &obsolete)?;
            }
        }
        if core.clock.is_far_ahead() {
            match compaction::compact(&core, &mut || ()) {
                Ok(_) => {}
                Err(error @ Error::Poisoned { .. }) => return Err(error),
                Err(error) => {
                    let dir = core.layout.dir.display();
                    log_later!(Warn, "the time of the store at {dir} stands still: {error:#}");
                }
            }
        }
        let syncer = match options.sync {
            SyncPolicy::Every(interval) => Some(Syncer::spawn(&core, interval)?),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        // INVARIANT: nothing below fails, or the compaction would outlive the lock on the directory.
        core.check_size(&mut core.journal.lock(), 0, 0);
        Ok(Self { core, syncer: Mutex::new(syncer), lock: Mutex::new(Some(lock)) })
    }

    /// Opens the store in `dir` as it is now, even while another process has it open. Nothing on disk is changed,
    /// now or later.
    pub(crate) fn open_read_only(dir: &Path, clock: StoreClock) -> Result<Self> {
        Self::open_read_only_in(Layout::open_existing(dir, &OsFileSystem::default(), Contents::Store)?, clock)
    }

    pub(crate) fn open_read_only_in(layout: Layout, clock: StoreClock) -> Result<Self> {
        let mut retries = 0;
        let recovered = loop {
            match recovery::read(&ReadContext::new(&layout, true, &mut |_| ())) {
                // The process that has the store open may be replacing the files.
                Err(Error::Corrupt { .. }) if retries < READ_RETRIES => {
                    retries += 1;
                    thread::sleep(PAUSE * retries);
                }
                outcome => break outcome?,
            }
        };
        recovered.check_contents(&layout)?;
        let Recovered { table, sequence, time, .. } = recovered;
        let clock = MonotonicClock::new(clock, time);
        table.reclaim_all(&Now::of(&clock));
        let (sync, disk) = (SyncPolicy::Never, Arc::new(ReadOnlyFile));
        let contents = layout.contents;
        let end = JournalEnd { path: layout.dir.clone(), disk, number: 0, len: 0, sequence, contents };
        let (mut journal, durability) = Journal::resume(end, layout.dir.clone(), sync, Arc::default());
        journal.state = JournalState::ReadOnly;
        let pacer = Pacer::new(&FileOptions::default(), 0, None);
        let core = build_core(layout, (table, clock), (journal, durability), pacer, sync);
        Ok(Self { core, syncer: Mutex::new(None), lock: Mutex::new(None) })
    }
}

fn build_core(
    layout: Layout,
    (table, clock): (Table, MonotonicClock),
    (journal, durability): (Journal, Durability),
    pacer: Pacer,
    sync: SyncPolicy,
) -> Arc<Core> {
    Arc::new(Core {
        state: LocalState { table, wait_list: WaitList::default() },
        clock,
        sync,
        journal: Mutex::new(journal),
        combiner: Combiner::default(),
        durability,
        pacer,
        compact: compaction::run,
        compaction_thread: Mutex::new(None),
        deletion: Mutex::new(()),
        layout,
    })
}

/// Makes the names of the files durable, and deletes files that are no longer needed.
fn remove_obsolete(layout: &Layout, obsolete: &[PathBuf]) -> Result<()> {
    // INVARIANT: the names of all files that count are durable. A process that was killed, or whose sync failed, may
    // have left a snapshot or a journal whose name a power cut would remove.
    layout.sync()?;
    obsolete.iter().try_for_each(|path| layout.remove(path))
}

/// Creates the first journal of a store.
fn create_first_journal(layout: &Layout, time: u64, sync: SyncPolicy) -> Result<JournalEnd> {
    let (disk, path) = writer::create_journal(layout, 1)?;
    let (contents, stamp) = (layout.contents, LineStamp { sequence: 0, synced: 0, time });
    let len = writer::write_header(&*disk, &path, contents, (1, stamp), sync)?;
    layout.sync_parent()?;
    Ok(JournalEnd { path, disk, number: 1, len, sequence: 0, contents })
}

/// Truncates and syncs the last journal so that it continues behind its last valid line.
fn resume_after(layout: &Layout, tail: Tail, sequence: u64) -> Result<JournalEnd> {
    let Tail { number, path, valid_len, len, torn_bytes, rewrite_from } = tail;
    if torn_bytes > 0 {
        log_later!(Warn, "truncated {torn_bytes} torn bytes at the end of {}", path.display());
    }
    let disk = layout.open(&path)?;
    if valid_len < len {
        disk.truncate(valid_len).map_err(|error| failed("writing", &path, error))?;
    }
    // After a failed sync the page cache contains bytes that are not on the disk, and regards them as clean: only
    // bytes that are written again are sure to reach the disk.
    rewrite(layout, &path, &*disk, rewrite_from.min(valid_len)..valid_len)?;
    disk.sync_data_and_len().map_err(|error| failed("syncing", &path, error))?;
    Ok(JournalEnd { path, disk, number, len: valid_len, sequence, contents: layout.contents })
}

/// Writes a range of a file over itself.
fn rewrite(layout: &Layout, path: &Path, disk: &dyn WritableFile, range: Range<u64>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let reading_failed = |error| failed("reading", path, error);
    let mut file = layout.fs.read(path).map_err(reading_failed)?;
    io::copy(&mut (&mut file).take(range.start), &mut io::sink()).map_err(reading_failed)?;
    copy_range((&mut *file, path), (disk, path), range)
}
