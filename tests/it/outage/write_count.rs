//! The count of writes: what changes it, and is no data loss.

use std::time::Duration;

use millpond::{Error, StateStore};

use super::data_loss::{Losses, use_many_connections};
use super::rollback::{COUNT, copy, follow};
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, options, patient, wait_for, wait_until_connected};

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(50);

/// A count of this crate is not lower than this.
const FIRST: u64 = 1_000_000_000_000;

fn count(raw: &RawClient) -> u64 {
    raw.get(COUNT).map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap())
}

/// Writes in every way that a store offers.
fn write_in_many_ways(store: &StateStore, name: &str) {
    store.put(name, 1).unwrap();
    store.batch_put((0..20).map(|n| (format!("{name}:{n}"), n))).unwrap();
    store.incr(format!("{name}:n"), 1).unwrap();
    store.push_back(format!("{name}:q"), "v").unwrap();
    assert_eq!(store.pop_front::<String>(format!("{name}:q")).unwrap().as_deref(), Some("v"));
    let sum = store.transaction(|tx| {
        let found: i64 = tx.get(format!("{name}:n"))?.unwrap_or(0);
        tx.put(format!("{name}:sum"), found + 1)?;
        Ok(found + 1)
    });
    assert!(sum.unwrap() > 1);
}

#[test]
fn an_evicted_count_is_no_data_loss() {
    let mut server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let stores = [(); 2].map(|()| open(&server.url(0), patient(memory())).unwrap());
    let told = stores.each_ref().map(Losses::by);
    for _ in 0..5 {
        stores.iter().for_each(use_many_connections);
        assert!(count(&raw) > FIRST);
        raw.run::<_, ()>("DEL", &[COUNT]);
        stores.iter().for_each(use_many_connections);
        wait_for("the count begins again", || {
            stores[0].put("a", 1).unwrap();
            count(&raw) > FIRST
        });
        stores.iter().for_each(use_many_connections);
        assert_eq!(told.each_ref().map(Losses::times), [0, 0]);
    }
    stores[0].put("a", 1).unwrap();
    raw.run::<&str, ()>("SAVE", &[]);
    stores[0].put("a", 2).unwrap();
    server.restart();
    assert_eq!(stores[0].get::<i32>("a").unwrap(), Some(1));
    told[0].is(1);
}

#[test]
fn a_server_without_memory_counts_nothing_and_loses_nothing() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    let told = Losses::by(&store);
    for n in 0..5 {
        store.put("a", n).unwrap();
        let before = count(&raw);
        raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
        assert_error!(store.put("a", 9), Error::Server { .. });
        assert_eq!((store.get::<i32>("a").unwrap(), count(&raw)), (Some(n), before));
        raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
        store.put("a", n + 1).unwrap();
        assert_eq!(count(&raw), before + 1);
    }
    use_many_connections(&store);
    assert_eq!(told.times(), 0);
}

/// Also between the reply to the count and the reply to the write.
#[test]
fn a_connection_that_is_cut_beside_a_count_is_no_rollback() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), patient(options().max_retries(0))).unwrap();
    let told = Losses::by(&store);
    for way in [Way::Request, Way::Answer] {
        for bytes in 0..120 {
            proxy.cut(way, bytes);
            let outcome = store.put("a", bytes);
            proxy.cancel_cut();
            let found: Option<usize> =
                raw.get("t:a").map(|text| String::from_utf8(text).unwrap().parse().unwrap());
            match outcome {
                Ok(()) => assert_eq!(found, Some(bytes)),
                Err(error) => assert!(matches!(error, Error::Unavailable { .. }), "{error:?}"),
            }
            wait_for("the store is connected", || store.get::<usize>("a").is_ok());
        }
    }
    use_many_connections(&store);
    assert_eq!(told.times(), 0);
}

