//! A replay queue in files: a program that is killed during an outage and started again loses nothing, and
//! applies nothing twice.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use millpond::{
    Error, Fallback, ManualClock, OpenOptions, PendingReason, RedisOptions, StateBackend, StateConfig,
    StateStore, WriteBatch,
};
use tempfile::TempDir;

use crate::support::child_process::{self, Process};
use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    config, durable, notice_disconnect, open, options, pending, wait_for, wait_until_connected,
};

/// How many programs are killed.
const ROUNDS: u32 = 20;

fn unreachable_url() -> String {
    format!("redis://127.0.0.1:{}", free_port())
}

fn new_directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn operations_queued_by_one_program_are_replayed_by_the_next() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let dir = new_directory();
    let raw = RawClient::connect(&server.url(0));
    proxy.set(Mode::Down);
    let first = open(&proxy.url(), durable(dir.path())).unwrap();
    first.put("a", "x").unwrap();
    first.put_bytes("raw", &[0, 255]).unwrap();
    first.put("gone", 1).unwrap();
    first.delete("gone").unwrap();
    first.update("absent", 1).unwrap();
    first.incr("n", 5).unwrap();
    first.incr("n", -2).unwrap();
    first.push_back_many("q", [1, 2, 3]).unwrap();
    first.push_front("q", 0).unwrap();
    first.map_put_many("m", [("f", 1), ("g", 2)]).unwrap();
    first.map_delete("m", "g").unwrap();
    first.map_incr("m", "n", 4).unwrap();
    first.batch_put([("b", 1), ("c", 2)]).unwrap();
    let waiting = pending(&first).unwrap();
    first.close().unwrap();

    // Started again while the server is still unreachable: its own writes are known.
    let second = open(&proxy.url(), durable(dir.path())).unwrap();
    assert_eq!(pending(&second), Some(waiting));
    assert_eq!(second.get::<String>("a").unwrap().as_deref(), Some("x"));
    assert_eq!(second.incr("n", 1).unwrap(), 4);
    assert_eq!(second.queue_range::<i64>("q", ..).unwrap(), [0, 1, 2, 3]);
    assert_eq!(second.keys("").unwrap(), ["a", "b", "c", "m", "n", "q", "raw"]);
    drop(second);

    proxy.set(Mode::Pass);
    let third = open(&proxy.url(), durable(dir.path())).unwrap();
    assert_eq!(pending(&third), None, "opening replays the queue");
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"\"x\""[..]));
    assert_eq!(raw.get("t:raw").as_deref(), Some(&[0, 255][..]));
    assert_eq!(raw.get("t:n").as_deref(), Some(&b"4"[..]));
    assert_eq!(raw.run::<_, Vec<i64>>("LRANGE", &["t:q", "0", "-1"]), [0, 1, 2, 3]);
    assert_eq!(raw.run::<_, i64>("HGET", &["t:m", "n"]), 4);
    assert!(!raw.exists("t:gone") && !raw.exists("t:absent"));
    let stats = third.stats().outages;
    assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0), "{stats:?}");
    third.close().unwrap();

    let fourth = open(&proxy.url(), durable(dir.path())).unwrap();
    assert_eq!((pending(&fourth), fourth.stats().outages.replayed), (None, 0), "nothing is replayed twice");
    assert_eq!(raw.get("t:n").as_deref(), Some(&b"4"[..]));
}

/// Writes keys of its own, and reports each write when it is acknowledged.
fn write_until_killed(told: &Path) {
    let told = told.to_string_lossy();
    let [url, dir, run] = <[&str; 3]>::try_from(told.split('|').collect::<Vec<_>>()).unwrap();
    let store = open(url, durable(Path::new(dir))).unwrap();
    for n in 0_u32.. {
        store.incr(format!("n{run}"), 1).unwrap();
        store.push_back(format!("q{run}"), n).unwrap();
        store.put(format!("p{run}:{n}"), n).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(format!("b{run}"), n).unwrap().put(format!("c{run}"), n).unwrap();
        store.write(&batch).unwrap();
        store.map_incr(format!("m{run}"), "n", 1).unwrap();
        child_process::report(&format!("wrote {n}"));
    }
}

