//! Owns when and how the journal is replaced by a snapshot, and how writers are kept from outrunning that.
//! Knows nothing of how a mutation is decided.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::backend::file::core::Core;
use crate::backend::file::format::line::LineStamp;
use crate::backend::file::journal::writer;
use crate::backend::file::journal::writer::Journal;
use crate::backend::file::layout::failed;
use crate::backend::file::snapshot::SnapshotWriter;
use crate::backend::local::table::fuzzy_scan::FuzzyScan;
use crate::clock::{Clock as _, ManualClock, Now};
use crate::config::FileOptions;
use crate::error::{Error, Result};

/// The directory stays within this many times the live data, and this much more.
const MAX_RATIO: f64 = 3.0;
const SLACK: f64 = 1_048_576.0;

/// How much of that is left alone: how long a snapshot will be is known only roughly.
const MARGIN: f64 = 32_768.0;

/// Writers that are ahead of a compaction wait for so long at a time, at most.
const MOST_PAUSE: Duration = Duration::from_millis(5);

/// Of the room that there is while a compaction runs, writers may use this part at its beginning, and in the course
/// of it this much more.
const AT_ONCE: f64 = 0.3;
const IN_COURSE: f64 = 0.65;

/// What is known of the directory's size, and whether somebody makes it smaller.
pub(crate) struct Compactor {
    ratio: f64,
    min_bytes: u64,
    state: Mutex<CompactionState>,
    ended: Condvar,
    /// Whether writers wait for the compaction that runs.
    throttled: AtomicBool,
    stopping: AtomicBool,
    /// The bytes of all files but the journal that is written.
    older: AtomicU64,
    /// How long the snapshot is that is written now.
    written: AtomicU64,
}

struct CompactionState {
    running: bool,
    /// When the compaction that runs began its journal.
    rotated: Option<Instant>,
    thread: Option<JoinHandle<()>>,
    /// The size of a snapshot against the weight of its entries.
    bytes_per_weight: f64,
    /// After a failure: not before the directory is this large.
    retry_above: u64,
}

impl Compactor {
    pub(crate) fn new(options: &FileOptions, older: u64, scale: Option<f64>) -> Self {
        let scale = scale.map_or(1.0, |scale| scale.clamp(0.2, 5.0));
        Self {
            ratio: options.compact_ratio,
            min_bytes: options.compact_min_bytes,
            state: Mutex::new(CompactionState {
                running: false,
                rotated: None,
                thread: None,
                bytes_per_weight: scale,
                retry_above: 0,
            }),
            ended: Condvar::new(),
            throttled: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            older: AtomicU64::new(older),
            written: AtomicU64::new(0),
        }
    }

    /// Whether the directory would grow beyond its bound before the compaction that runs is done.
    pub(crate) fn is_throttling(&self) -> bool {
        self.throttled.load(Ordering::Acquire)
    }

    /// Waits while the directory would grow beyond its bound before the compaction that runs is done.
    pub(crate) fn wait_for_room(&self) {
        if !self.is_throttling() {
            return;
        }
        let mut state = self.state.lock();
        while state.running && self.is_throttling() {
            self.ended.wait(&mut state);
        }
    }

    /// How far the journal grows between two looks at the directory's size, unless by a single operation.
    pub(crate) fn step(&self) -> u64 {
        (self.min_bytes / 16).clamp(512, 32 * 1024)
    }

    /// Looks now and then whether the journal, which has grown by `written` bytes, has grown enough. Tells for how
    /// long the writer waits for the compaction that runs.
    pub(crate) fn check_size(&self, core: &Arc<Core>, journal: &mut Journal, written: u64) -> Duration {
        if journal.len < journal.next_size_check {
            return Duration::ZERO;
        }
        let step = self.step();
        journal.next_size_check = journal.len + step;
        let total = self.older.load(Ordering::Acquire) + journal.len;
        let mut state = self.state.lock();
        let (size, live) = (float(total), float(core.state.table.bytes()) * state.bytes_per_weight);
        if state.running {
            // The next line is likely to be as long as the last.
            let next = 2.0 * float(step.max(written));
            let most = size + float(journal.max_len_after_next() - journal.len) + live + next;
            let bound = MAX_RATIO * live + SLACK - MARGIN;
            self.throttled.store(most > bound, Ordering::Release);
            let older = size - float(journal.len);
            let budget = bound - older - live - next;
            return state.rotated.map_or(Duration::ZERO, |rotated| {
                self.pause(rotated.elapsed(), float(journal.len) / budget, live)
            });
        }
        let due = size - live > self.ratio * live + float(self.min_bytes);
        if !due || total < state.retry_above || self.stopping.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let shared = Arc::clone(core);
        let named = std::thread::Builder::new().name("millpond-compaction".into());
        match named.spawn(move || shared.compactor.run(&shared)) {
            Ok(thread) => {
                state.running = true;
                state.thread = Some(thread);
            }
            Err(error) => {
                state.retry_above = total + total / 2 + self.min_bytes;
                log::warn!("no thread to compact {}: {error}", core.layout.dir.display());
            }
        }
        Duration::ZERO
    }

    /// How long writers wait that have used this part of the room for a compaction that began so long ago: so that
    /// they never use all of it, and would wait for its end.
    fn pause(&self, elapsed: Duration, used: f64, live: f64) -> Duration {
        let done = (float(self.written.load(Ordering::Relaxed)) / live).min(1.0);
        let ahead = used - AT_ONCE - IN_COURSE * done;
        if ahead <= 0.0 {
            return Duration::ZERO;
        }
        if done <= 0.0 || !ahead.is_finite() {
            return MOST_PAUSE;
        }
        let seconds = elapsed.as_secs_f64() * ahead / (IN_COURSE * done);
        Duration::from_secs_f64(seconds.clamp(0.0, MOST_PAUSE.as_secs_f64()))
    }

