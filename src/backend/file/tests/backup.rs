//! Owns the proof that a failure or a crash at any call of a backup leaves the store as it was, and a copy that is whole
//! or does not open.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::backend::Backend;
use crate::backend::file::compaction::compact;
use crate::backend::file::contents::Contents;
use crate::backend::file::fs::{Access, FileSystem as _};
use crate::backend::file::layout::Layout;
use crate::backend::file::store::File;
use crate::backend::file::tests::faulty_file::open_faulty;
use crate::backend::file::tests::simulated_fs::{EIO, ENOSPC, FailureReporter, Fault, SimulatedFs};
use crate::backend::file::tests::support::{
    incr, key, map_put, op, open_simulated, open_simulated_in, push, put, simulated_dir, state,
};
use crate::clock::{ManualClock, Millis};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::op::EntryAction;
use crate::store_clock::StoreClock;
use crate::value::Value;

const KEYS: [&str; 6] = ["a", "b", "c", "expiring", "map", "queue"];

/// Number of states after a crash that are checked, for each call that crashes, and for each call that fails before
/// a crash.
const CRASHES: u64 = 6;
const CRASHES_LATER: u64 = 2;

const FAULTS: [Fault; 7] = [
    Fault::Crash,
    Fault::Error(EIO),
    Fault::Lasting(ENOSPC),
    Fault::Lasting(EIO),
    Fault::Short,
    Fault::Torn,
    Fault::Lie,
];

/// How a store is when it is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Journal,
    SnapshotAndJournal,
    ReadOnly,
}

/// The directory for the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Missing,
    Empty,
}

impl Target {
    fn dir(self) -> PathBuf {
        simulated_dir().join(match self {
            Self::Missing => "new/copy",
            Self::Empty => "copy",
        })
    }
}

/// A store with every kind of entry, of which all is on the disk, and a directory for a copy.
fn open_source(source: Source, target: Target) -> (SimulatedFs, File) {
    let fs = SimulatedFs::new(simulated_dir());
    let store = open_simulated(&fs, SyncPolicy::Always).unwrap();
    let ttl = Millis::new(Duration::from_secs(3600)).ok();
    let expiring = op("expiring", EntryAction::Put { value: Value::json(b"\"x\""), ttl });
    store.apply_each(vec![put("a", 1), push("queue", 3), map_put("map", "f", 900), expiring]);
    if source != Source::Journal {
        compact(&store.core, &mut || ()).unwrap();
    }
    for op in [put("b", 1), incr("a"), put("c", 1), push("queue", 2)] {
        store.apply(op).unwrap();
    }
    if target == Target::Empty {
        fs.create_dir(&target.dir(), Access::Owner).unwrap();
    }
    fs.sync_dir(&simulated_dir().join("store")).unwrap();
    fs.sync_dir(simulated_dir()).unwrap();
    match source {
        Source::Journal | Source::SnapshotAndJournal => (fs, store),
        Source::ReadOnly => {
            let layout = Layout {
                dir: simulated_dir().join("store"),
                fs: Arc::new(fs.clone()),
                contents: Contents::Store,
            };
            let clock = StoreClock::Trusted(Arc::new(ManualClock::default()));
            let seen = File::open_read_only_in(layout, clock).unwrap();
            store.close().unwrap();
            (fs, seen)
        }
    }
}

fn names(fs: &SimulatedFs, dir: &Path) -> Vec<String> {
    fs.files(dir).into_keys().collect()
}

/// Checks that the copy is whole, or, if it may be partial, that it does not open as a store with a part of the entries.
fn check_copy(fs: &SimulatedFs, dir: &Path, expected: &[String], is_whole: bool) {
    let names = names(fs, dir);
    match open_simulated_in(dir, fs, SyncPolicy::Always) {
        Ok(copy) => {
            let is_nothing = names.iter().all(|name| name == "LOCK");
            if is_whole || !is_nothing {
                assert_eq!(state(&copy, &KEYS), expected, "{names:?}");
                copy.apply(put("later", 1)).unwrap();
                copy.close().unwrap();
            }
        }
        Err(Error::Corrupt { .. }) if !is_whole => {}
        Err(error) => panic!("{error:?}, whole: {is_whole}, {names:?}"),
    }
}