#[test]
fn acknowledged_writes_of_a_killed_program_are_applied_once() {
    if let Some((_, told)) = child_process::job() {
        return write_until_killed(&told);
    }
    let seed =
        std::env::var("MILLPOND_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("MILLPOND_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let dir = new_directory();
    for run in 0..ROUNDS {
        // No command is on its way when the server disappears: the server is unreachable from the beginning.
        proxy.set(Mode::Down);
        let told = format!("{}|{}|{run}", proxy.url(), dir.path().display());
        let test = "outage::durable::acknowledged_writes_of_a_killed_program_are_applied_once";
        let mut child = Process::start_test(test, "write", &told);
        let mut heard = 0;
        // Some programs are killed during the outage, some during the replay, some long after it.
        let (back, end) = (random.u32(1..400), random.u32(1..800));
        while heard < end && child.read_report().is_some() {
            heard += 1;
            if heard == back {
                proxy.set(Mode::Pass);
            }
        }
        assert_eq!(heard, end, "it wrote until it was killed");
        let acknowledged = heard + u32::try_from(child.kill().len()).unwrap();

        proxy.set(Mode::Pass);
        let store = open(&proxy.url(), durable(dir.path())).unwrap();
        wait_until_connected(&store);
        let stats = store.stats().outages;
        assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0), "{stats:?}");
        store.close().unwrap();
        let number = |name: &str| raw.get(&format!("t:{name}{run}")).map(|n| String::from_utf8(n).unwrap());
        let count: u32 = number("n").unwrap().parse().unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&count), "{count} of {acknowledged}");
        let queue: Vec<u32> = raw.run("LRANGE", &[&format!("t:q{run}"), "0", "-1"]);
        let length = u32::try_from(queue.len()).unwrap();
        assert!(queue.into_iter().eq(0..length), "each once and in order");
        assert!((acknowledged..=count).contains(&length), "{length} of {acknowledged}");
        for n in 0..acknowledged {
            assert!(raw.exists(&format!("t:p{run}:{n}")), "put {n} of {acknowledged}");
        }
        assert_eq!(number("b"), number("c"), "a batch is atomic");
        let in_map: u32 = raw.run("HGET", &[&format!("t:m{run}"), "n"]);
        assert!((acknowledged..=acknowledged + 1).contains(&in_map));
    }
}

#[test]
fn one_store_at_a_time_has_the_files() {
    let dir = new_directory();
    let url = unreachable_url();
    let first = open(&url, durable(dir.path())).unwrap();
    assert_error!(open(&url, durable(dir.path())), Error::Locked { .. });
    first.close().unwrap();
    open(&url, durable(dir.path())).unwrap();
}

#[test]
fn files_of_another_store_are_refused() {
    let dir = new_directory();
    let store = StateStore::new(StateBackend::file(dir.path())).unwrap();
    store.put("somebody's", 1).unwrap();
    store.close().unwrap();
    let error = open(&unreachable_url(), durable(dir.path())).unwrap_err();
    assert!(matches!(&error, Error::InvalidConfig { field, .. } if field == "redis.fallback"), "{error:?}");

    let dir = new_directory();
    let waiting = open(&unreachable_url(), durable(dir.path())).unwrap();
    waiting.put("a", 1).unwrap();
    waiting.close().unwrap();
    let backend = StateBackend::redis(unreachable_url()).key_prefix("other");
    let other = StateConfig::default().backend(backend).redis(durable(dir.path()));
    let error = StateStore::with_config(other).unwrap_err();
    assert!(error.to_string().contains("\"t\""), "it names the prefix: {error}");
}

