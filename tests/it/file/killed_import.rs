//! An import whose process is killed: afterwards the directory holds the old entries or the new ones, whole.

use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::{ExportOptions, Import, StateStore, SyncPolicy};

use crate::support::child_process::{self, Process};
use crate::support::files::open;
use crate::support::seeds::any_seeds;

const TEST: &str = "file::killed_import::an_import_is_whole_or_not_there";

/// Every entry of a generation holds its number.
fn generation(number: u32) -> StateStore {
    let store = StateStore::memory();
    store.batch_put((0..2000).map(|n| (format!("k:{n}"), number))).unwrap();
    store.map_put_many("map", (0..100).map(|n| (format!("f{n}"), number))).unwrap();
    store.push_back_many("queue", (0..100).map(|_| number)).unwrap();
    // Each generation has a key of its own, so that a mixture has too many.
    store.put(format!("generation:{number}"), number).unwrap();
    store
}

/// Imports one generation after the other until it is killed.
fn import_generations(dir: &Path) {
    let store = open(dir, SyncPolicy::Never).unwrap();
    for number in 1.. {
        let mut saved = Vec::new();
        generation(number % 7).export(&mut saved, &ExportOptions::new()).unwrap();
        child_process::report("importing");
        store.import(&saved[..], Import::Replace).unwrap();
    }
}

/// Checks that the directory holds all entries of one generation, and no others.
fn check(dir: &Path) {
    let store = open(dir, SyncPolicy::Never).unwrap();
    let number = store.get::<u32>("k:0").unwrap().unwrap();
    assert_eq!(store.count("").unwrap(), 2003);
    assert_eq!(store.get::<u32>(format!("generation:{number}")).unwrap(), Some(number));
    assert!(store.entries::<u32>("k:").all(|entry| entry.unwrap().1 == number));
    assert!(store.map_entries::<u32>("map").unwrap().values().all(|value| *value == number));
    assert!(store.queue_range::<u32>("queue", ..).unwrap().iter().all(|value| *value == number));
}

#[test]
fn an_import_is_whole_or_not_there() {
    if let Some((_, dir)) = child_process::job() {
        return import_generations(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    generation(0).copy_to(&open(dir.path(), SyncPolicy::Never).unwrap(), Import::Replace).unwrap();
    for seed in any_seeds(10) {
        let random = &mut Rng::with_seed(seed);
        let mut process = Process::start_test(TEST, "import", &dir.path().display().to_string());
        for _ in 0..random.u32(1..4) {
            process.read_report().unwrap();
        }
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        process.kill();
        check(dir.path());
    }
}
