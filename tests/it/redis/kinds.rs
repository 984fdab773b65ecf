//! Foreign data of other kinds under a key, and maps and queues as the server stores them.

use std::time::Duration;

use millpond::{Error, Kind, RedisOptions, Result, StateBackend, StateConfig, StateStore, WriteBatch};

use crate::conformance::kinds::{ON_MAPS, ON_QUEUES, ON_VALUES, OnAStore};
use crate::support::backends::HOUR;
use crate::support::proxy::Proxy;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::shared_server::SharedServer;

type Operation = fn(&StateStore, &str) -> Result<()>;

/// Stores one foreign entry of each kind under the prefix `p`.
fn new_foreign_data() -> (SharedServer, StateStore) {
    let server = SharedServer::new();
    server.raw.run::<_, ()>("RPUSH", &["p:list", "1", "2"]);
    server.raw.run::<_, ()>("HSET", &["p:hash", "field", "1"]);
    server.raw.run::<_, ()>("SADD", &["p:set", "1"]);
    server.raw.run::<_, ()>("ZADD", &["p:zset", "1", "x"]);
    let store = server.store("p");
    (server, store)
}

const KINDS: [(&str, Option<Kind>); 4] =
    [("list", Some(Kind::Queue)), ("hash", Some(Kind::Map)), ("set", None), ("zset", None)];

/// They change nothing.
#[test]
fn operations_on_values_report_another_kind() {
    let (server, store) = new_foreign_data();
    for (key, kind) in KINDS {
        for (name, operation) in ON_VALUES {
            let error = assert_error!(operation(&store, key), Error::WrongType { .. });
            let Error::WrongType { key: named, expected, found, .. } = &error else { unreachable!() };
            assert_eq!((named.as_str(), *expected, *found), (key, Kind::Value, kind), "{name}");
            assert_eq!(server.raw.kind(&format!("p:{key}")), key, "{name}");
            assert_eq!(server.raw.run::<_, i64>("PTTL", &[format!("p:{key}")]), -1, "{name}");
        }
    }
    assert_eq!(server.raw.run::<_, Vec<String>>("LRANGE", &["p:list", "0", "-1"]), ["1", "2"]);
}

#[test]
fn a_put_of_any_sort_replaces_any_kind() {
    let operations: [OnAStore; 7] = [
        ("put", |s, k| s.put(k, 1)),
        ("put_with_ttl", |s, k| s.put_with_ttl(k, 1, HOUR)),
        ("put_bytes", |s, k| s.put_bytes(k, b"1")),
        ("put_bytes_with_ttl", |s, k| s.put_bytes_with_ttl(k, b"1", HOUR)),
        ("batch_put", |s, k| s.batch_put([(k, 1)])),
        ("batch_put_with_ttl", |s, k| s.batch_put_with_ttl([(k, 1)], HOUR)),
        ("write", |s, k| s.write(WriteBatch::new().put(k, 1)?)),
    ];
    for (name, operation) in operations {
        let (server, store) = new_foreign_data();
        for (key, _) in KINDS {
            operation(&store, key).unwrap();
            assert_eq!(server.raw.get(&format!("p:{key}")).unwrap(), b"1", "{name}");
        }
    }
}

#[test]
fn operations_that_read_no_value_work_on_any_kind() {
    let (server, store) = new_foreign_data();
    for (key, _) in KINDS {
        assert!(store.contains(key).unwrap(), "{key}");
        assert_eq!(store.ttl(key).unwrap(), Some(millpond::Ttl::Never));
        assert!(store.expire(key, HOUR).unwrap());
        assert!(matches!(store.ttl(key).unwrap(), Some(millpond::Ttl::In(_))));
        assert!(store.persist(key).unwrap());
        assert!(!store.set_if_not_exists(key, 1, None).unwrap(), "{key} exists");
        assert!(!store.set_if_not_exists(key, 1, Some(HOUR)).unwrap());
        assert_eq!(server.raw.kind(&format!("p:{key}")), key);
    }
    assert_eq!(store.keys("").unwrap(), ["hash", "list", "set", "zset"]);
    assert_eq!(store.len().unwrap(), 4);
    assert!(store.delete("list").unwrap());
    assert_eq!(store.batch_delete(["hash", "hash"]).unwrap(), 1);
    store.write(WriteBatch::new().delete("set").unwrap()).unwrap();
    assert_eq!(store.clear().unwrap(), 1);
}

