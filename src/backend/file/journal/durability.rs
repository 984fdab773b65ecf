//! Owns the knowledge of what is on the disk: the synced sequence, the sync that waiting threads share, and the
//! poison that a failure leaves behind. Knows nothing of the bytes of a line.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::backend::file::fs::WritableFile;
use crate::error::{Error, Result};
use crate::stats::histogram::nanos;
use crate::stats::recorder::{Measured, Recorder};
use crate::util::log_later::log_later;

/// How far the journal is written and synced.
pub(crate) struct Durability {
    dir: PathBuf,
    written: AtomicU64,
    synced: AtomicU64,
    poisoned: AtomicBool,
    /// Whether the file has grown since the last sync began.
    has_grown: AtomicBool,
    disk: Mutex<Arc<dyn WritableFile>>,
    /// Whether a thread syncs. INVARIANT: one at a time, because the system reports a failed sync of an open file
    /// once, so that a concurrent sync could report success.
    is_syncing: Mutex<bool>,
    ended: Condvar,
    /// Number of lines under way when the last sync ended: those that it synced, and those written meanwhile.
    last_group: AtomicU64,
    /// Duration of the last sync, in nanoseconds.
    last_sync: AtomicU64,
    /// Counts what is written to the journal, and its syncs.
    recorder: Arc<Recorder>,
}

/// The longest time that a sync waits for other writers.
const MAX_GROUP_WAIT: Duration = Duration::from_micros(200);

impl Durability {
    /// A journal of which everything up to `sequence` is synced.
    pub(crate) fn new(
        dir: PathBuf,
        disk: Arc<dyn WritableFile>,
        sequence: u64,
        recorder: Arc<Recorder>,
    ) -> Self {
        Self {
            dir,
            written: AtomicU64::new(sequence),
            synced: AtomicU64::new(sequence),
            poisoned: AtomicBool::new(false),
            has_grown: AtomicBool::new(false),
            disk: Mutex::new(disk),
            is_syncing: Mutex::new(false),
            ended: Condvar::new(),
            last_group: AtomicU64::new(1),
            last_sync: AtomicU64::new(0),
            recorder,
        }
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The synced sequence: every line up to it is on the disk.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// The sequence of the last line that was handed to the operating system.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Notes that the file has grown. INVARIANT: called after the write and before [`Durability::note_written`], so
    /// that the sync of this line knows of it.
    pub(crate) fn note_grown(&self) {
        self.has_grown.store(true, Ordering::Release);
    }

    /// Notes that the line `sequence` was handed to the operating system.
    pub(crate) fn note_written(&self, sequence: u64) {
        self.written.store(sequence, Ordering::Release);
    }

    /// Continues with another file. INVARIANT: everything written to the file before is synced.
    pub(crate) fn switch_file(&self, disk: Arc<dyn WritableFile>) {
        *self.disk.lock() = disk;
    }

    /// Fails with [`Error::Poisoned`] after a failure that left the content of the journal unknown.
    pub(crate) fn check(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: self.dir.clone() });
        }
        Ok(())
    }

    /// Makes every later check fail. The error has no cause, so the cause is logged, once.
    pub(crate) fn poison(&self, action: &str, cause: &io::Error) -> Error {
        self.poison_because(format_args!("{action} of the journal failed: {cause}"))
    }

    fn poison_because(&self, cause: fmt::Arguments<'_>) -> Error {
        if !self.poisoned.swap(true, Ordering::AcqRel) {
            log_later!(
                Error,
                "the store at {} takes no more writes until it is opened again: {cause}",
                self.dir.display()
            );
        }
        Error::Poisoned { path: self.dir.clone() }
    }

    /// Fails if the journal no longer has its name, because then the next opening will not find its lines.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        // INVARIANT: while this is locked, the journal is not replaced, and so no compaction deletes it.
        if self.disk.lock().is_in_place() {
            return Ok(());
        }
        Err(self.poison_because(format_args!("another program has deleted, renamed or replaced the journal")))
    }

    /// Returns once everything up to `sequence` is synced. The first of the waiting threads syncs for all of them.
    pub(crate) fn wait(&self, sequence: u64) -> Result<()> {
        self.wait_after(sequence, || ())
    }

    /// As [`Durability::wait`], for one of many writers: before its sync a thread waits for the writers whose last
    /// line was just synced to write their next. Otherwise every second sync would serve one writer only.
    pub(crate) fn wait_together(&self, sequence: u64) -> Result<()> {
        self.wait_after(sequence, || self.wait_for_group())
    }

    fn wait_after(&self, sequence: u64, prepare: impl Fn()) -> Result<()> {
        if self.synced() >= sequence {
            return Ok(());
        }
        let mut is_syncing = self.is_syncing.lock();
        while self.synced() < sequence {
            self.check()?;
            if *is_syncing {
                self.ended.wait(&mut is_syncing);
                continue;
            }
            self.run_sync(&mut is_syncing, || {
                prepare();
                self.sync()
            })?;
        }
        Ok(())
    }

    /// Runs a sync of the journal while no other thread syncs.
    pub(crate) fn exclusively<R>(&self, sync: impl FnOnce() -> R) -> R {
        let mut is_syncing = self.is_syncing.lock();
        self.ended.wait_while(&mut is_syncing, |is_syncing| *is_syncing);
        self.run_sync(&mut is_syncing, sync)
    }

    fn run_sync<R>(&self, is_syncing: &mut MutexGuard<'_, bool>, sync: impl FnOnce() -> R) -> R {
        **is_syncing = true;
        let outcome = MutexGuard::unlocked(is_syncing, sync);
        **is_syncing = false;
        self.ended.notify_all();
        outcome
    }

    /// Waits until as many lines are under way as when the last sync ended, but for less time than the sync that this
    /// may save.
    fn wait_for_group(&self) {
        let expected = self.last_group.load(Ordering::Relaxed);
        let is_complete = || self.written().saturating_sub(self.synced()) >= expected;
        if is_complete() {
            return;
        }
        let max_wait = Duration::from_nanos(self.last_sync.load(Ordering::Relaxed) / 2).min(MAX_GROUP_WAIT);
        let begun = Instant::now();
        while !is_complete() && begun.elapsed() < max_wait {
            thread::yield_now();
        }
    }

    fn sync(&self) -> Result<()> {
        let (before, begun) = (self.synced(), Instant::now());
        // INVARIANT: the sequence is read first, then whether the file has grown, then the file. A rotation in
        // between has synced all that was written to the file before.
        let target = self.written();
        let has_grown = self.has_grown.swap(false, Ordering::AcqRel);
        let disk = Arc::clone(&*self.disk.lock());
        match if has_grown { disk.sync_data_and_len() } else { disk.sync_data() } {
            Ok(()) => {
                self.check_in_place()?;
                self.synced.fetch_max(target, Ordering::AcqRel);
                let took = begun.elapsed();
                self.recorder.record(Measured::Sync, took);
                self.last_sync.store(nanos(took), Ordering::Relaxed);
                self.last_group.store(self.written().saturating_sub(before), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.poison("a sync", &error)),
        }
    }
}
