//! A directory that holds a File store and one that holds a replay queue are told apart, whichever is opened as the
//! other; the refusal changes nothing, and says which URL fits.

use std::fs;
use std::path::{Path, PathBuf};

use millpond::{Error, FileStore, StateStore, SyncPolicy};

use crate::support::files::{files, journal, open, open_read_only, restore, snapshot};
use crate::support::ports::free_port;

fn queue_url(dir: &Path) -> String {
    let limits = "timeout=300ms&connect_timeout=100ms&compact_min_bytes=4096";
    format!("redis://127.0.0.1:{}?key_prefix=t&{limits}&fallback=file:{}", free_port(), dir.display())
}

#[track_caller]
fn assert_refused(outcome: millpond::Result<impl std::fmt::Debug>, dir: &Path, field: &str, url: &str) {
    let error = assert_error!(outcome, Error::InvalidConfig { .. });
    let Error::InvalidConfig { field: named, reason, .. } = &error else { unreachable!() };
    assert_eq!(named, field, "{error}");
    assert!(reason.contains(&format!("{url}{}", dir.display())), "{error}");
}

#[track_caller]
fn assert_not_a_store(dir: &Path) {
    let before = files(dir);
    let url = "fallback=file:";
    assert_refused(open(dir, SyncPolicy::Always), dir, "path", url);
    assert_refused(StateStore::open(format!("file:{}", dir.display())), dir, "path", url);
    assert_refused(open_read_only(dir), dir, "path", url);
    assert_refused(FileStore::repair(dir), dir, "path", url);
    assert_eq!(files(dir), before);
}

#[track_caller]
fn assert_not_a_queue(dir: &Path) {
    let before = files(dir);
    assert_refused(StateStore::open(queue_url(dir)), dir, "redis.fallback", "open it with file:");
    assert_eq!(files(dir), before);
}

#[test]
fn a_replay_queue_does_not_open_as_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    let store = StateStore::open(queue_url(&queue)).unwrap();
    // The mark alone shows what it is, before anything is queued.
    let early = tempfile::tempdir().unwrap();
    restore(early.path(), &files(&queue));
    assert_not_a_store(early.path());
    store.put("order", 17).unwrap();
    drop(store);
    assert_not_a_store(&queue);

    let store = StateStore::open(queue_url(&queue)).unwrap();
    assert_eq!(store.get("order").unwrap(), Some(17));
    for n in 0..500 {
        store.put("order", format!("{n:0100}")).unwrap();
    }
    store.put("order", 18).unwrap();
    drop(store);
    assert!(snapshot(&queue, 2).exists() || !journal(&queue, 1).exists(), "nothing was compacted");
    assert_not_a_store(&queue);
    assert_eq!(StateStore::open(queue_url(&queue)).unwrap().get("order").unwrap(), Some(18));
}

#[test]
fn a_store_does_not_open_as_a_replay_queue() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    open(&state, SyncPolicy::Always).unwrap().close().unwrap();
    assert_not_a_queue(&state);
    let store = open(&state, SyncPolicy::Always).unwrap();
    for n in 0..200 {
        store.put("k", format!("{n:0100}")).unwrap();
    }
    store.put("header", "of a letter").unwrap();
    store.put("queued:1", 1).unwrap();
    store.close().unwrap();
    assert_not_a_queue(&state);
    let store = open(&state, SyncPolicy::Always).unwrap();
    assert_eq!(store.len().unwrap(), 3);
    store.clear().unwrap();
    store.close().unwrap();
    assert_not_a_queue(&state);
    assert!(FileStore::repair(&state).unwrap().backup.is_none());
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Earlier versions marked neither.
#[test]
fn directories_without_a_mark_are_told_apart_by_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &files(&fixture("v1/closed")));
    assert_not_a_queue(dir.path());
    open(dir.path(), SyncPolicy::Always).unwrap();

    restore(dir.path(), &files(&fixture("queue_v1/queue")));
    assert_not_a_store(dir.path());
    for item in fs::read_dir(dir.path()).unwrap() {
        let bytes = fs::read(item.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("\"holds\""), "the fixture has a mark");
    }
    let url = queue_url(dir.path()).replace("key_prefix=t&", "key_prefix=t:&");
    let outcome = StateStore::open(&url).map(|store| store.status());
    assert!(!format!("{outcome:?}").contains("holds a File store"), "{outcome:?}");
}

#[test]
fn a_damaged_replay_queue_is_repaired_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    let store = StateStore::open(queue_url(&queue)).unwrap();
    store.put("a", 1).unwrap();
    store.put("b", 2).unwrap();
    drop(store);
    let mut bytes = fs::read(journal(&queue, 1)).unwrap();
    let line = String::from_utf8_lossy(&bytes).find("queued:00000000000000000002").unwrap();
    bytes[line] ^= 1;
    fs::write(journal(&queue, 1), bytes).unwrap();
    assert_error!(StateStore::open(queue_url(&queue)), Error::Corrupt { .. });
    assert!(FileStore::repair(&queue).unwrap().backup.is_some());
    fs::remove_dir_all(queue.join("damaged-1")).unwrap();
    assert_not_a_store(&queue);
    assert_eq!(StateStore::open(queue_url(&queue)).unwrap().get("a").unwrap(), Some(1));
}
