//! Closing within a limit, whatever the server does.

use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, StateStore};

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, notice_disconnect, open, patient, pending, wait_for};

/// A store with one queued operation, and what the store needs to come back.
fn disconnected(server: &RedisServer) -> (Proxy, StateStore) {
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), patient(memory())).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.put("a", 1).unwrap();
    (proxy, store)
}

/// The server's own limits are many times longer.
fn assert_closes_in_time(store: &StateStore, limit: Duration) {
    let begun = Instant::now();
    let error = store.close_within(limit).unwrap_err();
    let took = begun.elapsed();
    assert!(took < limit + Duration::from_secs(2), "{limit:?}: took {took:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_error!(store.get_bytes("a"), Error::Unavailable { .. });
}

const LIMITS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(300)];

#[test]
fn closing_does_not_wait_longer_for_a_connection_that_is_being_made() {
    let server = RedisServer::start();
    for limit in LIMITS {
        let (proxy, store) = disconnected(&server);
        let tried = proxy.tried();
        proxy.set(Mode::Hold);
        wait_for("a connection is being made", || proxy.tried() > tried);
        assert_closes_in_time(&store, limit);
    }
}

#[test]
fn closing_does_not_wait_longer_for_a_write_that_the_server_holds_back() {
    let server = RedisServer::start();
    let client = RawClient::connect(&server.url(0));
    for limit in LIMITS {
        let (proxy, store) = disconnected(&server);
        client.run::<_, ()>("CLIENT", &["PAUSE", "60000", "WRITE"]);
        let requests = proxy.requests();
        proxy.set(Mode::Pass);
        wait_for("the store has sent its first write", || proxy.requests() >= requests + 2);
        assert_closes_in_time(&store, limit);
        client.run::<_, ()>("CLIENT", &["UNPAUSE"]);
    }
}

#[test]
fn closing_does_not_wait_longer_for_a_thread_that_reconnects() {
    let server = RedisServer::start();
    let (proxy, store) = disconnected(&server);
    let tried = proxy.tried();
    proxy.set(Mode::Hold);
    wait_for("a connection is being made", || proxy.tried() > tried);
    let other = store.clone();
    let waiting = thread::spawn(move || other.reconnect());
    assert_closes_in_time(&store, Duration::from_millis(300));
    assert!(waiting.join().unwrap().is_err());
}

/// The limit is not for what needs no server.
#[test]
fn a_connected_store_closes_without_time() {
    let server = RedisServer::start();
    let store = open(&server.url(0), memory()).unwrap();
    store.put("a", 1).unwrap();
    store.close_within(Duration::ZERO).unwrap();
}

/// The server is back, and a replay that is under way when the store is closed goes on until the limit.
#[test]
fn closing_within_a_long_limit_replays_everything() {
    let server = RedisServer::start();
    let (proxy, store) = disconnected(&server);
    for n in 0..5000 {
        store.put(format!("k{n}"), n).unwrap();
    }
    assert_eq!(pending(&store), Some(5001));
    proxy.set(Mode::Pass);
    store.close_within(Duration::from_secs(60)).unwrap();
    assert_eq!(RawClient::connect(&server.url(0)).get("t:k4999").as_deref(), Some(&b"4999"[..]));
}
