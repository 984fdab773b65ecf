//! Owns the opening of a store: what is changed on disk before it serves. What the files mean is decided by
//! recovery.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::compaction::Compactor;
use super::disk::Disk;
use super::floor::FloorClock;
use super::journal::{self, Journal};
use super::layout::{Layout, failed};
use super::lock::DirectoryLock;
use super::recovery::{self, Recovered, Tail};
use super::sync::Durability;
use super::{Core, File};
use crate::backend::local::waiters::Waiters;
use crate::clock::{Clock, Now};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::Result;

impl File {
    /// Opens the store in `dir`, or begins one there.
    pub(crate) fn open(dir: &Path, options: &FileOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let layout = Layout::create(dir)?;
        let lock = DirectoryLock::take(&layout)?;
        let Recovered { table, sequence, time, tail, older_bytes, scale, obsolete } =
            recovery::read(&layout)?;
        let clock = FloorClock::new(clock, time);
        table.reclaim_all(&Now::of(&clock));
        let time = Now::of(&clock).millis();

        let is_new = tail.is_none();
        if is_new {
            clear(&obsolete)?;
        }
        let (journal, durability) = match tail {
            Some(tail) => continue_behind(&layout, tail, sequence)?,
            None => begin(&layout, time, options.sync)?,
        };
        let core = Arc::new(Core {
            table,
            clock,
            sync: options.sync,
            journal: Mutex::new(journal),
            durability,
            compactor: Compactor::new(options, older_bytes, scale),
            waiters: Waiters::default(),
            ending: Mutex::new(false),
            end: Condvar::new(),
            layout,
        });
        if !is_new {
            let mut journal = core.journal.lock();
            journal.opened(time, options.sync, &core.durability)?;
            core.clock.wrote(time);
            core.durability.wait(journal.sequence)?;
            clear(&obsolete)?;
            core.compactor.look(&core, &mut journal, 0);
        }
        let syncer = match options.sync {
            SyncPolicy::Every(interval) => Some(spawn_syncer(&core, interval)?),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        Ok(Self { core, syncer: Mutex::new(syncer), lock: Mutex::new(Some(lock)) })
    }
}

fn spawn_syncer(core: &Arc<Core>, interval: Duration) -> Result<JoinHandle<()>> {
    let shared = Arc::clone(core);
    std::thread::Builder::new()
        .name("millpond-sync".into())
        .spawn(move || shared.sync_every(interval))
        .map_err(|error| failed("starting a thread for", &core.layout.dir, error))
}

fn clear(obsolete: &[PathBuf]) -> Result<()> {
    obsolete
        .iter()
        .try_for_each(|path| fs::remove_file(path).map_err(|error| failed("deleting", path, error)))
}

/// Begins the first journal of a store.
fn begin(layout: &Layout, time: u64, sync: SyncPolicy) -> Result<(Journal, Durability)> {
    let (file, path) = journal::create(layout, 1)?;
    let len = journal::write_header(&file, &path, 1, 0, time, sync)?;
    layout.sync_parent()?;
    let disk: Arc<dyn Disk> = Arc::new(file);
    let durability = Durability::new(layout.dir.clone(), Arc::clone(&disk), 0);
    Ok((Journal::new(path, disk, 1, len, 0), durability))
}

/// Goes on behind the last whole line of a journal.
fn continue_behind(layout: &Layout, tail: Tail, sequence: u64) -> Result<(Journal, Durability)> {
    let Tail { number, path, keep, len, unvouched, closed } = tail;
    if keep < len && !closed {
        log::warn!("cut {} torn bytes off the end of {}", len - keep, path.display());
    }
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let mut file = file.map_err(|error| failed("opening", &path, error))?;
    let writing = |error| failed("writing", &path, error);
    if keep < len {
        file.set_len(keep).map_err(writing)?;
    }
    // After a failed sync the page cache shows what is not on the disk, and counts it as clean: only what
    // is written again is sure to get there.
    let mut chunk = vec![0; 1 << 16];
    let mut at = unvouched.min(keep);
    while at < keep {
        let wanted = usize::try_from(keep - at).unwrap_or(chunk.len()).min(chunk.len());
        file.seek(SeekFrom::Start(at)).map_err(writing)?;
        file.read_exact(&mut chunk[..wanted]).map_err(writing)?;
        file.seek(SeekFrom::Start(at)).map_err(writing)?;
        file.write_all(&chunk[..wanted]).map_err(writing)?;
        at += wanted as u64;
    }
    file.sync_all().map_err(|error| failed("syncing", &path, error))?;
    let disk: Arc<dyn Disk> = Arc::new(journal::open(&path)?);
    let durability = Durability::new(layout.dir.clone(), Arc::clone(&disk), sequence);
    Ok((Journal::new(path, disk, number, keep, sequence), durability))
}
