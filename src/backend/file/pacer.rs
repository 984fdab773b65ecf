//! Decides when a compaction starts, and how much writers slow down so that they do not outrun it. Knows nothing of
//! the table, and of how a compaction works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::config::FileOptions;

/// The directory stays within `MAX_RATIO` times the live data plus `SLACK` bytes.
const MAX_RATIO: f64 = 3.0;
const SLACK: f64 = 1_048_576.0;

/// Part of that bound which is never used, because the size of the next snapshot is an estimate.
const MARGIN: f64 = 32_768.0;

/// The longest pause of a writer that is ahead of a compaction.
const MAX_PAUSE: Duration = Duration::from_millis(5);

/// Share of the free budget that writers may use as soon as a compaction starts, and the further share that is
/// released as the snapshot progresses.
const INITIAL_SHARE: f64 = 0.3;
const RELEASED_SHARE: f64 = 0.65;

/// Snapshot sizes are estimated by the last one, within these limits.
const BYTES_PER_WEIGHT: (f64, f64) = (0.2, 5.0);

/// Sizes of the directory's files, and the state of the running compaction.
pub(crate) struct Pacer {
    ratio: f64,
    min_bytes: u64,
    state: Mutex<CompactionState>,
    ended: Condvar,
    is_throttling: AtomicBool,
    is_stopping: AtomicBool,
    /// Bytes of all files except the journal that is written.
    older_bytes: AtomicU64,
    /// Bytes of the snapshot so far.
    snapshot_bytes: AtomicU64,
}

struct CompactionState {
    is_running: bool,
    /// When the running compaction began its journal.
    rotated_at: Option<Instant>,
    /// Size of a snapshot divided by the weight of its entries.
    bytes_per_weight: f64,
    /// After a failure, no compaction starts while the directory is smaller.
    retry_above: u64,
    /// Whether there was no thread for the last compaction that was due.
    lacked_thread: bool,
}

/// Size of the journal at a check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalSize {
    pub(crate) len: u64,
    /// Length after the next line, including the zeros that are filled ahead.
    pub(crate) max_len_after_next: u64,
    /// Length of the last line.
    pub(crate) line: u64,
    /// Whether a compaction is due whatever the sizes are.
    pub(crate) is_due: bool,
}

/// What follows from a check of the directory's size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PacerDecision {
    Pause(Duration),
    Compact,
}

impl Pacer {
    pub(crate) fn new(options: &FileOptions, older_bytes: u64, bytes_per_weight: Option<f64>) -> Self {
        Self {
            ratio: options.compact_ratio,
            min_bytes: options.compact_min_bytes,
            state: Mutex::new(CompactionState {
                is_running: false,
                rotated_at: None,
                bytes_per_weight: bytes_per_weight.map_or(1.0, limit_bytes_per_weight),
                retry_above: 0,
                lacked_thread: false,
            }),
            ended: Condvar::new(),
            is_throttling: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            older_bytes: AtomicU64::new(older_bytes),
            snapshot_bytes: AtomicU64::new(0),
        }
    }

