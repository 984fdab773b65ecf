//! Owns the opening of a store: what is changed on disk before it serves. What the files mean is decided by
//! recovery.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::backend::file::clock::MonotonicClock;
use crate::backend::file::compaction::Compactor;
use crate::backend::file::core::{Core, File};
use crate::backend::file::fs::{OsFileSystem, ReadOnlyFile, WritableFile};
use crate::backend::file::journal::combining::Combiner;
use crate::backend::file::journal::durability::Durability;
use crate::backend::file::journal::writer;
use crate::backend::file::journal::writer::Journal;
use crate::backend::file::layout::{Layout, failed};
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::read::context::ReadContext;
use crate::backend::file::read::recovery;
use crate::backend::file::read::recovery::{Recovered, Tail};
use crate::backend::file::report::Progress;
use crate::backend::local::state::LocalState;
use crate::backend::local::table::shards::Table;
use crate::backend::local::wait_list::WaitList;
use crate::clock::{Clock, Now};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::{Error, Result};

/// How often the files are looked at that another process may just be replacing, and the pause before the second
/// time, which grows.
const LOCK_RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

impl File {
    /// Opens the store in `dir`, or begins one there.
    pub(crate) fn open(
        dir: &Path,
        options: &FileOptions,
        clock: Arc<dyn Clock>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let layout = Layout::create(dir, Arc::new(OsFileSystem))?;
        let lock = DirectoryLock::take(&layout)?;
        Self::open_in(layout, lock, options, clock, report)
    }

