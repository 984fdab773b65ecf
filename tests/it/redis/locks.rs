//! Locks on a server: how they are stored, acquired and lost.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use millpond::{Error, LockLoss, StateStore};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, open, options, run_within, wait_for};
use crate::support::shared_server::SharedServer;

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(20);

const LOCK: &str = "t:l:__millpond:lock";
const WAITING: &str = "t:l:__millpond:lock_queue";
const SEEN: &str = "t:l:__millpond:lock_seen";

#[test]
fn a_lock_is_a_token_with_a_time_limit() {
    let server = SharedServer::new();
    let store = server.store("t");
    let guard = store.try_lock("l", MINUTE).unwrap().unwrap();
    assert_eq!(server.raw.get(LOCK).unwrap(), guard.token().to_string().as_bytes());
    let left: i64 = server.raw.run("PTTL", &[LOCK]);
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert!(store.try_lock("l", MINUTE).unwrap().is_none());
    assert!(guard.is_held().unwrap());
    guard.extend(Duration::from_secs(100)).unwrap();
    let left: i64 = server.raw.run("PTTL", &[LOCK]);
    assert!((90_000..=100_000).contains(&left), "{left}");
    let before = guard.token();
    guard.release().unwrap();
    assert!(!server.raw.exists(LOCK));
    let after = store.try_lock("l", MINUTE).unwrap().unwrap().token();
    assert!(after > before, "{after} {before}");
    assert!(!server.raw.exists(LOCK), "dropping the guard deletes the lock");
}

/// This holds after `clear`, and after a clock that was set back.
#[test]
fn every_token_is_larger_than_all_earlier_ones() {
    let server = SharedServer::new();
    let store = server.store("t");
    let token = || store.try_lock("l", MINUTE).unwrap().unwrap().token();
    let first = token();
    store.clear().unwrap();
    assert!(token() > first);
    // This token was issued by a clock that was ahead.
    server.raw.set("t:__millpond:fence", "9007199254740000");
    assert_eq!(token(), 9_007_199_254_740_001);
    server.raw.run::<_, ()>("DEL", &["t:__millpond:fence"]);
    assert!(token() > first, "tokens continue from the clock of the server");
}

/// The server serves nobody while a script runs.
#[test]
fn waiters_that_are_gone_are_dropped_a_thousand_at_a_time() {
    const GONE: &str = "for n = 1, 2500 do redis.call('ZADD', KEYS[1], n, 'waiter' .. n) end";
    let server = SharedServer::new();
    let store = server.store("t");
    server.raw.run::<_, ()>("EVAL", &[GONE, "1", WAITING]);
    for left in [1500, 500] {
        assert!(store.try_lock("l", MINUTE).unwrap().is_none(), "a waiter may be behind those that are gone");
        assert_eq!(server.raw.run::<_, i64>("ZCARD", &[WAITING]), left);
    }
    assert!(store.try_lock("l", MINUTE).unwrap().is_some());
    assert!(!server.raw.exists(WAITING));
}

#[test]
fn every_way_to_lose_a_lock_is_reported_differently() {
    let server = SharedServer::new();
    let store = server.store("t");
    let lost = |outcome: millpond::Result<()>| match outcome {
        Err(Error::LockLost { name, how, .. }) if name == "l" => how,
        other => panic!("{other:?}"),
    };
    let guard = store.try_lock("l", MINUTE).unwrap().unwrap();
    server.raw.run::<_, ()>("DEL", &[LOCK]);
    assert_eq!(lost(guard.extend(MINUTE)), LockLoss::NotHeld);
    let other = store.try_lock("l", MINUTE).unwrap().unwrap();
    assert_eq!(lost(guard.extend(MINUTE)), LockLoss::TakenByAnother);
    assert_eq!(lost(guard.release()), LockLoss::TakenByAnother);
    assert!(other.is_held().unwrap());
    other.extend(Duration::from_millis(20)).unwrap();
    wait_for("the lock has expired", || !other.is_held().unwrap());
    assert_eq!(lost(other.extend(MINUTE)), LockLoss::Expired);
    assert_eq!(lost(other.release()), LockLoss::Expired);
}

#[test]
fn waiting_clients_get_the_lock_in_their_order() {
    let server = SharedServer::new();
    let store = server.store("t");
    let guard = store.try_lock("l", LONG).unwrap().unwrap();
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..5 {
            let (store, order) = (&store, &order);
            scope.spawn(move || {
                let guard = store.lock("l", LONG, LONG).unwrap();
                order.lock().unwrap().push(number);
                guard.release().unwrap();
            });
            wait_for("a client waits", || server.raw.run::<_, i64>("ZCARD", &[WAITING]) == number + 1);
        }
        assert!(store.try_lock("l", LONG).unwrap().is_none());
        server.raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
        guard.release().unwrap();
    });
    assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(server.raw.all_keys(), [b"t:__millpond:fence"]);
}