    /// Whether the directory would exceed its bound before the running compaction ends.
    pub(crate) fn is_throttling(&self) -> bool {
        self.is_throttling.load(Ordering::Acquire)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Waits while the directory would exceed its bound before the running compaction ends.
    pub(crate) fn wait_for_room(&self) {
        if !self.is_throttling() {
            return;
        }
        let mut state = self.state.lock();
        while state.is_running && self.is_throttling() {
            self.ended.wait(&mut state);
        }
    }

    /// How far the journal grows between two checks of the size, apart from a single longer operation.
    pub(crate) fn step(&self) -> u64 {
        (self.min_bytes / 16).clamp(512, 32 * 1024)
    }

    /// Decides what follows from the sizes of the journal and of the live entries, and sets whether writers are
    /// throttled.
    pub(crate) fn check_size(&self, journal: JournalSize, live_weight: u64) -> PacerDecision {
        let older_bytes = self.older_bytes.load(Ordering::Acquire);
        let state = self.state.lock();
        let sizes = Sizes {
            older: float(older_bytes),
            journal: float(journal.len),
            prefill: float(journal.max_len_after_next - journal.len),
            live: float(live_weight) * state.bytes_per_weight,
            // The next line is likely to be as long as the last.
            next: 2.0 * float(self.step().max(journal.line)),
        };
        if state.is_running {
            self.is_throttling.store(sizes.reach_bound(), Ordering::Release);
            let pause = state.rotated_at.map_or(Duration::ZERO, |rotated_at| {
                let done = float(self.snapshot_bytes.load(Ordering::Relaxed)) / sizes.live;
                pause(rotated_at.elapsed(), sizes.used_share(), done.min(1.0))
            });
            return PacerDecision::Pause(pause);
        }
        let may_retry = older_bytes + journal.len >= state.retry_above;
        if may_retry && (journal.is_due || sizes.need_compaction(self.ratio, float(self.min_bytes))) {
            PacerDecision::Compact
        } else {
            PacerDecision::Pause(Duration::ZERO)
        }
    }

    /// Marks a compaction as running; `false` once the store is closing.
    pub(crate) fn begin(&self) -> bool {
        let may_begin = !self.is_stopping();
        if may_begin {
            self.state.lock().is_running = true;
        }
        may_begin
    }

    /// Undoes [`Pacer::begin`], because there was no thread to run the compaction: the next check of the size tries
    /// again. Returns whether this is the first time since a compaction ended well.
    pub(crate) fn note_not_started(&self) -> bool {
        let mut state = self.state.lock();
        state.is_running = false;
        !std::mem::replace(&mut state.lacked_thread, true)
    }

    /// Notes that the running compaction has begun a new journal, and the length of the one before.
    pub(crate) fn note_rotated(&self, older_journal: u64) {
        self.older_bytes.fetch_add(older_journal, Ordering::AcqRel);
        self.snapshot_bytes.store(0, Ordering::Relaxed);
        self.state.lock().rotated_at = Some(Instant::now());
    }

    pub(crate) fn note_snapshot_bytes(&self, bytes: u64) {
        self.snapshot_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Notes that a snapshot of this size and weight has replaced all older files.
    pub(crate) fn note_compacted(&self, len: u64, weight: u64) {
        self.older_bytes.store(len, Ordering::Release);
        let mut state = self.state.lock();
        (state.retry_above, state.lacked_thread) = (0, false);
        if weight > 0 {
            state.bytes_per_weight = limit_bytes_per_weight(float(len) / float(weight));
        }
    }

    /// Notes a failed compaction; returns whether the one before it succeeded.
    pub(crate) fn note_failed(&self) -> bool {
        let mut state = self.state.lock();
        let is_first = state.retry_above == 0;
        let total = self.older_bytes.load(Ordering::Acquire);
        state.retry_above = total + total / 2 + self.min_bytes;
        is_first
    }

    /// Prevents further compactions, and makes the running one end early.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Returns a guard that marks the end of the running compaction when it is dropped.
    pub(crate) fn end_on_drop(&self) -> RunningCompaction<'_> {
        RunningCompaction(self)
    }

    /// Makes writers wait as for a compaction, or releases them; returns how many waited.
    #[cfg(test)]
    pub(crate) fn hold(&self, holds: bool) -> usize {
        self.state.lock().is_running = holds;
        self.is_throttling.store(holds, Ordering::Release);
        self.ended.notify_all()
    }
}

/// A running compaction. INVARIANT: also a panic ends it, or writers would wait for ever: a `Clock` of the program's
/// own may panic.
pub(crate) struct RunningCompaction<'p>(&'p Pacer);

impl Drop for RunningCompaction<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.is_running, state.rotated_at) = (false, None);
        self.0.is_throttling.store(false, Ordering::Release);
        self.0.ended.notify_all();
    }
}

/// Sizes in bytes that the decisions rest on.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// All files except the journal that is written.
    older: f64,
    journal: f64,
    /// Zeros behind the journal's lines after the next line.
    prefill: f64,
    /// Estimate of a snapshot of the live entries.
    live: f64,
    /// Estimate of the lines before the next check.
    next: f64,
}

impl Sizes {
    fn need_compaction(&self, ratio: f64, min_bytes: f64) -> bool {
        self.older + self.journal - self.live > ratio * self.live + min_bytes
    }

    /// Upper bound of the directory.
    fn bound(&self) -> f64 {
        MAX_RATIO * self.live + SLACK - MARGIN
    }

    /// Whether the directory, with the snapshot and the next lines, could exceed its bound.
    fn reach_bound(&self) -> bool {
        self.older + self.journal + self.prefill + self.live + self.next > self.bound()
    }

    /// Share of the free budget that the journal uses. The budget is what the bound leaves beside the older files
    /// and the snapshot.
    fn used_share(&self) -> f64 {
        self.journal / (self.bound() - self.older - self.live - self.next)
    }
}

