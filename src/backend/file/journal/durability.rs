//! Owns what is known to be on the disk: the durable mark, the sync that waiting threads share, and the
//! latch that a failure leaves behind. Knows nothing of lines.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::backend::file::fs::WritableFile;
use crate::error::{Error, Result};

/// How far the journal is written, and how far it is on the disk.
pub(crate) struct Durability {
    dir: PathBuf,
    written: AtomicU64,
    synced: AtomicU64,
    poisoned: AtomicBool,
    /// Whether the file has become longer since the last sync began.
    has_grown: AtomicBool,
    disk: Mutex<Arc<dyn WritableFile>>,
    /// Whether a thread syncs. INVARIANT: one at a time, since the system reports a failed sync of an open
    /// file once, and a second thread would be told that all is well.
    syncing: Mutex<bool>,
    ended: Condvar,
    /// How many lines were under way when the last sync ended: those that it brought to the disk, and those that
    /// came meanwhile.
    last_group: AtomicU64,
    /// How long the last sync took, in nanoseconds.
    last_sync: AtomicU64,
}

/// Who waits for others before it syncs does so no longer than this.
const MAX_GROUP_WAIT: Duration = Duration::from_micros(200);

impl Durability {
    /// Begins with everything up to `sequence` on the disk.
    pub(crate) fn new(dir: PathBuf, disk: Arc<dyn WritableFile>, sequence: u64) -> Self {
        Self {
            dir,
            written: AtomicU64::new(sequence),
            synced: AtomicU64::new(sequence),
            poisoned: AtomicBool::new(false),
            has_grown: AtomicBool::new(false),
            disk: Mutex::new(disk),
            syncing: Mutex::new(false),
            ended: Condvar::new(),
            last_group: AtomicU64::new(1),
            last_sync: AtomicU64::new(0),
        }
    }

    /// The highest sequence that is known to be on the disk.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Tells that the file has become longer. INVARIANT: after that was written, and before it is told that the line
    /// was: so whoever syncs the line, or the one before, knows.
    pub(crate) fn note_grown(&self) {
        self.has_grown.store(true, Ordering::Release);
    }

    /// Tells that the line `sequence` was handed to the operating system.
    pub(crate) fn note_written(&self, sequence: u64) {
        self.written.store(sequence, Ordering::Release);
    }

    /// Goes on with another file. INVARIANT: everything written to the one before is on the disk.
    pub(crate) fn switch_file(&self, disk: Arc<dyn WritableFile>) {
        *self.disk.lock() = disk;
    }

    /// Refuses where a failure has made the journal unknowable.
    pub(crate) fn check(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: self.dir.clone() });
        }
        Ok(())
    }

    /// Latches. Whoever waits gets the bare error, so the cause is logged, once.
    pub(crate) fn poison(&self, action: &str, cause: &io::Error) -> Error {
        if !self.poisoned.swap(true, Ordering::AcqRel) {
            log::error!("{action} of the journal in {} failed: {cause}", self.dir.display());
        }
        Error::Poisoned { path: self.dir.clone() }
    }

    /// Returns once everything up to `sequence` is on the disk. The first to come syncs for all that wait.
    pub(crate) fn wait(&self, sequence: u64) -> Result<()> {
        self.wait_after(sequence, || ())
    }

    /// As [`Durability::wait`], for one of many writers: who syncs lets those come first who were just told that
    /// their last line is on the disk. Otherwise every other sync would be for one of them alone.
    pub(crate) fn wait_together(&self, sequence: u64) -> Result<()> {
        self.wait_after(sequence, || self.wait_for_group())
    }

    fn wait_after(&self, sequence: u64, prepare: impl Fn()) -> Result<()> {
        if self.synced() >= sequence {
            return Ok(());
        }
        let mut syncing = self.syncing.lock();
        while self.synced() < sequence {
            self.check()?;
            if *syncing {
                self.ended.wait(&mut syncing);
                continue;
            }
            self.run(&mut syncing, || {
                prepare();
                self.sync()
            })?;
        }
        Ok(())
    }

    /// Syncs something of the journal while nobody else does.
    pub(crate) fn exclusively<R>(&self, sync: impl FnOnce() -> R) -> R {
        let mut syncing = self.syncing.lock();
        self.ended.wait_while(&mut syncing, |syncing| *syncing);
        self.run(&mut syncing, sync)
    }

    fn run<R>(&self, syncing: &mut MutexGuard<'_, bool>, sync: impl FnOnce() -> R) -> R {
        **syncing = true;
        let outcome = MutexGuard::unlocked(syncing, sync);
        **syncing = false;
        self.ended.notify_all();
        outcome
    }

    /// Waits until as many lines are under way as when the last sync ended, or for as long as waiting may be worth
    /// while: less than the sync that it may save.
    fn wait_for_group(&self) {
        let company = self.last_group.load(Ordering::Relaxed);
        let is_whole = || self.written().saturating_sub(self.synced()) >= company;
        if is_whole() {
            return;
        }
        let patience = Duration::from_nanos(self.last_sync.load(Ordering::Relaxed) / 2).min(MAX_GROUP_WAIT);
        let begun = Instant::now();
        while !is_whole() && begun.elapsed() < patience {
            thread::yield_now();
        }
    }

    fn sync(&self) -> Result<()> {
        let (before, begun) = (self.synced(), Instant::now());
        // INVARIANT: first how far, then whether the file is longer, then which file it is. A rotation in between
        // has synced all that was written to the file before.
        let target = self.written();
        let longer = self.has_grown.swap(false, Ordering::AcqRel);
        let disk = Arc::clone(&*self.disk.lock());
        match if longer { disk.sync_data_and_len() } else { disk.sync_data() } {
            Ok(()) => {
                self.synced.fetch_max(target, Ordering::AcqRel);
                let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.last_sync.store(took, Ordering::Relaxed);
                self.last_group.store(self.written().saturating_sub(before), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.poison("a sync", &error)),
        }
    }
}