/// Copies the files of a store that is not open.
pub(super) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_old_copy_of_the_files_is_refused() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let (dir, old) = (new_directory(), new_directory());
    proxy.set(Mode::Down);
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    store.incr("n", 1).unwrap();
    store.close().unwrap();
    copy(dir.path(), old.path());
    for _ in 0..2 {
        let store = open(&proxy.url(), durable(dir.path())).unwrap();
        store.incr("n", 1).unwrap();
        store.incr("m", 1).unwrap();
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        store.close().unwrap();
        proxy.set(Mode::Down);
    }
    proxy.set(Mode::Pass);
    let error = open(&proxy.url(), durable(old.path())).unwrap_err();
    assert!(error.to_string().contains("old copy"), "{error}");
    assert_eq!(RawClient::connect(&server.url(0)).get("t:n").as_deref(), Some(&b"3"[..]));
}

/// A clock that stands still at this second.
fn clock_at(seconds: u64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)))
}

fn open_at(seconds: u64, config: StateConfig) -> StateStore {
    OpenOptions::new().clock(clock_at(seconds)).with_config(config).unwrap()
}

#[test]
fn times_to_live_run_on_between_two_programs() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let dir = new_directory();
    let at = |seconds| open_at(seconds, config(&proxy.url(), durable(dir.path())));
    proxy.set(Mode::Down);
    let first = at(0);
    first.put_with_ttl("short", 1, Duration::from_secs(60)).unwrap();
    first.put_with_ttl("long", 1, Duration::from_secs(3600)).unwrap();
    first.close().unwrap();
    let second = at(100);
    assert!(!second.contains("short").unwrap());
    assert!(second.contains("long").unwrap());
    second.close().unwrap();
    proxy.set(Mode::Pass);
    at(600).close().unwrap();
    let raw = RawClient::connect(&server.url(0));
    assert!(!raw.exists("t:short"));
    let left: u64 = raw.run("TTL", &["t:long"]);
    assert!((2900..=3000).contains(&left), "{left} s");
}

/// The value of a lease that was extended comes back at its last end, also in a program that starts later.
#[test]
fn a_lease_that_was_extended_lasts_beyond_a_restart_of_the_program() {
    let dir = new_directory();
    let config = config(&unreachable_url(), durable(dir.path()).exclusive(true));
    let minute = Duration::from_secs(60);
    let first = open_at(0, config.clone());
    first.push_back_many("q", 1..=3).unwrap();
    let extended = first.lease::<i64>("q", minute).unwrap().unwrap();
    assert!(extended.extend(60 * minute).unwrap());
    let ended = first.lease::<i64>("q", minute).unwrap().unwrap();
    assert!(ended.extend(60 * minute).unwrap());
    assert!(ended.ack().unwrap());
    first.close().unwrap();
    let lease =
        |store: &StateStore| store.lease::<i64>("q", minute).unwrap().map(millpond::Leased::into_inner);
    let second = open_at(100, config.clone());
    assert_eq!((lease(&second), lease(&second)), (Some(3), None));
    second.close().unwrap();
    let third = open_at(4000, config);
    assert_eq!([(); 3].map(|()| lease(&third)), [Some(1), Some(3), None]);
}

/// The program was killed after it had sent a chunk, and the server lost its data. Operations that may have
/// been applied are not repeated; those that were never sent are applied.
#[test]
fn after_data_loss_only_sent_operations_are_in_doubt() {
    let mut server = RedisServer::start();
    let dir = new_directory();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.incr("sent", 1).unwrap();
    // The first attempt creates the marker, and ends before the reply to the chunk.
    server.pause();
    proxy.set(Mode::Pass);
    wait_for("the store tried to connect", || proxy.tried() > 2);
    proxy.set(Mode::Down);
    server.resume();
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.incr("waits", 7).unwrap();
    store.close().unwrap();
    drop(proxy);
    server.kill();
    server.restart();
    let store = open(&server.url(0), durable(dir.path())).unwrap();
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.get("t:waits").as_deref(), Some(&b"7"[..]));
    assert_eq!(store.stats().outages.uncertain, 0);
    assert!(store.pending(1000).iter().all(|waiting| waiting.reason != PendingReason::Uncertain));
}

