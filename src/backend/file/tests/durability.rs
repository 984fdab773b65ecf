//! Owns the proof that commits are as durable as promised, and that a store survives a failing disk or refuses to
//! work.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::backend::file::store::File;
use crate::backend::file::tests::faulty_file::open_faulty;
use crate::backend::file::tests::support::{incr, key, op, open, put, put_json};
use crate::config::SyncPolicy;
use crate::error::{Error, Result};
use crate::op::{EntryAction, Reply};

fn put_one(store: &File, name: &str) -> Result<Reply> {
    store.apply(put(name, 1))
}

#[test]
fn a_write_without_room_changes_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    put_one(&store, "a").unwrap();
    disk.max_write.store(0, Ordering::SeqCst);
    assert!(matches!(put_one(&store, "b"), Err(Error::StorageFull { .. })));
    assert!(store.get(&key("b")).unwrap().is_none());
    disk.max_write.store(usize::MAX, Ordering::SeqCst);
    put_one(&store, "c").unwrap();
    drop(store);
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a", "c"]);
}

#[test]
fn a_torn_line_that_stays_poisons_the_store_for_writes_only() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Never);
    put_one(&store, "a").unwrap();
    disk.max_write.store(0, Ordering::SeqCst);
    disk.fails_truncate.store(true, Ordering::SeqCst);
    assert!(matches!(put_one(&store, "b"), Err(Error::Poisoned { .. })));
    disk.max_write.store(usize::MAX, Ordering::SeqCst);
    assert!(matches!(put_one(&store, "c"), Err(Error::Poisoned { .. })));
    assert!(store.get(&key("a")).unwrap().is_some());
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a"]);
}

#[test]
fn one_failed_sync_poisons_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    put_one(&store, "a").unwrap();
    disk.fails_sync.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        for name in ["b", "c", "d"] {
            let store = &store;
            scope.spawn(move || assert!(matches!(put_one(store, name), Err(Error::Poisoned { .. }))));
        }
    });
    disk.fails_sync.store(false, Ordering::SeqCst);
    assert!(matches!(put_one(&store, "e"), Err(Error::Poisoned { .. })));
    assert!(matches!(store.flush(), Err(Error::Poisoned { .. })));
    assert!(store.get(&key("a")).unwrap().is_some());
}

#[test]
fn a_commit_without_changes_waits_for_the_lines_that_it_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    put_one(&store, "a").unwrap();
    let written = store.core.journal.lock().len;
    let before = disk.syncs.load(Ordering::SeqCst);
    // As if another thread had written a line that is not synced yet.
    store.core.journal.lock().append_opening(0, SyncPolicy::Always, &store.core.durability).unwrap();
    assert_eq!(store.apply(op("b", EntryAction::Delete)).unwrap(), Reply::Flag(false));
    assert_eq!(disk.syncs.load(Ordering::SeqCst), before + 1);
    assert!(store.core.journal.lock().len > written);
}

#[test]
fn later_ops_of_a_chunk_see_earlier_ones_and_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let outcomes = store.apply_each(vec![incr("n"), put_json("t", b"\"x\""), incr("t"), incr("n")]);
    assert!(matches!(
        outcomes[..],
        [Ok(Reply::Number(1)), Ok(Reply::Done), Err(Error::NotAnInteger { .. }), Ok(Reply::Number(2))]
    ));
    assert_eq!(store.core.journal.lock().sequence, 1, "a chunk is one line");
}

#[test]
fn threads_that_wait_at_the_same_time_share_one_sync() {
    const THREADS: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    let gate = disk.sync_gate.lock();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || put_one(store, &format!("k{thread}")).unwrap());
        }
        // The first thread is in its sync meanwhile.
        while store.core.durability.written() < THREADS {
            thread::yield_now();
        }
        assert_eq!(store.core.durability.synced(), 0, "acknowledged before it was synced");
        drop(gate);
    });
    assert_eq!(store.core.durability.synced(), THREADS);
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!((1..=2).contains(&syncs), "{syncs} syncs for {THREADS} commits");
}

/// A sync that begins before a write made the file longer must not count as the sync of the new length.
#[test]
fn a_new_length_is_synced_though_a_sync_ran_during_the_write() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Never);
    put_one(&store, "a").unwrap();
    let gate = disk.write_gate.lock();
    let before = disk.writes.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let writer = scope.spawn(|| put_one(&store, "b").unwrap());
        while disk.writes.load(Ordering::SeqCst) == before {
            thread::yield_now();
        }
        store.flush().unwrap();
        assert_eq!(disk.len_syncs.load(Ordering::SeqCst), 1);
        drop(gate);
        writer.join().unwrap();
    });
    store.flush().unwrap();
    assert_eq!(disk.len_syncs.load(Ordering::SeqCst), 2);
    store.flush().unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst), 2, "nothing is left to be synced");
}

#[test]
fn flushing_syncs_what_the_policy_has_not_and_nothing_twice() {
    for (sync, before) in
        [(SyncPolicy::Always, 2), (SyncPolicy::Every(Duration::from_secs(3600)), 0), (SyncPolicy::Never, 0)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (store, disk) = open_faulty(dir.path(), sync);
        put_one(&store, "a").unwrap();
        put_one(&store, "b").unwrap();
        assert_eq!(disk.syncs.load(Ordering::SeqCst), before, "{sync}");
        for _ in 0..2 {
            store.flush().unwrap();
            assert_eq!(disk.syncs.load(Ordering::SeqCst), before.max(1), "{sync}");
            assert_eq!(store.core.durability.synced(), 2, "{sync}");
        }
    }
}

#[test]
fn a_failed_close_unlocks_the_directory_and_stops_all_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = open_faulty(dir.path(), SyncPolicy::Always);
    put_one(&store, "a").unwrap();
    disk.max_write.store(0, Ordering::SeqCst);
    assert!(matches!(store.close(), Err(Error::StorageFull { .. })));
    disk.max_write.store(usize::MAX, Ordering::SeqCst);
    let next = open(dir.path(), SyncPolicy::Always);
    put_one(&next, "b").unwrap();
    assert!(matches!(put_one(&store, "c"), Err(Error::Unavailable { maybe_applied: false, .. })));
    drop(next);
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a", "b"]);
}

/// A process that is started while the store closes has a copy of all open files until it executes its program.
#[cfg(unix)]
#[test]
fn closing_unlocks_the_directory_though_the_lock_file_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always);
    let copy = store.lock.lock().as_ref().unwrap().keep_open();
    store.close().unwrap();
    open(dir.path(), SyncPolicy::Always);
    drop(copy);
}
