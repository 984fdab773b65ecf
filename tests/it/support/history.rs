//! A history of every kind of operation, derived from a seed, so that the expected data after any number of
//! steps is known; and processes that continue a history.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use millpond::{Error, ManualClock, OpenOptions, StateConfig, StateStore, SyncPolicy, WriteBatch};

use super::child_process;
use super::files::config;

/// How often an entry records the number of the last step.
const RECORDED_EVERY: u64 = 8;

/// How often everything is flushed.
const FLUSHED_EVERY: u64 = 32;

/// A store in the middle of its history. A step is one operation: it is either done or not.
pub(crate) struct History {
    pub(crate) store: StateStore,
    clock: Arc<ManualClock>,
    seed: u64,
}

impl History {
    /// Opens a store after so many steps.
    pub(crate) fn open(config: StateConfig, seed: u64, done: u64) -> Result<Self, Error> {
        let clock = Arc::new(ManualClock::default());
        set_time(&clock, done);
        let store = OpenOptions::new().clock(clock.clone()).with_config(config)?;
        Ok(Self { store, clock, seed })
    }

    /// Opens the store in a directory, which is compacted often.
    pub(crate) fn in_directory(dir: &Path, sync: SyncPolicy, seed: u64, done: u64) -> Result<Self, Error> {
        Self::open(config(dir, sync), seed, done)
    }

    /// The expected store, in memory.
    pub(crate) fn expected(seed: u64, done: u64) -> Self {
        let history = Self::open(StateConfig::default(), seed, 0).unwrap();
        (1..=done).for_each(|n| history.step(n).unwrap());
        history
    }

    /// Does the operation that the seed gives for this step.
    pub(crate) fn step(&self, n: u64) -> Result<(), Error> {
        let store = &self.store;
        set_time(&self.clock, n);
        let random = &mut Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(n));
        let key = format!("k{}", random.u32(..40));
        let (map, queue) = (format!("m{}", random.u32(..3)), format!("q{}", random.u32(..3)));
        let field = random.u32(..60).to_string();
        let ttl = Duration::from_secs(random.u64(1..200));
        let value = (n, "x".repeat(length(random)));
        if n.is_multiple_of(RECORDED_EVERY) {
            return store.write(&batch(n, random)?);
        }
        if n % FLUSHED_EVERY == FLUSHED_EVERY - 1 {
            return store.flush();
        }
        match random.u32(..18) {
            0 | 1 => store.put(&key, value),
            2 => store.delete(&key).map(drop),
            3 => store.put_with_ttl(&key, value, ttl),
            4 => store.expire(&key, ttl).map(drop),
            5 => store.persist(&key).map(drop),
            6 => store.set_if_not_exists(&key, value, Some(ttl)).map(drop),
            7 => store.get_and_delete::<serde_json::Value>(&key).map(drop),
            8 => store.incr_with_ttl("c", 1, ttl).map(drop),
            9 => store.map_put(&map, &field, value).map(drop),
            10 => store.map_delete(&map, &field).map(drop),
            11 => store.map_put_many(&map, (0..9).map(|at| (format!("{field} {at}"), n))).map(drop),
            12 => store.push_back(&queue, value).map(drop),
            13 => store.push_front(&queue, n).map(drop),
            14 => store.pop_front::<serde_json::Value>(&queue).map(drop),
            15 => store.queue_trim(&queue, random.u64(..30)).map(drop),
            16 => {
                if random.bool() {
                    store.delete(&map).map(drop)
                } else {
                    store.expire(&queue, ttl).map(drop)
                }
            }
            _ => store.transaction(|tx| {
                let many = tx.queue_len(&queue)?;
                tx.map_put(&map, "length", many)?;
                tx.pop_back::<serde_json::Value>(&queue)?;
                tx.put(&key, n)?;
                tx.push_back("q0", many)?;
                tx.delete("k0").map(drop)
            }),
        }
    }

    /// Everything that a reader can see.
    pub(crate) fn state(&self) -> Vec<String> {
        let store = &self.store;
        let all = store.keys("").unwrap().into_iter().map(|key| {
            let ttl = store.ttl(&key).unwrap();
            match key.as_bytes()[0] {
                b'm' => format!("{key} {ttl:?} {:?}", store.map_entries::<serde_json::Value>(&key).unwrap()),
                b'q' => {
                    format!("{key} {ttl:?} {:?}", store.queue_range::<serde_json::Value>(&key, ..).unwrap())
                }
                _ => format!("{key} {ttl:?} {:?}", store.get::<serde_json::Value>(&key).unwrap()),
            }
        });
        all.collect()
    }

    /// The step, one of these, after which a store holds the same as this one.
    pub(crate) fn find(&self, steps: RangeInclusive<u64>) -> Option<u64> {
        let told: u64 = self.store.get("step").unwrap().unwrap_or(0);
        let from = told.max(*steps.start());
        let to = (told + RECORDED_EVERY - 1).min(*steps.end());
        let expected = Self::expected(self.seed, from);
        (from..=to).find(|n| {
            if *n > from {
                expected.step(*n).unwrap();
            }
            // A compaction may already have recorded the time of the next step.
            (*n..=n + 1).any(|now| {
                set_time(&self.clock, now);
                set_time(&expected.clock, now);
                self.state() == expected.state()
            })
        })
    }

    /// Like [`History::find`], for a store that must match one of the steps.
    #[track_caller]
    pub(crate) fn assert_after(&self, steps: RangeInclusive<u64>, what: &str) -> u64 {
        self.find(steps.clone()).unwrap_or_else(|| {
            let told: u64 = self.store.get("step").unwrap().unwrap_or(0);
            let at = told.clamp(*steps.start(), *steps.end());
            let (found, expected) = (self.state(), Self::expected(self.seed, at).state());
            let extra: Vec<_> = found.iter().filter(|entry| !expected.contains(entry)).collect();
            let missing: Vec<_> = expected.iter().filter(|entry| !found.contains(entry)).collect();
            panic!(
                "{what}: not what is there after any of {steps:?} steps; it says {told}, and against {at} steps \
                 has {extra:#?} instead of {missing:#?}"
            );
        })
    }
}

