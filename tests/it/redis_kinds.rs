//! Keys under which another program keeps lists, hashes and sets.

use millpond::{Error, Kind, Result, StateStore, WriteBatch};

use crate::redis_wire::Server;
use crate::support::backends::HOUR;

type Operation = fn(&StateStore, &str) -> Result<()>;

/// Puts one foreign thing of each kind under the prefix `p`.
fn foreign() -> (Server, StateStore) {
    let server = Server::new();
    server.raw.run::<_, ()>("RPUSH", &["p:list", "1", "2"]);
    server.raw.run::<_, ()>("HSET", &["p:hash", "field", "1"]);
    server.raw.run::<_, ()>("SADD", &["p:set", "1"]);
    server.raw.run::<_, ()>("ZADD", &["p:zset", "1", "x"]);
    let store = server.store("p");
    (server, store)
}

const KINDS: [(&str, Option<Kind>); 4] =
    [("list", Some(Kind::Queue)), ("hash", Some(Kind::Map)), ("set", None), ("zset", None)];

#[test]
fn what_needs_a_value_says_what_it_found_and_changes_nothing() {
    let (server, store) = foreign();
    let operations: [(&str, Operation); 16] = [
        ("get", |s, k| s.get::<i64>(k).map(drop)),
        ("get_bytes", |s, k| s.get_bytes(k).map(drop)),
        ("update", |s, k| s.update(k, 1).map(drop)),
        ("compare_and_set", |s, k| s.compare_and_set(k, Some(&1), &2).map(drop)),
        ("compare_and_set by meaning", |s, k| s.compare_and_set(k, Some(&1.0), &2).map(drop)),
        ("compare_and_set with nothing", |s, k| s.compare_and_set(k, None::<&i64>, &2).map(drop)),
        ("get_and_delete", |s, k| s.get_and_delete::<i64>(k).map(drop)),
        ("get_and_put", |s, k| s.get_and_put::<i64>(k, 1).map(drop)),
        ("modify", |s, k| s.modify::<i64>(k, |_| Some(1)).map(drop)),
        ("modify away", |s, k| s.modify::<i64>(k, |_| None).map(drop)),
        ("incr", |s, k| s.incr(k, 1).map(drop)),
        ("decr", |s, k| s.decr(k, 1).map(drop)),
        ("incr_with_ttl", |s, k| s.incr_with_ttl(k, 1, HOUR).map(drop)),
        ("batch_incr", |s, k| s.batch_incr([(k, 1)]).map(drop)),
        ("get_and_touch", |s, k| s.get_and_touch::<i64>(k, HOUR).map(drop)),
        ("batch_get", |s, k| s.batch_get::<i64>([k]).map(drop)),
    ];
    for (key, kind) in KINDS {
        for (name, operation) in operations {
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
    let operations: [(&str, Operation); 7] = [
        ("put", |s, k| s.put(k, 1)),
        ("put_with_ttl", |s, k| s.put_with_ttl(k, 1, HOUR)),
        ("put_bytes", |s, k| s.put_bytes(k, b"1")),
        ("put_bytes_with_ttl", |s, k| s.put_bytes_with_ttl(k, b"1", HOUR)),
        ("batch_put", |s, k| s.batch_put([(k, 1)])),
        ("batch_put_with_ttl", |s, k| s.batch_put_with_ttl([(k, 1)], HOUR)),
        ("write", |s, k| s.write(WriteBatch::new().put(k, 1)?)),
    ];
    for (name, operation) in operations {
        let (server, store) = foreign();
        for (key, _) in KINDS {
            operation(&store, key).unwrap();
            assert_eq!(server.raw.get(&format!("p:{key}")).unwrap(), b"1", "{name}");
        }
    }
}

#[test]
fn what_asks_for_no_value_works_on_any_kind() {
    let (server, store) = foreign();
    for (key, _) in KINDS {
        assert!(store.contains(key).unwrap(), "{key}");
        assert_eq!(store.ttl(key).unwrap(), Some(millpond::Ttl::Never));
        assert!(store.expire(key, HOUR).unwrap());
        assert!(matches!(store.ttl(key).unwrap(), Some(millpond::Ttl::In(_))));
        assert!(store.persist(key).unwrap());
        assert!(!store.set_if_not_exists(key, 1, None).unwrap(), "{key} is not free");
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
fn entries_pass_over_what_is_no_value() {
    let (_server, store) = foreign();
    store.batch_put([("a", 1), ("z", 2)]).unwrap();
    let mut entries: Vec<(String, i64)> = store.entries("").map(Result::unwrap).collect();
    entries.sort();
    assert_eq!(entries, [("a".into(), 1), ("z".into(), 2)]);
}

#[test]
fn one_wrong_kind_in_a_batch_does_not_hide_the_others() {
    let (_server, store) = foreign();
    store.put("a", 1).unwrap();
    assert_error!(store.batch_get::<i64>(["a", "list"]), Error::WrongType { key, .. } if key == "list");
    let outcome = store.batch_incr([("a", 1), ("list", 1), ("b", 1)]);
    let error = assert_error!(outcome, Error::Partial { done: 2, .. });
    let Error::Partial { source, .. } = error else { unreachable!() };
    assert!(matches!(*source, Error::WrongType { .. }), "{source:?}");
    assert_eq!(store.batch_get::<i64>(["a", "b"]).unwrap(), [Some(2), Some(1)]);
}