/// A waiting client that died blocks no other.
#[test]
fn no_client_overtakes_a_waiting_one() {
    let server = SharedServer::new();
    let store = server.store("t");
    let now = || {
        let (seconds, micros): (u64, u64) = server.raw.run::<&str, _>("TIME", &[]);
        (seconds * 1_000_000 + micros).to_string()
    };
    server.raw.run::<_, ()>("ZADD", &[WAITING, "1", "somebody"]);
    server.raw.run::<_, ()>("HSET", &[SEEN, "somebody", &now()]);
    assert!(store.try_lock("l", MINUTE).unwrap().is_none(), "another client waits");
    let guard = store.lock("l", MINUTE, LONG).unwrap();
    assert!(!server.raw.exists(WAITING) && !server.raw.exists(SEEN));
    guard.release().unwrap();
    for seen in [None, Some("0".to_owned()), Some("9007199254740991".to_owned())] {
        server.raw.run::<_, ()>("ZADD", &[WAITING, "1", "a", "2", "b"]);
        if let Some(seen) = seen {
            server.raw.run::<_, ()>("HSET", &[SEEN, "a", &seen, "b", &seen]);
        }
        store.try_lock("l", MINUTE).unwrap().expect("no client waits any more").release().unwrap();
        assert!(!server.raw.exists(WAITING) && !server.raw.exists(SEEN));
    }
}

#[test]
fn a_waiter_that_gives_up_leaves_no_entry_behind() {
    let server = SharedServer::new();
    let store = server.store("t");
    let guard = store.try_lock("l", MINUTE).unwrap().unwrap();
    for timeout in [0, 1, 60] {
        let timeout = Duration::from_millis(timeout);
        let found = run_within(timeout + LIMIT, || store.lock("l", MINUTE, timeout));
        assert_error!(found, Error::Busy { .. });
        assert!(!server.raw.exists(WAITING) && !server.raw.exists(SEEN));
    }
    // An entry of a waiting client has a time to live.
    thread::scope(|scope| {
        scope.spawn(|| store.lock("l", MINUTE, LONG).unwrap().release());
        wait_for("a client waits", || server.raw.exists(WAITING));
        for key in [WAITING, SEEN] {
            assert!(server.raw.run::<_, i64>("PTTL", &[key]) > 0, "{key}");
        }
        guard.release().unwrap();
    });
    let found = store.lock("l", MINUTE, Duration::MAX).unwrap();
    assert!(found.is_held().unwrap());
}

/// Such clients once kept their place until the others noticed that they were no longer seen.
#[test]
fn a_wait_that_fails_leaves_no_entry_behind() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "on", ">pw", "~*", "+@all"]);
    raw.set(LOCK, "1");
    let url = format!("redis://limited:pw@127.0.0.1:{}", server.port());
    let ends: [fn(&RawClient, &StateStore); 2] = [
        |_, store| store.close().unwrap(),
        |raw, _| raw.run("ACL", &["SETUSER", "limited", "-eval", "-evalsha"]),
    ];
    for end in ends {
        let store = open(&url, options()).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| store.lock("l", MINUTE, LONG).map(drop));
            wait_for("a client waits", || raw.exists(WAITING));
            end(&raw, &store);
            assert!(waiting.join().unwrap().is_err());
        });
        assert!(!raw.exists(WAITING) && !raw.exists(SEEN));
    }
}

#[test]
fn a_lock_that_expires_goes_to_a_waiting_client() {
    let server = SharedServer::new();
    let store = server.store("t");
    let first = store.try_lock("l", Duration::from_millis(60)).unwrap().unwrap();
    let second = store.lock("l", MINUTE, LONG).unwrap();
    assert!(second.token() > first.token());
    assert_error!(first.release(), Error::LockLost { how: LockLoss::TakenByAnother, .. });
    assert!(second.is_held().unwrap());
}

#[test]
fn a_release_with_a_lost_reply_may_have_freed_the_lock() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    let guard = store.try_lock("l", MINUTE).unwrap().unwrap();
    guard.extend(MINUTE).unwrap();
    proxy.cut(Way::Answer, 0);
    guard.extend(LONG).unwrap();
    assert!(proxy.cancel_cut());
    proxy.cut(Way::Answer, 0);
    assert_error!(guard.release(), Error::Unavailable { maybe_applied: true, .. });
    assert!(!raw.exists(LOCK));
    proxy.cut(Way::Answer, 0);
    assert_error!(store.try_lock("l", MINUTE), Error::Unavailable { maybe_applied: true, .. });
    assert!(raw.exists(LOCK), "the lock is left to expire");
}

#[test]
fn a_frozen_or_dead_server_ends_a_wait_in_time() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    raw.set(LOCK, "1");
    let timeout = Duration::from_millis(200);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| run_within(LIMIT, || store.lock("l", MINUTE, timeout).map(drop)));
        wait_for("a client waits", || raw.exists(WAITING));
        server.pause();
        assert_error!(waiting.join().unwrap(), Error::Unavailable { maybe_applied: true, .. });
    });
    server.resume();
    proxy.set(Mode::Refuse);
    let dead = open(&server.url(0), options().pool_size(1)).unwrap();
    drop(server);
    let refused = run_within(LIMIT, || dead.lock("l", MINUTE, LONG).map(drop));
    assert_error!(refused, Error::Unavailable { .. });
}
