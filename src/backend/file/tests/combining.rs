//! Owns the proof that operations which share a line have the same effect as if each had its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::backend::Backend as _;
use crate::backend::file::compaction;
use crate::backend::file::journal::writer::{Journal, JournalState};
use crate::backend::file::store::File;
use crate::backend::file::tests::faulty_file::open_faulty;
use crate::backend::file::tests::support::{incr, key, op, open, open_with_clock, push, put_json};
use crate::bytes::Bytes;
use crate::clock::{Clock, Millis, SystemClock};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::op::{EntryAction, Op, Reply};
use crate::value::Value;

/// Applies each operation in a thread of its own, posted in this order while the journal is locked, and returns the
/// outcomes. `meanwhile` runs between the last posting and the unlocking.
fn apply_together(
    store: &File,
    ops: Vec<Op<'static>>,
    meanwhile: impl FnOnce(&mut Journal),
) -> Vec<Result<Reply>> {
    let mut journal = store.core.journal.lock();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for op in ops {
            threads.push(scope.spawn(|| store.apply(op)));
            wait_until_posted(store, threads.len());
        }
        meanwhile(&mut journal);
        drop(journal);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn wait_until_posted(store: &File, requests: usize) {
    while store.core.combiner.count_posted() < requests {
        thread::yield_now();
    }
}

fn values(store: &File, names: &[&str]) -> Vec<Option<Bytes>> {
    names.iter().map(|name| store.get(&key(name)).unwrap()).collect()
}

#[test]
fn posted_ops_share_a_line_unless_one_reads_anothers_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let ops = vec![put_json("a", b"1"), put_json("b", b"\"x\""), incr("n"), push("q", 1)];
    let outcomes: Vec<_> = apply_together(&store, ops, |_| ()).into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, [Reply::Done, Reply::Done, Reply::Number(1), Reply::Number(1)]);
    assert_eq!(store.core.journal.lock().sequence, 1);

    let ops = vec![put_json("a", b"7"), put_json("a", b"8"), incr("a"), incr("b"), incr("a"), incr("n")];
    let outcomes = apply_together(&store, ops, |_| ());
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
    // An operation that reads nothing may share a line with a change of the same key.
    let ops = vec![incr("n"), put_json("n", b"5"), push("q", 1), put_json("q", b"6")];
    assert!(apply_together(&store, ops, |_| ()).iter().all(Result::is_ok));
    assert_eq!(store.core.journal.lock().sequence, 5);
    assert_eq!(values(&store, &["n", "q"]), [b"5", b"6"].map(|json| Some(Bytes::from(&json[..]))));
    let names = ["a", "b", "n", "q"];
    let before = values(&store, &names);
    drop(store);
    assert_eq!(values(&open(dir.path(), SyncPolicy::Never), &names), before);
}

#[test]
fn an_op_without_room_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Never);
    let large = format!("\"{}\"", "x".repeat(1000));
    let ops = vec![put_json("a", b"1"), put_json("large", large.as_bytes()), put_json("b", b"2"), incr("n")];
    let outcomes = apply_together(&store, ops, |_| disk.max_write.store(500, Ordering::SeqCst));
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
fn all_posted_ops_fail_if_the_store_is_closed_or_poisoned() {
    let ops = || vec![put_json("a", b"1"), incr("n"), put_json("b", b"2")];
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let outcomes = apply_together(&store, ops(), |journal| journal.state = JournalState::Closed);
    let is_closed =
        |outcome: &Result<_>| matches!(outcome, Err(Error::Unavailable { maybe_applied: false, .. }));
    assert!(outcomes.iter().all(is_closed), "{outcomes:?}");
    drop(store);

    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Never);
    let outcomes = apply_together(&store, ops(), |_| {
        disk.max_write.store(0, Ordering::SeqCst);
        disk.fails_truncate.store(true, Ordering::SeqCst);
    });
    let is_poisoned = |outcome: &Result<_>| matches!(outcome, Err(Error::Poisoned { .. }));
    assert!(outcomes.iter().all(is_poisoned), "{outcomes:?}");
}

#[test]
fn a_shared_line_is_no_heavier_than_one_step_of_the_size_check() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let step = usize::try_from(store.core.pacer.step()).unwrap();
    let value = format!("\"{}\"", "x".repeat(step / 3));
    let ops = ["a", "b", "c", "d", "e"].map(|name| put_json(name, value.as_bytes()));
    assert!(apply_together(&store, ops.to_vec(), |_| ()).iter().all(Result::is_ok));
    assert_eq!(store.core.journal.lock().sequence, 3, "two, two and one");
}

