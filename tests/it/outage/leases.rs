//! Taking values from queues during an outage, in a program with an exclusive store; and locks that were
//! acquired before the outage.

use std::time::Duration;

use millpond::{Error, RedisOptions, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    durable, memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

const SHORT: Duration = Duration::from_millis(300);

fn exclusive(options: RedisOptions) -> RedisOptions {
    options.exclusive(true)
}

fn take(store: &StateStore, lease: Duration) -> Option<i64> {
    store.lease::<i64>("q", lease).unwrap().map(millpond::Leased::into_inner)
}

fn left(raw: &RawClient) -> (Vec<i64>, i64, i64) {
    let queue = raw.run("LRANGE", &["t:q", "0", "-1"]);
    let leases = raw.run("ZCARD", &["t:q:__millpond:leases"]);
    (queue, leases, raw.run("HLEN", &["t:q:__millpond:leased"]))
}

#[test]
fn values_taken_in_an_outage_are_taken_on_the_server_too() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    proxy.set(Mode::Down);
    // Never connected: keys that are not known are absent.
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    store.push_back_many("q", 1..=6).unwrap();
    let done = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    let back = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    let kept = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    assert_eq!((*done.value(), *back.value(), *kept.value()), (1, 2, 3));
    assert!(done.ack().unwrap());
    assert!(!done.ack().unwrap(), "done was already called");
    assert!(back.nack().unwrap());
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [2, 4, 5, 6]);
    let lapses = store.lease::<i64>("q", Duration::from_millis(1)).unwrap().unwrap();
    assert_eq!(*lapses.value(), 2);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(left(&raw), (vec![4, 5, 6], 2, 2));
    // The value whose lease has run out comes back in front; the other is still leased.
    assert_eq!(take(&store, HOUR), Some(2));
    assert_eq!(left(&raw), (vec![4, 5, 6], 2, 2));
    assert!(kept.ack().unwrap());
    assert_eq!(left(&raw).1, 1);
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn the_leases_of_queues_that_are_cleared_in_an_outage_end() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    proxy.set(Mode::Down);
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    let lease = |queue: &str| {
        store.push_back_many(queue, 1..=2).unwrap();
        store.lease::<i64>(queue, HOUR).unwrap().unwrap()
    };
    let (cleared, kept) = (lease("q"), lease("other"));
    let lapsed = store.lease::<i64>("q", Duration::from_millis(1)).unwrap().unwrap();
    assert_eq!(store.delete_prefix("q").unwrap(), 0, "all values of the queue are under lease");
    assert!(!cleared.ack().unwrap() && !lapsed.ack().unwrap());
    assert_eq!(take(&store, HOUR), None);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(left(&raw), (vec![], 0, 0));
    assert!(!cleared.ack().unwrap() && kept.ack().unwrap());
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn values_taken_before_an_outage_can_be_done_during_it() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    store.push_back_many("q", 1..=2).unwrap();
    let first = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    let second = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    // The values of the queue are not known locally, nor which value would come back.
    assert_error!(store.lease::<i64>("q", HOUR), Error::Unavailable { maybe_applied: false, .. });
    assert_error!(second.nack(), Error::Unavailable { maybe_applied: false, .. });
    assert!(first.ack().unwrap());
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(left(&raw), (vec![], 1, 1));
    assert!(second.nack().unwrap());
    assert_eq!(left(&raw), (vec![2], 0, 0));
}

#[test]
fn a_taken_value_outlives_the_program() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let dir = tempfile::tempdir().unwrap();
    proxy.set(Mode::Down);
    let first = open(&proxy.url(), exclusive(durable(dir.path()))).unwrap();
    first.push_back_many("q", 1..=3).unwrap();
    assert_eq!((take(&first, HOUR), take(&first, Duration::from_millis(1))), (Some(1), Some(2)));
    let waiting = pending(&first);
    first.close().unwrap();
    let second = open(&proxy.url(), exclusive(durable(dir.path()))).unwrap();
    assert_eq!(pending(&second), waiting);
    assert_eq!(take(&second, HOUR), Some(2), "its lease has run out");
    second.close().unwrap();
    proxy.set(Mode::Pass);
    open(&proxy.url(), exclusive(durable(dir.path()))).unwrap().close().unwrap();
    assert_eq!(left(&raw), (vec![3], 2, 2));
}

