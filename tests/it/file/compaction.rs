//! Compaction in the File variant: the directory stays within its bound, nothing is lost, and the store
//! survives a full disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond::{Error, FileOptions, ManualClock, OpenOptions, StateStore, SyncPolicy};

use crate::support::child_process::{self, Process};
use crate::support::files::{all, config, open, size};
use crate::support::wait_until;

const SLACK: u64 = 1 << 20;

#[test]
fn compaction_under_writers_keeps_the_bound_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut largest = 0;
    for round in 0..3_u32 {
        let store = OpenOptions::new()
            .clock(clock.clone())
            .with_config(config(dir.path(), SyncPolicy::Never))
            .unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..5000_u32 {
                        let key = format!("{thread}:{}", n % 100);
                        store.put(&key, (round, n, "x".repeat(100))).unwrap();
                        if n % 10 == 0 {
                            store.put_with_ttl(format!("m{thread}:{n}"), n, Duration::from_secs(60)).unwrap();
                        }
                        if n % 100 == 99 {
                            store.delete(format!("{thread}:{}", n % 7)).unwrap();
                        }
                    }
                });
            }
            for _ in 0..200 {
                largest = largest.max(size(dir.path()));
                std::thread::yield_now();
            }
        });
        largest = largest.max(size(dir.path()));
        let before = all(&store);
        assert_eq!(before.len(), 2000 + 400 - 4);
        drop(store);
        let store = OpenOptions::new()
            .clock(clock.clone())
            .with_config(config(dir.path(), SyncPolicy::Never))
            .unwrap();
        assert_eq!(all(&store), before);
        clock.advance(Duration::from_secs(61));
    }
    assert!(dir.path().join("journal-1.jsonl").symlink_metadata().is_err(), "nothing was compacted");
    let live = 2400 * 130;
    assert!(largest <= 3 * live + (1 << 20), "{largest}");
}

/// The size of all entries in a fresh snapshot: `{"k":"<key>","v":<value>},` for each.
fn live_bytes(store: &StateStore) -> u64 {
    all(store).iter().map(|(key, value)| (key.len() + value.len() + 14) as u64).sum()
}

/// Overwrites for a while, and until something was compacted, and returns the largest size of the directory.
fn largest_while(dir: &Path, write: impl Fn(u64) + Sync) -> u64 {
    const FOR: Duration = Duration::from_millis(700);
    const AT_MOST: Duration = Duration::from_secs(30);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut largest = 0;
            while !ended.load(Ordering::Acquire) {
                largest = largest.max(size(dir));
            }
            largest
        });
        let begun = Instant::now();
        let is_compacted = || !crate::support::files::journal(dir, 1).exists();
        let goes_on = || begun.elapsed() < FOR || (begun.elapsed() < AT_MOST && !is_compacted());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..u64::MAX).take_while(|n| n % 8 != 0 || goes_on()).for_each(&write);
                });
            }
        });
        ended.store(true, Ordering::Release);
        watching.join().unwrap()
    })
}

/// The bound is three times the live data, and a mebibyte.
#[test]
fn overwriting_keeps_the_directory_within_its_bound() {
    // Entries of a few bytes, so that most of a line is syntax; entries of a page; and large ones.
    for (keys, bytes, sync) in
        [(20_000, 1, SyncPolicy::Never), (500, 4_000, SyncPolicy::Never), (8, 300_000, SyncPolicy::Never)]
    {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), sync);
        let config = config.file(FileOptions::default().sync(sync));
        let store = StateStore::with_config(config).unwrap();
        let text = "x".repeat(bytes);
        let write = |n: u64| store.put((n % keys).to_string(), &text).unwrap();
        (0..keys).for_each(write);
        let live = live_bytes(&store);
        let largest = largest_while(dir.path(), write).max(size(dir.path()));
        assert!(largest <= 3 * live + SLACK, "{keys} entries of {bytes}: {largest} for {live}");
        store.close().unwrap();
        assert!(!crate::support::files::journal(dir.path(), 1).exists(), "nothing was compacted");
    }
}

