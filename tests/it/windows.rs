//! Sliding windows, compared with a list of all events that is summed up by brute force.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millpond::{
    Clock, FileOptions, ManualClock, OpenOptions, StateBackend, StateConfig, StateStore, SyncPolicy,
};

use crate::support::seeds::any_seeds;

/// All events of a window that may still count, each with its bucket.
struct Reference {
    width: u128,
    events: Vec<(u128, i64)>,
}

impl Reference {
    fn bucket(&self, time: SystemTime) -> u128 {
        time.duration_since(UNIX_EPOCH).unwrap().as_millis() * 60 / self.width
    }

    fn sum(&mut self, now: SystemTime) -> i64 {
        let current = self.bucket(now);
        self.events.retain(|(bucket, _)| bucket + 60 > current);
        self.events.iter().filter(|(bucket, _)| *bucket <= current).map(|(_, by)| by).sum()
    }

    fn add(&mut self, now: SystemTime, at: SystemTime, by: i64) -> i64 {
        let bucket = self.bucket(at);
        self.events.push((bucket, by));
        self.sum(now)
    }

    fn try_call(&mut self, now: SystemTime, limit: u64) -> bool {
        let allowed = self.sum(now) < i64::try_from(limit).unwrap();
        if allowed {
            self.add(now, now, 1);
        }
        allowed
    }
}

/// Compares so many random steps on windows of several widths.
fn compare(store: &StateStore, clock: &ManualClock, steps: u32) {
    for seed in any_seeds(1) {
        let mut random = fastrand::Rng::with_seed(seed);
        store.clear().unwrap();
        let widths = [1, 7, 50, 60, 1000, 1001, 60_000, 86_400_000];
        let mut references = widths.map(|width| Reference { width, events: Vec::new() });
        for _ in 0..steps {
            let which = random.usize(..widths.len());
            let (key, width) =
                (which.to_string(), Duration::from_millis(u64::try_from(widths[which]).unwrap()));
            let (window, reference) = (store.window(&key, width), &mut references[which]);
            if random.u8(..4) == 0 {
                clock.advance(width.mul_f64(random.f64().powi(4) * 1.5));
            }
            let now = clock.now();
            match random.u8(..10) {
                0..5 => {
                    let by = random.i64(-3..10);
                    assert_eq!(window.add(by).unwrap(), reference.add(now, now, by), "{width:?}");
                }
                5 => assert_eq!(window.sum().unwrap(), reference.sum(now), "{width:?}"),
                6 | 7 => {
                    let offset = width.mul_f64(random.f64() * 1.2);
                    let at = if random.u8(..4) == 0 { now + offset } else { now - offset };
                    assert_eq!(window.add_at(at, 2).unwrap(), reference.add(now, at, 2), "{width:?}");
                }
                8 => {
                    let limit = random.u64(..40);
                    let decision = store.rate_limit(&key, limit, width).unwrap();
                    assert_eq!(decision.allowed, reference.try_call(now, limit), "{width:?}");
                    let used = u64::try_from(reference.sum(now)).unwrap_or(0);
                    assert_eq!(decision.remaining, limit.saturating_sub(used));
                }
                _ if random.u8(..50) == 0 => {
                    window.reset().unwrap();
                    reference.events.clear();
                }
                _ => {
                    // No map has more buckets than the window, and those of the next one.
                    assert!(store.map_len(&key).unwrap() <= 133);
                }
            }
        }
    }
}

fn open(backend: StateBackend, clock: &Arc<ManualClock>) -> StateStore {
    let file = FileOptions::default().sync(SyncPolicy::Never);
    let config = StateConfig::default().backend(backend).file(file);
    OpenOptions::new().clock(clock.clone()).with_config(config).unwrap()
}

#[test]
fn a_million_random_events_are_summed_up_as_by_brute_force() {
    let clock = Arc::new(ManualClock::default());
    compare(&open(StateBackend::Memory, &clock), &clock, 1_000_000);
}

#[test]
fn windows_in_files_are_summed_up_as_by_brute_force() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    compare(&open(StateBackend::file(dir.path().join("state")), &clock), &clock, 20_000);
}

#[test]
fn a_window_in_files_survives_and_writes_little() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let clock = Arc::new(ManualClock::default());
    let store = open(StateBackend::file(&path), &clock);
    let hour = Duration::from_secs(3600);
    for _ in 0..60 {
        store.window("w", hour).add(1).unwrap();
        clock.advance(Duration::from_secs(59));
    }
    let before = std::fs::metadata(path.join("journal-1.jsonl")).unwrap().len();
    store.window("w", hour).add(1).unwrap();
    store.window("w", hour).add(1).unwrap();
    let after = std::fs::metadata(path.join("journal-1.jsonl")).unwrap().len();
    assert!(after - before < 3000, "{} bytes", after - before);
    let sum = store.window("w", hour).sum().unwrap();
    store.close().unwrap();
    let store = open(StateBackend::file(&path), &clock);
    assert_eq!(store.window("w", hour).sum().unwrap(), sum);
}
