//! The data on the server: keys, bytes, times to live, and foreign keys.

use std::time::Duration;

use millpond::{Error, StateStore, WriteBatch};

use crate::support::redis_server::RedisServer;
use crate::support::shared_server::SharedServer;
use crate::support::wait_until;

#[test]
fn a_key_has_the_prefix_and_holds_the_json_text_itself() {
    let server = SharedServer::new();
    let store = server.store("orders");
    store.put("counter", 42).unwrap();
    store.put("a:b c", serde_json::json!({"x": [1, null, 1.5, "ü"]})).unwrap();
    store.put_bytes("raw", b"\xff\0\n").unwrap();
    store.namespace("n").put("k", "v").unwrap();
    assert_eq!(server.raw.get("orders:counter").unwrap(), b"42");
    assert_eq!(server.raw.get("orders:a:b c").unwrap(), r#"{"x":[1,null,1.5,"ü"]}"#.as_bytes());
    assert_eq!(server.raw.get("orders:raw").unwrap(), b"\xff\0\n");
    assert_eq!(server.raw.get("orders:n:k").unwrap(), b"\"v\"");
    store.incr("counter", -43).unwrap();
    assert_eq!(server.raw.get("orders:counter").unwrap(), b"-1");
}

#[test]
fn the_default_prefix_of_a_url_is_millpond() {
    let server = SharedServer::new();
    StateStore::open(format!("{}?fallback=none", server.url)).unwrap().put("k", 1).unwrap();
    assert!(server.raw.exists("millpond:k"));
    StateStore::open(format!("{}?fallback=none&key_prefix=a%3Ab", server.url)).unwrap().put("k", 1).unwrap();
    assert!(server.raw.exists("a:b:k"));
}

#[test]
fn a_trailing_colon_of_a_prefix_is_removed() {
    let server = SharedServer::new();
    server.store("orderproc:prod:v2:").put("k", 1).unwrap();
    assert!(server.raw.exists("orderproc:prod:v2:k"));
    assert_eq!(server.store("orderproc:prod:v2").get::<i64>("k").unwrap(), Some(1));
}

#[test]
fn a_store_sees_every_key_under_its_prefix_and_no_other() {
    let server = SharedServer::new();
    server.store("a:b").put("k", 1).unwrap();
    for (key, value) in [("ab:k", "1"), ("a", "1"), ("b:k", "1"), ("A:k", "1"), ("a*:k", "1")] {
        server.raw.set(key, value);
    }
    let store = server.store("a");
    assert_eq!(store.keys("").unwrap(), ["b:k"]);
    assert_eq!(store.get::<i64>("b:k").unwrap(), Some(1));
    assert_eq!(server.store("a*").keys("").unwrap(), ["k"]);
    assert_eq!(server.store("?").len().unwrap(), 0);
    assert_eq!(store.clear().unwrap(), 1);
    assert_eq!(server.raw.all_keys().len(), 5);
}

#[test]
fn glob_characters_of_a_prefix_match_only_themselves() {
    let server = SharedServer::new();
    for prefix in ["[ab]", "a*", "a?", "a\\", "^a", "[^x]", "a[", "a]"] {
        server.store(prefix).put("k*", prefix).unwrap();
    }
    server.raw.set("a:k*", "1");
    server.raw.set("ax:k*", "1");
    for prefix in ["[ab]", "a*", "a?", "a\\", "^a", "[^x]", "a[", "a]"] {
        let store = server.store(prefix);
        assert_eq!(store.keys("").unwrap(), ["k*"], "{prefix}");
        assert_eq!(store.keys("k*").unwrap(), ["k*"], "{prefix}");
        assert_eq!(store.get::<String>("k*").unwrap().as_deref(), Some(prefix));
        assert_eq!(store.clear().unwrap(), 1, "{prefix}");
    }
    assert_eq!(server.raw.all_keys().len(), 2);
}

#[test]
fn an_empty_prefix_means_the_bare_key() {
    let server = SharedServer::new();
    let store = server.store("");
    store.put("k", 1).unwrap();
    store.put("a:b", 2).unwrap();
    assert_eq!(server.raw.get("k").unwrap(), b"1");
    assert_eq!(store.keys("").unwrap(), ["a:b", "k"]);
    assert_eq!(store.len().unwrap(), 2);
}

#[test]
fn clearing_a_store_without_a_prefix_is_refused() {
    let server = SharedServer::new();
    let store = server.store("");
    store.batch_put([("k", 1), ("n:k", 2), ("m:k", 3)]).unwrap();
    server.raw.set("somebody's", "own");
    let error = assert_error!(store.clear(), Error::Unsupported { .. });
    assert!(!error.is_transient());
    assert_error!(store.delete_prefix(""), Error::Unsupported { .. });
    assert_eq!(server.raw.all_keys().len(), 4);
    assert_eq!(store.namespace("n").clear().unwrap(), 1, "a namespace belongs to the store");
    assert_eq!(store.delete_prefix("m:").unwrap(), 1);
    assert_eq!(server.raw.all_keys().len(), 2);
}

#[test]
fn our_own_keys_are_never_listed_counted_or_cleared() {
    let server = SharedServer::new();
    let store = server.store("p");
    store.put("k", 1).unwrap();
    for key in ["p:__millpond:marker", "p:x:__millpond:y", "p:x:__millpond", "p:__millpond"] {
        server.raw.set(key, "ours");
    }
    assert_eq!(store.keys("").unwrap(), ["k"]);
    assert_eq!(store.scan("").map(Result::unwrap).collect::<Vec<_>>(), ["k"]);
    assert_eq!(store.entries::<i64>("").map(Result::unwrap).collect::<Vec<_>>(), [("k".into(), 1)]);
    assert_eq!((store.len().unwrap(), store.count("x").unwrap(), store.count("__").unwrap()), (1, 0, 0));
    assert_eq!(store.delete_prefix("x").unwrap(), 0);
    assert_eq!(store.clear().unwrap(), 1);
    assert!(store.is_empty().unwrap());
    assert_eq!(server.raw.all_keys().len(), 4);
}

#[test]
fn foreign_keys_that_break_a_rule_are_skipped_and_cleared() {
    let server = SharedServer::new();
    let store = server.store("p");
    store.put("k", 1).unwrap();
    let too_long = format!("p:{}", "k".repeat(513));
    let foreign: [&[u8]; 5] = [b"p:", b"p:a\nb", b"p:\xff\xfe", b"p:a\x7f", too_long.as_bytes()];
    for key in foreign {
        server.raw.run::<&[u8], ()>("SET", &[key, b"1"]);
    }
    assert_eq!(store.keys("").unwrap(), ["k"]);
    assert_eq!(store.keys_page("", None, 1).unwrap(), ["k"]);
    assert_eq!(store.scan("").map(Result::unwrap).collect::<Vec<_>>(), ["k"]);
    assert_eq!(store.entries::<i64>("").count(), 1);
    assert_eq!(store.len().unwrap(), 1);
    store.clear().unwrap();
    assert_eq!(server.raw.all_keys(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_ttl_is_stored_on_the_server_in_milliseconds() {
    let server = SharedServer::new();
    let store = server.store("p");
    let left = |key: &str| server.raw.run::<_, i64>("PTTL", &[key]);
    store.put_with_ttl("k", 1, Duration::from_millis(123_456)).unwrap();
    assert!((100_000..=123_456).contains(&left("p:k")), "{}", left("p:k"));
    store.put("k", 1).unwrap();
    assert_eq!(left("p:k"), -1);
    store.incr_with_ttl("c", 1, Duration::from_millis(123_456)).unwrap();
    assert!((100_000..=123_456).contains(&left("p:c")), "{}", left("p:c"));
    let mut batch = WriteBatch::new();
    store.write(batch.put_with_ttl("b", 1, Duration::from_millis(123_456)).unwrap()).unwrap();
    assert!((100_000..=123_456).contains(&left("p:b")), "{}", left("p:b"));
}

#[test]
fn an_entry_really_expires_on_the_server() {
    let server = SharedServer::new();
    let store = server.store("p");
    store.put_with_ttl("k", 1, Duration::from_millis(50)).unwrap();
    store.incr_with_ttl("c", 1, Duration::from_millis(50)).unwrap();
    let limit = Duration::from_secs(10);
    wait_until("both entries have expired", limit, || {
        !store.contains("k").unwrap() && !store.contains("c").unwrap()
    });
    assert_eq!(store.get::<i64>("k").unwrap(), None);
    assert_eq!(store.incr("c", 1).unwrap(), 1);
    assert_eq!(store.keys("").unwrap(), ["c"]);
}

#[test]
fn two_stores_with_one_prefix_share_their_entries() {
    let server = SharedServer::new();
    let (mine, theirs) = (server.store("p"), server.store("p"));
    mine.put("k", 1).unwrap();
    assert_eq!(theirs.incr("k", 1).unwrap(), 2);
    assert_eq!(mine.get::<i64>("k").unwrap(), Some(2));
    mine.close().unwrap();
    assert_eq!(theirs.get::<i64>("k").unwrap(), Some(2));
}

#[test]
fn the_state_of_a_store_outlives_it() {
    let server = SharedServer::new();
    server.store("p").put("k", 1).unwrap();
    assert_eq!(server.store("p").get::<i64>("k").unwrap(), Some(1));
}

#[test]
fn a_missing_server_is_unavailable_without_a_fallback() {
    let mut server = RedisServer::start();
    let url = format!("redis://127.0.0.1:{}?fallback=none&connect_timeout=500ms&timeout=1s", server.port());
    let store = StateStore::open(&url).unwrap();
    store.put("k", 1).unwrap();
    server.kill();
    assert!(assert_error!(store.get::<i64>("k"), Error::Unavailable { .. }).is_transient());
    assert_error!(StateStore::open(&url), Error::Unavailable { .. });
    server.restart();
    let limit = Duration::from_secs(10);
    wait_until("the store works again", limit, || store.put("k", 2).is_ok());
    assert_eq!(store.get::<i64>("k").unwrap(), Some(2));
}

#[test]
fn a_frozen_server_costs_no_more_than_the_limit_of_an_operation() {
    let server = RedisServer::start();
    let url =
        format!("redis://127.0.0.1:{}?fallback=none&connect_timeout=200ms&timeout=500ms", server.port());
    let store = StateStore::open(&url).unwrap();
    store.put("k", 1).unwrap();
    server.pause();
    let begun = std::time::Instant::now();
    assert_error!(store.get::<i64>("k"), Error::Unavailable { .. });
    assert_error!(store.incr("k", 1), Error::Unavailable { .. });
    let took = begun.elapsed();
    server.resume();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let limit = Duration::from_secs(10);
    wait_until("the store works again", limit, || store.get::<i64>("k").is_ok());
    let number = store.get::<i64>("k").unwrap();
    assert!(matches!(number, Some(1 | 2)), "at most once: {number:?}");
}

#[test]
fn a_wrong_password_is_denied_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let right = format!("redis://:right@127.0.0.1:{}?fallback=none", server.port());
    let store = StateStore::open(&right).unwrap();
    store.put("k", 1).unwrap();
    assert!(!format!("{store:?}").contains("right"));
    for login in [":hunter2@", "", "user:hunter2@"] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port());
        let error = assert_error!(StateStore::open(&url), Error::Denied { .. });
        let shown = format!("{error} {error:?} {:?}", crate::support::chain(&error));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!error.is_transient());
    }
}

/// An option that is accepted has an effect: a chunk is not begun before it is complete.
#[test]
fn a_pipeline_batch_size_over_a_thousand_is_respected() {
    let server = SharedServer::new();
    for (size, done) in [(1000, Some(2000)), (5000, None)] {
        let url = format!("{}?key_prefix=p{size}&fallback=none&pipeline_batch_size={size}", server.url);
        let store = StateStore::open(&url).unwrap();
        let keys = (0..2500).map(|n| n.to_string()).chain([String::new()]);
        match (store.batch_put(keys.map(|key| (key, 1))).unwrap_err(), done) {
            (Error::Partial { done, .. }, Some(expected)) => assert_eq!(done, expected),
            (Error::InvalidKey { .. }, None) => {}
            (error, _) => panic!("{size}: {error}"),
        }
        assert_eq!(store.len().unwrap(), done.unwrap_or(0), "{size}");
        store.batch_put((0..2500).map(|n| (n.to_string(), n))).unwrap();
        let all: Vec<Option<u32>> = store.batch_get((0..2500).map(|n| n.to_string())).unwrap();
        assert_eq!(all, (0..2500).map(Some).collect::<Vec<_>>());
    }
}
