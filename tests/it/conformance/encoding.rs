//! Values that JSON cannot hold, and values that cannot be decoded.

use std::collections::BTreeMap;

use millpond::{Error, WriteBatch};
use serde::Serialize;
use serde_json::value::RawValue;

use super::MINUTE;
use crate::support::backends::Context;
use crate::support::chain;

promises![
    a_number_that_is_not_finite_is_refused_and_changes_nothing,
    a_map_whose_keys_are_not_strings_is_an_error,
    a_failing_serializer_is_an_encoding_error,
    raw_json_that_could_not_be_read_back_is_refused_and_changes_nothing,
    raw_json_that_can_be_read_is_written_as_it_is,
    a_decode_error_keeps_the_entry_and_carries_its_bytes,
    get_and_delete_acts_even_if_it_cannot_decode,
    get_and_put_acts_even_if_it_cannot_decode,
    get_and_touch_acts_even_if_it_cannot_decode,
    modify_keeps_the_entry_if_it_cannot_decode_or_encode,
    entries_return_a_decode_error_and_end,
    batch_get_returns_a_decode_error,
];

#[derive(Serialize)]
struct Reading {
    name: &'static str,
    value: Option<f64>,
}

fn a_number_that_is_not_finite_is_refused_and_changes_nothing(cx: &Context) {
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_error!(cx.store().put("k", number), Error::Encode { .. });
        assert_error!(cx.store().put("k", Some(vec![(1, number)])), Error::Encode { .. });
        let reading = Reading { name: "x", value: Some(number) };
        let error = assert_error!(cx.store().put("k", &reading), Error::Encode { .. });
        assert!(chain(&error).len() > 1, "{error:?} has a source");
        assert_error!(cx.store().put("k", BTreeMap::from([("f", number)])), Error::Encode { .. });
        assert_error!(cx.store().put_with_ttl("k", number, MINUTE), Error::Encode { .. });
        assert_error!(cx.store().update("k", number), Error::Encode { .. });
        assert_error!(cx.store().set_if_not_exists("new", number, None), Error::Encode { .. });
        assert_error!(cx.store().compare_and_set("k", Some(&1.0), &number), Error::Encode { .. });
        assert_error!(cx.store().compare_and_set("k", Some(&number), &1.0), Error::Encode { .. });
        assert_error!(cx.store().get_and_put::<i64>("k", number), Error::Encode { .. });
        assert_error!(cx.store().batch_put([("new", 1.0), ("k", number)]), Error::Encode { .. });
        assert_error!(WriteBatch::new().put("k", number), Error::Encode { .. });
    }
    assert_error!(cx.store().put("k", f32::NAN), Error::Encode { .. });
    assert_error!(cx.store().put("k", [f32::INFINITY]), Error::Encode { .. });
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", MINUTE);
    cx.store().put("k", Reading { name: "x", value: None }).unwrap();
    let stored = cx.store().get_bytes("k").unwrap().unwrap();
    assert_eq!(stored, br#"{"name":"x","value":null}"#[..], "a null that the program wrote is accepted");
}

fn a_map_whose_keys_are_not_strings_is_an_error(cx: &Context) {
    let error = assert_error!(cx.store().put("k", BTreeMap::from([((1, 2), 3)])), Error::Encode { .. });
    assert!(error.to_string().contains("\"k\""), "{error}");
    assert_error!(cx.store().put("k", BTreeMap::from([(vec![1], 3)])), Error::Encode { .. });
    assert_error!(
        cx.store().put("k", BTreeMap::from([(Some("a"), BTreeMap::from([((), 1)]))])),
        Error::Encode { .. }
    );
    assert!(cx.store().is_empty().unwrap());
}