#[test]
fn an_op_waits_for_a_compaction_unless_it_is_done_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    store.core.pacer.hold(true);
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.core.apply_combined(put_json("a", b"1")));
        // The writer tries for a while, and then sleeps.
        while store.core.pacer.hold(true) == 0 {
            thread::yield_now();
        }
        assert!(!writer.is_finished());
        assert_eq!(values(&store, &["a"]), [None]);
        store.core.pacer.hold(false);
        assert!(writer.join().unwrap().is_ok());
    });
    assert!(values(&store, &["a"])[0].is_some());
    // An operation that another thread did while its own slept needs no more room.
    let mut journal = store.core.journal.lock();
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.core.apply_combined(put_json("b", b"1")));
        wait_until_posted(&store, 1);
        thread::sleep(Duration::from_millis(20));
        store.core.run_requests(&mut journal);
        store.core.pacer.hold(true);
        drop(journal);
        assert!(writer.join().unwrap().is_ok());
    });
    store.core.pacer.hold(false);
}

/// A clock that panics once after its flag is set.
struct PanickingClock(AtomicBool);

impl Clock for PanickingClock {
    fn now(&self) -> SystemTime {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a panic on purpose");
        SystemClock.now()
    }
}

#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(PanickingClock(AtomicBool::new(false)));
    let store = open_with_clock(dir.path(), SyncPolicy::Never, clock.clone());
    let journal = store.core.journal.lock();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            ["a", "b", "c"].map(|name| scope.spawn(|| store.apply(put_json(name, b"1")))).into();
        wait_until_posted(&store, threads.len());
        clock.0.store(true, Ordering::SeqCst);
        drop(journal);
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let is_in_doubt = |outcome: &thread::Result<_>| {
        matches!(outcome, Ok(Err(Error::Unavailable { maybe_applied: true, .. })))
    };
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| is_in_doubt(outcome)).count(), 2, "{outcomes:?}");
    store.apply(put_json("d", b"1")).unwrap();
    assert_eq!(store.keys("", None, 9).unwrap(), ["d"]);
}

/// A clock that is one second later each time it is read.
struct CountingClock(AtomicU64);

impl Clock for CountingClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// No operation may be applied at a time before it was posted.
#[test]
fn the_clock_is_read_when_the_last_operation_is_posted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(CountingClock(AtomicU64::new(0)));
    let store = open_with_clock(dir.path(), SyncPolicy::Never, clock.clone());
    let ttl = Millis::new(Duration::from_secs(1000)).ok();
    let put_expiring = |name| op(name, EntryAction::Put { value: Value::integer(1), ttl });
    let mut posted = 0;
    apply_together(&store, vec![put_expiring("a"), put_expiring("b")], |_| {
        posted = clock.0.load(Ordering::SeqCst);
    });
    for name in ["a", "b"] {
        let deadline = store.core.state.table.read(name, |found| found.unwrap().deadline.unwrap().millis());
        assert!(deadline > (posted + 1000) * 1000, "{name}: {deadline}, posted at {posted}");
    }
}

/// Writers that wait for a compaction must not wait for ever.
#[test]
fn a_compaction_that_panics_lets_writers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(PanickingClock(AtomicBool::new(false)));
    let store = open_with_clock(dir.path(), SyncPolicy::Never, clock.clone());
    store.apply(put_json("a", b"1")).unwrap();
    store.core.pacer.hold(true);
    clock.0.store(true, Ordering::SeqCst);
    let compaction = thread::scope(|scope| scope.spawn(|| compaction::run(&store.core)).join());
    assert!(compaction.is_err());
    store.apply(put_json("a", b"2")).unwrap();
    assert_eq!(values(&store, &["a"]), [Some(Bytes::from(&b"2"[..]))]);
}

/// Many threads count, with compactions in between: every number must be returned once.
#[test]
fn nothing_is_lost_and_nothing_is_done_twice() {
    const THREADS: usize = 8;
    const EACH: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    for sync in [SyncPolicy::Never, SyncPolicy::Every(Duration::from_millis(5))] {
        let store = open(dir.path(), sync);
        let before = store.core.journal.lock().sequence;
        let returned: Vec<AtomicUsize> = (0..=THREADS * EACH).map(|_| AtomicUsize::new(0)).collect();
        let name = format!("n {sync}");
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, returned, name) = (&store, &returned, &name);
                scope.spawn(move || {
                    for at in 0..EACH {
                        let Reply::Number(number) = store.apply(incr(name)).unwrap() else { panic!() };
                        returned[usize::try_from(number).unwrap()].fetch_add(1, Ordering::Relaxed);
                        store.apply(put_json(&format!("k{thread}"), at.to_string().as_bytes())).unwrap();
                    }
                });
            }
        });
        assert!(returned[1..].iter().all(|times| times.load(Ordering::Relaxed) == 1), "{sync}");
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