#[test]
fn entries_skip_other_kinds() {
    let (_server, store) = new_foreign_data();
    store.batch_put([("a", 1), ("z", 2)]).unwrap();
    let mut entries: Vec<(String, i64)> = store.entries("").map(Result::unwrap).collect();
    entries.sort();
    assert_eq!(entries, [("a".into(), 1), ("z".into(), 2)]);
}

#[test]
fn one_wrong_kind_in_a_batch_does_not_hide_the_others() {
    let (_server, store) = new_foreign_data();
    store.put("a", 1).unwrap();
    assert_error!(store.batch_get::<i64>(["a", "list"]), Error::WrongType { key, .. } if key == "list");
    let outcome = store.batch_incr([("a", 1), ("list", 1), ("b", 1)]);
    let error = assert_error!(outcome, Error::Partial { done: 2, .. });
    let Error::Partial { source, .. } = error else { unreachable!() };
    assert!(matches!(*source, Error::WrongType { .. }), "{source:?}");
    assert_eq!(store.batch_get::<i64>(["a", "b"]).unwrap(), [Some(2), Some(1)]);
}

/// They change nothing.
#[test]
fn operations_on_maps_and_queues_report_another_kind() {
    let (server, store) = new_foreign_data();
    server.raw.run::<_, ()>("SET", &["p:string", "1"]);
    let born = server.with_default_ttl("p");
    let maps = ON_MAPS.map(|operation| (Kind::Map, operation));
    let queues = ON_QUEUES.map(|operation| (Kind::Queue, operation));
    for (wanted, (name, operation)) in maps.into_iter().chain(queues) {
        for (key, kind) in KINDS.into_iter().chain([("string", Some(Kind::Value))]) {
            if kind == Some(wanted) {
                continue;
            }
            for store in [&store, &born] {
                let error = assert_error!(operation(store, key), Error::WrongType { .. });
                let Error::WrongType { key: named, expected, found, .. } = &error else { unreachable!() };
                assert_eq!((named.as_str(), *expected, *found), (key, wanted, kind), "{name}");
                assert_eq!(server.raw.kind(&format!("p:{key}")), key, "{name}");
                assert_eq!(server.raw.run::<_, i64>("PTTL", &[format!("p:{key}")]), -1, "{name}");
            }
        }
    }
    assert_eq!(server.raw.all_keys().len(), 5);
}

#[test]
fn a_map_is_a_hash_and_a_queue_a_list() {
    let server = SharedServer::new();
    let store = server.store("p");
    assert_eq!(store.map_put_many("m", [("b", 1), ("", 2), ("a\n", 3)]).unwrap(), 3);
    server.raw.run::<_, i64>("HSET", &[&b"p:m"[..], b"\xff", b"1"]);
    assert_eq!(server.raw.run::<_, String>("HGET", &["p:m", ""]), "2");
    assert_eq!(store.map_keys("m").unwrap(), ["", "a\n", "b"], "a field name that is not UTF-8 is foreign");
    assert_eq!(store.map_entries::<i64>("m").unwrap().len(), 3);
    assert_eq!(store.map_len("m").unwrap(), 3, "a count and a listing agree");
    let counted = store.transaction(|tx| Ok((tx.map_len("m")?, tx.map_keys("m")?.len())));
    assert_eq!(counted.unwrap(), (3, 3));
    server.raw.run::<_, i64>("HSET", &[&b"p:foreign"[..], b"\xff", b"1", b"\xfe", b"2"]);
    assert_eq!(store.map_len("foreign").unwrap(), 0);
    assert!(store.map_keys("foreign").unwrap().is_empty());
    assert!(store.map_entries::<i64>("foreign").unwrap().is_empty());
    assert!(store.contains("foreign").unwrap(), "the key exists");
    assert_eq!(store.map_get_many::<i64>("m", ["b", "x", ""]).unwrap(), [Some(1), None, Some(2)]);
    assert_eq!(store.push_back_many("q", [1, 2]).unwrap(), 2);
    assert_eq!(store.push_front("q", "x").unwrap(), 3);
    assert_eq!(server.raw.run::<_, Vec<String>>("LRANGE", &["p:q", "0", "-1"]), ["\"x\"", "1", "2"]);
    assert_eq!(store.queue_range::<i64>("q", 1..).unwrap(), [1, 2]);
    assert_eq!(store.queue_trim("q", 1).unwrap(), 2);
    assert_eq!(store.queue_trim("q", 0).unwrap(), 1);
    assert!(!server.raw.exists("p:q"));
}

