//! Owns what can only be shown with a disk that fails: what the store does then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::backend::file::fs::{FileSystem, OsFileSystem, WritableFile};
use crate::backend::file::store::File;
use crate::clock::{Clock, SystemClock};
use crate::config::{FileOptions, SyncPolicy};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};
use crate::value::Value;

/// A file that fails where it is told to.
pub(crate) struct Faulty {
    file: Arc<dyn WritableFile>,
    /// How long a write may be, at most.
    pub(crate) room: AtomicUsize,
    pub(crate) no_cut: AtomicBool,
    no_sync: AtomicBool,
    syncs: AtomicU64,
    /// How many of them were told that the file is longer.
    lengths: AtomicU64,
    /// While it is held, a sync waits.
    gate: Mutex<()>,
    /// While it is held, a write waits; how many have begun.
    writing: Mutex<()>,
    writes: AtomicU64,
}

fn fail(when: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
    if when.load(Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
}

impl WritableFile for Faulty {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        drop(self.writing.lock());
        if bytes.len() > self.room.load(Ordering::SeqCst) {
            self.file.write_at(at, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(at, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        fail(&self.no_cut, io::ErrorKind::Other)?;
        self.file.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock());
        fail(&self.no_sync, io::ErrorKind::Other)?;
        self.file.sync_data()
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.lengths.fetch_add(1, Ordering::SeqCst);
        self.sync_data()
    }
}

pub(crate) fn open(dir: &std::path::Path, sync: SyncPolicy) -> File {
    open_with(dir, sync, Arc::new(SystemClock))
}

pub(crate) fn open_with(dir: &std::path::Path, sync: SyncPolicy, clock: Arc<dyn Clock>) -> File {
    let options = FileOptions::default().sync(sync);
    File::open(dir, &options, clock, &mut |_| ()).unwrap()
}

pub(crate) fn faulty(dir: &std::path::Path, sync: SyncPolicy) -> (File, Arc<Faulty>) {
    let store = open(dir, sync);
    let file = OsFileSystem.open(&store.core.journal.lock().path).unwrap();
    let disk = Arc::new(Faulty {
        file,
        room: AtomicUsize::new(usize::MAX),
        no_cut: AtomicBool::default(),
        no_sync: AtomicBool::default(),
        syncs: AtomicU64::default(),
        lengths: AtomicU64::default(),
        gate: Mutex::default(),
        writing: Mutex::default(),
        writes: AtomicU64::default(),
    });
    store.core.journal.lock().disk = disk.clone();
    store.core.durability.switch_file(disk.clone());
    (store, disk)
}

pub(crate) fn key(name: &str) -> Key<'static> {
    Key::listed(name.to_owned())
}

fn put(store: &File, name: &str) -> Result<Reply> {
    store.apply(Op { key: key(name), action: EntryAction::Put { value: Value::integer(1), ttl: None } })
}

#[test]
fn a_write_without_room_changes_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Always);
    put(&store, "a").unwrap();
    disk.room.store(0, Ordering::SeqCst);
    assert!(matches!(put(&store, "b"), Err(Error::StorageFull { .. })));
    assert!(store.get(&key("b")).unwrap().is_none());
    disk.room.store(usize::MAX, Ordering::SeqCst);
    put(&store, "c").unwrap();
    drop(store);
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a", "c"]);
}

#[test]
fn a_torn_line_that_cannot_be_cut_back_poisons_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
    put(&store, "a").unwrap();
    disk.room.store(0, Ordering::SeqCst);
    disk.no_cut.store(true, Ordering::SeqCst);
    assert!(matches!(put(&store, "b"), Err(Error::Poisoned { .. })));
    disk.room.store(usize::MAX, Ordering::SeqCst);
    assert!(matches!(put(&store, "c"), Err(Error::Poisoned { .. })));
    assert!(store.get(&key("a")).unwrap().is_some());
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a"]);
}

#[test]
fn one_failed_sync_poisons_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Always);
    put(&store, "a").unwrap();
    disk.no_sync.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for name in ["b", "c", "d"] {
            let store = &store;
            scope.spawn(move || assert!(matches!(put(store, name), Err(Error::Poisoned { .. }))));
        }
    });
    disk.no_sync.store(false, Ordering::SeqCst);
    assert!(matches!(put(&store, "e"), Err(Error::Poisoned { .. })));
    assert!(matches!(store.flush(), Err(Error::Poisoned { .. })));
    assert!(store.get(&key("a")).unwrap().is_some());
}

