//! `FileStore::backup`: the copy is a whole store, and what cannot become one is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use millpond::{
    Clock as _, Error, ManualClock, OpenOptions, Result, StateStore, SyncPolicy, Ttl, WriteBatch,
};

use crate::support::Ending;
use crate::support::files::{all, config, files, journal, open, open_read_only};

const THREADS: usize = 4;
const ACCOUNTS: u64 = 8;
const BALANCE: i64 = 100;

const HOUR: Duration = Duration::from_secs(3600);

fn back_up(store: &StateStore, dir: impl AsRef<Path>) -> Result<()> {
    let StateStore::File(file) = store else { panic!("{store:?} is no File store") };
    file.backup(dir)
}

fn open_at(dir: &Path, now: SystemTime) -> (StateStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(now));
    let config = config(dir, SyncPolicy::Always);
    (OpenOptions::new().clock(clock.clone()).with_config(config).unwrap(), clock)
}

/// Fills a store with entries of every kind.
fn fill(store: &StateStore, clock: &ManualClock) {
    store.put("value", "text").unwrap();
    store.put_bytes("bytes", b"\xff\0\n").unwrap();
    store.incr("counter", 3).unwrap();
    store.map_put("map", "field", [1, 2]).unwrap();
    for n in 0..3 {
        store.push_back("queue", n).unwrap();
    }
    store.push_back("leased", "job").unwrap();
    store.put("deleted", 1).unwrap();
    store.delete("deleted").unwrap();
    store.put_with_ttl("expired", 1, HOUR).unwrap();
    clock.advance(2 * HOUR);
    store.put_with_ttl("expiring", 1, HOUR).unwrap();
    // A dropped lease or lock would be returned.
    std::mem::forget(store.lease::<String>("leased", HOUR).unwrap().unwrap());
    std::mem::forget(store.try_lock("lock", HOUR).unwrap().unwrap());
    store.namespace("orders").put("17", "paid").unwrap();
}

/// Checks a copy of that store, which is opened two hours before the store's time.
fn assert_filled(dir: &Path, now: SystemTime) {
    let (copy, clock) = open_at(dir, now - 2 * HOUR);
    assert_eq!(copy.get::<String>("value").unwrap().unwrap(), "text");
    assert_eq!(copy.get_bytes("bytes").unwrap().unwrap(), *b"\xff\0\n");
    assert_eq!(copy.incr("counter", 1).unwrap(), 4);
    assert_eq!(copy.map_get::<[i32; 2]>("map", "field").unwrap(), Some([1, 2]));
    assert_eq!(copy.queue_range::<i32>("queue", ..).unwrap(), [0, 1, 2]);
    assert_eq!(copy.get::<String>("orders:17").unwrap().unwrap(), "paid");
    assert!(!copy.contains("deleted").unwrap());
    assert!(!copy.contains("expired").unwrap(), "an expired entry has come back");
    assert_eq!(copy.ttl("expiring").unwrap(), Some(Ttl::In(HOUR)));
    assert!(copy.lease::<String>("leased", HOUR).unwrap().is_none(), "it is leased");
    assert!(copy.try_lock("lock", HOUR).unwrap().is_none(), "it is locked");
    clock.set(now + HOUR);
    assert!(!copy.contains("expiring").unwrap());
    let leased = copy.lease::<String>("leased", HOUR).unwrap().unwrap();
    assert_eq!((leased.value().as_str(), leased.attempts()), ("job", 2));
    assert!(copy.try_lock("lock", HOUR).unwrap().is_some());
    drop(leased);
    copy.close().unwrap();
}

#[test]
fn a_copy_holds_entries_of_every_kind_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let (source, copies) = (dir.path().join("state"), dir.path().join("copies/of"));
    let (store, clock) = open_at(&source, ManualClock::default().now());
    fill(&store, &clock);
    back_up(&store, copies.join("running")).unwrap();
    // A namespace is a part of the store, and the whole store is copied.
    back_up(&store.namespace("orders"), copies.join("namespace")).unwrap();
    fs::create_dir(copies.join("empty")).unwrap();
    back_up(&store, copies.join("empty")).unwrap();

    let reading = OpenOptions::new().read_only(true).clock(clock.clone());
    let seen = reading.with_config(config(&source, SyncPolicy::Always)).unwrap();
    store.put("value", "changed").unwrap();
    store.clear().unwrap();
    back_up(&seen, copies.join("read only")).unwrap();

    for copy in ["running", "namespace", "empty", "read only"] {
        assert_filled(&copies.join(copy), clock.now());
    }
    // A copy can be copied.
    back_up(&open(&copies.join("empty"), SyncPolicy::Never).unwrap(), copies.join("again")).unwrap();
    assert_eq!(all_values(&copies.join("again")), all_values(&copies.join("empty")));
}

fn all_values(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = open(dir, SyncPolicy::Always).unwrap();
    for key in ["map", "queue", "leased"] {
        store.delete(key).unwrap();
    }
    all(&store)
}