/// Returns how many bytes a mutation adds to the files of a store that is not compacted.
fn bytes_written(dir: &Path, mutation: impl FnOnce()) -> u64 {
    let before = size(dir);
    mutation();
    size(dir) - before
}

/// The number of written bytes does not depend on the size of the map or queue.
#[test]
fn changes_of_a_map_or_queue_write_little_whatever_its_size() {
    const LINE: u64 = 130;
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions::default().sync(SyncPolicy::Never).compact_min_bytes(1 << 30);
    let store = StateStore::with_config(config(dir.path(), SyncPolicy::Never).file(options)).unwrap();
    for parts in [10_u64, 20_000] {
        store.push_back_many("queue", 0..parts).unwrap();
        store.map_put_many("map", (0..parts).map(|field| (field.to_string(), field))).unwrap();
        let one = |what: &str, lines: u64, mutation: &dyn Fn()| {
            let bytes = bytes_written(dir.path(), mutation);
            assert!((1..=lines * LINE).contains(&bytes), "{what} of {parts}: {bytes} bytes");
        };
        one("a push", 1, &|| _ = store.push_back("queue", 1).unwrap());
        one("a push at the front", 1, &|| _ = store.push_front("queue", 1).unwrap());
        one("a pop", 1, &|| _ = store.pop_front::<u64>("queue").unwrap().unwrap());
        one("a pop at the back", 1, &|| _ = store.pop_back::<u64>("queue").unwrap().unwrap());
        one("a trim", 1, &|| _ = store.queue_trim("queue", 3).unwrap());
        one("a new field", 1, &|| _ = store.map_put("map", "new", 1).unwrap());
        one("another value", 1, &|| _ = store.map_put("map", "7", 1).unwrap());
        one("a counted field", 1, &|| _ = store.map_incr("map", "7", 1).unwrap());
        one("a deleted field", 1, &|| assert!(store.map_delete("map", "7").unwrap()));
        one("an expiry", 1, &|| assert!(store.expire("map", Duration::from_secs(60)).unwrap()));
        one("a taken item", 3, &|| {
            let _ = store.lease::<u64>("queue", Duration::from_secs(60)).unwrap().unwrap();
        });
        let three = |tx: &mut millpond::Transaction<'_>| {
            let fields = tx.map_len("map")?;
            tx.push_back("queue", fields)?;
            tx.pop_front::<u64>("queue")?;
            tx.map_put("map", "new", 2)
        };
        one("a transaction", 2, &|| assert!(!store.transaction(three).unwrap()));
    }
}

#[test]
fn pushes_pops_and_takes_keep_the_directory_within_its_bound() {
    const LENGTH: u64 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), SyncPolicy::Never);
    let store = StateStore::with_config(config.file(FileOptions::default().sync(SyncPolicy::Never))).unwrap();
    let text = "x".repeat(200);
    store.push_back_many("queue", (0..LENGTH).map(|_| &text)).unwrap();
    store.map_put_many("map", (0..LENGTH).map(|field| (field.to_string(), &text))).unwrap();
    let turn = |n: u64| match n % 3 {
        0 => {
            store.push_back("queue", &text).unwrap();
            assert!(store.pop_front::<String>("queue").unwrap().is_some());
        }
        1 => {
            let taken = store.lease::<String>("queue", Duration::from_secs(60)).unwrap().unwrap();
            assert!(taken.nack().unwrap());
        }
        _ => assert!(!store.map_put("map", (n % LENGTH).to_string(), &text).unwrap()),
    };
    let largest = largest_while(dir.path(), turn);
    // In a fresh snapshot: `{"v":<value>},` for each value, and `"f":"<name>",` in addition for each field.
    let names: u64 = (0..LENGTH).map(|field| field.to_string().len() as u64).sum();
    let live = LENGTH * (202 + 7) + LENGTH * (202 + 7 + 7) + names;
    assert!(largest <= 3 * live + SLACK, "{largest} for {live}");
    assert_eq!((store.queue_len("queue").unwrap(), store.map_len("map").unwrap()), (LENGTH, LENGTH));

    // Files that are obsolete at once are soon deleted.
    assert_eq!(store.queue_trim("queue", 10).unwrap(), LENGTH - 10);
    store.delete("map").unwrap();
    wait_until("the directory is within its bound", Duration::from_secs(10), || size(dir.path()) <= SLACK);
    store.close().unwrap();
    assert!(!crate::support::files::journal(dir.path(), 1).exists(), "nothing was compacted");
    assert_eq!(open(dir.path(), SyncPolicy::Never).unwrap().queue_len("queue").unwrap(), 10);
}