#[test]
fn counters_in_a_map_are_exact_and_report_errors() {
    let server = SharedServer::new();
    for store in [server.store("p"), server.with_default_ttl("p")] {
        server.raw.flush();
        assert_eq!(store.map_incr("m", "n", i64::MAX).unwrap(), i64::MAX);
        assert_eq!(store.map_incr("m", "n", -1).unwrap(), i64::MAX - 1);
        assert_error!(store.map_incr("m", "n", 2), Error::Overflow { key, .. } if key == "m");
        store.map_put("m", "text", "x").unwrap();
        assert_error!(store.map_incr("m", "text", 2), Error::NotAnInteger { key, .. } if key == "m");
        assert_eq!(store.map_get::<i64>("m", "n").unwrap(), Some(i64::MAX - 1));
    }
}

/// An existing entry keeps its time to live.
#[test]
fn an_entry_is_created_together_with_its_ttl() {
    let server = SharedServer::new();
    let store = server.with_default_ttl("p");
    let operations: [OnAStore; 6] = [
        ("map_put", |s, k| s.map_put(k, "f", 1).map(drop)),
        ("map_put_many", |s, k| s.map_put_many(k, [("f", 1), ("g", 2)]).map(drop)),
        ("map_incr", |s, k| s.map_incr(k, "f", 1).map(drop)),
        ("push_back", |s, k| s.push_back(k, 1).map(drop)),
        ("push_front", |s, k| s.push_front(k, 1).map(drop)),
        ("push_back_many", |s, k| s.push_back_many(k, [1, 2]).map(drop)),
    ];
    for (name, operation) in operations {
        server.raw.flush();
        operation(&store, "k").unwrap();
        let left: i64 = server.raw.run("PTTL", &["p:k"]);
        assert!((3_000_000..=3_600_000).contains(&left), "{name}: {left}");
        server.raw.run::<_, ()>("PEXPIRE", &["p:k", "100000"]);
        operation(&store, "k").unwrap();
        assert!(server.raw.run::<_, i64>("PTTL", &["p:k"]) <= 100_000, "{name}");
        store.persist("k").unwrap();
        operation(&store, "k").unwrap();
        assert_eq!(server.raw.run::<_, i64>("PTTL", &["p:k"]), -1, "{name}");
    }
}

