//! Histories that make a store log every line that it can, to a logger that uses the same store.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millpond::{FileOptions, ManualClock, OpenOptions, StateBackend, StateConfig, StateStore, SyncPolicy};

use super::logger::{expect_line, log_to};
use super::run_job;
use crate::support::child_process::job;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    durable, memory, notice_disconnect, open, options, wait_for, wait_until_connected,
};

/// The jobs, and what they do.
const JOBS: &[(&str, fn())] = &[
    ("outage", an_outage),
    ("durable outage", a_durable_outage),
    ("one connection", one_connection),
    ("slow operations", slow_operations),
    ("file always", || files(SyncPolicy::Always)),
    ("file interval", || files(SyncPolicy::Every(Duration::from_millis(5)))),
    ("file never", || files(SyncPolicy::Never)),
];

#[test]
fn a_logger_may_use_the_store_whatever_line_it_writes() {
    if let Some((told, _)) = job() {
        let (_, run) = JOBS.iter().find(|(name, _)| *name == told).expect("a job");
        return run();
    }
    for (name, _) in JOBS {
        let lines = run_job("lines::a_logger_may_use_the_store_whatever_line_it_writes", name);
        assert!(!lines.is_empty(), "{name}");
    }
}

/// Every operation is slow, also those of the logger.
fn slow_operations() {
    let slow = StateConfig::default().slow(Duration::from_micros(1)).name("orders");
    let store = StateStore::with_config(slow).unwrap();
    log_to(&store);
    store.batch_put((0..20_000).map(|n| (format!("k{n}"), n))).unwrap();
    expect_line("slow operation of the store \"orders\": batch took ");
    expect_line(" in 1 attempt");
    wait_for("a line names how many were left out", || {
        store.put_bytes("large", &vec![0; 1 << 20]).unwrap();
        super::logger::has_line("not logged since the last such line: ")
    });
    expect_line("of the key \"large\"");
}

/// An outage with rejections and conflicts, the return, a data loss, and the end of the store in another outage.
fn history(server: &mut ProxiedServer, store: &StateStore) {
    log_to(store);
    for key in ["list", "mine"] {
        store.delete(key).unwrap();
    }
    store.push_back("list", 1).unwrap();
    store.put("mine", 1).unwrap();
    let guard = store.try_lock("held", Duration::from_secs(60)).unwrap().unwrap();
    server.proxy.set(Mode::Down);
    notice_disconnect(store);
    expect_line("cannot reach Redis");
    // A release is refused during an outage.
    drop(guard);
    expect_line("releasing the lock");
    // More than one chunk, so that the reconnecting thread also replays without the lock of the outage.
    for number in 0..1500 {
        store.put(format!("k{number}"), number).unwrap();
    }
    for _ in 0..3 {
        store.incr("list", 1).unwrap();
    }
    store.put("mine", 2).unwrap();
    server.raw.run::<_, ()>("SET", &["t:mine", "3"]);
    assert!(store.reconnect().is_err());
    server.proxy.set(Mode::Pass);
    wait_until_connected(store);
    wait_for("the lines of the return", || store.stats().outages.conflicts > 0);
    store.reconnect().unwrap();
    // The thread that reconnected writes its lines after the store is connected.
    wait_for("the lines are written", || super::logger::has_line("take_conflicts"));
    expect_line("is connected again");
    expect_line("rejected");
    server.raw.run::<_, ()>("FLUSHALL", &[] as &[&str]);
    server.raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("the data loss is noticed", || {
        let _ = store.put("after", 1);
        super::logger::has_line("has lost its data")
    });
    // A second store warns when it is opened, and another one when it is dropped during an outage.
    server.raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1gb"]);
    server.raw.run::<_, ()>("CONFIG", &["SET", "maxmemory-policy", "allkeys-lru"]);
    let second = server.store(memory());
    expect_line("evicts keys");
    server.proxy.set(Mode::Down);
    notice_disconnect(&second);
    second.put("never replayed", 1).unwrap();
    drop(second);
    expect_line("was dropped and not closed");
}

fn an_outage() {
    let mut server = ProxiedServer::new();
    let store = server.store(memory());
    history(&mut server, &store);
    notice_disconnect(&store);
    store.put("lost", 1).unwrap();
    assert!(store.close().is_err());
}

fn a_durable_outage() {
    let mut server = ProxiedServer::new();
    let dir = tempfile::tempdir().unwrap();
    let store = server.store(durable(dir.path()));
    history(&mut server, &store);
    notice_disconnect(&store);
    store.put("kept", 1).unwrap();
    store.close().unwrap();
    expect_line("kept in");
}

/// The only connection of a pool is in use when its handshake notes a line.
fn one_connection() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>(
        "ACL",
        &["SETUSER", "blind", "on", ">pw", "~t:[a-z]*", "~t:__millpond:marker*", "+@all"],
    );
    let proxy = Proxy::to(server.port());
    let store = open(&format!("redis://blind:pw@{}", proxy.address()), options().pool_size(1)).unwrap();
    log_to(&store);
    for _ in 0..3 {
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        wait_for("the store has a new connection", || store.put("k", 1).is_ok());
    }
    expect_line("epoch key");
    // A write without a reply, whose connection cannot be killed.
    raw.run::<_, ()>("ACL", &["SETUSER", "blind", "-client"]);
    proxy.set(Mode::Hold);
    assert!(store.put("k", 2).is_err());
    proxy.set(Mode::Pass);
    wait_for("a write is acknowledged", || store.put("k", 3).is_ok());
    store.close().unwrap();
    expect_line("is closed");
}

fn open_file(dir: &Path, sync: SyncPolicy) -> StateStore {
    StateStore::with_config(file_config(dir, sync)).unwrap()
}

fn file_config(dir: &Path, sync: SyncPolicy) -> StateConfig {
    let options = FileOptions::default().sync(sync).compact_min_bytes(4096).compact_ratio(0.5);
    StateConfig::default().backend(StateBackend::file(dir)).file(options)
}

/// A torn tail, a clock that is ahead, and compactions that fail.
fn files(sync: SyncPolicy) {
    let dirs = [(), (), ()].map(|()| tempfile::tempdir().unwrap());
    let [dir, torn, ahead] = dirs.each_ref().map(tempfile::TempDir::path);
    let store = open_file(dir, sync);
    log_to(&store);

    open_file(torn, sync).put("a", 1).unwrap();
    let journal = torn.join("journal-1.jsonl");
    let mut text = fs::read(&journal).unwrap();
    text.truncate(text.len() - 3);
    text.extend(b"{\"torn");
    fs::write(&journal, text).unwrap();
    drop(open_file(torn, sync));
    expect_line("torn bytes");

    let future = SystemTime::now() + Duration::from_secs(3 * 24 * 3600);
    let clock = Arc::new(ManualClock::new(future));
    let writer = OpenOptions::new().clock(clock).with_config(file_config(ahead, sync)).unwrap();
    writer.put("a", 1).unwrap();
    drop(writer);
    drop(open_file(ahead, sync));
    expect_line("ahead of the system clock");

    // The next journal cannot be created while a directory has its name.
    let number = fs::read_dir(dir).unwrap().count() as u64;
    for next in 2..number + 20 {
        fs::create_dir_all(dir.join(format!("journal-{next}.jsonl"))).unwrap();
    }
    let mut written = 0_u64;
    wait_for("a compaction has failed", || {
        for _ in 0..200 {
            store.put("k", format!("{written:0100}")).unwrap();
            written += 1;
        }
        super::logger::has_line("compacting")
    });
    expect_line("compacting");
    store.close().unwrap();
}