#[test]
fn what_changes_nothing_waits_for_what_it_saw() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Always);
    put(&store, "a").unwrap();
    let written = store.core.journal.lock().len;
    let before = disk.syncs.load(Ordering::SeqCst);
    // As if a line of another thread were written and not yet synced.
    store.core.journal.lock().opened(0, SyncPolicy::Always, &store.core.durability).unwrap();
    assert_eq!(store.apply(Op { key: key("b"), action: EntryAction::Delete }).unwrap(), Reply::Flag(false));
    assert_eq!(disk.syncs.load(Ordering::SeqCst), before + 1);
    assert!(store.core.journal.lock().len > written);
}

#[test]
fn later_ops_of_a_chunk_see_earlier_ones_and_a_failing_one_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never);
    let incr = |name| Op { key: key(name), action: EntryAction::Incr { by: 2, ttl_if_created: None } };
    let text = Op { key: key("t"), action: EntryAction::Put { value: Value::json(b"\"x\""), ttl: None } };
    let outcomes = store.apply_each(vec![incr("n"), text, incr("t"), incr("n")]);
    assert!(matches!(
        outcomes[..],
        [Ok(Reply::Number(2)), Ok(Reply::Done), Err(Error::NotAnInteger { .. }), Ok(Reply::Number(4))]
    ));
    assert_eq!(store.core.journal.lock().sequence, 1, "a chunk is one line");
}

#[test]
fn threads_that_wait_at_the_same_time_share_one_sync() {
    const THREADS: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Always);
    let gate = disk.gate.lock();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || put(store, &format!("k{thread}")).unwrap());
        }
        // The first to come is in its sync meanwhile.
        while store.core.durability.written() < THREADS {
            std::thread::yield_now();
        }
        assert_eq!(store.core.durability.synced(), 0, "acknowledged before it was synced");
        drop(gate);
    });
    assert_eq!(store.core.durability.synced(), THREADS);
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!((1..=2).contains(&syncs), "{syncs} syncs for {THREADS} commits");
}

#[test]
fn what_makes_the_file_longer_is_synced_as_that_though_another_sync_begins_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Never);
    put(&store, "a").unwrap();
    let writing = disk.writing.lock();
    let begun = disk.writes.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| put(&store, "b").unwrap());
        while disk.writes.load(Ordering::SeqCst) == begun {
            std::thread::yield_now();
        }
        store.flush().unwrap();
        assert_eq!(disk.lengths.load(Ordering::SeqCst), 1);
        drop(writing);
        waits.join().unwrap();
    });
    store.flush().unwrap();
    assert_eq!(disk.lengths.load(Ordering::SeqCst), 2);
    store.flush().unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst), 2, "nothing is left to be synced");
}

#[test]
fn flushing_syncs_what_the_policy_has_not_and_nothing_twice() {
    for (sync, before) in
        [(SyncPolicy::Always, 2), (SyncPolicy::Every(Duration::from_secs(3600)), 0), (SyncPolicy::Never, 0)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (store, disk) = faulty(dir.path(), sync);
        put(&store, "a").unwrap();
        put(&store, "b").unwrap();
        assert_eq!(disk.syncs.load(Ordering::SeqCst), before, "{sync}");
        for _ in 0..2 {
            store.flush().unwrap();
            assert_eq!(disk.syncs.load(Ordering::SeqCst), before.max(1), "{sync}");
            assert_eq!(store.core.durability.synced(), 2, "{sync}");
        }
    }
}

#[test]
fn a_store_whose_closing_failed_lets_go_of_the_directory_and_writes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = faulty(dir.path(), SyncPolicy::Always);
    put(&store, "a").unwrap();
    disk.room.store(0, Ordering::SeqCst);
    assert!(matches!(store.close(), Err(Error::StorageFull { .. })));
    disk.room.store(usize::MAX, Ordering::SeqCst);
    let next = open(dir.path(), SyncPolicy::Always);
    put(&next, "b").unwrap();
    assert!(matches!(put(&store, "c"), Err(Error::Unavailable { maybe_applied: false, .. })));
    drop(next);
    assert_eq!(open(dir.path(), SyncPolicy::Always).keys("", None, 9).unwrap(), ["a", "b"]);
}

/// As for a process that is started while the store closes: it has a copy of all open files until it
/// becomes another program.
#[cfg(unix)]
#[test]
fn closing_lets_go_of_the_directory_though_another_process_has_a_copy_of_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always);
    let copy = store.lock.lock().as_ref().unwrap().copy();
    store.close().unwrap();
    open(dir.path(), SyncPolicy::Always);
    drop(copy);
}