    /// Opens the store in a directory that nobody else has open.
    pub(crate) fn open_in(
        layout: Layout,
        lock: DirectoryLock,
        options: &FileOptions,
        clock: Arc<dyn Clock>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let Recovered { table, sequence, time, tail, older_bytes, bytes_per_weight: scale, obsolete } =
            recovery::read(&ReadContext::new(&layout, false, report))?;
        let clock = MonotonicClock::new(clock, time);
        table.reclaim_all(&Now::of(&clock));
        let time = Now::of(&clock).millis();

        let is_new = tail.is_none();
        if is_new {
            remove_leftovers(&layout, &obsolete)?;
        }
        let (journal, durability) = match tail {
            Some(tail) => resume_after(&layout, tail, sequence, options.sync)?,
            None => begin(&layout, time, options.sync)?,
        };
        let compactor = Compactor::new(options, older_bytes, scale);
        let core = core(layout, (table, clock), (journal, durability), compactor, options.sync);
        if !is_new {
            let mut journal = core.journal.lock();
            journal.opened(time, options.sync, &core.durability)?;
            core.clock.note_written(time);
            core.durability.wait(journal.sequence)?;
            remove_leftovers(&core.layout, &obsolete)?;
        }
        let syncer = match options.sync {
            SyncPolicy::Every(interval) => Some(spawn_syncer(&core, interval)?),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        // INVARIANT: nothing fails any more. A compaction outlives the lock on the directory otherwise.
        core.compactor.check_size(&core, &mut core.journal.lock(), 0);
        Ok(Self { core, syncer: Mutex::new(syncer), lock: Mutex::new(Some(lock)) })
    }

    /// Opens the store in `dir` as it is now, whoever has it open. Nothing on disk is changed, then or later.
    pub(crate) fn open_read_only(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let layout = Layout { dir: dir.to_path_buf(), fs: Arc::new(OsFileSystem) };
        layout.check_directory()?;
        let mut looks = 0;
        let Recovered { table, sequence, time, .. } = loop {
            match recovery::read(&ReadContext::new(&layout, true, &mut |_| ())) {
                // Its owner may just be replacing files.
                Err(Error::Corrupt { .. }) if looks < LOCK_RETRIES => {
                    looks += 1;
                    std::thread::sleep(PAUSE * looks);
                }
                read => break read?,
            }
        };
        let clock = MonotonicClock::new(clock, time);
        table.reclaim_all(&Now::of(&clock));
        let (sync, disk): (_, Arc<dyn WritableFile>) = (SyncPolicy::Never, Arc::new(ReadOnlyFile));
        let durability = Durability::new(layout.dir.clone(), Arc::clone(&disk), sequence);
        let mut journal = Journal::new(layout.dir.clone(), disk, 0, 0, sequence, sync);
        journal.state = writer::JournalState::ReadOnly;
        let compactor = Compactor::new(&FileOptions::default(), 0, None);
        let core = core(layout, (table, clock), (journal, durability), compactor, sync);
        Ok(Self { core, syncer: Mutex::new(None), lock: Mutex::new(None) })
    }
}

fn core(
    layout: Layout,
    (table, clock): (Table, MonotonicClock),
    (journal, durability): (Journal, Durability),
    compactor: Compactor,
    sync: SyncPolicy,
) -> Arc<Core> {
    Arc::new(Core {
        state: LocalState { table, wait_list: WaitList::default() },
        clock,
        sync,
        journal: Mutex::new(journal),
        combiner: Combiner::default(),
        durability,
        compactor,
        is_ending: Mutex::new(false),
        end: Condvar::new(),
        layout,
    })
}

fn spawn_syncer(core: &Arc<Core>, interval: Duration) -> Result<JoinHandle<()>> {
    let shared = Arc::clone(core);
    std::thread::Builder::new()
        .name("millpond-sync".into())
        .spawn(move || shared.sync_every(interval))
        .map_err(|error| failed("starting a thread for", &core.layout.dir, error))
}

/// Deletes what counts no more.
fn remove_leftovers(layout: &Layout, obsolete: &[PathBuf]) -> Result<()> {
    if obsolete.is_empty() {
        return Ok(());
    }
    // INVARIANT: what replaces it has its name for good. A process that was killed, or a sync that failed, may
    // have left a snapshot with a name that a power cut takes away.
    layout.sync()?;
    obsolete.iter().try_for_each(|path| layout.remove(path))
}

/// Begins the first journal of a store.
fn begin(layout: &Layout, time: u64, sync: SyncPolicy) -> Result<(Journal, Durability)> {
    let (disk, path) = writer::create(layout, 1)?;
    let len = writer::write_header(&*disk, &path, 1, 0, time, sync)?;
    layout.sync_parent()?;
    let durability = Durability::new(layout.dir.clone(), Arc::clone(&disk), 0);
    Ok((Journal::new(path, disk, 1, len, 0, sync), durability))
}

/// Goes on behind the last whole line of a journal.
fn resume_after(
    layout: &Layout,
    tail: Tail,
    sequence: u64,
    sync: SyncPolicy,
) -> Result<(Journal, Durability)> {
    let Tail { number, path, valid_len: keep, len, torn_bytes: torn, rewrite_from: unvouched } = tail;
    if torn > 0 {
        log::warn!("cut {torn} torn bytes off the end of {}", path.display());
    }
    let disk = layout.open(&path)?;
    if keep < len {
        disk.truncate(keep).map_err(|error| failed("writing", &path, error))?;
    }
    // After a failed sync the page cache shows what is not on the disk, and counts it as clean: only what
    // is written again is sure to get there.
    rewrite(layout, &path, &*disk, unvouched.min(keep)..keep)?;
    disk.sync_data_and_len().map_err(|error| failed("syncing", &path, error))?;
    let durability = Durability::new(layout.dir.clone(), Arc::clone(&disk), sequence);
    Ok((Journal::new(path, disk, number, keep, sequence, sync), durability))
}

/// Writes a part of a file over itself.
fn rewrite(layout: &Layout, path: &Path, disk: &dyn WritableFile, range: Range<u64>) -> Result<()> {
    let reading = |error| failed("reading", path, error);
    if range.is_empty() {
        return Ok(());
    }
    let mut file = layout.fs.read(path).map_err(reading)?;
    io::copy(&mut (&mut file).take(range.start), &mut io::sink()).map_err(reading)?;
    let mut chunk = vec![0; 1 << 16];
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(chunk.len()).min(chunk.len());
        file.read_exact(&mut chunk[..wanted]).map_err(reading)?;
        disk.write_all_at(at, &chunk[..wanted]).map_err(|error| failed("writing", path, error))?;
        at += wanted as u64;
    }
    Ok(())
}
