//! Owns the proof that a failure or a crash at any call to the operating system leaves the old state or the new
//! one, whole: a scripted run meets a fault at each of its calls in turn.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use fastrand::Rng;

use crate::backend::Backend;
use crate::backend::file::compaction::compact;
use crate::backend::file::store::File;
use crate::backend::file::tests::simulated_fs::{EIO, ENOSPC, FailureReporter, Fault, SimulatedFs};
use crate::backend::file::tests::support::{
    incr, key, map_put, op, open_simulated, push, put, simulated_dir, state,
};
use crate::clock::Millis;
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::op::{End, EntryAction, Op};
use crate::value::Value;

const KEYS: [&str; 6] = ["a", "b", "deleted", "expiring", "map", "queue"];

/// Number of states after a crash that are checked, for each call that crashes, and for each call that fails before
/// a crash.
const CRASHES: u64 = 6;
const CRASHES_LATER: u64 = 2;

/// The same for crashes right after a first failed commit: few of the states contain parts of its line.
const CRASHES_AT_ONCE: u64 = 80;

const EFBIG: i32 = 27;
const EXDEV: i32 = 18;
const EMFILE: i32 = 24;

/// Operations that are applied at once.
type Commit = Vec<Op<'static>>;

/// One step of a run.
enum ScriptStep {
    Commit(Commit),
    /// Compacts, and commits at three places during the compaction.
    Compact([Commit; 3]),
    Flush,
    Reopen,
}

/// Every kind of line, two compactions, lines longer than a sector, and a clean end in the middle.
fn script() -> Vec<ScriptStep> {
    let pop = || op("queue", EntryAction::Pop { end: End::Front });
    let put_expiring = || {
        let ttl = Millis::new(Duration::from_secs(3600)).ok();
        op("expiring", EntryAction::Put { value: Value::json(b"\"x\""), ttl })
    };
    let delete = |name| op(name, EntryAction::Delete);
    let remove_field = |name: &str| op("map", EntryAction::MapDelete { field: name.into() });
    vec![
        ScriptStep::Commit(vec![put("a", 1)]),
        ScriptStep::Commit(vec![put("deleted", 1), put("b", 1), put_expiring()]),
        ScriptStep::Commit(vec![delete("deleted")]),
        ScriptStep::Commit(vec![push("queue", 3), map_put("map", "f", 900)]),
        ScriptStep::Flush,
        ScriptStep::Compact([vec![incr("a")], vec![pop(), incr("a")], vec![map_put("map", "g", 10)]]),
        ScriptStep::Commit(vec![incr("a")]),
        ScriptStep::Commit(vec![remove_field("f"), op("expiring", EntryAction::Persist)]),
        ScriptStep::Reopen,
        ScriptStep::Commit(vec![put("deleted", 2)]),
        ScriptStep::Compact([vec![delete("deleted")], vec![put("b", 2)], vec![incr("a"), pop()]]),
        ScriptStep::Flush,
        ScriptStep::Commit(vec![push("queue", 1), put("a", 7)]),
        ScriptStep::Commit(vec![incr("a")]),
        ScriptStep::Reopen,
        ScriptStep::Commit(vec![incr("b")]),
    ]
}

/// The state after these commits if nothing fails.
fn state_after(commits: &[Commit]) -> Vec<String> {
    let model = open_simulated(&SimulatedFs::new(simulated_dir()), SyncPolicy::Never).unwrap();
    for commit in commits {
        drop(model.apply_each(commit.clone()));
    }
    state(&model, &KEYS)
}

/// The outcomes of the commits so far.
#[derive(Default)]
struct Acknowledged {
    done: Vec<Commit>,
    /// A commit with unknown outcome. It may count or not, but must not change once a reader has seen it.
    in_doubt: Option<Commit>,
    /// How many of the commits are synced, at least.
    synced: usize,
}

impl Acknowledged {
    fn note_synced(&mut self) {
        self.synced = self.done.len();
    }

    /// The states that may be found, if commits that are not synced may be lost or not.
    fn allowed_states(&self, may_lose: bool) -> Vec<Vec<String>> {
        let min = if may_lose { self.synced } else { self.done.len() };
        let mut states: Vec<_> =
            (min..=self.done.len()).map(|count| state_after(&self.done[..count])).collect();
        if let Some(in_doubt) = &self.in_doubt {
            let mut done = self.done.clone();
            done.push(in_doubt.clone());
            states.push(state_after(&done));
        }
        states
    }
}