#[test]
fn a_new_store_can_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    back_up(&store, dir.path().join("copy")).unwrap();
    let seen = open_read_only(&dir.path().join("state")).unwrap();
    back_up(&seen, dir.path().join("read only")).unwrap();
    for copy in ["copy", "read only"] {
        let copy = open(&dir.path().join(copy), SyncPolicy::Always).unwrap();
        assert!(copy.is_empty().unwrap());
        copy.put("later", 1).unwrap();
    }
}

/// The files are longer than what is synced at once.
#[test]
fn a_large_store_is_copied_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    for n in 0_u8..20 {
        store.put_bytes(format!("k{n}"), &vec![n; 1 << 20]).unwrap();
    }
    back_up(&store, dir.path().join("copy")).unwrap();
    assert_eq!(all(&open(&dir.path().join("copy"), SyncPolicy::Never).unwrap()), all(&store));
}

/// Moves money between accounts, until the end, and counts the transfers.
fn transfer(store: &StateStore, number: usize, acknowledged: &AtomicI64, ended: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    for n in 1.. {
        let (from, to) = (random.u64(..ACCOUNTS), random.u64(..ACCOUNTS));
        let done = store.transaction(|tx| {
            tx.incr(format!("account:{from}"), -1)?;
            tx.incr(format!("account:{to}"), 1)?;
            tx.put(format!("done:{number}"), n)
        });
        done.unwrap();
        // Batches too, and bytes that make compactions due.
        let mut batch = WriteBatch::new();
        batch.put(format!("first:{number}"), n).unwrap();
        batch.put(format!("filling:{number}:{}", n % 20), "x".repeat(100)).unwrap();
        batch.put(format!("second:{number}"), n).unwrap();
        store.write(&batch).unwrap();
        acknowledged.store(n, Ordering::SeqCst);
        if ended.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Opens a copy and checks that each transfer is in it as a whole, and everything that was acknowledged.
fn assert_consistent(dir: &Path, acknowledged: &[i64]) {
    let copy = open(dir, SyncPolicy::Never).unwrap();
    let balances = copy.entries::<i64>("account:").map(|entry| entry.unwrap().1);
    assert_eq!(balances.sum::<i64>(), BALANCE * i64::try_from(ACCOUNTS).unwrap());
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        let read = |name| copy.get::<i64>(format!("{name}:{number}")).unwrap().unwrap_or_default();
        let [done, first, second] = ["done", "first", "second"].map(read);
        assert_eq!(first, second, "half of a batch was copied");
        assert!(done == first || done == first + 1, "{done} is not the one after {first}");
        assert!(first >= *acknowledged, "{first} is older than {acknowledged}");
    }
}

fn back_up_under_writers(sync: SyncPolicy, backups: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("state");
    let store = open(&source, sync).unwrap();
    for account in 0..ACCOUNTS {
        store.put(format!("account:{account}"), BALANCE).unwrap();
    }
    let (acknowledged, ended) = ([const { AtomicI64::new(0) }; THREADS], AtomicBool::new(false));
    thread::scope(|scope| {
        for (number, acknowledged) in acknowledged.iter().enumerate() {
            let (store, ended) = (&store, &ended);
            scope.spawn(move || transfer(store, number, acknowledged, ended));
        }
        let _ending = Ending(&ended);
        let (mut copies, mut compactions, mut last) = (0, 0, 1);
        // A busy machine may compact rarely.
        while copies < backups || compactions < 3 {
            let before = acknowledged.each_ref().map(|acknowledged| acknowledged.load(Ordering::SeqCst));
            let copy = dir.path().join(format!("copy-{copies}"));
            back_up(&store, &copy).unwrap();
            assert_consistent(&copy, &before);
            fs::remove_dir_all(&copy).unwrap();
            copies += 1;
            if !journal(&source, last).exists() {
                compactions += 1;
                last += 1;
            }
            assert!(copies < 20 * backups, "{compactions} compactions during {copies} backups");
        }
    });
}

/// The store is compacted again and again meanwhile.
#[test]
fn a_copy_made_under_writers_is_a_state_between_two_of_their_writes() {
    back_up_under_writers(SyncPolicy::Never, 50);
    back_up_under_writers(SyncPolicy::Always, 20);
}

#[test]
fn a_copy_shares_nothing_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("state");
    let store = open(&source, SyncPolicy::Never).unwrap();
    store.put("k", 0).unwrap();
    back_up(&store, dir.path().join("copy")).unwrap();
    let copied = files(&dir.path().join("copy"));
    let mut n = 0;
    while journal(&source, 1).exists() {
        n += 1;
        store.put("k", n).unwrap();
    }
    store.close().unwrap();
    assert_eq!(files(&dir.path().join("copy")), copied);
    assert_eq!(open(&dir.path().join("copy"), SyncPolicy::Never).unwrap().get("k").unwrap(), Some(0));
    assert_eq!(open(&source, SyncPolicy::Never).unwrap().get("k").unwrap(), Some(n));
}

