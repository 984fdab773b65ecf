//! Data that earlier systems keep in Redis, read and written byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::shared_server::SharedServer;

/// The value type of rust-rule-engine, as its users declare it to read its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum RuleValue {
    String(String),
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Array(Vec<RuleValue>),
    Object(BTreeMap<String, RuleValue>),
    Null,
    Expression(String),
}

fn rule_values() -> Vec<(&'static str, RuleValue)> {
    use RuleValue::{Array, Boolean, Expression, Integer, Null, Number, Object, String};
    vec![
        (r#"{"Integer":10}"#, Integer(10)),
        (r#"{"String":"x"}"#, String("x".into())),
        (r#"{"Number":1.5}"#, Number(1.5)),
        (r#"{"Boolean":true}"#, Boolean(true)),
        (r#"{"Array":[{"Integer":1},"Null"]}"#, Array(vec![Integer(1), Null])),
        (r#"{"Object":{"a":{"Integer":1}}}"#, Object(BTreeMap::from([("a".into(), Integer(1))]))),
        (r#""Null""#, Null),
        (r#"{"Expression":"a + b"}"#, Expression("a + b".into())),
        (r#"{"Integer":-9223372036854775808}"#, Integer(i64::MIN)),
    ]
}

#[test]
fn the_stored_state_of_rust_rule_engine_is_read() {
    let server = SharedServer::new();
    let store = server.store("rules:prod");
    for (text, value) in rule_values() {
        server.raw.run::<_, ()>("SETEX", &["rules:prod:fact", "3600", text]);
        assert_eq!(store.get::<RuleValue>("fact").unwrap(), Some(value), "{text}");
        let left = store.ttl("fact").unwrap().unwrap();
        assert!(matches!(left, millpond::Ttl::In(left) if left > Duration::from_secs(3000)), "{left:?}");
    }
    assert_eq!(store.keys("").unwrap(), ["fact"]);
}

#[test]
fn the_state_of_rust_rule_engine_is_written_in_its_own_format() {
    let server = SharedServer::new();
    let store = server.store("rules");
    for (text, value) in rule_values() {
        store.put("fact", &value).unwrap();
        assert_eq!(server.raw.get("rules:fact").unwrap(), text.as_bytes());
        assert!(store.compare_and_set("fact", Some(&value), &value).unwrap());
    }
}

#[test]
fn the_stored_bookmarks_of_faucet_are_read() {
    let server = SharedServer::new();
    server.raw.set("faucet:github_issues-v1.2", r#"{"updated_at":"2024-05-01T00:00:00Z","page":3}"#);
    server.raw.set("faucet:cursor", "\"abc\"");
    server.raw.set("faucet:lsn:17", "18446744073709551615");
    let store = server.store("faucet");
    let bookmark = store.get::<serde_json::Value>("github_issues-v1.2").unwrap().unwrap();
    assert_eq!(bookmark, json!({"updated_at": "2024-05-01T00:00:00Z", "page": 3}));
    assert_eq!(store.get::<String>("cursor").unwrap().as_deref(), Some("abc"));
    assert_eq!(store.get::<u64>("lsn:17").unwrap(), Some(u64::MAX));
    assert_eq!(store.keys("").unwrap(), ["cursor", "github_issues-v1.2", "lsn:17"]);
    assert!(store.delete("cursor").unwrap());
    assert!(!server.raw.exists("faucet:cursor"));
}

#[test]
fn the_bookmarks_of_faucet_are_written_in_its_own_format() {
    let server = SharedServer::new();
    let store = server.store("faucet");
    for (bookmark, text) in [
        (json!({"page": 3}), r#"{"page":3}"#),
        (json!("abc"), "\"abc\""),
        (json!([1, null, true, 0.5]), "[1,null,true,0.5]"),
        (json!(null), "null"),
    ] {
        store.put("stream", &bookmark).unwrap();
        assert_eq!(server.raw.get("faucet:stream").unwrap(), text.as_bytes());
        assert_eq!(server.raw.run::<_, i64>("PTTL", &["faucet:stream"]), -1, "no time to live");
    }
}

#[test]
fn the_resume_tokens_of_rigatoni_are_bytes() {
    let server = SharedServer::new();
    let token = b"\x16\0\0\0\x02_data\0\x02\0\0\0a\0\0";
    server.raw.set("rigatoni:resume_token:orders", token);
    let tokens = server.store("rigatoni").namespace("resume_token");
    assert_eq!(tokens.get_bytes("orders").unwrap().as_deref(), Some(&token[..]));
    tokens.put_bytes("users", token).unwrap();
    assert_eq!(server.raw.get("rigatoni:resume_token:users").unwrap(), token);
}