/// How long a writer pauses if a share `used` of the budget is used and a share `done` of the snapshot is written
/// `elapsed` after its beginning. The pauses keep writers from ever using the whole budget, and so from waiting for
/// the end of the compaction.
fn pause(elapsed: Duration, used: f64, done: f64) -> Duration {
    let ahead = used - INITIAL_SHARE - RELEASED_SHARE * done;
    if ahead <= 0.0 {
        return Duration::ZERO;
    }
    if done <= 0.0 || !ahead.is_finite() {
        return MAX_PAUSE;
    }
    let seconds = elapsed.as_secs_f64() * ahead / (RELEASED_SHARE * done);
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_PAUSE.as_secs_f64()))
}

fn limit_bytes_per_weight(ratio: f64) -> f64 {
    ratio.clamp(BYTES_PER_WEIGHT.0, BYTES_PER_WEIGHT.1)
}

#[expect(clippy::cast_precision_loss, reason = "a threshold need not be exact")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    #[test]
    fn writers_pause_once_they_are_ahead_of_the_snapshot() {
        let second = Duration::from_secs(1);
        for (used, done, expected) in [
            (0.0, 0.0, Duration::ZERO),
            (0.29, 0.0, Duration::ZERO),
            (0.31, 0.0, MAX_PAUSE),
            (0.62, 0.5, Duration::ZERO),
            (0.63, 0.5, MAX_PAUSE),
            (0.94, 1.0, Duration::ZERO),
            (1.0, 1.0, MAX_PAUSE),
            (f64::INFINITY, 0.5, MAX_PAUSE),
            (f64::NAN, 0.5, MAX_PAUSE),
        ] {
            assert_eq!(pause(second, used, done), expected, "{used} used, {done} done");
        }
        let short = pause(Duration::from_millis(10), 0.6257, 0.5);
        assert!(short > Duration::ZERO && short < MAX_PAUSE, "{short:?}");
    }

    #[test]
    fn a_compaction_is_due_when_more_is_superfluous_than_allowed() {
        let sizes = |older, journal| Sizes { older, journal, prefill: 0.0, live: MIB, next: 0.0 };
        for (older, journal, expected) in [
            (0.0, MIB, false),
            (MIB, MIB, false),
            (MIB, 1.5 * MIB, false),
            (MIB, 1.6 * MIB, true),
            (2.6 * MIB, 0.0, true),
        ] {
            let found = sizes(older, journal).need_compaction(1.0, MIB / 2.0);
            assert_eq!(found, expected, "{older} older, {journal} in the journal");
        }
    }

    #[test]
    fn the_bound_counts_the_snapshot_the_zeros_and_the_next_lines() {
        let sizes = |journal, prefill, next| Sizes { older: MIB, journal, prefill, live: MIB, next };
        // Of 4 MiB, 2 MiB are older files and the snapshot.
        for (journal, prefill, next, expected) in [
            (1.9 * MIB, 0.0, 0.0, false),
            (1.9 * MIB, 0.1 * MIB, 0.0, true),
            (1.9 * MIB, 0.0, 0.1 * MIB, true),
            (2.0 * MIB, 0.0, 0.0, true),
        ] {
            let found = sizes(journal, prefill, next).reach_bound();
            assert_eq!(found, expected, "{journal} + {prefill} + {next}");
        }
        let used = sizes((2.0 * MIB - MARGIN) / 2.0, 0.0, 0.0).used_share();
        assert!((used - 0.5).abs() < 1e-9, "{used}");
    }

    #[test]
    fn a_failed_compaction_is_retried_once_the_directory_has_grown() {
        let options = FileOptions::default().compact_ratio(1.0).compact_min_bytes(1 << 20);
        let pacer = Pacer::new(&options, 0, None);
        let check =
            |len| pacer.check_size(JournalSize { len, max_len_after_next: len, line: 0, is_due: false }, 0);
        assert_eq!(check(1 << 20), PacerDecision::Pause(Duration::ZERO));
        assert_eq!(check((1 << 20) + 1), PacerDecision::Compact);
        assert!(pacer.begin());
        assert_eq!(check(1 << 21), PacerDecision::Pause(Duration::ZERO), "one runs");
        let running = pacer.end_on_drop();
        pacer.note_rotated(1 << 21);
        assert!(pacer.note_failed() && !pacer.note_failed());
        drop(running);
        // Half as much again, and the minimum.
        assert_eq!(check((1 << 21) - 1), PacerDecision::Pause(Duration::ZERO));
        assert_eq!(check(1 << 21), PacerDecision::Compact);
        pacer.stop();
        assert!(!pacer.begin());
    }
}
