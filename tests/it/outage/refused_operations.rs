//! Operations that the server never takes: each is refused to its caller or set aside, and stops nothing else.

use std::time::Duration;

use millpond::{Error, StateStore, Status};

use crate::support::chain;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    LIMIT, memory, notice_disconnect, open, options, patient, pending, run_within, wait_until_connected,
};

/// Servers that take no value of two megabytes. The first one says so before it closes the connection.
const LIMITS: [[&str; 2]; 2] = [["--proto-max-bulk-len", "1mb"], ["--client-query-buffer-limit", "1mb"]];

fn large(megabytes: usize) -> String {
    "x".repeat(megabytes << 20)
}

/// Starts a server that keeps its data when it is killed.
fn start_with(limit: &[&str]) -> RedisServer {
    RedisServer::start_with(&[limit, &["--appendonly", "yes"]].concat())
}

/// Puts `count` values while the server is down, with one value in between that it never takes.
fn put_while_down(server: &mut RedisServer, store: &StateStore, count: u32) {
    server.kill();
    for n in 0..count {
        store.put(format!("k{n}"), n).unwrap();
        if n == count / 2 {
            store.put("large", large(2)).unwrap();
        }
    }
    store.push_back("large", 1).unwrap_err();
    store.put("after", 1).unwrap();
    server.restart();
}

#[test]
fn a_value_that_the_server_never_takes_is_set_aside() {
    for limit in LIMITS {
        let mut server = start_with(&limit);
        let store = open(&server.url(0), memory()).unwrap();
        put_while_down(&mut server, &store, 2000);
        wait_until_connected(&store);
        let rejected = store.take_rejected();
        assert_eq!(rejected.len(), 1, "{limit:?}");
        assert_eq!((&*rejected[0].key, rejected[0].operation), ("large", "SET"));
        assert_eq!(rejected[0].value.as_ref().unwrap().len(), (2 << 20) + 2);
        if limit == LIMITS[0] {
            assert!(matches!(rejected[0].error, Error::Server { .. }), "{:?}", rejected[0].error);
            assert!(chain(&rejected[0].error)[1].contains("invalid bulk length"));
        }
        let raw = RawClient::connect(&server.url(0));
        for key in (0..2000).map(|n| format!("t:k{n}")).chain(["t:after".to_owned()]) {
            assert!(raw.exists(&key), "{key}");
        }
        assert!(!raw.exists("t:large"));
        let stats = store.stats().outages;
        assert_eq!((stats.rejected, stats.replayed, stats.pending, stats.uncertain), (1, 2001, 0, 0));
        store.close().unwrap();
    }
}

/// Several such values, on one key and beside each other; later operations on the key go on.
#[test]
fn operations_behind_one_that_was_set_aside_are_applied_in_order() {
    let mut server = start_with(&LIMITS[0]);
    let store = open(&server.url(0), memory()).unwrap();
    server.kill();
    notice_disconnect(&store);
    for n in 0..3 {
        store.push_back("q", n).unwrap();
        store.push_back("q", large(2)).unwrap();
    }
    store.push_back("q", 3).unwrap();
    server.restart();
    wait_until_connected(&store);
    assert_eq!(store.queue_range::<u32>("q", ..).unwrap(), [0, 1, 2, 3]);
    let rejected = store.take_rejected();
    assert!(rejected.len() == 3 && rejected.iter().all(|one| one.operation == "RPUSH"), "{}", rejected.len());
}

#[test]
fn while_connected_a_value_that_the_server_never_takes_is_refused_and_is_no_outage() {
    for limit in LIMITS {
        let server = start_with(&limit);
        for options in [options(), memory(), memory().exactly_once(true)].map(patient) {
            let is_exact = options.exactly_once;
            let store = open(&server.url(0), options).unwrap();
            for megabytes in [2, 20] {
                // The server closes the connection without a word after it has received the whole value. A call that is
                // made exactly once is then in doubt until the next replay, which sets it aside.
                if is_exact && limit == LIMITS[1] && megabytes == 2 {
                    continue;
                }
                let error = store.put("large", large(megabytes)).unwrap_err();
                match &error {
                    Error::Server { command, .. } => assert_eq!(command, "SET"),
                    // The whole value was sent, and the server closed the connection without a word.
                    Error::Unavailable { .. } if limit == LIMITS[1] && megabytes == 2 => {}
                    other => panic!("{limit:?} {megabytes}: {other:?}"),
                }
                if limit == LIMITS[0] {
                    assert!(chain(&error)[1].contains("invalid bulk length"), "{:?}", chain(&error));
                }
                assert_eq!(store.status(), Status::Connected, "{limit:?} {megabytes}");
            }
            store.put("small", 1).unwrap();
            assert_eq!(store.get::<u32>("small").unwrap(), Some(1));
            assert_eq!(store.stats().outages.outages, 0);
            store.close().unwrap();
        }
    }
}

/// As during a failover: the server replies to `PING` and to reads, and holds every write back.
#[test]
fn a_server_that_takes_no_writes_is_an_outage() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), memory()).unwrap();
    store.put("a", 0).unwrap();
    raw.run::<_, ()>("CLIENT", &["PAUSE", "60000", "WRITE"]);
    run_within(LIMIT, || store.put("a", 1).unwrap());
    assert_eq!(pending(&store), Some(1));
    for n in 2..5 {
        run_within(Duration::ZERO, || store.put("a", n).unwrap());
    }
    assert_eq!(store.get::<u32>("a").unwrap(), Some(4));
    raw.run::<_, ()>("CLIENT", &["UNPAUSE"]);
    wait_until_connected(&store);
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"4"[..]));
    assert_eq!(store.stats().outages.outages, 1);

    let store = open(&server.url(0), options()).unwrap();
    raw.run::<_, ()>("CLIENT", &["PAUSE", "60000", "WRITE"]);
    for _ in 0..3 {
        run_within(LIMIT, || assert_error!(store.put("a", 5), Error::Unavailable { .. }));
    }
    assert!(matches!(store.status(), Status::Disconnected { .. }));
    raw.run::<_, ()>("CLIENT", &["UNPAUSE"]);
    wait_until_connected(&store);
    store.put("a", 6).unwrap();
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"6"[..]));
}
