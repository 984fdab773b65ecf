//! Owns the proof that operations which are written together are done as if each were alone.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::Backend as _;
use crate::backend::file::compaction;
use crate::backend::file::journal::writer::{Journal, JournalState};
use crate::backend::file::store::File;
use crate::backend::file::tests::faulty_file::{faulty, key, open, open_with};
use crate::bytes::Bytes;
use crate::clock::{Clock, Millis, SystemClock};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::op::{End, EntryAction, Op, Reply};
use crate::value::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn put(name: &str, json: &[u8]) -> Op<'static> {
    Op { key: key(name), action: EntryAction::Put { value: Value::json(json), ttl: None } }
}

fn incr(name: &str) -> Op<'static> {
    Op { key: key(name), action: EntryAction::Incr { by: 1, ttl_if_created: None } }
}

/// Lets threads ask for operations, one after another, while the journal is somebody else's, and tells their
/// outcomes, in that order.
fn meeting(store: &File, ops: Vec<Op<'static>>, meanwhile: impl FnOnce(&mut Journal)) -> Vec<Result<Reply>> {
    let mut journal = store.core.journal.lock();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for op in ops {
            threads.push(scope.spawn(|| store.apply(op)));
            wait_for(store, threads.len());
        }
        meanwhile(&mut journal);
        drop(journal);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Returns once so many operations are posted.
fn wait_for(store: &File, posted: usize) {
    while store.core.combiner.count_posted() < posted {
        thread::yield_now();
    }
}

fn values(store: &File, names: &[&str]) -> Vec<Option<Bytes>> {
    names.iter().map(|name| store.get(&key(name)).unwrap()).collect()
}

#[test]
fn what_waits_for_the_journal_is_one_line_unless_one_has_to_see_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let push = EntryAction::Push { end: End::Back, values: vec![Value::integer(1)], ttl_if_created: None };
    let ops = vec![put("a", b"1"), put("b", b"\"x\""), incr("n"), Op { key: key("q"), action: push.clone() }];
    let outcomes: Vec<_> = meeting(&store, ops, |_| ()).into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [Reply::Done, Reply::Done, Reply::Number(1), Reply::Number(1)]);
    assert_eq!(store.core.journal.lock().sequence, 1);

    let ops = vec![put("a", b"7"), put("a", b"8"), incr("a"), incr("b"), incr("a"), incr("n")];
    let outcomes = meeting(&store, ops, |_| ());
    assert!(
        matches!(
            outcomes[..],
            [
                Ok(Reply::Done),
                Ok(Reply::Done),
                Ok(Reply::Number(9)),
                Err(Error::NotAnInteger { .. }),
                Ok(Reply::Number(10)),
                Ok(Reply::Number(2))
            ]
        ),
        "{outcomes:?}"
    );
    assert_eq!(store.core.journal.lock().sequence, 4);
    // What sees nothing may stand behind what it replaces.
    let ops = vec![incr("n"), put("n", b"5"), Op { key: key("q"), action: push }, put("q", b"6")];
    assert!(meeting(&store, ops, |_| ()).iter().all(Result::is_ok));
    assert_eq!(store.core.journal.lock().sequence, 5);
    assert_eq!(values(&store, &["n", "q"]), [b"5", b"6"].map(|json| Some(Bytes::from(&json[..]))));
    let names = ["a", "b", "n", "q"];
    let before = values(&store, &names);
    drop(store);
    assert_eq!(values(&open(dir.path(), SyncPolicy::Never), &names), before);
}

#[test]
fn what_there_is_no_room_for_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
    let large = format!("\"{}\"", "x".repeat(1000));
    let ops = vec![put("a", b"1"), put("large", large.as_bytes()), put("b", b"2"), incr("n")];
    let outcomes = meeting(&store, ops, |_| disk.room.store(500, Ordering::SeqCst));
    assert!(
        matches!(
            outcomes[..],
            [Ok(Reply::Done), Err(Error::StorageFull { .. }), Ok(Reply::Done), Ok(Reply::Number(1))]
        ),
        "{outcomes:?}"
    );
    let names = ["a", "b", "n", "large"];
    let before = values(&store, &names);
    assert_eq!(before.iter().flatten().count(), 3);
    drop(store);
    assert_eq!(values(&open(dir.path(), SyncPolicy::Never), &names), before);
}

#[test]
fn all_are_told_where_the_store_was_closed_or_poisoned_meanwhile() {
    let ops = || vec![put("a", b"1"), incr("n"), put("b", b"2")];
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let outcomes = meeting(&store, ops(), |journal| journal.state = JournalState::Closed);
    let is_closed =
        |outcome: &Result<_>| matches!(outcome, Err(Error::Unavailable { maybe_applied: false, .. }));
    assert!(outcomes.iter().all(is_closed), "{outcomes:?}");
    drop(store);

    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
    let outcomes = meeting(&store, ops(), |_| {
        disk.room.store(0, Ordering::SeqCst);
        disk.no_cut.store(true, Ordering::SeqCst);
    });
    let is_poisoned = |outcome: &Result<_>| matches!(outcome, Err(Error::Poisoned { .. }));
    assert!(outcomes.iter().all(is_poisoned), "{outcomes:?}");
}

#[test]
fn a_line_is_no_heavier_than_what_is_looked_at_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let step = usize::try_from(store.core.pacer.step()).unwrap();
    let value = format!("\"{}\"", "x".repeat(step / 3));
    let ops = ["a", "b", "c", "d", "e"].map(|name| put(name, value.as_bytes()));
    assert!(meeting(&store, ops.to_vec(), |_| ()).iter().all(Result::is_ok));
    assert_eq!(store.core.journal.lock().sequence, 3, "two, two and one");
}

