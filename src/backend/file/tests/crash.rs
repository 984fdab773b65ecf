//! Owns the proof that a failure or a crash at any call to the operating system leaves the old state or the new
//! one, whole: a scripted run meets a fault at each of its calls in turn.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::backend::Backend;
use crate::backend::file::compaction::compact;
use crate::backend::file::layout::Layout;
use crate::backend::file::lock::DirectoryLock;
use crate::backend::file::store::File;
use crate::backend::file::tests::histories::state;
use crate::backend::file::tests::simulated_fs::{ENOSPC, Fault, Simulated};
use crate::clock::{ManualClock, Millis};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{End, EntryAction, Op};
use crate::value::Value;

const KEYS: [&str; 6] = ["a", "b", "gone", "mortal", "map", "queue"];

/// How many of the states that a crash may leave are looked at, for each call at which it comes, and for each that
/// failed before it came.
const CRASHES: u64 = 6;
const CRASHES_LATER: u64 = 2;

/// And when a commit has failed for the first time: few of them show what was written of its line.
const CRASHES_AT_ONCE: u64 = 80;

const EIO: i32 = 5;
const EFBIG: i32 = 27;
const EXDEV: i32 = 18;
const EMFILE: i32 = 24;

/// What is done in one go.
type Commit = Vec<Op<'static>>;

/// One step of a run.
enum Step {
    Commit(Commit),
    /// Compacts, and writes at three places in the middle of it.
    Compact([Commit; 3]),
    Flush,
    Reopen,
}

fn op(key: &str, action: EntryAction) -> Op<'static> {
    Op { key: Key::listed(key.to_owned()), action }
}

fn put(key: &str, number: i64) -> Op<'static> {
    op(key, EntryAction::Put { value: Value::integer(number), ttl: None })
}

fn push(values: i64) -> Op<'static> {
    let values = (0..values).map(Value::integer).collect();
    op("queue", EntryAction::Push { end: End::Back, values, ttl_if_created: None })
}

fn field(name: &str, bytes: usize) -> Op<'static> {
    let fields = vec![(name.into(), Value::raw(&vec![7; bytes]))];
    op("map", EntryAction::MapPut { fields, ttl_if_created: None })
}

fn incr(key: &str) -> Op<'static> {
    op(key, EntryAction::Incr { by: 1, ttl_if_created: None })
}

/// Every kind of line, two compactions, lines longer than a sector, and a clean end in the middle.
fn script() -> Vec<Step> {
    let pop = || op("queue", EntryAction::Pop { end: End::Front });
    let mortal = || {
        let ttl = Millis::new(Duration::from_secs(3600)).ok();
        op("mortal", EntryAction::Put { value: Value::json(b"\"x\""), ttl })
    };
    let delete = |key| op(key, EntryAction::Delete);
    let remove = |name: &str| op("map", EntryAction::MapDelete { field: name.into() });
    vec![
        Step::Commit(vec![put("a", 1)]),
        Step::Commit(vec![put("gone", 1), put("b", 1), mortal()]),
        Step::Commit(vec![delete("gone")]),
        Step::Commit(vec![push(3), field("f", 900)]),
        Step::Flush,
        Step::Compact([vec![incr("a")], vec![pop(), incr("a")], vec![field("g", 10)]]),
        Step::Commit(vec![incr("a")]),
        Step::Commit(vec![remove("f"), op("mortal", EntryAction::Persist)]),
        Step::Reopen,
        Step::Commit(vec![put("gone", 2)]),
        Step::Compact([vec![delete("gone")], vec![put("b", 2)], vec![incr("a"), pop()]]),
        Step::Flush,
        Step::Commit(vec![push(1), put("a", 7)]),
        Step::Commit(vec![incr("a")]),
        Step::Reopen,
        Step::Commit(vec![incr("b")]),
    ]
}

fn dir() -> &'static Path {
    Path::new("/simulated")
}

fn open(storage: &Simulated, sync: SyncPolicy) -> Result<File> {
    // Compacted by the run alone.
    let options = FileOptions::default().sync(sync).compact_ratio(1.0).compact_min_bytes(1 << 30);
    let layout = Layout::create(&dir().join("store"), Arc::new(storage.clone()))?;
    File::open_in(layout, DirectoryLock::none(), &options, Arc::new(ManualClock::default()), &mut |_| ())
}

/// What is there after these commits where nothing fails.
fn after(commits: &[Commit]) -> Vec<String> {
    let model = open(&Simulated::new(dir()), SyncPolicy::Never).unwrap();
    for commit in commits {
        drop(model.apply_each(commit.clone()));
    }
    state(&model, &KEYS)
}