#[test]
fn many_programs_that_write_in_many_ways_see_no_rollback() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let exact = patient(memory()).exactly_once(true);
    let stores =
        [patient(memory()), patient(options()), exact].map(|with| open(&server.url(0), with).unwrap());
    let told = stores.each_ref().map(Losses::by);
    let before = count(&raw);
    std::thread::scope(|scope| {
        for (n, store) in stores.iter().enumerate() {
            for thread in 0..3 {
                scope
                    .spawn(move || (0..20).for_each(|_| write_in_many_ways(store, &format!("{n}:{thread}"))));
            }
        }
        for _ in 0..20 {
            raw.run::<&str, ()>("SCRIPT", &["FLUSH"]);
        }
    });
    stores.iter().for_each(use_many_connections);
    assert!(count(&raw) > before + 100);
    assert_eq!(told.each_ref().map(Losses::times), [0, 0, 0]);
}

/// What a replica has not yet received is not lost.
#[test]
fn a_replica_that_lags_behind_another_one_has_lost_nothing() {
    let [server, older, replica] = [(); 3].map(|()| RedisServer::start());
    let writer = open(&server.url(0), patient(memory())).unwrap();
    writer.put("x", 1).unwrap();
    copy(&server, &older);
    writer.put("x", 2).unwrap();
    follow(&server, &replica);
    let reader = open(&replica.url(0), patient(options())).unwrap();
    let told = Losses::by(&reader);
    assert_eq!(reader.get::<i32>("x").unwrap(), Some(2));
    let raw = RawClient::connect(&replica.url(0));
    for (followed, found) in [(&older, 1), (&server, 2), (&older, 1)] {
        follow(followed, &replica);
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal"]);
        assert_eq!(reader.get::<i32>("x").unwrap(), Some(found));
    }
    assert_eq!(told.times(), 0);
}

/// The marker of the replay goes back with everything else.
#[test]
fn a_rollback_that_the_marker_shows_too_is_reported_once() {
    let mut server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), patient(memory())).unwrap();
    let told = Losses::by(&store);
    let write_in_an_outage = |value: i32| {
        proxy.set(Mode::Down);
        store.put("b", value).unwrap();
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
    };
    write_in_an_outage(1);
    RawClient::connect(&server.url(0)).run::<&str, ()>("SAVE", &[]);
    write_in_an_outage(2);
    server.restart();
    assert_eq!(store.get::<i32>("b").unwrap(), Some(1));
    told.is(1);
    for value in 3..6 {
        write_in_an_outage(value);
        assert_eq!(store.get::<i32>("b").unwrap(), Some(value));
    }
    told.is(1);
}

/// A program that waits for work changes nothing on the server, so that a restart of it loses nothing either.
#[test]
fn waiting_does_not_raise_the_count() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for with in [patient(memory()), patient(memory()).exactly_once(true)] {
        let store = open(&server.url(0), with).unwrap();
        store.put("a", 1).unwrap();
        let lock = store.try_lock("lock", MINUTE).unwrap().unwrap();
        let before = count(&raw);
        assert!(before > FIRST);
        assert!(store.lease::<i32>("q", MINUTE).unwrap().is_none());
        assert!(store.lease_wait::<i32>("q", MINUTE, MOMENT).unwrap().is_none());
        assert_eq!(store.pop_front::<i32>("q").unwrap(), None);
        assert_eq!(store.pop_front_wait::<i32>("q", MOMENT).unwrap(), None);
        assert!(store.try_lock("lock", MINUTE).unwrap().is_none());
        assert!(store.lock("lock", MINUTE, MOMENT).is_err());
        assert_eq!(count(&raw), before);
        drop(lock);
        store.put("a", 2).unwrap();
        assert!(count(&raw) > before);
    }
}

/// The count of a large request is written separately.
#[test]
fn writes_of_every_size_are_counted() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(memory())).unwrap();
    for bytes in [0, 1 << 10, (1 << 16) - 100, 1 << 16, 1 << 20] {
        let value = vec![b'x'; bytes];
        let before = count(&raw);
        store.put_bytes("a", &value).unwrap();
        assert_eq!(count(&raw), before + 1);
        store.batch_put([("b", "x".repeat(bytes)), ("c", "x".repeat(bytes))]).unwrap();
        assert_eq!(count(&raw), before + 2);
        assert_eq!(store.get_bytes("a").unwrap().as_deref(), Some(&value[..]));
        assert_eq!(store.get::<String>("c").unwrap().map(|text| text.len()), Some(bytes));
    }
}