/// A few lines may delete much data.
#[test]
fn deletions_shrink_the_directory_without_further_writes() {
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions::default().sync(SyncPolicy::Never);
    let store = StateStore::with_config(config(dir.path(), SyncPolicy::Never).file(options)).unwrap();
    let large = "x".repeat(1_000_000);
    for _ in 0..4 {
        for n in 0..8 {
            store.put(format!("k{n}"), &large).unwrap();
        }
    }
    store.put("stays", 1).unwrap();
    for n in 0..8 {
        store.delete(format!("k{n}")).unwrap();
    }
    wait_until("the directory is within its bound", Duration::from_secs(10), || size(dir.path()) <= SLACK);
    store.close().unwrap();
    assert_eq!(open(dir.path(), SyncPolicy::Never).unwrap().keys("").unwrap(), ["stays"]);
}

/// A logger that passes every record on to the parent process.
struct ForwardLog;

static TOLD: AtomicBool = AtomicBool::new(false);

impl log::Log for ForwardLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        child_process::report(&format!("log {} {}", record.level(), record.args()));
        TOLD.store(true, Ordering::Release);
    }

    fn flush(&self) {}
}

/// Runs in a process of its own, whose files cannot grow beyond 32 KiB: the live data grows beyond that, so
/// no snapshot of it can be written, while every journal stays below.
pub(crate) fn outgrow(dir: &Path) {
    log::set_logger(&ForwardLog).map(|()| log::set_max_level(log::LevelFilter::Warn)).unwrap();
    let options = FileOptions::default().compact_min_bytes(4096).compact_ratio(0.1);
    let store = StateStore::with_config(config(dir, SyncPolicy::Never).file(options)).unwrap();
    let page = "x".repeat(500);
    // The journal may be full before the thread that compacts begins another one.
    let in_time = |write: &dyn Fn() -> Result<(), Error>| {
        wait_until("there is room for a write", Duration::from_secs(10), || match write() {
            Ok(()) => true,
            Err(Error::StorageFull { .. }) => false,
            Err(error) => panic!("{error}"),
        });
    };
    for n in 0..70 {
        // Overwriting makes a compaction due before the journal is full.
        for key in [format!("k{n}"), "often".into()] {
            in_time(&|| store.put(&key, (n, &page)));
            assert_eq!(store.get::<(u32, String)>(&key).unwrap().unwrap().0, n);
        }
    }
    while !TOLD.load(Ordering::Acquire) {
        in_time(&|| store.put("often", 0));
    }
    child_process::report(&format!("grown {}", store.len().unwrap()));
    for n in 0..65 {
        in_time(&|| store.delete(format!("k{n}")).map(|was| assert!(was)));
    }
    while size(dir) > 16 * 1024 {
        in_time(&|| store.put("often", 0));
    }
    store.close().unwrap();
    child_process::report("shrunk");
}

/// It logs that once, and compacts when there is room again.
#[cfg(unix)]
#[test]
fn without_room_for_a_snapshot_the_store_continues() {
    let dir = tempfile::tempdir().unwrap();
    let told = Process::start_limited("outgrow", dir.path(), 64).read_all_reports();
    let grown = told.iter().position(|said| said.starts_with("grown 71")).expect("the store continued");
    let warnings = told[..grown].iter().filter(|said| said.starts_with("log WARN compacting")).count();
    assert_eq!(warnings, 1, "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("shrunk"), "{told:?}");
    let left = fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.contains(".tmp")));
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    assert_eq!(store.keys("").unwrap(), ["k65", "k66", "k67", "k68", "k69", "often"]);
}