#[test]
fn what_waits_for_a_compaction_is_done_after_it_and_what_is_done_returns() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    store.core.pacer.hold(true);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.core.apply_combined(put("a", b"1")));
        // It tries for a while, and then sleeps.
        while store.core.pacer.hold(true) == 0 {
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        assert_eq!(values(&store, &["a"]), [None]);
        store.core.pacer.hold(false);
        assert!(waiting.join().unwrap().is_ok());
    });
    assert!(values(&store, &["a"])[0].is_some());
    // What was done for it while it slept needs no more room.
    let mut journal = store.core.journal.lock();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.core.apply_combined(put("b", b"1")));
        wait_for(&store, 1);
        thread::sleep(Duration::from_millis(20));
        store.core.run_requests(&mut journal);
        store.core.pacer.hold(true);
        drop(journal);
        assert!(waiting.join().unwrap().is_ok());
    });
    store.core.pacer.hold(false);
}

/// A clock that panics once.
struct Panics(AtomicBool);

impl Clock for Panics {
    fn now(&self) -> SystemTime {
        assert!(!self.0.swap(false, Ordering::SeqCst), "as it was told to");
        SystemClock.now()
    }
}

#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Panics(AtomicBool::new(false)));
    let store = open_with(dir.path(), SyncPolicy::Never, clock.clone());
    let journal = store.core.journal.lock();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b", "c"].map(|name| scope.spawn(|| store.apply(put(name, b"1")))).into();
        wait_for(&store, threads.len());
        clock.0.store(true, Ordering::SeqCst);
        drop(journal);
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let told = |outcome: &thread::Result<_>| {
        matches!(outcome, Ok(Err(Error::Unavailable { maybe_applied: true, .. })))
    };
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| told(outcome)).count(), 2, "{outcomes:?}");
    store.apply(put("d", b"1")).unwrap();
    assert_eq!(store.keys("", None, 9).unwrap(), ["d"]);
}

/// A clock that counts how often it was asked.
struct Counts(AtomicU64);

impl Clock for Counts {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// What was posted is done at a time that is not before.
#[test]
fn the_clock_is_read_when_the_last_operation_is_posted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Counts(AtomicU64::new(0)));
    let store = open_with(dir.path(), SyncPolicy::Never, clock.clone());
    let ttl = Millis::new(Duration::from_secs(1000)).ok();
    let mortal = |name| Op { key: key(name), action: EntryAction::Put { value: Value::integer(1), ttl } };
    let mut posted = 0;
    meeting(&store, vec![mortal("a"), mortal("b")], |_| posted = clock.0.load(Ordering::SeqCst));
    for name in ["a", "b"] {
        let until = store.core.state.table.read(name, |found| found.unwrap().deadline.unwrap().millis());
        assert!(until > (posted + 1000) * 1000, "{name}: {until}, posted at {posted}");
    }
}

/// Writers that wait for a compaction do not wait for ever.
#[test]
fn a_compaction_that_panics_lets_writers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Panics(AtomicBool::new(false)));
    let store = open_with(dir.path(), SyncPolicy::Never, clock.clone());
    store.apply(put("a", b"1")).unwrap();
    store.core.pacer.hold(true);
    clock.0.store(true, Ordering::SeqCst);
    let compaction = thread::scope(|scope| scope.spawn(|| compaction::run(&store.core)).join());
    assert!(compaction.is_err());
    store.apply(put("a", b"2")).unwrap();
    assert_eq!(values(&store, &["a"]), [Some(Bytes::from(&b"2"[..]))]);
}

/// Counters of many threads, with compactions in between: every number is handed out once.
#[test]
fn nothing_is_lost_and_nothing_is_done_twice() {
    const THREADS: usize = 8;
    const EACH: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    for sync in [SyncPolicy::Never, SyncPolicy::Every(Duration::from_millis(5))] {
        let store = open(dir.path(), sync);
        let before = store.core.journal.lock().sequence;
        let seen: Vec<AtomicUsize> = (0..=THREADS * EACH).map(|_| AtomicUsize::new(0)).collect();
        let name = format!("n {sync}");
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, seen, name) = (&store, &seen, &name);
                scope.spawn(move || {
                    for at in 0..EACH {
                        let Reply::Number(number) = store.apply(incr(name)).unwrap() else { panic!() };
                        seen[usize::try_from(number).unwrap()].fetch_add(1, Ordering::Relaxed);
                        store.apply(put(&format!("k{thread}"), at.to_string().as_bytes())).unwrap();
                    }
                });
            }
        });
        assert!(seen[1..].iter().all(|times| times.load(Ordering::Relaxed) == 1), "{sync}");
        let lines = store.core.journal.lock().sequence - before;
        assert!(lines <= (2 * THREADS * EACH) as u64, "{sync}: {lines} lines");
        assert!(store.core.journal.lock().number > 1, "{sync}: nothing was compacted");
        drop(store);
        let store = open(dir.path(), sync);
        let total = store.get(&key(&name)).unwrap().unwrap();
        assert_eq!(*total, *(THREADS * EACH).to_string().as_bytes(), "{sync}");
        for thread in 0..THREADS {
            let last = store.get(&key(&format!("k{thread}"))).unwrap().unwrap();
            assert_eq!(*last, *(EACH - 1).to_string().as_bytes(), "{sync}");
        }
    }
}
