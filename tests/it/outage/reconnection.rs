//! What can delay or prevent the return to a server: missing permissions, lost replies, slow connections, old
//! copies of the files.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use millpond::Event;

use crate::support::files::{queue_header, set_queue_header};
use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    LIMIT, durable, memory, notice_disconnect, open, pending, run_within, wait_for, wait_until_connected,
};
use crate::support::wait_until;

/// Runs a function that may hang in a thread of its own, and fails if it does.
fn finish_in_time<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    receiver.recv_timeout(Duration::from_secs(15)).unwrap_or_else(|_| panic!("{what} did not end"))
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Only some operations need the missing permission: these are refused, and all others are applied.
#[test]
fn a_missing_permission_stops_only_operations_that_need_it() {
    for lacks in ["-exists", "-hdel", "-get"] {
        let server = RedisServer::start();
        let raw = RawClient::connect(&server.url(0));
        let proxy = Proxy::to(server.port());
        raw.run::<_, ()>("ACL", &["SETUSER", "limited", "on", ">pw", "~t:*", "+@all", lacks]);
        let url = format!("redis://limited:pw@{}", proxy.address());
        let store = open(&url, memory()).unwrap();
        store.put("a", 0).unwrap();
        proxy.set(Mode::Down);
        notice_disconnect(&store);
        store.put("before", 1).unwrap();
        store.incr_with_ttl("born", 1, Duration::from_secs(100)).unwrap();
        for n in 0..10 {
            store.put(format!("p{n}"), n).unwrap();
            store.incr(format!("n{n}"), n).unwrap();
        }
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        let lost = (0..10).filter(|n| !raw.exists(&format!("t:p{n}")) || !raw.exists(&format!("t:n{n}")));
        assert_eq!(lost.count(), 0, "{lacks}");
        let told: Vec<String> = store.take_rejected().into_iter().map(|told| told.key).collect();
        assert!(raw.exists("t:born") || told == ["born"], "{lacks}: {told:?}");
    }
}

/// Several chunks were applied, but the program was killed before it could record that.
#[test]
fn chunks_that_were_applied_but_not_recorded_are_not_repeated() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let [dir, killed] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    proxy.set(Mode::Down);
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    for n in 0..2500 {
        store.incr(format!("n{n}"), 1).unwrap();
    }
    copy(dir.path(), killed.path());
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    store.close().unwrap();
    // The state after a kill on a disk with room for the records of the holder and of the sent chunks, and for nothing
    // else.
    let header = queue_header(dir.path());
    assert!(header.contains("\"done\":2500,\"sent\":2500"), "{header}");
    set_queue_header(killed.path(), &header.replace("\"done\":2500", "\"done\":0"));
    let (url, path) = (proxy.url(), killed.path().to_owned());
    let store = finish_in_time("opening", move || open(&url, durable(&path)).unwrap());
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert!((0..2500).all(|n| raw.get(&format!("t:n{n}")).as_deref() == Some(&b"1"[..])));
}

/// The queue of the copy is empty, and the copy is older than the server's marker: nothing is applied twice,
/// and the store works.
#[test]
fn an_old_copy_with_an_empty_queue_works() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let [dir, old] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    open(&proxy.url(), durable(dir.path())).unwrap().close().unwrap();
    copy(dir.path(), old.path());
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.incr("n", 1).unwrap();
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    store.close().unwrap();
    let store = open(&proxy.url(), durable(old.path())).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.incr("n", 1).unwrap();
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(RawClient::connect(&server.url(0)).get("t:n").as_deref(), Some(&b"2"[..]));
}

#[test]
fn the_longest_timeout_does_not_panic() {
    let store = open(&format!("redis://127.0.0.1:{}", free_port()), memory()).unwrap();
    assert_eq!(pending(&store), Some(0));
    store.close_within(Duration::MAX).unwrap();
}

/// The thread that reconnected calls the listener, and close waits for that same thread.
#[test]
fn a_listener_for_the_reconnection_may_close_the_store() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let told = store.clone();
    store.on_event(move |event| {
        if matches!(event, Event::Reconnected { .. }) {
            sender.send(told.close().is_ok()).unwrap();
        }
    });
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.put("a", 1).unwrap();
    proxy.set(Mode::Pass);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(true));
    assert!(RawClient::connect(&server.url(0)).exists("t:a"));
}

/// A listener that panics must not stop anything else.
#[test]
fn a_panicking_listener_does_not_prevent_the_reconnection() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "on", ">pw", "~t:*", "+@all"]);
    let store = open(&format!("redis://limited:pw@{}", proxy.address()), memory()).unwrap();
    store.put("a", 1).unwrap();
    let (sender, receiver) = mpsc::channel();
    store.on_event(move |event| {
        if matches!(event, Event::DataLost { .. }) {
            sender.send(()).unwrap();
            panic!("on purpose");
        }
    });
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.put("b", 1).unwrap();
    raw.flush();
    // The listener is called for the data loss, and the store remains disconnected.
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "-eval"]);
    proxy.set(Mode::Pass);
    receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    let tried = proxy.tried();
    wait_for("an attempt failed", || proxy.tried() > tried + 1);
    assert!(pending(&store).is_some());
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "+eval"]);
    wait_until_connected(&store);
    assert!(raw.exists("t:b"));
}

/// Four megabytes cannot be sent within the limit, but each value can.
#[test]
fn a_replay_queue_is_sent_over_a_slow_connection() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    for n in 0..600 {
        store.put(format!("k{n}"), "x".repeat(8 << 10)).unwrap();
        store.incr("n", 1).unwrap();
        store.put("n2", n).unwrap();
    }
    proxy.set(Mode::Slow(Duration::from_micros(500)));
    wait_until("the store is connected", Duration::from_secs(30), || pending(&store).is_none());
    let raw = RawClient::connect(&server.url(0));
    assert!((0..600).all(|n| raw.exists(&format!("t:k{n}"))));
    assert_eq!(raw.get("t:n").as_deref(), Some(&b"600"[..]));
}

/// Until the store knows that the queue can be sent, no operation waits for the replay.
#[test]
fn no_operation_waits_for_a_replay_that_does_not_get_through() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.put("large", "x".repeat(3 << 20)).unwrap();
    let tried = proxy.tried();
    proxy.set(Mode::Slow(Duration::from_micros(500)));
    let begun = Instant::now();
    while begun.elapsed() < 4 * LIMIT {
        run_within(Duration::ZERO, || assert_eq!(store.get("a").unwrap(), Some(1)));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(proxy.tried() > tried);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(RawClient::connect(&server.url(0)).exists("t:large"));
}