/// Backs up with a fault at a call; returns whether there was such a call.
fn back_up_with_fault((source, target): (Source, Target), call: u64, fault: Fault) -> bool {
    let (fs, store) = open_source(source, target);
    let (dir, expected) = (target.dir(), state(&store, &KEYS));
    fs.fail_at(call, fault);
    let context = format!("{source:?} to {target:?}: {fault:?} at call {call}");
    let reporter = FailureReporter { fs: &fs, context };
    let outcome = store.back_up_in(&dir, &fs);
    let was_met = fs.calls() > call;
    fs.heal();
    match &outcome {
        Ok(()) | Err(Error::Io { .. } | Error::StorageFull { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    let random = &mut Rng::with_seed(call);
    for _ in 0..if fault == Fault::Crash { CRASHES } else { CRASHES_LATER } {
        let crashed = fs.after_crash(random);
        check_copy(&crashed, &dir, &expected, outcome.is_ok());
        let store = open_simulated(&crashed, SyncPolicy::Always).unwrap();
        assert_eq!(state(&store, &KEYS), expected, "the store has changed");
    }
    if !fs.has_crashed() {
        assert_eq!(state(&store, &KEYS), expected, "the store has changed");
        if source != Source::ReadOnly {
            store.apply(put("later", 1)).unwrap();
        }
        match &outcome {
            Ok(()) => check_copy(&fs, &dir, &expected, true),
            // Then the system is read-only, or syncs no names.
            Err(_) if matches!(fault, Fault::Lie | Fault::Lasting(_)) => {
                assert!(names(&fs, &dir).iter().all(|name| name == "LOCK") || fault == Fault::Lie);
                check_copy(&fs, &dir, &expected, false);
            }
            Err(_) => {
                assert_eq!(names(&fs, &dir), [""; 0], "a failed backup has left files behind");
                for dir in dir.ancestors().take_while(|dir| *dir != simulated_dir()) {
                    assert_eq!(fs.file_type(dir).is_ok(), target == Target::Empty, "{}", dir.display());
                }
            }
        }
        drop(store);
        let again = open_simulated(&fs, SyncPolicy::Always).unwrap();
        assert_eq!(state(&again, &KEYS), expected, "the store has changed");
    }
    drop(reporter);
    was_met
}

#[test]
fn a_fault_at_any_call_of_a_backup_leaves_no_part_of_it() {
    for (source, target) in [
        (Source::Journal, Target::Empty),
        (Source::SnapshotAndJournal, Target::Missing),
        (Source::ReadOnly, Target::Empty),
    ] {
        for fault in FAULTS {
            let run = |call: &u64| back_up_with_fault((source, target), *call, fault);
            let calls = (0..1000).take_while(run).count();
            assert!(calls > 15, "{source:?} to {target:?}, {fault:?}: {calls} calls are too few");
        }
    }
}

#[test]
fn a_backup_during_a_compaction_has_the_state_of_its_moment() {
    let (fs, store) = open_source(Source::SnapshotAndJournal, Target::Missing);
    let copies = RefCell::new(Vec::new());
    let back_up = || {
        let number = copies.borrow().len();
        store.apply(incr("a")).unwrap();
        store.apply(push("queue", 1)).unwrap();
        let dir = simulated_dir().join(format!("copy-{number}"));
        store.back_up_in(&dir, &fs).unwrap();
        copies.borrow_mut().push((dir, state(&store, &KEYS)));
        store.apply(put("b", 7)).unwrap();
    };
    for _ in 0..2 {
        compact(&store.core, &mut || back_up()).unwrap();
        back_up();
    }
    let copies = copies.into_inner();
    assert_eq!(copies.len(), 8);
    for (dir, expected) in copies {
        check_copy(&fs, &dir, &expected, true);
    }
}

/// A rotation that has created its file, and may still fail.
#[test]
fn a_journal_that_is_not_begun_is_no_part_of_a_backup() {
    let (fs, store) = open_source(Source::Journal, Target::Missing);
    fs.create_new(&store.core.layout.journal_path(2)).unwrap();
    let dir = Target::Missing.dir();
    store.back_up_in(&dir, &fs).unwrap();
    assert_eq!(names(&fs, &dir), ["LOCK", "journal-1.jsonl"]);
    check_copy(&fs, &dir, &state(&store, &KEYS), true);
}

#[test]
fn a_copy_that_loses_its_last_lines_does_not_open() {
    for source in [Source::Journal, Source::SnapshotAndJournal, Source::ReadOnly] {
        let (fs, store) = open_source(source, Target::Missing);
        let dir = Target::Missing.dir();
        store.back_up_in(&dir, &fs).unwrap();
        for name in names(&fs, &dir).iter().filter(|name| *name != "LOCK") {
            let crashed = fs.after_crash(&mut Rng::with_seed(0));
            crashed.damage(&dir.join(name), |bytes| bytes.truncate(bytes.len() - 1));
            let opened = open_simulated_in(&dir, &crashed, SyncPolicy::Always);
            assert!(matches!(opened, Err(Error::Corrupt { .. })), "{source:?}, {name}");
        }
    }
}

fn back_up_beside(store: &File) -> (tempfile::TempDir, Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let outcome = store.back_up(&dir.path().join("copy"));
    (dir, outcome)
}

#[test]
fn a_poisoned_store_is_not_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    store.apply(put("a", 1)).unwrap();
    disk.fails_sync.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(store.apply(put("a", 2)), Err(Error::Poisoned { .. })));
    let (beside, outcome) = back_up_beside(&store);
    assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
    assert!(!beside.path().join("copy").exists());
    assert!(store.get(&key("a")).unwrap().is_some());
}

/// Its sync is still under way.
#[test]
fn a_backup_waits_for_no_sync_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    let gate = disk.sync_gate.lock();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| store.apply(put("a", 1)));
        while disk.syncs.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let (_beside, outcome) = back_up_beside(&store);
        outcome.unwrap();
        drop(gate);
        writer.join().unwrap().unwrap();
    });
}
