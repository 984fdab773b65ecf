//! Servers that die, freeze, or cannot be reached: typed errors within their limits, and the way back.

use std::thread;

use millpond::{Error, Fallback, Status};

use crate::support::outages::{CONNECT_LIMIT, LIMIT, open, options, until, within};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw::Raw;
use crate::support::redis_server::{RedisServer, free_port};

#[test]
fn a_server_that_is_down_at_opening_is_replaced_or_told() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let error = within(CONNECT_LIMIT, || open(&url, options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store = within(CONNECT_LIMIT, || open(&url, options().fallback(Fallback::Memory)).unwrap());
    assert!(matches!(store.status(), Status::Away { pending: 0, .. }));
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    let named = "redis://no-such-host.invalid";
    assert!(matches!(open(named, options()), Err(Error::Unavailable { .. })));
}

#[test]
fn a_server_that_dies_later_is_an_error_until_it_is_back() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    store.put("a", 1).unwrap();
    server.kill();
    for _ in 0..3 {
        let error = within(LIMIT, || store.put("a", 2).unwrap_err());
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    server.restart();
    store.put("a", 3).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(3));
}

#[test]
fn a_frozen_server_costs_no_call_more_than_its_limit() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options().pool_size(2)).unwrap();
    store.put("a", 1).unwrap();
    server.pause();
    thread::scope(|scope| {
        for n in 0..6 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..2 {
                    let limit = LIMIT;
                    assert!(within(limit, || store.get::<i64>("a")).is_err());
                    assert!(within(limit, || store.put("a", n)).is_err());
                    assert!(within(limit, || store.incr("c", n)).is_err());
                    assert!(within(limit, || store.batch_put((0..50).map(|k| (k.to_string(), n)))).is_err());
                    assert!(within(limit, || store.keys("")).is_err());
                }
            });
        }
    });
    server.resume();
    until("the store works again", || store.put("a", 9).is_ok());
    assert_eq!(store.get::<i64>("a").unwrap(), Some(9));
}

#[test]
fn a_timed_out_increment_is_not_repeated() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    store.incr("n", 1).unwrap();
    server.pause();
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    server.resume();
    until("the server is back", || store.get::<i64>("n").is_ok());
    assert_eq!(store.incr("n", 1).unwrap(), 3);
}

#[test]
fn killed_connections_are_replaced_unseen_where_repeating_is_harmless() {
    let server = RedisServer::start();
    let raw = Raw::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    for n in 0..5 {
        store.put("a", n).unwrap();
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(store.get::<i64>("a").unwrap(), Some(n));
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.put("a", n + 1).unwrap();
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.batch_put([("b", n), ("c", n)]).unwrap();
    }
    raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
    assert_eq!(store.incr("n", 1).unwrap(), 1);
}

#[test]
fn refused_connections_are_told_within_the_limit() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Refuse);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1), "an open connection goes on");
    let error = within(CONNECT_LIMIT, || open(&proxy.url(), options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}