/// A script that the server has forgotten costs one more.
#[test]
fn each_operation_is_one_round_trip() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let backend = StateBackend::redis(proxy.url()).key_prefix("p");
    let config = StateConfig::default().backend(backend);
    let plain = StateStore::with_config(config.clone()).unwrap();
    let born = StateStore::with_config(config.default_ttl(HOUR)).unwrap();
    let raw = RawClient::connect(&server.url(0));
    let operations: [(&str, bool, Operation); 19] = [
        ("map_put", true, |s, k| s.map_put(k, "f", 1).map(drop)),
        ("map_incr", true, |s, k| s.map_incr(k, "f", 1).map(drop)),
        ("map_get", false, |s, k| s.map_get::<i64>(k, "f").map(drop)),
        ("map_get_many", false, |s, k| s.map_get_many::<i64>(k, ["f", "g"]).map(drop)),
        ("map_contains", false, |s, k| s.map_contains(k, "f").map(drop)),
        ("map_entries", false, |s, k| s.map_entries::<i64>(k).map(drop)),
        ("map_keys", false, |s, k| s.map_keys(k).map(drop)),
        ("map_len", false, |s, k| s.map_len(k).map(drop)),
        ("map_delete", false, |s, k| s.map_delete(k, "f").map(drop)),
        ("push_back_many", true, |s, k| s.push_back_many(k, [1, 2, 3]).map(drop)),
        ("push_front", true, |s, k| s.push_front(k, 1).map(drop)),
        ("queue_len", false, |s, k| s.queue_len(k).map(drop)),
        ("queue_range", false, |s, k| s.queue_range::<i64>(k, ..).map(drop)),
        ("queue_trim", false, |s, k| s.queue_trim(k, 3).map(drop)),
        ("pop_front", false, |s, k| s.pop_front::<i64>(k).map(drop)),
        ("pop_back", false, |s, k| s.pop_back::<i64>(k).map(drop)),
        ("contains", false, |s, k| s.contains(k).map(drop)),
        ("a lock that is taken", false, |s, _| s.try_lock("taken", HOUR).map(drop)),
        ("take", false, |s, _| s.lease::<i64>("none", HOUR).map(drop)),
    ];
    raw.set("p:taken:__millpond:lock", "1");
    for (store, is_born) in [(&plain, false), (&born, true)] {
        raw.run::<_, ()>("DEL", &["p:k"]);
        for (name, creates, operation) in operations {
            let is_script = ["take", "a lock that is taken"].contains(&name);
            let trips = || {
                let before = proxy.requests();
                operation(store, "k").unwrap();
                proxy.requests() - before
            };
            raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
            let calls_script = is_script || (creates && is_born);
            assert_eq!(trips(), 1 + usize::from(calls_script), "{name}");
            assert_eq!(trips(), 1, "{name}");
        }
    }
}

#[test]
fn operations_work_after_the_server_forgot_the_scripts() {
    let server = SharedServer::new();
    let store = server.with_default_ttl("p");
    for n in 1..4 {
        let flush = || server.raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
        flush();
        assert_eq!(store.push_back("q", n).unwrap(), 1);
        flush();
        let taken = store.lease::<i64>("q", HOUR).unwrap().unwrap();
        flush();
        assert!(taken.nack().unwrap());
        flush();
        let taken = store.lease::<i64>("q", HOUR).unwrap().unwrap();
        flush();
        assert!(taken.ack().unwrap());
        flush();
        assert_eq!(store.map_incr("m", "f", 1).unwrap(), n);
        flush();
        let guard = store.try_lock("l", HOUR).unwrap().unwrap();
        flush();
        guard.extend(HOUR).unwrap();
        flush();
        guard.release().unwrap();
        flush();
        store.lock("l", HOUR, HOUR).unwrap().release().unwrap();
    }
}

/// More values than an older server accepts in one command, and far more than a script can unpack at a time.
#[test]
fn very_many_values_are_pushed_at_once() {
    const MANY: u64 = 500_001;
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let backend = StateBackend::redis(server.url(0)).key_prefix("p");
    let redis = RedisOptions::default().timeout(Duration::from_secs(60));
    let config = StateConfig::default().backend(backend).redis(redis);
    for config in [config.clone(), config.default_ttl(HOUR)] {
        let store = StateStore::with_config(config).unwrap();
        raw.flush();
        assert_eq!(store.push_back_many("q", 0..MANY).unwrap(), MANY);
        assert_eq!(store.queue_range::<u64>("q", MANY - 2..).unwrap(), [MANY - 2, MANY - 1]);
        let fields = (0..10_001).map(|n| (n.to_string(), n));
        assert_eq!(store.map_put_many("m", fields).unwrap(), 10_001);
        assert_eq!(store.map_get::<u64>("m", "10000").unwrap(), Some(10_000));
        store.put("value", 1).unwrap();
        assert_error!(store.push_back_many("value", 0..MANY), Error::WrongType { .. });
        let moved = store.transaction(|tx| {
            let moved = tx.push_back_many("copy", 0..MANY)?;
            tx.push_back_many("copy", 0..3).map(|length| length - moved)
        });
        assert_eq!(moved.unwrap(), 3);
        assert_eq!(store.queue_len("copy").unwrap(), MANY + 3);
    }
}
