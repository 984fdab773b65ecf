//! The commands that each operation sends, and the results on a server with foreign data.

use std::collections::HashSet;
use std::time::Duration;

use millpond::{Error, Kind, StateBackend, StateConfig, StateStore, Status, Ttl, WriteBatch};

use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options, patient};

#[test]
fn every_operation_has_its_documented_effect_on_redis() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    let hour = Duration::from_secs(3600);
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert!(store.update("a", 2).unwrap());
    assert!(!store.update("none", 2).unwrap());
    assert_eq!(store.get_and_put::<i64>("a", 3).unwrap(), Some(2));
    assert_eq!(store.get_and_delete::<i64>("a").unwrap(), Some(3));
    assert!(!store.delete("a").unwrap());
    assert!(store.set_if_not_exists("a", 1, Some(hour)).unwrap());
    assert!(!store.set_if_not_exists("a", 2, None).unwrap());
    assert!(store.compare_and_set("a", Some(&1), &5).unwrap());
    assert!(matches!(store.ttl("a").unwrap(), Some(Ttl::In(_))), "compare_and_set keeps the time to live");
    assert!(!store.compare_and_set("a", Some(&1), &5).unwrap());
    assert!(store.compare_and_set("b", None::<&i64>, &5).unwrap());
    assert_eq!(store.modify("b", |found: Option<i64>| found.map(|n| n + 1)).unwrap(), Some(6));
    assert_eq!(store.modify("b", |_: Option<i64>| None).unwrap(), None);
    assert_eq!(store.ttl("b").unwrap(), None);
    assert_eq!(store.incr_with_ttl("n", 4, hour).unwrap(), 4);
    assert_eq!(store.incr_with_ttl("n", -1, hour).unwrap(), 3);
    assert!(matches!(store.ttl("n").unwrap(), Some(Ttl::In(_))));
    assert!(store.persist("n").unwrap());
    assert!(!store.persist("n").unwrap());
    assert_eq!(store.ttl("n").unwrap(), Some(Ttl::Never));
    assert!(store.expire("n", hour).unwrap());
    assert_eq!(store.get_and_touch::<i64>("n", hour).unwrap(), Some(3));
    store.put("n", i64::MAX).unwrap();
    assert!(matches!(store.incr("n", 1), Err(Error::Overflow { .. })));
    store.put("n", "x").unwrap();
    assert!(matches!(store.incr("n", 1), Err(Error::NotAnInteger { .. })));
    store.clear().unwrap();
    store.batch_put((0..2500).map(|n| (format!("k{n}"), n))).unwrap();
    let found: Vec<Option<i64>> = store.batch_get((0..2501).map(|n| format!("k{n}"))).unwrap();
    assert_eq!(found, (0..2500).map(Some).chain([None]).collect::<Vec<_>>());
    assert_eq!(store.len().unwrap(), 2500);
    assert_eq!(store.keys("k249").unwrap().len(), 11);
    assert_eq!(store.keys_page("", Some("k2"), 2).unwrap(), ["k20", "k200"]);
    assert_eq!(store.batch_incr([("k1", 1), ("k2", 1)]).unwrap(), [2, 3]);
    assert_eq!(store.batch_delete(["k1", "none"]).unwrap(), 1);
    let mut batch = WriteBatch::new();
    batch.put("k1", 7).unwrap().delete("k2").unwrap().put_with_ttl("k3", 1, hour).unwrap();
    store.write(&batch).unwrap();
    assert_eq!(store.get::<i64>("k1").unwrap(), Some(7));
    assert_eq!(store.clear().unwrap(), 2499);
    assert_eq!(store.status(), Status::Connected);
    store.close().unwrap();
    assert!(store.get::<i64>("a").is_err());
}

#[test]
fn a_counter_is_created_with_its_ttl_in_a_batch_too() {
    let server = RedisServer::start();
    let backend = StateBackend::redis(server.url(0)).key_prefix("t");
    let config = StateConfig::default().backend(backend).default_ttl(Duration::from_secs(60));
    let store = StateStore::with_config(config).unwrap();
    store.put_bytes("bad", b"x").unwrap();
    let error = store.batch_incr([("a", 2), ("bad", 1), ("b", 3)]).unwrap_err();
    assert!(matches!(error, Error::Partial { done: 2, .. }), "{error:?}");
    assert!(matches!(store.ttl("b").unwrap(), Some(Ttl::In(_))));
    assert_eq!(store.get::<i64>("b").unwrap(), Some(3));
}

