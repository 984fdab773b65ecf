//! Owns the proof that a failure or a crash at any call of a repair leaves the damaged original or the repaired
//! store, and a copy of the original beside the latter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

use crate::backend::Backend;
use crate::backend::file::compaction::compact;
use crate::backend::file::contents::Contents;
use crate::backend::file::fs::FileSystem as _;
use crate::backend::file::layout::Layout;
use crate::backend::file::report::Repair;
use crate::backend::file::store::File;
use crate::backend::file::tests::simulated_fs::{EIO, ENOSPC, FailureReporter, Fault, SimulatedFs};
use crate::backend::file::tests::support::{incr, map_put, open_simulated, push, put, simulated_dir, state};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};

const KEYS: [&str; 6] = ["a", "b", "c", "map", "queue", "last"];

/// Number of states after a crash that are checked, for each call that crashes, and for each call that fails before
/// a crash.
const CRASHES: u64 = 6;
const CRASHES_LATER: u64 = 2;

const FAULTS: [Fault; 6] =
    [Fault::Crash, Fault::Error(EIO), Fault::Lasting(ENOSPC), Fault::Short, Fault::Torn, Fault::Lie];

fn dir() -> PathBuf {
    simulated_dir().join("store")
}

fn repair(fs: &SimulatedFs) -> Result<Repair> {
    File::repair_in(&Layout { dir: dir(), fs: Arc::new(fs.clone()), contents: Contents::Store })
}

/// A store with a snapshot and a journal, closed and synced.
fn closed_store() -> SimulatedFs {
    let fs = SimulatedFs::new(simulated_dir());
    let store = open_simulated(&fs, SyncPolicy::Always).unwrap();
    store.apply_each(vec![put("a", 1), push("queue", 3), map_put("map", "f", 900)]);
    compact(&store.core, &mut || ()).unwrap();
    for op in [put("b", 1), incr("a"), put("c", 1), push("queue", 2), put("last", 1)] {
        store.apply(op).unwrap();
    }
    store.close().unwrap();
    fs.sync_dir(&dir()).unwrap();
    fs
}

/// Replaces the first occurrence of a text in a file.
fn replace(fs: &SimulatedFs, file: &str, text: &[u8], replacement: &[u8]) {
    fs.damage(&dir().join(file), |bytes| {
        let at = memchr::memmem::find(bytes, text).unwrap();
        bytes.splice(at..at + text.len(), replacement.iter().copied());
    });
}

/// The closed store with different damage.
fn damaged_stores() -> Vec<(&'static str, SimulatedFs)> {
    let damaged = |name, damage: fn(&SimulatedFs)| {
        let fs = closed_store();
        damage(&fs);
        fs.sync_dir(&dir()).unwrap();
        (name, fs)
    };
    vec![
        damaged("line", |fs| replace(fs, "journal-2.jsonl", b"\"k\":\"b\"", b"\"k\":\"x\"")),
        damaged("line break", |fs| replace(fs, "journal-2.jsonl", b"\n{", b"?{")),
        damaged("missing line", |fs| {
            fs.damage(&dir().join("journal-2.jsonl"), |bytes| {
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                lines.remove(2);
                *bytes = lines.concat();
            });
        }),
        damaged("header", |fs| replace(fs, "journal-2.jsonl", b"journal", b"jourmal")),
        damaged("snapshot", |fs| replace(fs, "snapshot-2.jsonl", b"\"k\":\"a\"", b"\"k\":\"x\"")),
        damaged("footer", |fs| replace(fs, "snapshot-2.jsonl", b"\"end\"", b"\"emd\"")),
        damaged("missing journal", |fs| fs.remove(&dir().join("journal-2.jsonl")).unwrap()),
    ]
}

/// A damaged store, and what a repair without faults makes of it.
struct Case {
    name: &'static str,
    damaged: SimulatedFs,
    /// Files of the damaged store, apart from the lock.
    original: BTreeMap<String, Vec<u8>>,
    repaired: Vec<String>,
}

fn store_files(fs: &SimulatedFs, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = fs.files(dir);
    files.retain(|name, _| name != "LOCK");
    files
}

impl Case {
    fn new(name: &'static str, damaged: SimulatedFs) -> Self {
        let original = store_files(&damaged, &dir());
        // Everything is synced, so that a crash leaves an exact copy.
        let fs = damaged.after_crash(&mut Rng::with_seed(0));
        assert_eq!(store_files(&fs, &dir()), original);
        assert!(matches!(open_simulated(&fs, SyncPolicy::Always), Err(Error::Corrupt { .. })));
        assert_eq!(repair(&fs).unwrap().backup, Some(dir().join("damaged-1")));
        let repaired = state(&open_simulated(&fs, SyncPolicy::Always).unwrap(), &KEYS);
        Self { name, damaged, original, repaired }
    }

    /// Repairs with a fault at a call; returns whether there was such a call.
    fn repair_with_fault(&self, call: u64, fault: Fault) -> bool {
        let random = &mut Rng::with_seed(call);
        let fs = self.damaged.after_crash(random);
        fs.fail_at(call, fault);
        let reporter =
            FailureReporter { fs: &fs, context: format!("{}: {fault:?} at call {call}", self.name) };
        let outcome = repair(&fs);
        let was_met = fs.calls() > call;
        fs.heal();
        match &outcome {
            Ok(repair) => assert!(repair.backup.is_some()),
            Err(Error::Io { .. } | Error::StorageFull { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        // After a false success of its last sync, a crash may undo a repair.
        let is_durable = outcome.is_ok() && fault != Fault::Lie;
        let crashes = if fault == Fault::Crash { CRASHES } else { CRASHES_LATER };
        for _ in 0..crashes {
            self.check(&fs.after_crash(random), is_durable);
        }
        if !fs.has_crashed() {
            self.check(&fs, outcome.is_ok());
        }
        drop(reporter);
        was_met
    }

    /// Checks that the store is repaired, or is still damaged as before and can be repaired.
    fn check(&self, fs: &SimulatedFs, is_repaired: bool) {
        let store = match open_simulated(fs, SyncPolicy::Always) {
            Ok(store) => store,
            Err(Error::Corrupt { .. }) if !is_repaired => {
                let files = store_files(fs, &dir());
                for (name, bytes) in &self.original {
                    assert!(files.get(name) == Some(bytes), "{name} of the damaged store has changed");
                }
                repair(fs).unwrap();
                open_simulated(fs, SyncPolicy::Always).unwrap()
            }
            Err(error) => panic!("{error:?}, repaired: {is_repaired}"),
        };
        assert_eq!(state(&store, &KEYS), self.repaired);
        let mut copies = (1..9).map(|number| store_files(fs, &dir().join(format!("damaged-{number}"))));
        assert!(copies.any(|copy| copy == self.original), "there is no copy of the damaged files");
    }
}

#[test]
fn a_fault_at_any_call_of_a_repair_loses_nothing() {
    for (name, damaged) in damaged_stores() {
        let case = Case::new(name, damaged);
        for fault in FAULTS {
            let calls = (0..1000).take_while(|call| case.repair_with_fault(*call, fault)).count();
            assert!(calls > 15, "{name}, {fault:?}: {calls} calls are too few for a repair");
        }
    }
}
