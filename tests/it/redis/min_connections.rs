//! Connections that are kept open, as the server counts them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use millpond::{Error, Status};

use crate::support::Ending;
use crate::support::ports::free_port;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, options, patient, wait_for, wait_until_connected,
};

/// How many connections a server has, except for that of `raw`.
fn connections(raw: &RawClient) -> usize {
    raw.run::<_, String>("CLIENT", &["LIST"]).lines().count() - 1
}

fn wait_for_connections(raw: &RawClient, wanted: usize) {
    wait_for(&format!("{wanted} connections are open"), || connections(raw) == wanted);
}

fn close_connections(raw: &RawClient) {
    raw.run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

#[test]
fn connections_are_made_in_the_background_and_closed_with_the_store() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(memory()).min_connections(5)).unwrap();
    wait_for_connections(&raw, 5);
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert_eq!(connections(&raw), 5, "an operation takes one that is open");
    store.close().unwrap();
    wait_for_connections(&raw, 0);
    let dropped = open(&server.url(0), patient(options()).min_connections(3)).unwrap();
    wait_for_connections(&raw, 3);
    drop(dropped);
    wait_for_connections(&raw, 0);
}

#[test]
fn connections_that_the_server_closes_are_replaced() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(memory()).min_connections(4)).unwrap();
    for _ in 0..3 {
        wait_for_connections(&raw, 4);
        close_connections(&raw);
    }
    wait_for_connections(&raw, 4);
    assert_eq!(store.stats().outages.outages, 0);
    store.put("a", 1).unwrap();
}

#[test]
fn connections_come_back_after_an_outage() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory().min_connections(4)).unwrap();
    wait_for_connections(&RawClient::connect(&server.url(0)), 4);
    server.kill();
    notice_disconnect(&store);
    store.put("a", 1).unwrap();
    server.restart();
    wait_until_connected(&store);
    wait_for_connections(&RawClient::connect(&server.url(0)), 4);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

#[test]
fn a_store_opens_without_the_connections_that_it_cannot_have() {
    let store = open(&format!("redis://127.0.0.1:{}", free_port()), memory().min_connections(4)).unwrap();
    assert!(matches!(store.status(), Status::Disconnected { .. }));
    store.put("a", 1).unwrap();

    // This client and two connections of the store.
    let server = RedisServer::start_with(&["--maxclients", "3"]);
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options()).min_connections(16)).unwrap();
    wait_for_connections(&raw, 2);
    for n in 0..100 {
        store.put("a", n).unwrap();
    }
    assert_eq!(store.get::<i64>("a").unwrap(), Some(99));
}

/// Threads that use all connections, while the server closes them again and again.
#[test]
fn a_pool_never_has_more_connections_than_its_size() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let options = patient(options()).pool_size(3).min_connections(3).max_retries(100);
    let store = open(&server.url(0), options).unwrap();
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _ending = Ending(&over);
        for _ in 0..6 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // A write may be in doubt; a read is tried again.
                    let _ = store.get::<i64>("a").unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..20 {
            let before = done.load(Ordering::Relaxed);
            wait_for("operations are done", || {
                // The server may see a new connection before the end of the one that it replaces.
                assert!(store.stats().pool.open <= 3);
                done.load(Ordering::Relaxed) > before + 100
            });
            close_connections(&raw);
        }
    });
    wait_for_connections(&raw, 3);
}

#[test]
fn more_connections_than_the_pool_may_have_are_refused() {
    let options = options().pool_size(4).min_connections(5);
    let error = assert_error!(
        open("redis://127.0.0.1:1", options),
        Error::InvalidConfig { field, .. } if field == "redis.min_connections"
    );
    assert!(error.to_string().contains("5 is more than pool_size, which is 4"), "{error}");
}