#[test]
fn foreign_values_are_read_byte_for_byte() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), patient(options())).unwrap();
    raw.run::<_, ()>("SET", &["t:total", r#"{"Integer":10}"#]);
    assert_eq!(store.get_bytes("total").unwrap().unwrap(), br#"{"Integer":10}"#[..]);
    store.put("total", std::collections::BTreeMap::from([("Integer", 11)])).unwrap();
    assert_eq!(raw.run::<_, String>("GET", &["t:total"]), r#"{"Integer":11}"#);
    let large = vec![7; 20 << 20];
    store.put_bytes("large", &large).unwrap();
    assert!(store.get_bytes("large").unwrap().unwrap() == large[..]);
}

#[test]
fn the_error_for_another_kind_names_it() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    raw.run::<_, ()>("LPUSH", &["t:queue", "1"]);
    raw.run::<_, ()>("HSET", &["t:map", "f", "1"]);
    raw.run::<_, ()>("SADD", &["t:set", "1"]);
    for (key, kind) in [("queue", Some(Kind::Queue)), ("map", Some(Kind::Map)), ("set", None)] {
        let wrong = |error: Error| match error {
            Error::WrongType { found, .. } => assert_eq!(found, kind),
            other => panic!("{other:?}"),
        };
        wrong(store.get::<i64>(key).unwrap_err());
        wrong(store.update(key, 1).unwrap_err());
        wrong(store.incr(key, 1).unwrap_err());
        wrong(store.incr_with_ttl(key, 1, Duration::from_secs(9)).unwrap_err());
        wrong(store.get_and_delete::<i64>(key).unwrap_err());
        wrong(store.get_and_put::<i64>(key, 1).unwrap_err());
        wrong(store.compare_and_set(key, Some(&1), &2).unwrap_err());
        wrong(store.compare_and_set(key, None::<&i64>, &2).unwrap_err());
        wrong(store.get_and_touch::<i64>(key, Duration::from_secs(9)).unwrap_err());
        wrong(store.batch_get::<i64>([key]).unwrap_err());
        assert!(!store.set_if_not_exists(key, 1, None).unwrap());
    }
    assert_eq!(store.entries::<i64>("").count(), 0);
    assert_eq!(store.len().unwrap(), 3);
}

#[test]
fn glob_characters_have_no_meaning_and_foreign_keys_are_cleared() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    for key in ["a*b", "axb", "a?b", "a[x]b", r"a\b", "a^b", "é"] {
        store.put(key, 1).unwrap();
    }
    assert_eq!(store.keys("a*").unwrap(), ["a*b"]);
    assert_eq!(store.keys("a[").unwrap(), ["a[x]b"]);
    assert_eq!(store.keys(r"a\").unwrap(), [r"a\b"]);
    for key in [&b"t:\xff"[..], b"t:a\nb", b"t:__millpond:fence", b"tx:other"] {
        raw.run::<_, ()>("SET", &[key, b"1"]);
    }
    assert_eq!(store.len().unwrap(), 7);
    assert_eq!(store.clear().unwrap(), 9);
    assert_eq!(raw.all_keys(), [&b"t:__millpond:fence"[..], b"tx:other"]);
    let backend = StateBackend::redis(server.url(0)).key_prefix("");
    let bare = StateStore::new(backend).unwrap();
    assert!(matches!(bare.clear(), Err(Error::Unsupported { .. })));
}

#[test]
fn every_script_compiles_on_the_server() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/redis/wire");
    let list = std::fs::read_to_string(directory.join("scripts.rs")).unwrap();
    let scripts = std::fs::read_dir(directory.join("scripts")).unwrap().map(Result::unwrap);
    let mut seen = 0;
    for script in scripts {
        let sha: String = raw.run("SCRIPT", &["LOAD", &std::fs::read_to_string(script.path()).unwrap()]);
        assert_eq!(sha.len(), 40, "{script:?} compiles on this server");
        seen += 1;
    }
    let named: HashSet<&str> = list
        .split(['"', '/'])
        .filter(|word| word.strip_suffix(".lua").is_some_and(|name| !name.contains(' ')))
        .collect();
    assert_eq!(seen, named.len(), "{named:?}");
}