#[test]
fn backups_at_once_succeed_in_directories_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    for n in 0..50 {
        store.put(format!("k{n}"), "x".repeat(1000)).unwrap();
    }
    for round in 0..10 {
        let (store, dir) = (&store, dir.path());
        let outcomes = thread::scope(|scope| {
            let back_up_to = |name: String| move || back_up(store, dir.join(name));
            let own = [0, 1].map(|copy| scope.spawn(back_up_to(format!("own-{round}-{copy}"))));
            let same = [0, 1].map(|_| scope.spawn(back_up_to(format!("same-{round}"))));
            for thread in own {
                thread.join().unwrap().unwrap();
            }
            same.map(|thread| thread.join().unwrap())
        });
        let refused: Vec<Error> = outcomes.into_iter().filter_map(Result::err).collect();
        for error in &refused {
            let is_io = matches!(error, Error::Io { .. });
            assert!(is_io || error.is_locked(), "{error:?}");
        }
        assert!(!refused.is_empty(), "two backups share a directory");
        if refused.len() == 1 {
            let copy = open(&dir.join(format!("same-{round}")), SyncPolicy::Never).unwrap();
            assert_eq!(copy.len().unwrap(), 50);
        }
    }
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    let target = dir.path().join("copy");
    for name in ["LOCK", ".hidden", "journal-1.jsonl.tmp"] {
        fs::create_dir(&target).unwrap();
        fs::write(target.join(name), "kept").unwrap();
        let error = assert_error!(back_up(&store, &target), Error::Io { path, source, .. }
            if *path == target && source.kind() == std::io::ErrorKind::DirectoryNotEmpty);
        let text = format!("backing up to {} failed: the directory is not empty", target.display());
        assert_eq!(error.to_string(), text);
        assert_eq!(files(&target), BTreeMap::from([(name.to_owned(), b"kept".to_vec())]));
        fs::remove_dir_all(&target).unwrap();
    }
    back_up(&store, &target).unwrap();
    let copied = files(&target);
    assert_error!(back_up(&store, &target), Error::Io { .. });
    assert_eq!(files(&target), copied);
    fs::write(dir.path().join("file"), "kept").unwrap();
    assert_error!(back_up(&store, dir.path().join("file")), Error::Io { .. });
    assert_error!(back_up(&store, dir.path().join("file/copy")), Error::Io { .. });
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"kept");
    assert_error!(back_up(&store, ""), Error::InvalidConfig { .. });
    assert_error!(back_up(&store, "file:./copy"), Error::InvalidConfig { .. });
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_is_no_text_is_seen_too() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    let target = dir.path().join("copy");
    fs::create_dir(&target).unwrap();
    fs::write(target.join(std::ffi::OsStr::from_bytes(b"\xff")), "kept").unwrap();
    assert_error!(back_up(&store, &target), Error::Io { .. });
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn the_directory_of_the_store_is_no_place_for_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("state");
    let store = open(&source, SyncPolicy::Never).unwrap();
    store.put("k", 1).unwrap();
    let before = files(&source);
    let mut targets = vec![
        source.clone(),
        source.join("copy"),
        source.join("copies/monday"),
        dir.path().join("absent/../state/copy"),
    ];
    if cfg!(unix) {
        #[cfg(unix)]
        std::os::unix::fs::symlink(&source, dir.path().join("link")).unwrap();
        targets.push(dir.path().join("link/copy"));
    }
    for target in targets {
        let error = assert_error!(back_up(&store, &target), Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("is the directory of the store, or is in it"), "{error}");
        assert_eq!(files(&source), before, "{}", target.display());
    }
    assert!(!dir.path().join("absent").exists());
    // A name that only begins like it is another directory.
    back_up(&store, dir.path().join("state-copy")).unwrap();
}

/// On Unix a store keeps to its directory, whatever its path comes to mean.
#[cfg(unix)]
#[test]
fn the_copy_of_a_store_that_was_moved_may_take_its_old_path() {
    let dir = tempfile::tempdir().unwrap();
    let (source, moved) = (dir.path().join("state"), dir.path().join("moved"));
    let store = open(&source, SyncPolicy::Never).unwrap();
    store.put("k", 1).unwrap();
    fs::rename(&source, &moved).unwrap();
    assert_error!(back_up(&store, moved.join("copy")), Error::Io { .. });
    back_up(&store, &source).unwrap();
    assert_eq!(open(&source, SyncPolicy::Never).unwrap().get("k").unwrap(), Some(1));
}

#[test]
fn a_closed_store_is_not_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    let seen = open_read_only(&dir.path().join("state")).unwrap();
    for store in [store, seen] {
        let other = store.clone();
        store.close().unwrap();
        let error = assert_error!(back_up(&other, dir.path().join("copy")), Error::Unavailable { .. });
        assert!(error.is_closed());
        assert!(!dir.path().join("copy").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_copy_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("state"), SyncPolicy::Never).unwrap();
    store.put("k", 1).unwrap();
    let seen = open_read_only(&dir.path().join("state")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (name, store) in [("copy", store), ("read only", seen)] {
        let copy = dir.path().join(name);
        back_up(&store, &copy).unwrap();
        assert_eq!(mode(&copy), 0o700);
        assert!(files(&copy).len() > 1);
        for file in files(&copy).keys() {
            assert_eq!(mode(&copy.join(file)), 0o600, "{file}");
        }
    }
}
