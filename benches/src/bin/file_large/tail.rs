//! The slowest gets of one reader while four threads put and a compaction runs. The same gets from a Memory
//! store, while four threads put into another store, show how much of the time is due to the machine.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use millpond::StateStore;
use millpond_benches::data::{BytesWriter, check_bytes, keys};
use millpond_benches::directory;
use millpond_benches::latency::Latencies;
use millpond_benches::measure::Random;
use millpond_benches::report::{self, Limit};

use crate::ROUNDS;
use crate::entries::open;

const KEYS: usize = 100_000;
const WRITERS: usize = 4;
const LENGTH: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// With fewer gets than this, their 99.9th percentile means nothing.
const ENOUGH: u64 = 20_000;
const BAR_MICROS: f64 = 1000.0;

struct Contender<'a> {
    name: &'static str,
    read: StateStore,
    written: StateStore,
    directory: Option<&'a Path>,
}

/// The measurements of one round.
#[derive(Default)]
struct Gets {
    all: Latencies,
    compacting: Latencies,
}

pub fn reads() {
    let scratch = millpond_benches::scratch();
    let (never, always) = (scratch.path().join("never"), scratch.path().join("always"));
    let keys = keys("", KEYS);
    let fill = |store: &StateStore| {
        let mut writer = BytesWriter::default();
        for (index, key) in keys.iter().enumerate() {
            store.put_bytes(key, writer.next(index)).unwrap();
        }
    };
    let in_file = |name, directory, options| {
        let store = open(directory, "sync=never");
        fill(&store);
        store.close().unwrap();
        let store = open(directory, options);
        Contender { name, read: store.clone(), written: store, directory: Some(directory) }
    };
    let in_memory = || {
        let store = StateStore::memory();
        fill(&store);
        store
    };
    let contenders = [
        in_file("sync=never", &never, "sync=never"),
        // This ratio leads to more frequent compactions: the store is written to more slowly.
        in_file("sync=always", &always, "sync=always&compact_ratio=0.1"),
        Contender { name: "Memory beside Memory", read: in_memory(), written: in_memory(), directory: None },
    ];
    let rounds: Vec<Vec<Gets>> =
        (0..ROUNDS).map(|_| contenders.iter().map(|contender| contender.round(&keys)).collect()).collect();
    for (at, Contender { name, directory, .. }) in contenders.iter().enumerate() {
        let row = |what: &str, limit, number: &dyn Fn(&Gets) -> f64| {
            let numbers: Vec<f64> = rounds.iter().map(|round| number(&round[at])).collect();
            report::quantity(&format!("get beside 4 writers, {name}: {what}"), 1, &numbers, "µs", limit);
        };
        if directory.is_some() {
            let limit = Limit::Median(BAR_MICROS);
            row("99.9 %, compacting", limit, &|gets| gets.compacting.percentile(99.9));
        }
        row("99.9 %", Limit::None, &|gets| gets.all.percentile(99.9));
        row("99.99 %", Limit::None, &|gets| gets.all.percentile(99.99));
        row("longest", Limit::None, &|gets| gets.all.longest() * 1e3);
    }
    for Contender { written, .. } in &contenders {
        written.close().unwrap();
    }
}

impl Contender<'_> {
    fn round(&self, keys: &[String]) -> Gets {
        let (ends, compacts, snapshot) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        let before = self.directory.map(|directory| directory::look(directory).snapshot);
        thread::scope(|scope| {
            let mut helpers: Vec<ScopedJoinHandle<'_, ()>> = (0..WRITERS as u64)
                .map(|seed| {
                    let (ends, store) = (&ends, &self.written);
                    scope.spawn(move || {
                        let (mut random, mut writer) = (Random::new(seed), BytesWriter::default());
                        while !ends.load(Ordering::Relaxed) {
                            let index = random.below(KEYS);
                            store.put_bytes(&keys[index], writer.next(index)).unwrap();
                        }
                    })
                })
                .collect();
            if let Some(directory) = self.directory {
                let (ends, compacts, snapshot) = (&ends, &compacts, &snapshot);
                helpers.push(scope.spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        let look = directory::look(directory);
                        compacts.store(look.compacts, Ordering::Relaxed);
                        snapshot.store(look.snapshot, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(1));
                    }
                }));
            }
            let mut gets = Gets::default();
            let mut random = Random::new(WRITERS as u64);
            let start = Instant::now();
            loop {
                let index = random.below(KEYS);
                let during = compacts.load(Ordering::Relaxed);
                let begin = Instant::now();
                let value = self.read.get_bytes(&keys[index]).unwrap().unwrap();
                let end = Instant::now();
                check_bytes(&value, index);
                gets.all.add(end - begin);
                if during {
                    gets.compacting.add(end - begin);
                }
                let compacted = before.is_none_or(|before| {
                    snapshot.load(Ordering::Relaxed) > before && gets.compacting.count() >= ENOUGH
                });
                if end - start > LENGTH && compacted {
                    break;
                }
                assert!(end - start < PATIENCE, "{}: no compaction within a minute", self.name);
            }
            ends.store(true, Ordering::Relaxed);
            helpers.into_iter().for_each(|helper| helper.join().expect("the threads that write"));
            gets
        })
    }
}
