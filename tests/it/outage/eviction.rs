//! Servers that evict keys: the keys by which a store recognises its own writes are not evicted first, and do not stay
//! for ever.

use std::collections::HashMap;

use millpond::StateStore;
use tempfile::tempdir;

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, memory, open, patient, wait_until_connected};

const SESSIONS: &str = "t:__millpond:sessions";

const THIRTY_DAYS: i64 = 30 * 24 * 3600 * 1000;

/// A server that evicts keys with a TTL, a proxy, and a client without one.
fn evicting() -> (RedisServer, Proxy, RawClient) {
    let server = RedisServer::start_with(&["--maxmemory", "12mb", "--maxmemory-policy", "volatile-lru"]);
    let (proxy, raw) = (Proxy::to(server.port()), RawClient::connect(&server.url(0)));
    (server, proxy, raw)
}

/// The marker and the reply cache of a store, if they are on the server.
fn session_keys(raw: &RawClient) -> Vec<String> {
    let [markers, caches] = ["t:__millpond:marker:*", "t:__millpond:replies:*"]
        .map(|pattern| raw.run::<_, Vec<String>>("KEYS", &[pattern]));
    [markers, caches].concat()
}

fn ttl(raw: &RawClient, key: &str) -> i64 {
    raw.run("PTTL", &[key])
}

/// When the keys without a TTL were last used, in ms.
fn uses(raw: &RawClient) -> HashMap<String, i64> {
    raw.run("ZRANGE", &[SESSIONS, "0", "-1", "WITHSCORES"])
}

fn make_outage(proxy: &Proxy, store: &StateStore) {
    proxy.set(Mode::Down);
    store.put("queued", 1).unwrap();
    proxy.set(Mode::Pass);
    wait_until_connected(store);
}

#[test]
fn the_keys_of_a_store_have_a_ttl_where_it_does_not_make_them_go_first() {
    for policy in ["noeviction", "allkeys-lru"] {
        let server = RedisServer::start_with(&["--maxmemory-policy", policy]);
        let (proxy, raw) = (Proxy::to(server.port()), RawClient::connect(&server.url(0)));
        let store = open(&proxy.url(), patient(memory()).exactly_once(true)).unwrap();
        store.incr("n", 1).unwrap();
        make_outage(&proxy, &store);
        let keys = session_keys(&raw);
        assert_eq!(keys.len(), 2, "{keys:?}");
        for key in &keys {
            assert!((THIRTY_DAYS - 600_000..=THIRTY_DAYS).contains(&ttl(&raw, key)), "{key}");
        }
        assert!(!raw.exists(SESSIONS));
        store.close().unwrap();
        assert_eq!(session_keys(&raw), Vec::<String>::new());
    }
}

#[test]
fn a_server_that_evicts_keys_with_a_ttl_keeps_those_of_a_store() {
    let (_server, proxy, raw) = evicting();
    let store = open(&proxy.url(), patient(memory()).exactly_once(true)).unwrap();
    make_outage(&proxy, &store);
    store.incr("n", 1).unwrap();
    let filler = "x".repeat(10_000);
    for n in 0..3000 {
        raw.run::<_, ()>("SET", &[&format!("filler:{n}"), &filler, "PX", "86400000"]);
        if n % 100 == 0 {
            store.incr("n", 1).unwrap();
        }
    }
    let evicted: String = raw.run("INFO", &["stats"]);
    assert!(!evicted.contains("evicted_keys:0\r\n"), "{evicted}");
    make_outage(&proxy, &store);
    assert_eq!(store.get::<i64>("n").unwrap(), Some(31));
    assert_eq!((store.stats().outages.uncertain, store.stats().outages.rejected), (0, 0));
    let keys = session_keys(&raw);
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in &keys {
        assert_eq!(ttl(&raw, key), -1, "{key}");
    }
    assert_eq!(uses(&raw).len(), 2);
    store.close().unwrap();
    assert_eq!(session_keys(&raw), Vec::<String>::new());
    assert!(!raw.exists(SESSIONS));
}

#[test]
fn keys_without_a_ttl_are_deleted_when_nobody_has_used_them_for_long() {
    let (_server, proxy, raw) = evicting();
    let dir = tempdir().unwrap();
    let store = open(&proxy.url(), patient(durable(dir.path())).exactly_once(true)).unwrap();
    make_outage(&proxy, &store);
    store.incr("n", 1).unwrap();
    let in_use = uses(&raw);
    assert_eq!(in_use.len(), 2);
    let lately = in_use.values().min().unwrap() - THIRTY_DAYS;
    for (key, used) in [("forgotten", lately - 60_000), ("recent", lately + 60_000)] {
        raw.run::<_, ()>("HSET", &[key, "done", "1"]);
        raw.run::<_, ()>("ZADD", &[SESSIONS, &used.to_string(), key]);
    }
    // As if the store had been idle for a long time: its next calls and the next replay renew both keys.
    for key in in_use.keys() {
        raw.run::<_, ()>("ZADD", &[SESSIONS, "1", key]);
    }
    for _ in 0..300 {
        store.incr("n", 1).unwrap();
    }
    make_outage(&proxy, &store);
    let renewed = uses(&raw);
    for (key, before) in &in_use {
        assert!(renewed[key] >= *before, "{key}: {renewed:?}");
    }
    assert!(!raw.exists("forgotten") && raw.exists("recent"));
    assert!(!renewed.contains_key("forgotten") && renewed.contains_key("recent"));
    store.close().unwrap();
    // The next program that opens the queue needs the marker.
    let keys = session_keys(&raw);
    assert!(keys.len() == 1 && keys[0].contains("marker") && uses(&raw).contains_key(&keys[0]), "{keys:?}");
}