/// Fills the files until the system lets them grow no further.
fn write_until_full(dir: &Path) {
    let store = open(&unreachable_url(), durable(dir)).unwrap();
    for n in 0.. {
        let before = pending(&store).unwrap();
        match store.put(format!("k{n}"), "x".repeat(500)) {
            Ok(()) => assert!(n < 10_000, "the disk never becomes full"),
            Err(error) => {
                assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
                assert_eq!(pending(&store), Some(before));
                assert_eq!(store.get::<String>(&format!("k{n}")).unwrap(), None);
                assert_error!(store.push_back("q", "x".repeat(500)), Error::StorageFull { .. });
                assert_eq!(store.queue_len("q").unwrap(), 0);
                return child_process::report(&format!("full after {n}"));
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_operations_that_cannot_be_kept_are_refused() {
    if let Some((_, dir)) = child_process::job() {
        return write_until_full(&dir);
    }
    let dir = new_directory();
    let test = "outage::durable::on_a_full_disk_operations_that_cannot_be_kept_are_refused";
    let told = Process::start_limited_test(test, "fill", dir.path(), 400).read_all_reports();
    let full: u64 = told.last().and_then(|told| told.strip_prefix("full after ")?.parse().ok()).unwrap();
    assert!(full > 50);
    let server = RedisServer::start();
    let store = open(&server.url(0), durable(dir.path())).unwrap();
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert!((0..full).all(|n| raw.exists(&format!("t:k{n}"))) && !raw.exists(&format!("t:k{full}")));
}

#[test]
fn adjacent_operations_in_the_files_are_merged() {
    let dir = new_directory();
    let store = open(&unreachable_url(), durable(dir.path())).unwrap();
    for n in 0..1000 {
        store.put("a", n).unwrap();
        store.incr("n", 1).unwrap();
    }
    assert_eq!(pending(&store), Some(2));
    store.close().unwrap();
    let store = open(&unreachable_url(), durable(dir.path())).unwrap();
    assert_eq!(pending(&store), Some(2));
    assert_eq!((store.get("a").unwrap(), store.get("n").unwrap()), (Some(999), Some(1000)));
}

#[test]
fn transactions_of_an_exclusive_store_are_queued_too() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let dir = new_directory();
    proxy.set(Mode::Down);
    let alone = |options: RedisOptions| options.exclusive(true);
    let store = open(&proxy.url(), alone(durable(dir.path()))).unwrap();
    store
        .transaction(|tx| {
            tx.push_back("q", 1)?;
            tx.push_back("q", 2)?;
            tx.push_back("q", 3)?;
            tx.pop_front::<i64>("q")?;
            tx.pop_back::<i64>("q")?;
            tx.put("a", 1)
        })
        .unwrap();
    assert_eq!(store.get_and_put::<i64>("a", 2).unwrap(), Some(1));
    store.close().unwrap();
    proxy.set(Mode::Pass);
    let store = open(&proxy.url(), alone(durable(dir.path()))).unwrap();
    assert_eq!(pending(&store), None);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.run::<_, Vec<i64>>("LRANGE", &["t:q", "0", "-1"]), [2]);
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"2"[..]));
}

#[test]
fn the_path_is_checked() {
    let empty = options().fallback(Fallback::file(""));
    assert_error!(open(&unreachable_url(), empty), Error::InvalidConfig { field, .. } if field == "redis.fallback");
    for url in ["redis://h?fallback=file:", "redis://h?fallback=file:~/queue", "redis://h?fallback=disk"] {
        assert_error!(StateConfig::from_url(url), Error::InvalidConfig { .. });
    }
}
