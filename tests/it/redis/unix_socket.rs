//! Servers behind a Unix socket: everything that holds for TCP holds for them.

use std::path::Path;
use std::time::Duration;

use millpond::{AtStart, Error, Fallback, StateConfig, StateStore, Status};

use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    LIMIT, memory, notice_disconnect, open, options, patient, run_within, wait_until_connected,
};

/// A server that listens on a Unix socket too, and the directory of the socket.
fn server() -> (RedisServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = socket(dir.path());
    (RedisServer::start_with(&["--unixsocket", path.to_str().unwrap()]), dir)
}

fn socket(dir: &Path) -> std::path::PathBuf {
    dir.join("redis.sock")
}

fn url(dir: &Path) -> String {
    format!("unix://{}", socket(dir).display())
}

#[test]
fn a_store_works_over_a_unix_socket() {
    let (server, dir) = server();
    let url = url(dir.path());
    let store =
        StateStore::open(format!("{url}?db=2&key_prefix=orders&timeout=30s&at_start=require")).unwrap();
    store.put("a", 1).unwrap();
    store.batch_put((0..2000).map(|n| (format!("k{n}"), n))).unwrap();
    assert_eq!(store.count("k").unwrap(), 2000);
    let large = "x".repeat(4 << 20);
    store.put("large", &large).unwrap();
    assert_eq!(store.get::<String>("large").unwrap().as_ref(), Some(&large));
    // The same database and prefix over TCP.
    let tcp = StateStore::open(format!("{}?key_prefix=orders", server.url(2))).unwrap();
    assert_eq!(tcp.get::<i64>("a").unwrap(), Some(1));
    let config: StateConfig = format!("redis+{url}?db=2&key_prefix=orders").parse().unwrap();
    assert_eq!(config.to_url(), format!("{url}?db=2&key_prefix=orders"));
    assert_eq!(StateConfig::from_url(&config.to_url()).unwrap(), config);
    assert_eq!(StateStore::with_config(config).unwrap().get::<i64>("a").unwrap(), Some(1));
    assert!(store.pop_front_wait::<i64>("empty", Duration::from_millis(20)).unwrap().is_none());
}

#[test]
fn an_outage_of_a_unix_socket_begins_and_ends() {
    let (mut server, dir) = server();
    let store = open(&url(dir.path()), memory()).unwrap();
    store.put("a", 1).unwrap();
    server.kill();
    notice_disconnect(&store);
    store.put("a", 2).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
    server.restart();
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
    assert_eq!(store.stats().outages.replayed, 1);
}

#[test]
fn a_frozen_server_behind_a_unix_socket_costs_no_call_more_than_its_limit() {
    let (server, dir) = server();
    let store = open(&url(dir.path()), options()).unwrap();
    store.put("a", 1).unwrap();
    server.pause();
    for _ in 0..3 {
        let error = run_within(LIMIT, || store.get::<i64>("a").unwrap_err());
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    server.resume();
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

/// The connection of a write whose reply is missing is closed on the server before the next write.
#[test]
fn an_unanswered_write_over_a_unix_socket_is_stopped() {
    let (server, dir) = server();
    let store = open(&url(dir.path()), options()).unwrap();
    store.put("a", 1).unwrap();
    server.pause();
    assert!(store.put("a", 2).is_err());
    server.resume();
    wait_until_connected(&store);
    crate::support::redis_stores::put_despite_a_broken_connection(&store, "a", 3);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(3));
    assert_eq!(store.stats().outages.killed_connections, 1);
}

#[test]
fn a_socket_that_is_missing_or_cannot_be_one_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = url(dir.path());
    for options in [options(), patient(memory()).at_start(AtStart::Require)] {
        let error = open(&missing, options).unwrap_err();
        assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        assert!(crate::support::chain(&error).join(": ").contains("redis.sock"), "{error:?}");
    }
    let store = open(&missing, options().fallback(Fallback::Memory)).unwrap();
    assert!(matches!(store.status(), Status::Disconnected { never_reached: true, .. }));
    let long = format!("unix:///{}", "x".repeat(300));
    assert!(matches!(StateStore::open(&long), Err(Error::InvalidConfig { field, .. }) if field == "url"));
}