#[test]
fn a_store_that_is_not_exclusive_takes_nothing_in_an_outage() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.push_back("q", 1).unwrap();
    let taken = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert_error!(store.lease::<i64>("q", HOUR), Error::Unavailable { maybe_applied: false, .. });
    assert_error!(taken.ack(), Error::Unavailable { maybe_applied: false, .. });
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(taken.ack().unwrap());
}

#[test]
fn a_lock_acquired_before_an_outage_counts_until_it_expires() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    let long = store.try_lock("long", HOUR).unwrap().unwrap();
    let short = store.lock("short", SHORT, HOUR).unwrap();
    let taken = store.try_lock("taken", HOUR).unwrap().unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert!(long.is_held().unwrap());
    wait_for("the lock expires", || !short.is_held().unwrap());
    assert_error!(
        store.without_fallback().try_lock("other", HOUR),
        Error::Unavailable { maybe_applied: false, .. }
    );
    // The true state of the lock is known again when the server is.
    RawClient::connect(&server.url(0)).run::<_, ()>("DEL", &["t:taken:__millpond:lock"]);
    assert!(taken.is_held().unwrap());
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(long.is_held().unwrap() && !taken.is_held().unwrap());
    long.release().unwrap();
}

/// Without an end of its lease it would come back for ever.
#[test]
fn a_value_that_cannot_decode_can_be_ended_in_an_outage() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    store.push_back_many("q", ["taken before", "b", "c"]).unwrap();
    let before = store.lease::<i64>("q", HOUR).unwrap_err();
    store.delete("q").unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert!(store.undecoded(&before).unwrap().ack().unwrap());
    store.push_back_many("q", ["d", "e"]).unwrap();
    let during = store.lease::<i64>("q", HOUR).unwrap_err();
    assert!(store.undecoded(&during).unwrap().ack().unwrap());
    let given_back = store.lease::<i64>("q", HOUR).unwrap_err();
    assert!(store.undecoded(&given_back).unwrap().nack().unwrap());
    assert_eq!(store.queue_range::<String>("q", ..).unwrap(), ["e"]);
    let ended_later = store.lease::<i64>("q", HOUR).unwrap_err();
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    let leases = |raw: &RawClient| raw.run::<_, i64>("ZCARD", &["t:q:__millpond:leases"]);
    assert_eq!((leases(&raw), raw.exists("t:q")), (1, false));
    assert!(store.undecoded(&ended_later).unwrap().ack().unwrap());
    assert_eq!(leases(&raw), 0);
}

#[test]
fn leases_of_an_outage_can_be_extended_and_counted() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), exclusive(memory())).unwrap();
    store.push_back("before", 1).unwrap();
    let before = store.lease::<i64>("before", HOUR).unwrap().unwrap();
    store.delete("q").unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert_error!(before.extend(HOUR), Error::Unavailable { maybe_applied: false, .. });
    store.push_back_many("q", 1..=3).unwrap();
    let lease = || store.lease::<i64>("q", Duration::from_millis(1)).unwrap().unwrap();
    let extended = lease();
    assert!(extended.extend(HOUR).unwrap() && extended.extend(2 * HOUR).unwrap());
    let ended = lease();
    assert!(ended.extend(HOUR).unwrap() && ended.ack().unwrap() && !ended.extend(HOUR).unwrap());
    let first = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    assert!(first.extend(HOUR).unwrap() && first.nack().unwrap());
    let second = store.lease::<i64>("q", HOUR).unwrap().unwrap();
    assert_eq!((first.attempts(), *second.value(), second.attempts()), (1, 3, 2));
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(left(&raw), (vec![], 2, 2));
    assert_eq!(take(&store, HOUR), None, "both are still leased");
    assert!(before.extend(HOUR).unwrap() && extended.extend(HOUR).unwrap());
    assert!(extended.ack().unwrap() && second.ack().unwrap() && before.ack().unwrap());
    assert_eq!(left(&raw), (vec![], 0, 0));
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}