fn a_failing_serializer_is_an_encoding_error(cx: &Context) {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    let error = assert_error!(cx.store().put("k", Refuses), Error::Encode { .. });
    assert!(chain(&error).concat().contains("not today"), "{error:?}");
    assert!(cx.store().is_empty().unwrap());
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn nested(depth: usize) -> Box<RawValue> {
    raw(&("[".repeat(depth) + &"]".repeat(depth)))
}

/// `serde_json` checks only the grammar of a `RawValue`.
fn raw_json_that_could_not_be_read_back_is_refused_and_changes_nothing(cx: &Context) {
    #[derive(Serialize)]
    struct Wrapped {
        inner: Box<RawValue>,
    }
    cx.store().put("k", 1).unwrap();
    cx.store().map_put("m", "f", 1).unwrap();
    cx.store().push_back("q", 1).unwrap();
    for raw in [
        nested(128),
        nested(200),
        raw(&("{\"a\":".repeat(128) + "1" + &"}".repeat(128))),
        raw("1e999"),
        raw("[-1e999]"),
        raw(r#""\ud800""#),
        raw(r#"{"a":["\udc00\ud800"]}"#),
        raw(r#"{"\ud800":1}"#),
    ] {
        let (store, valid) = (cx.store(), serde_json::value::to_raw_value(&1).unwrap());
        assert_error!(store.put("k", &raw), Error::Encode { .. });
        assert_error!(store.put("k", Wrapped { inner: raw.clone() }), Error::Encode { .. });
        assert_error!(store.put("k", [Some(&raw)]), Error::Encode { .. });
        assert_error!(store.put_with_ttl("k", &raw, MINUTE), Error::Encode { .. });
        assert_error!(store.update("k", &raw), Error::Encode { .. });
        assert_error!(store.set_if_not_exists("new", &raw, None), Error::Encode { .. });
        assert_error!(store.compare_and_set("k", Some(&valid), &raw), Error::Encode { .. });
        assert_error!(store.compare_and_set("k", Some(&raw), &valid), Error::Encode { .. });
        assert_error!(store.get_and_put::<i64>("k", &raw), Error::Encode { .. });
        assert_error!(store.modify("k", |_: Option<Box<RawValue>>| Some(raw.clone())), Error::Encode { .. });
        assert_error!(store.batch_put([("new", &raw)]), Error::Encode { .. });
        assert_error!(store.map_put("m", "f", &raw), Error::Encode { .. });
        assert_error!(store.map_put_many("m", [("g", &raw)]), Error::Encode { .. });
        assert_error!(store.push_back("q", &raw), Error::Encode { .. });
        assert_error!(store.push_front("q", &raw), Error::Encode { .. });
        assert_error!(store.push_back_many("q", [&raw]), Error::Encode { .. });
        assert_error!(WriteBatch::new().put("k", &raw), Error::Encode { .. });
        let refused = store.transaction(|tx| {
            assert_error!(tx.put("k", &raw), Error::Encode { .. });
            assert_error!(tx.compare_and_set("k", Some(&valid), &raw), Error::Encode { .. });
            assert_error!(tx.map_put("m", "f", &raw), Error::Encode { .. });
            tx.push_back("q", &raw)
        });
        assert_error!(refused, Error::Encode { .. });
    }
    let store = cx.store();
    assert_eq!(store.keys("").unwrap(), ["k", "m", "q"]);
    assert_eq!(store.get::<i64>("k").unwrap(), Some(1));
    assert_eq!((store.map_len("m").unwrap(), store.queue_len("q").unwrap()), (1, 1));
}

fn raw_json_that_can_be_read_is_written_as_it_is(cx: &Context) {
    for text in [
        "null",
        "1e308",
        "-0",
        "123456789012345678901234567890",
        "1.0",
        r#""\ud83d\ude00\u0000""#,
        r#"{"a":1,"a":2}"#,
        "{ \"a\" : [ 1,\n2 ] }",
        nested(127).get(),
    ] {
        let written = raw(&format!(" {text}\n"));
        cx.store().put("k", &written).unwrap();
        assert_eq!(cx.store().get_bytes("k").unwrap().unwrap(), *text.as_bytes(), "{text}");
        assert_eq!(cx.store().get::<Box<RawValue>>("k").unwrap().unwrap().get(), text);
        cx.store().get::<serde_json::Value>("k").unwrap().unwrap();
        cx.store().map_put("m", "f", &written).unwrap();
        cx.store().map_get::<serde_json::Value>("m", "f").unwrap().unwrap();
    }
    cx.store().put("k", [nested(126)]).unwrap();
    assert_error!(cx.store().put("k", [nested(127)]), Error::Encode { .. });
}

#[track_caller]
fn assert_decode<T: std::fmt::Debug>(result: millpond::Result<T>, expected_raw: &[u8]) {
    let error = assert_error!(result, Error::Decode { .. });
    let Error::Decode { key, raw, .. } = error else { unreachable!() };
    assert_eq!(key, "k");
    assert_eq!(raw, *expected_raw);
}

fn a_decode_error_keeps_the_entry_and_carries_its_bytes(cx: &Context) {
    cx.store().put_with_ttl("k", "text", MINUTE).unwrap();
    assert_decode(cx.store().get::<i64>("k"), br#""text""#);
    cx.assert_ttl("k", MINUTE);
    assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("text"));
    cx.store().put_bytes("k", b"\xff\x00").unwrap();
    assert_decode(cx.store().get::<String>("k"), b"\xff\x00");
    cx.store().put_bytes("k", b"1 2").unwrap();
    assert_decode(cx.store().get::<i64>("k"), b"1 2");
    cx.store().put("k", 300).unwrap();
    assert_decode(cx.store().get::<u8>("k"), b"300");
    cx.store().put("k", i64::MAX).unwrap();
    assert_decode(cx.store().get::<i32>("k"), b"9223372036854775807");
}

fn get_and_delete_acts_even_if_it_cannot_decode(cx: &Context) {
    cx.store().put("k", "text").unwrap();
    assert_decode(cx.store().get_and_delete::<i64>("k"), br#""text""#);
    assert!(!cx.store().contains("k").unwrap());
}

fn get_and_put_acts_even_if_it_cannot_decode(cx: &Context) {
    cx.store().put_with_ttl("k", "text", MINUTE).unwrap();
    assert_decode(cx.store().get_and_put::<i64>("k", 5), br#""text""#);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(5));
    cx.assert_default_ttl("k");
}

fn get_and_touch_acts_even_if_it_cannot_decode(cx: &Context) {
    cx.store().put("k", "text").unwrap();
    assert_decode(cx.store().get_and_touch::<i64>("k", MINUTE), br#""text""#);
    assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("text"));
    cx.assert_ttl("k", MINUTE);
}

fn modify_keeps_the_entry_if_it_cannot_decode_or_encode(cx: &Context) {
    cx.store().put_with_ttl("k", "text", MINUTE).unwrap();
    let mut ran = false;
    let outcome = cx.store().modify::<i64>("k", |_| {
        ran = true;
        None
    });
    assert_decode(outcome, br#""text""#);
    assert!(!ran, "the closure needs a decoded value");
    cx.store().put_with_ttl("k", 1.5, MINUTE).unwrap();
    assert_error!(cx.store().modify::<f64>("k", |_| Some(f64::NAN)), Error::Encode { .. });
    assert_eq!(cx.store().get::<f64>("k").unwrap(), Some(1.5));
    cx.assert_ttl("k", MINUTE);
    assert_error!(cx.store().modify::<f64>("absent", |_| Some(f64::NAN)), Error::Encode { .. });
    assert!(!cx.store().contains("absent").unwrap());
}

fn entries_return_a_decode_error_and_end(cx: &Context) {
    cx.store().batch_put([("a", "text"), ("b", "text"), ("c", "text")]).unwrap();
    let mut entries = cx.store().entries::<i64>("");
    let error = assert_error!(entries.next().unwrap(), Error::Decode { .. });
    let Error::Decode { raw, .. } = error else { unreachable!() };
    assert_eq!(raw, br#""text""#[..]);
    assert!(entries.next().is_none(), "it ends after the first error");
    assert!(entries.next().is_none());
}

fn batch_get_returns_a_decode_error(cx: &Context) {
    cx.store().put("a", 1).unwrap();
    cx.store().put("k", "text").unwrap();
    assert_decode(cx.store().batch_get::<i64>(["a", "k"]), br#""text""#);
}