/// What was done, as far as anyone was told.
#[derive(Default)]
struct Told {
    done: Vec<Commit>,
    /// One of which nobody knows whether it was done: whether it counts must stay as it is once seen.
    doubtful: Option<Commit>,
    /// How many were synced, at least.
    synced: usize,
}

impl Told {
    fn all_synced(&mut self) {
        self.synced = self.done.len();
    }

    /// What may be there if `lost` commits at the end may be gone.
    fn states(&self, may_lose: bool) -> Vec<Vec<String>> {
        let least = if may_lose { self.synced } else { self.done.len() };
        let mut states: Vec<_> = (least..=self.done.len()).map(|count| after(&self.done[..count])).collect();
        if let Some(doubtful) = &self.doubtful {
            let mut done = self.done.clone();
            done.push(doubtful.clone());
            states.push(after(&done));
        }
        states
    }
}

/// A run that meets at most one fault.
struct Run<'s> {
    storage: &'s Simulated,
    sync: SyncPolicy,
    told: RefCell<Told>,
    /// Nothing can be done any more before it is opened anew.
    ended: Cell<bool>,
    /// Whether a commit has failed, and how many crashes come right after the first.
    failed: Cell<bool>,
    crashes_at_once: u64,
}

impl Run<'_> {
    fn commit(&self, store: &File, commit: &Commit) {
        if self.ended.get() {
            return;
        }
        let outcome = match commit.as_slice() {
            [op] => store.apply(op.clone()).map(drop),
            many => store
                .apply_each(many.to_vec())
                .into_iter()
                .find(Result::is_err)
                .map_or(Ok(()), |e| e.map(drop)),
        };
        let mut told = self.told.borrow_mut();
        match outcome {
            Ok(()) => told.done.push(commit.clone()),
            Err(Error::StorageFull { .. } | Error::Io { .. }) if !self.storage.has_crashed() => {
                let expected = after(&told.done);
                assert_eq!(state(store, &KEYS), expected, "what failed has changed something");
                if self.sync == SyncPolicy::Always && !self.failed.replace(true) {
                    let mut random = Rng::with_seed(told.done.len() as u64);
                    for left in (0..self.crashes_at_once).map(|_| self.storage.after_crash(&mut random)) {
                        let store = open(&left, self.sync).unwrap();
                        assert_eq!(state(&store, &KEYS), expected, "what failed came back after a crash");
                    }
                }
            }
            Err(Error::Poisoned { .. } | Error::StorageFull { .. } | Error::Io { .. }) => {
                told.doubtful = Some(commit.clone());
                self.ended.set(true);
            }
            Err(error) => panic!("{error:?}"),
        }
        if self.sync == SyncPolicy::Always {
            told.all_synced();
        }
    }

    fn go(&self) {
        let mut store = None;
        for step in script() {
            if store.is_none() {
                match open(self.storage, self.sync) {
                    Ok(opened) => store = Some(opened),
                    Err(_) if self.storage.has_crashed() => self.ended.set(true),
                    // It failed, and works when it is tried again.
                    Err(Error::StorageFull { .. } | Error::Io { .. } | Error::Poisoned { .. }) => {
                        self.storage.heal();
                        store = Some(open(self.storage, self.sync).unwrap());
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            let Some(opened) = store.as_ref().filter(|_| !self.ended.get()) else { break };
            match step {
                Step::Commit(commit) => self.commit(opened, &commit),
                Step::Compact(commits) => {
                    let mut commits = commits.iter();
                    // Where it fails the files stay as they were.
                    let _ = compact(&opened.core, &mut || self.commit(opened, commits.next().unwrap()));
                }
                Step::Flush => match opened.flush() {
                    Ok(()) => self.told.borrow_mut().all_synced(),
                    Err(_) => self.ended.set(true),
                },
                Step::Reopen => {
                    let closed = opened.close();
                    if closed.is_ok() {
                        self.told.borrow_mut().all_synced();
                    }
                    store = None;
                }
            }
        }
    }

    /// What is left opens, and is one of the states that it may be; then it is written to as ever.
    fn check(&self, left: &Simulated, may_lose: bool) {
        let states = self.told.borrow().states(may_lose);
        let store = match open(left, self.sync) {
            Ok(store) => store,
            // Nothing vouches for what is not synced.
            Err(Error::Corrupt { .. }) if self.sync == SyncPolicy::Never && may_lose => return,
            Err(error) => panic!("{error:?}"),
        };
        let found = state(&store, &KEYS);
        assert!(states.contains(&found), "found {found:#?}, not one of {states:#?}");
        store.apply(put("behind", 1)).unwrap();
        store.close().unwrap();
        drop(store);
        let again = open(left, self.sync).unwrap();
        assert_eq!(state(&again, &KEYS), found, "opening it once more shows something else");
        assert!(again.get(&Key::listed("behind".to_owned())).unwrap().is_some());
        let names = left.names(&dir().join("store"));
        assert!(names.iter().all(|name| !name.contains("tmp")), "{names:?}");
    }
}

/// Runs the script with a fault at a call; tells whether there was such a call.
fn meet(sync: SyncPolicy, call: u64, fault: Fault) -> bool {
    let storage = Simulated::new(dir());
    storage.fail_at(call, fault);
    let crashes_at_once = if fault == Fault::Torn { CRASHES_AT_ONCE } else { CRASHES_LATER };
    let run = Run {
        storage: &storage,
        sync,
        told: RefCell::default(),
        ended: Cell::default(),
        failed: Cell::default(),
        crashes_at_once,
    };
    let tell = Tell { call, fault, sync, storage: &storage };
    run.go();
    let was_met = storage.calls() > call || run.ended.get();
    storage.heal();
    // What a program sees that is started again, and what it sees after the power has gone.
    let mut random = Rng::with_seed(call);
    let crashes = if fault == Fault::Crash { CRASHES } else { CRASHES_LATER };
    let crashes: Vec<_> = (0..crashes).map(|_| storage.after_crash(&mut random)).collect();
    if !storage.has_crashed() {
        // Opening it brings to the disk what it shows.
        drop(open(&storage, sync).unwrap());
        if sync == SyncPolicy::Always {
            run.check(&storage.after_crash(&mut random), false);
        }
        run.check(&storage, false);
    }
    for left in crashes {
        run.check(&left, sync != SyncPolicy::Always);
    }
    drop(tell);
    was_met
}

/// Says where it was when a check fails.
struct Tell<'s> {
    call: u64,
    fault: Fault,
    sync: SyncPolicy,
    storage: &'s Simulated,
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.storage.log();
            eprintln!("{:?} at call {} with sync={}:\n{}", self.fault, self.call, self.sync, log.join("\n"));
        }
    }
}