fn set_time(clock: &ManualClock, step: u64) {
    clock.set(UNIX_EPOCH + Duration::from_secs(1_704_067_200 + step));
}

/// Mostly short; some values take several blocks of a disk.
fn length(random: &mut Rng) -> usize {
    match random.u32(..20) {
        0 => random.usize(4000..20_000),
        1..4 => random.usize(300..4000),
        _ => random.usize(..300),
    }
}

fn batch(n: u64, random: &mut Rng) -> Result<WriteBatch, Error> {
    let mut batch = WriteBatch::new();
    batch.put("step", n)?;
    for _ in 0..random.u32(..6) {
        let key = format!("k{}", random.u32(..40));
        match random.u32(..3) {
            0 => batch.delete(&key)?,
            1 => batch.put_with_ttl(&key, n, Duration::from_secs(random.u64(1..100)))?,
            _ => batch.put(&key, (n, "y".repeat(length(random))))?,
        };
    }
    Ok(batch)
}

/// The last step up to `acked` that flushed, or `done` if none has.
pub(crate) fn flushed(done: u64, acked: u64) -> u64 {
    let last = (acked + 1) / FLUSHED_EVERY * FLUSHED_EVERY;
    done.max(last.saturating_sub(1))
}

/// The job of a process that continues a history.
pub(crate) fn job(sync: SyncPolicy, seed: u64, done: u64, to: u64) -> String {
    format!("history {sync} {seed} {done} {to}")
}

/// Continues a history until its end, or until the process is killed; reports every step. If a step fails, it
/// reports the error, that reads still work, and the result of the next step.
pub(crate) fn continue_history(job: &str, dir: &Path) {
    let words: Vec<&str> = job.split(' ').collect();
    let ["history", sync, numbers @ ..] = &words[..] else { panic!("no job is called {job}") };
    let sync: SyncPolicy = serde_json::from_value((*sync).into()).unwrap();
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let [seed, done, to] = numbers[..] else { panic!("no job is called {job}") };
    let history = match History::in_directory(dir, sync, seed, done) {
        Ok(history) => history,
        Err(error) => return child_process::report(&format!("refused {error:?}")),
    };
    for n in done + 1..=to {
        if let Err(error) = history.step(n) {
            child_process::report(&format!("failed {n} {error:?}"));
            let found = history.assert_after(n - 1..=n, "after a failure");
            child_process::report(&format!("reads {found}"));
            let next = history.store.delete("nothing").map_err(|error| format!("{error:?}"));
            return child_process::report(&format!("next {next:?}"));
        }
        child_process::report(&format!("ack {n}"));
    }
    child_process::report("end");
}

/// The step that a process reports as done.
pub(crate) fn acked(said: &str) -> Option<u64> {
    said.strip_prefix("ack ")?.parse().ok()
}