    /// Lets writers wait as for a compaction, or no longer; tells how many did.
    #[cfg(test)]
    pub(crate) fn hold(&self, holds: bool) -> usize {
        self.state.lock().running = holds;
        self.throttled.store(holds, Ordering::Release);
        self.ended.notify_all()
    }

    /// Lets no compaction begin and waits for the end of the one that runs.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let thread = self.state.lock().thread.take();
        // A thread that panicked has nothing to tell.
        let _ = thread.map(JoinHandle::join);
    }

    pub(crate) fn run(&self, core: &Arc<Core>) {
        let running = RunningCompaction(self);
        let outcome = compact(core, &mut || ());
        let compacted = matches!(outcome, Ok(Some(_)));
        let mut state = self.state.lock();
        match outcome {
            Ok(Some((len, weight))) => {
                state.retry_above = 0;
                if weight > 0 {
                    state.bytes_per_weight = (float(len) / float(weight)).clamp(0.2, 5.0);
                }
            }
            Ok(None) | Err(Error::Poisoned { .. }) => {}
            Err(error) => {
                if state.retry_above == 0 {
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    log::warn!("compacting {} failed: {error}: {cause}", core.layout.dir.display());
                }
                let total = self.older.load(Ordering::Acquire);
                state.retry_above = total + total / 2 + self.min_bytes;
            }
        }
        drop(state);
        drop(running);
        if compacted {
            // What was deleted meanwhile may be in the snapshot, and there may be no further write to notice.
            let mut journal = core.journal.lock();
            journal.next_size_check = 0;
            self.check_size(core, &mut journal, 0);
        }
    }
}

/// A compaction. Nobody waits for ever for one that panicked, as a clock of the program's own may let it.
struct RunningCompaction<'c>(&'c Compactor);

impl Drop for RunningCompaction<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.running, state.rotated) = (false, None);
        self.0.throttled.store(false, Ordering::Release);
        self.0.ended.notify_all();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a threshold need not be exact")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// Replaces all files by a new journal and the snapshot of what was before it. Tells the snapshot's size
/// and the weight of what is in it, or nothing where the store was closed meanwhile. Writers go on all the time,
/// and a test writes where it is told to.
pub(crate) fn compact(core: &Core, write_now: &mut dyn FnMut()) -> Result<Option<(u64, u64)>> {
    let (number, begin) = rotate(core)?;
    core.compactor.written.store(0, Ordering::Relaxed);
    core.compactor.state.lock().rotated = Some(Instant::now());
    write_now();
    let path = core.layout.unfinished_snapshot(number);
    let written = write(core, number, begin, &path);
    let Ok(Some((len, weight))) = written else {
        // What stays is cleared away at the next opening.
        let _ = core.layout.remove(&path);
        return written;
    };
    write_now();
    let whole = core.layout.snapshot(number);
    core.layout.fs.rename(&path, &whole).map_err(|error| {
        let _ = core.layout.remove(&path);
        failed("renaming", &path, error)
    })?;
    // INVARIANT: nothing is deleted before what replaces it has its name for good.
    core.layout.sync()?;
    write_now();
    let listing = core.layout.list()?;
    core.layout.paths(&listing, ..number).try_for_each(|path| core.layout.remove(&path))?;
    core.compactor.older.store(len, Ordering::Release);
    Ok(Some((len, weight)))
}

/// Begins a new journal and tells its number, and what was true at its beginning.
fn rotate(core: &Core) -> Result<(u64, LineStamp)> {
    // Most is synced while writers go on, so that they wait for little below.
    core.durability.wait(core.durability.written())?;
    let number = core.journal.lock().number + 1;
    let (next, path) = writer::create(&core.layout, number)?;
    let mut journal = core.journal.lock();
    core.durability.check()?;
    let time = Now::of(&core.clock).millis();
    let before = journal.len;
    if let Err(error) = journal.rotate(next, path.clone(), time, core.sync, &core.durability) {
        // INVARIANT: a header that nobody goes on behind must not stay, or it would look like the journal
        // to go on with.
        if let Err(cause) = core.layout.fs.remove(&path) {
            return Err(core.durability.poison("the rotation", &cause));
        }
        return Err(error);
    }
    core.clock.note_written(time);
    core.compactor.older.fetch_add(before, Ordering::AcqRel);
    Ok((number, LineStamp { sequence: journal.sequence, durable: journal.sequence, time }))
}

/// Writes the snapshot from the table, which moves on: the new journal says again what changes meanwhile.
fn write(core: &Core, number: u64, begin: LineStamp, path: &Path) -> Result<Option<(u64, u64)>> {
    let mut writer = SnapshotWriter::create(&core.layout, path, number, begin, core.sync)?;
    // What had expired when the journal began stays so for every line in it: the clock does not go back.
    let beginning = ManualClock::new(
        UNIX_EPOCH.checked_add(Duration::from_millis(begin.time)).unwrap_or_else(|| core.clock.now()),
    );
    let now = Now::of(&beginning);
    let mut walk = FuzzyScan::new();
    while let Some((key, change)) = walk.next(&core.state.table, &now) {
        let written = writer.add(key, change)?;
        core.compactor.written.store(written, Ordering::Relaxed);
        if core.compactor.stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
    }
    // INVARIANT: what the walk saw is on the disk as lines before it counts as snapshot, or a power cut
    // could leave half of a commit.
    let durable = core.durability.written();
    core.durability.wait(durable)?;
    writer.finish(LineStamp { durable, ..begin }).map(Some)
}
