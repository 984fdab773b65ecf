//! `OpenOptions::read_only` and `OpenOptions::progress`.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{Error, OpenOptions, StateConfig, SyncPolicy, WriteBatch};

use crate::support::Ending;
use crate::support::files::{config, crashed_copy, files, journal, open, open_read_only};
use crate::support::wait_until;

/// The store is compacted repeatedly during the reads, so files disappear while the reader reads them.
/// Another handle writes to the store at the same time.
#[test]
fn a_reader_sees_the_state_after_some_complete_line() {
    for sync in [SyncPolicy::Never, SyncPolicy::Always] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), sync).unwrap();
        store.put("a", 0).unwrap();
        store.put("b", 0).unwrap();
        let (ended, written) = (AtomicBool::new(false), AtomicI64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1.. {
                    let mut batch = WriteBatch::new();
                    batch.put("a", n).unwrap();
                    batch.put(format!("filling {}", n % 50), "x".repeat(200)).unwrap();
                    batch.put("b", n).unwrap();
                    store.write(&batch).unwrap();
                    written.store(n, Ordering::SeqCst);
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let ending = Ending(&ended);
            let mut last = 0;
            let mut looks = 0;
            // A busy disk may sync few lines during the first reads.
            wait_until("the store was read often and compacted", Duration::from_secs(60), || {
                let acknowledged = written.load(Ordering::SeqCst);
                let seen = open_read_only(dir.path()).unwrap();
                let [a, b] = ["a", "b"].map(|key| seen.get::<i64>(key).unwrap().unwrap());
                assert_eq!(a, b, "only half of a batch was read");
                assert!(a >= acknowledged && a >= last, "{a} is older than {acknowledged} or {last}");
                last = a;
                looks += 1;
                looks >= 60 && last > 0 && !journal(dir.path(), 1).exists()
            });
            drop(ending);
        });
    }
}

/// It leaves every byte of the files unchanged.
#[test]
fn a_read_only_store_refuses_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("v", 1).unwrap();
    store.push_back("q", 1).unwrap();
    let copy = crashed_copy(dir.path());
    // A torn tail is skipped, and stays.
    let path = journal(copy.path(), 1);
    let torn = [&fs::read(&path).unwrap()[..], b"{\"c\":\"0000"].concat();
    fs::write(&path, torn).unwrap();
    let before = files(copy.path());
    let seen = open_read_only(copy.path()).unwrap();
    assert_eq!(seen.get::<i32>("v").unwrap(), Some(1));
    assert_eq!(seen.queue_len("q").unwrap(), 1);
    assert_eq!(seen.keys("").unwrap(), ["q", "v"]);
    assert_error!(seen.put("v", 2), Error::Unsupported { what, .. } if what.contains("opened to be read"));
    assert_error!(seen.delete("absent"), Error::Unsupported { .. });
    assert_error!(seen.incr("n", 1), Error::Unsupported { .. });
    assert_error!(seen.pop_front::<i32>("q"), Error::Unsupported { .. });
    assert_error!(seen.pop_front_wait::<i32>("q", Duration::from_secs(1)), Error::Unsupported { .. });
    assert_error!(seen.try_lock("l", Duration::from_secs(1)), Error::Unsupported { .. });
    assert_error!(seen.batch_put([("v", 2)]), Error::Unsupported { .. });
    assert_error!(seen.clear(), Error::Unsupported { .. });
    assert_error!(seen.transaction(|tx| tx.put("v", 3)), Error::Unsupported { .. });
    assert_eq!(seen.get::<i32>("v").unwrap(), Some(1));
    seen.flush().unwrap();
    seen.close().unwrap();
    assert_eq!(files(copy.path()), before);
}

#[test]
fn reading_needs_a_directory_and_creates_none() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert_error!(open_read_only(&missing), Error::Io { path, .. } if *path == missing);
    assert!(!missing.exists());
    assert_eq!(open_read_only(dir.path()).unwrap().len().unwrap(), 0);
    assert_eq!(files(dir.path()).len(), 0);
}

#[test]
fn a_reader_refuses_real_damage_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..5 {
        store.put("k", n).unwrap();
    }
    store.close().unwrap();
    let path = journal(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_error!(open_read_only(dir.path()), Error::Corrupt { path: named, .. } if *named == path);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn opening_reports_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    for n in 0..60 {
        store.put(format!("k{n}"), "x".repeat(100_000)).unwrap();
    }
    store.close().unwrap();
    let size: u64 = files(dir.path()).values().map(|bytes| bytes.len() as u64).sum();
    let mut told = Vec::new();
    let config = config(dir.path(), SyncPolicy::Never);
    let store = OpenOptions::new()
        .progress(|progress| told.push((progress.read, progress.total)))
        .with_config(config);
    assert_eq!(store.unwrap().len().unwrap(), 60);
    assert!(told.len() > 4, "{told:?}");
    assert!(told.windows(2).all(|two| two[0].0 <= two[1].0), "{told:?}");
    assert!(told.iter().all(|(read, total)| *total == size && read <= total), "{told:?} of {size}");
    assert_eq!(told.last(), Some(&(size, size)));
    let empty = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let config = self::config(empty.path(), SyncPolicy::Never);
    OpenOptions::new()
        .progress(|progress| told.push((progress.read, progress.total)))
        .with_config(config)
        .unwrap();
    assert_eq!(told, [(0, 0)], "a new store");
    let mut told = 0;
    OpenOptions::new().progress(|_| told += 1).with_config(StateConfig::default()).unwrap();
    assert_eq!(told, 0, "a store in memory reads nothing");
    let read_only = OpenOptions::new().read_only(true);
    assert_error!(read_only.with_config(StateConfig::default()), Error::InvalidConfig { .. });
}