/// A run of the script that meets at most one fault.
struct FaultyRun<'s> {
    fs: &'s SimulatedFs,
    sync: SyncPolicy,
    acknowledged: RefCell<Acknowledged>,
    /// Whether nothing can be done before the store is opened again.
    has_ended: Cell<bool>,
    /// Whether a commit has failed, and how many crashes follow directly on the first failure.
    has_failed: Cell<bool>,
    crashes_at_once: u64,
}

impl FaultyRun<'_> {
    fn commit(&self, store: &File, commit: &Commit) {
        if self.has_ended.get() {
            return;
        }
        let outcome = match commit.as_slice() {
            [op] => store.apply(op.clone()).map(drop),
            many => store.apply_each(many.to_vec()).into_iter().collect::<Result<Vec<_>>>().map(drop),
        };
        let mut acknowledged = self.acknowledged.borrow_mut();
        match outcome {
            Ok(()) => acknowledged.done.push(commit.clone()),
            Err(Error::StorageFull { .. } | Error::Io { .. }) if !self.fs.has_crashed() => {
                let expected = state_after(&acknowledged.done);
                assert_eq!(state(store, &KEYS), expected, "a failed commit has changed something");
                if self.sync == SyncPolicy::Always && !self.has_failed.replace(true) {
                    let mut random = Rng::with_seed(acknowledged.done.len() as u64);
                    for crashed in (0..self.crashes_at_once).map(|_| self.fs.after_crash(&mut random)) {
                        let store = open_simulated(&crashed, self.sync).unwrap();
                        let found = state(&store, &KEYS);
                        assert_eq!(found, expected, "a failed commit came back after a crash");
                    }
                }
            }
            Err(Error::Poisoned { .. } | Error::StorageFull { .. } | Error::Io { .. }) => {
                acknowledged.in_doubt = Some(commit.clone());
                self.has_ended.set(true);
            }
            Err(error) => panic!("{error:?}"),
        }
        if self.sync == SyncPolicy::Always {
            acknowledged.note_synced();
        }
    }

    /// Opens the store; a failed opening works when it is tried again. `None` after a crash.
    fn open(&self) -> Option<File> {
        match open_simulated(self.fs, self.sync) {
            Ok(store) => Some(store),
            Err(_) if self.fs.has_crashed() => {
                self.has_ended.set(true);
                None
            }
            Err(Error::StorageFull { .. } | Error::Io { .. } | Error::Poisoned { .. }) => {
                self.fs.heal();
                Some(open_simulated(self.fs, self.sync).unwrap())
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn run_script(&self) {
        let mut store = None;
        for step in script() {
            store = store.or_else(|| self.open());
            let Some(opened) = store.as_ref().filter(|_| !self.has_ended.get()) else { break };
            match step {
                ScriptStep::Commit(commit) => self.commit(opened, &commit),
                ScriptStep::Compact(commits) => {
                    let mut commits = commits.iter();
                    // If it fails, the files stay as they were.
                    let _ = compact(&opened.core, &mut || self.commit(opened, commits.next().unwrap()));
                }
                ScriptStep::Flush => match opened.flush() {
                    Ok(()) => self.acknowledged.borrow_mut().note_synced(),
                    Err(_) => self.has_ended.set(true),
                },
                ScriptStep::Reopen => {
                    if opened.close().is_ok() {
                        self.acknowledged.borrow_mut().note_synced();
                    }
                    store = None;
                }
            }
        }
    }

    /// Checks that the store opens with an allowed state, and can be written and opened again.
    fn check(&self, fs: &SimulatedFs, may_lose: bool) {
        let allowed = self.acknowledged.borrow().allowed_states(may_lose);
        let store = match open_simulated(fs, self.sync) {
            Ok(store) => store,
            // Without syncs a crash may leave any bytes.
            Err(Error::Corrupt { .. }) if self.sync == SyncPolicy::Never && may_lose => return,
            Err(error) => panic!("{error:?}"),
        };
        let found = state(&store, &KEYS);
        assert!(allowed.contains(&found), "found {found:#?}, which is none of {allowed:#?}");
        store.apply(put("later", 1)).unwrap();
        store.close().unwrap();
        drop(store);
        let again = open_simulated(fs, self.sync).unwrap();
        assert_eq!(state(&again, &KEYS), found, "opening it once more shows something else");
        assert!(again.get(&key("later")).unwrap().is_some());
        let files = fs.files(&simulated_dir().join("store"));
        assert!(files.keys().all(|name| !name.contains("tmp")), "{:?}", files.keys());
    }
}

/// Runs the script with a fault at a call; returns whether there was such a call.
fn run_with_fault(sync: SyncPolicy, call: u64, fault: Fault) -> bool {
    let fs = SimulatedFs::new(simulated_dir());
    fs.fail_at(call, fault);
    let crashes_at_once = if fault == Fault::Torn { CRASHES_AT_ONCE } else { CRASHES_LATER };
    let run = FaultyRun {
        fs: &fs,
        sync,
        acknowledged: RefCell::default(),
        has_ended: Cell::default(),
        has_failed: Cell::default(),
        crashes_at_once,
    };
    let reporter = FailureReporter { fs: &fs, context: format!("{fault:?} at call {call} with sync={sync}") };
    run.run_script();
    let was_met = fs.calls() > call || run.has_ended.get();
    fs.heal();
    let mut random = Rng::with_seed(call);
    let crashes = if fault == Fault::Crash { CRASHES } else { CRASHES_LATER };
    let crashes: Vec<_> = (0..crashes).map(|_| fs.after_crash(&mut random)).collect();
    if !fs.has_crashed() {
        // An opening syncs what it shows, also to a process that starts after a crash of this one.
        drop(open_simulated(&fs, sync).unwrap());
        if sync == SyncPolicy::Always {
            run.check(&fs.after_crash(&mut random), false);
        }
        run.check(&fs, false);
    }
    for crashed in crashes {
        run.check(&crashed, sync != SyncPolicy::Always);
    }
    drop(reporter);
    was_met
}

fn run_with_fault_at_every_call(sync: SyncPolicy, fault: Fault) {
    let calls = (0..1000).take_while(|call| run_with_fault(sync, *call, fault)).count();
    assert!(calls > 60, "{calls} calls are too few for all that the script does");
}

const EVERY: SyncPolicy = SyncPolicy::Every(Duration::from_secs(3600));

#[test]
fn a_crash_at_any_call_leaves_all_that_was_acknowledged() {
    run_with_fault_at_every_call(SyncPolicy::Always, Fault::Crash);
}

/// With syncs at an interval.
#[test]
fn a_crash_at_any_call_leaves_a_prefix_of_the_commits() {
    run_with_fault_at_every_call(EVERY, Fault::Crash);
}

/// With no syncs at all.
#[test]
fn a_crash_at_any_call_leaves_a_prefix_or_an_error() {
    run_with_fault_at_every_call(SyncPolicy::Never, Fault::Crash);
}

#[test]
fn an_error_at_any_call_changes_nothing_or_poisons() {
    for code in [EIO, ENOSPC, EFBIG, EXDEV, EMFILE] {
        run_with_fault_at_every_call(SyncPolicy::Always, Fault::Error(code));
    }
    run_with_fault_at_every_call(SyncPolicy::Never, Fault::Error(EIO));
}

#[test]
fn a_disk_full_since_any_call_changes_nothing_or_poisons() {
    for fault in [Fault::Lasting(ENOSPC), Fault::Lasting(EIO), Fault::Torn] {
        run_with_fault_at_every_call(SyncPolicy::Always, fault);
    }
    run_with_fault_at_every_call(EVERY, Fault::Torn);
    run_with_fault_at_every_call(SyncPolicy::Never, Fault::Torn);
}

#[test]
fn a_sync_that_lies_at_any_call_loses_nothing_acknowledged() {
    run_with_fault_at_every_call(SyncPolicy::Always, Fault::Lie);
    run_with_fault_at_every_call(EVERY, Fault::Lie);
    run_with_fault_at_every_call(SyncPolicy::Never, Fault::Lie);
}

#[test]
fn a_short_write_at_any_call_is_completed() {
    run_with_fault_at_every_call(SyncPolicy::Always, Fault::Short);
    run_with_fault_at_every_call(SyncPolicy::Never, Fault::Short);
}
