//! The permissions of a Redis user, and outages of a user with too few permissions.

use std::time::Duration;

use millpond::{Error, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

/// The ACL line of the guide to configuration, adapted to the prefix of these tests.
fn guide_line() -> Vec<String> {
    let guide = include_str!("../../../docs/guide/configuration.md");
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER app ")).expect("a line for users");
    line.replace("~orders:*", "~t:*").split(' ').skip(1).map(str::to_owned).collect()
}

fn url(proxy: &Proxy) -> String {
    proxy.url().replace("redis://", "redis://app:secret@")
}

fn write_all(store: &StateStore) {
    store.put_with_ttl("ttl", 1, HOUR).unwrap();
    store.put("gone", 1).unwrap();
    assert!(store.delete("gone").unwrap());
    store.incr("n", 1).unwrap();
    store.incr_with_ttl("window", 1, HOUR).unwrap();
    store.push_back("q", 1).unwrap();
    store.map_put("m", "f", 1).unwrap();
    store.batch_put([("a", 1), ("b", 2)]).unwrap();
    store.expire("a", HOUR).unwrap();
}

#[test]
fn the_permissions_in_the_guide_are_sufficient() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &guide_line());
    for exactly_once in [false, true] {
        let store = open(&url(&proxy), memory().exactly_once(exactly_once)).unwrap();
        write_all(&store);
        store
            .transaction(|tx| {
                let n: Option<i64> = tx.get("n")?;
                tx.put("tx", n)
            })
            .unwrap();
        store.pop_front_wait::<i64>("q", HOUR).unwrap().unwrap();
        store.push_back("q", 2).unwrap();
        store.lease::<i64>("q", HOUR).unwrap().unwrap().ack().unwrap();
        store.try_lock("l", HOUR).unwrap().unwrap().release().unwrap();
        assert!(!store.keys("").unwrap().is_empty() && store.count("").unwrap() > 0);
        proxy.set(Mode::Down);
        notice_disconnect(&store);
        write_all(&store);
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        let stats = store.stats().outages;
        assert_eq!(
            (stats.rejected, stats.conflicts, stats.uncertain),
            (0, 0, 0),
            "{:?}",
            store.take_rejected()
        );
        store.clear().unwrap();
        store.close().unwrap();
    }
    let denied: Vec<redis::Value> = raw.run("ACL", &["LOG"]);
    assert!(denied.is_empty(), "{denied:?}");
}

/// The replay script once ended half-way, after it had written the marker: the rest of the chunk then counted
/// as applied.
#[test]
fn a_missing_permission_loses_no_queued_operation() {
    for missing in ["exists", "hdel", "time", "mset", "get", "rpush"] {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let raw = RawClient::connect(&server.url(0));
        let mut rights = guide_line();
        rights.push(format!("-{missing}"));
        raw.run::<_, ()>("ACL", &rights);
        let store = open(&url(&proxy), memory()).unwrap();
        proxy.set(Mode::Down);
        // The server has a value that this process has never read.
        raw.set("t:seen", "1");
        wait_for("the store is disconnected", || store.put("seen", 2).is_ok() && pending(&store).is_some());
        for n in 0..3 {
            store.put(format!("p{n}"), n).unwrap();
            store.incr_with_ttl(format!("w{n}"), 1, HOUR).unwrap();
            store.push_back(format!("q{n}"), n).unwrap();
        }
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        let rejected = store.take_rejected();
        let is_refused = |key: &str| rejected.iter().any(|told| told.key == key);
        for name in ["p", "w", "q"] {
            for n in 0..3 {
                let key = format!("{name}{n}");
                assert!(
                    raw.exists(&format!("t:{key}")) || is_refused(&key),
                    "{key} is gone without {missing}"
                );
            }
        }
        assert!(rejected.iter().all(|told| matches!(told.error, Error::Denied { .. })), "{rejected:?}");
        let stats = store.stats().outages;
        assert_eq!(stats.replayed + stats.rejected, 10, "{missing}: {stats:?}");
    }
}

/// The server refused the whole script, which is not the fault of the queued operations.
#[test]
fn a_permission_granted_later_lets_the_replay_succeed() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &guide_line());
    let store = open(&url(&proxy), memory()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Down);
    wait_for("the store is disconnected", || store.put("b", 2).is_ok() && pending(&store).is_some());
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "-eval"]);
    // The permission is granted before the store handles the refusal.
    proxy.set(Mode::Drip(Duration::from_micros(200)));
    wait_for("the server refused the script", || {
        !raw.run::<_, Vec<redis::Value>>("ACL", &["LOG"]).is_empty()
    });
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "+eval"]);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(raw.get("t:b").as_deref(), Some(&b"2"[..]));
    assert_eq!(store.stats().outages.rejected, 0, "{:?}", store.take_rejected());
}