fn at_every_call(sync: SyncPolicy, fault: Fault) {
    let calls = (0..1000).take_while(|call| meet(sync, *call, fault)).count();
    assert!(calls > 60, "{calls} calls are too few for all that the script does");
}

const EVERY: SyncPolicy = SyncPolicy::Every(Duration::from_secs(3600));

#[test]
fn a_crash_at_any_call_leaves_all_that_was_acknowledged() {
    at_every_call(SyncPolicy::Always, Fault::Crash);
}

#[test]
fn a_crash_at_any_call_leaves_a_beginning_of_what_was_done_where_it_is_synced_at_an_interval() {
    at_every_call(EVERY, Fault::Crash);
}

#[test]
fn a_crash_at_any_call_leaves_a_beginning_of_what_was_done_or_is_refused_where_it_is_never_synced() {
    at_every_call(SyncPolicy::Never, Fault::Crash);
}

#[test]
fn an_error_at_any_call_changes_nothing_or_poisons() {
    for code in [EIO, ENOSPC, EFBIG, EXDEV, EMFILE] {
        at_every_call(SyncPolicy::Always, Fault::Error(code));
    }
    at_every_call(SyncPolicy::Never, Fault::Error(EIO));
}

#[test]
fn a_disk_that_is_full_from_any_call_on_changes_nothing_or_poisons() {
    for fault in [Fault::Lasting(ENOSPC), Fault::Lasting(EIO), Fault::Torn] {
        at_every_call(SyncPolicy::Always, fault);
    }
    at_every_call(EVERY, Fault::Torn);
    at_every_call(SyncPolicy::Never, Fault::Torn);
}

#[test]
fn a_sync_that_lies_at_any_call_loses_nothing_acknowledged() {
    at_every_call(SyncPolicy::Always, Fault::Lie);
    at_every_call(EVERY, Fault::Lie);
    at_every_call(SyncPolicy::Never, Fault::Lie);
}

#[test]
fn a_short_write_at_any_call_is_gone_on_with() {
    at_every_call(SyncPolicy::Always, Fault::Short);
    at_every_call(SyncPolicy::Never, Fault::Short);
}
