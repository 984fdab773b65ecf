//! Bytes that are not JSON, and the limit on the size of values.

use millpond::{Error, StateStore, WriteBatch};

use super::MINUTE;
use crate::support::backends::{Case, Context};

promises![
    every_byte_value_comes_back,
    bytes_and_json_are_two_views_of_one_value,
    bytes_replace_values_and_their_times_to_live,
    zero_bytes_are_a_value,
    a_value_over_the_limit_is_refused_and_changes_nothing,
];

type Operation = fn(&StateStore, &str) -> millpond::Result<()>;

fn every_byte_value_comes_back(cx: &Context) {
    let every: Vec<u8> = (0..=255).collect();
    let samples: [&[u8]; 7] =
        [&every, b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xc3\x28\xed\xa0\x80", b"{\"not json\""];
    for bytes in samples {
        cx.store().put_bytes("k", bytes).unwrap();
        assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(bytes));
        cx.store().put_bytes_with_ttl("t", bytes, MINUTE).unwrap();
        assert_eq!(cx.store().get_bytes("t").unwrap().as_deref(), Some(bytes));
        cx.assert_ttl("t", MINUTE);
    }
}

fn bytes_and_json_are_two_views_of_one_value(cx: &Context) {
    cx.store().put("json", [1, 2]).unwrap();
    assert_eq!(cx.store().get_bytes("json").unwrap().as_deref(), Some(&b"[1,2]"[..]));
    cx.store().put_bytes("bytes", b" { \"a\" :\n 1 } ").unwrap();
    assert_eq!(cx.store().get::<serde_json::Value>("bytes").unwrap(), Some(serde_json::json!({"a": 1})));
    assert_eq!(
        cx.store().get_bytes("bytes").unwrap().as_deref(),
        Some(&b" { \"a\" :\n 1 } "[..]),
        "reading does not change the bytes"
    );
    cx.store().put_bytes("counter", b"41").unwrap();
    assert_eq!(cx.store().incr("counter", 1).unwrap(), 42);
    assert_eq!(cx.store().get_bytes("absent").unwrap(), None);
}

fn bytes_replace_values_and_their_times_to_live(cx: &Context) {
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    cx.store().put_bytes("k", b"x").unwrap();
    cx.assert_default_ttl("k");
    cx.store().put_bytes_with_ttl("k", b"y", MINUTE).unwrap();
    cx.assert_ttl("k", MINUTE);
    cx.store().put("k", 2).unwrap();
    cx.assert_default_ttl("k");
}

fn zero_bytes_are_a_value(cx: &Context) {
    cx.store().put_bytes("k", b"").unwrap();
    assert!(cx.store().contains("k").unwrap());
    assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(&b""[..]));
    let error = assert_error!(cx.store().get::<String>("k"), Error::Decode { .. });
    let Error::Decode { raw, .. } = error else { unreachable!() };
    assert!(raw.is_empty());
    assert_error!(cx.store().incr("k", 1), Error::NotAnInteger { .. });
}

fn a_value_over_the_limit_is_refused_and_changes_nothing(cx: &Context) {
    let Case { backend, default_ttl } = cx.case();
    let cx = &Context::configured(Case { backend, default_ttl }, |config| config.max_value_bytes(10));
    cx.store().put("k", "12345678").unwrap();
    cx.store().put_bytes("b", &[0; 10]).unwrap();
    let over = "123456789";
    let operations: [(&str, Operation); 11] = [
        ("put", |s, v| s.put("k", v)),
        ("put_with_ttl", |s, v| s.put_with_ttl("k", v, MINUTE)),
        ("update", |s, v| s.update("k", v).map(drop)),
        ("put_bytes", |s, _| s.put_bytes("k", &[0; 11])),
        ("put_bytes_with_ttl", |s, _| s.put_bytes_with_ttl("k", &[0; 11], MINUTE)),
        ("set_if_not_exists", |s, v| s.set_if_not_exists("new", v, None).map(drop)),
        ("compare_and_set", |s, v| s.compare_and_set("k", Some("12345678"), v).map(drop)),
        ("get_and_put", |s, v| s.get_and_put::<String>("k", v).map(drop)),
        ("modify", |s, v| s.modify::<String>("k", |_| Some(v.to_owned())).map(drop)),
        ("batch_put", |s, v| s.batch_put([("new", "1"), ("k", v)])),
        ("write", |s, v| {
            let mut batch = WriteBatch::new();
            batch.put("new", 1)?.put("k", v)?.delete("b")?;
            s.write(&batch)
        }),
    ];
    for (name, operation) in operations {
        let error = assert_error!(operation(&cx.store(), over), Error::TooLarge { bytes: 11, limit: 10, .. });
        assert!(!error.is_transient(), "{name}");
        assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("12345678"), "{name}");
        assert_eq!(cx.store().keys("").unwrap(), ["b", "k"], "{name}");
        cx.assert_default_ttl("k");
    }
}
