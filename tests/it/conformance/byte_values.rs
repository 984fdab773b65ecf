//! `Bytes` as a value of every operation: stored as the bytes that they are, and in Base64 inside a larger value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millpond::{Bytes, Error, WriteBatch};
use serde::{Deserialize, Serialize};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    values_of_bytes_come_back_whatever_they_are,
    atomic_steps_take_and_return_bytes,
    batches_and_listings_take_and_return_bytes,
    maps_and_queues_hold_bytes,
    handles_and_transactions_hold_bytes,
    bytes_are_compared_as_bytes,
    bytes_inside_a_larger_value_are_base64,
    what_serde_makes_transparent_is_stored_as_bytes,
    a_value_of_bytes_over_the_limit_is_refused,
];

/// Bytes that JSON, text, or a file's format could get wrong.
fn samples() -> Vec<Bytes> {
    let every: Vec<u8> = (0..=255).collect();
    let mut samples = vec![Bytes::from(every), Bytes::from(vec![0xff; 5000])];
    samples.extend(
        [
            &b""[..],
            b"\0",
            b"\n",
            b" ",
            b"\xff\xfe",
            b"\xc3\x28\xed\xa0\x80",
            b"null",
            b"true",
            b"7",
            b" 7",
            b"1e2",
            b"\"text\"",
            b"\"aGk=\"",
            b"[1,2]",
            b"{\"a\":1}",
            b"{\"not json\"",
            b"a\":\"b",
        ]
        .map(Bytes::from),
    );
    samples
}

fn values_of_bytes_come_back_whatever_they_are(cx: &Context) {
    for bytes in samples() {
        cx.store().put("k", &bytes).unwrap();
        assert_eq!(cx.store().get::<Bytes>("k").unwrap(), Some(bytes.clone()));
        assert_eq!(cx.store().get_bytes("k").unwrap(), Some(bytes.clone()));
        cx.store().put_with_ttl("k", bytes.clone(), MINUTE).unwrap();
        cx.assert_ttl("k", MINUTE);
        assert!(cx.store().update("k", &bytes).unwrap());
        cx.assert_ttl("k", MINUTE);
        assert_eq!(cx.store().get_and_touch::<Bytes>("k", 2 * MINUTE).unwrap(), Some(bytes.clone()));
        cx.store().put_bytes("k", &bytes).unwrap();
        assert_eq!(cx.store().get::<Bytes>("k").unwrap(), Some(bytes));
    }
    cx.store().put("json", ("a", 1)).unwrap();
    assert_eq!(cx.store().get::<Bytes>("json").unwrap().unwrap(), r#"["a",1]"#);
    assert_eq!(cx.store().get::<Bytes>("absent").unwrap(), None);
    cx.store().put("counter", Bytes::from("41")).unwrap();
    assert_eq!(cx.store().incr("counter", 1).unwrap(), 42);
}

fn atomic_steps_take_and_return_bytes(cx: &Context) {
    for bytes in samples() {
        let other = Bytes::from("other");
        assert!(cx.store().set_if_not_exists("k", &bytes, MINUTE).unwrap());
        assert!(!cx.store().set_if_not_exists("k", &other, None).unwrap());
        assert_eq!(cx.store().get_and_put::<Bytes>("k", &other).unwrap(), Some(bytes.clone()));
        assert_eq!(cx.store().get_and_put::<Bytes>("k", &bytes).unwrap(), Some(other));
        let appended = |mut kept: Vec<u8>| {
            kept.push(b'!');
            Bytes::from(kept)
        };
        let expected = appended(bytes.to_vec());
        let modified =
            cx.store().modify("k", |kept: Option<Bytes>| kept.map(|kept| appended(kept.into()))).unwrap();
        assert_eq!(modified, Some(expected.clone()));
        let upserted =
            cx.store().upsert("k", Bytes::default, |kept| *kept = appended(kept.to_vec())).unwrap();
        let expected = appended(expected.into());
        assert_eq!(upserted, expected);
        assert_eq!(cx.store().get_and_delete::<Bytes>("k").unwrap(), Some(expected));
        assert!(!cx.store().contains("k").unwrap());
    }
}

fn batches_and_listings_take_and_return_bytes(cx: &Context) {
    let entries: BTreeMap<String, Bytes> =
        samples().into_iter().enumerate().map(|(at, bytes)| (format!("k{at:02}"), bytes)).collect();
    let expected: Vec<_> = entries.values().cloned().map(Some).collect();
    cx.store().batch_put(&entries).unwrap();
    assert_eq!(cx.store().batch_get::<Bytes>(entries.keys()).unwrap(), expected);
    let listed: BTreeMap<_, _> = cx.store().entries::<Bytes>("k").map(Result::unwrap).collect();
    assert_eq!(listed, entries);
    assert_eq!(cx.store().delete_prefix("k").unwrap(), entries.len() as u64);
    let mut batch = WriteBatch::new();
    for (at, (key, bytes)) in entries.iter().enumerate() {
        match at % 3 {
            0 => batch.put(key, bytes),
            1 => batch.put_bytes(key, bytes),
            _ => batch.put_with_ttl(key, bytes, MINUTE),
        }
        .unwrap();
    }
    cx.store().write(&batch).unwrap();
    assert_eq!(cx.store().batch_get::<Bytes>(entries.keys()).unwrap(), expected);
    cx.assert_default_ttl("k01");
    cx.assert_ttl("k02", MINUTE);
}

fn maps_and_queues_hold_bytes(cx: &Context) {
    let samples = samples();
    let fields: BTreeMap<String, Bytes> =
        samples.iter().cloned().enumerate().map(|(at, bytes)| (format!("f{at:02}"), bytes)).collect();
    assert!(cx.store().map_put("map", "first", &samples[0]).unwrap());
    assert!(cx.store().map_delete("map", "first").unwrap());
    assert_eq!(cx.store().map_put_many("map", &fields).unwrap(), fields.len() as u64);
    assert_eq!(cx.store().map_entries::<Bytes>("map").unwrap(), fields);
    for (field, bytes) in &fields {
        assert_eq!(cx.store().map_get::<Bytes>("map", field).unwrap().as_ref(), Some(bytes));
    }
    for bytes in &samples {
        cx.store().push_back("queue", bytes).unwrap();
    }
    assert_eq!(cx.store().queue_range::<Bytes>("queue", ..).unwrap(), samples);
    assert_eq!(cx.store().pop_back::<Bytes>("queue").unwrap().as_ref(), samples.last());
    for bytes in &samples[..samples.len() - 1] {
        assert_eq!(cx.store().pop_front::<Bytes>("queue").unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(cx.store().push_back_many("queue", &samples).unwrap(), samples.len() as u64);
    assert_eq!(cx.store().queue_range::<Bytes>("queue", ..).unwrap(), samples);
}

fn handles_and_transactions_hold_bytes(cx: &Context) {
    for bytes in samples() {
        let value = cx.store().value::<Bytes>("k");
        value.put(&bytes).unwrap();
        assert_eq!(value.get().unwrap(), Some(bytes.clone()));
        drop(value);
        let queue = cx.store().queue::<Bytes>("queue");
        queue.push_back(&bytes).unwrap();
        drop(queue);
        let seen = cx.store().transaction(|tx| {
            let seen = tx.get::<Bytes>("k")?.unwrap();
            tx.map_put("map", "f", &seen)?;
            assert_eq!(tx.map_get::<Bytes>("map", "f")?, Some(seen.clone()));
            assert_eq!(tx.pop_front::<Bytes>("queue")?, Some(seen.clone()));
            assert!(!tx.compare_and_set("k", Some(&Bytes::from("something else")), &seen)?);
            assert!(tx.compare_and_set("k", Some(&seen), &Bytes::from("new"))?);
            Ok(seen)
        });
        assert_eq!(seen.unwrap(), bytes);
        assert_eq!(cx.store().map_get::<Bytes>("map", "f").unwrap(), Some(bytes));
        assert_eq!(cx.store().get_bytes("k").unwrap().unwrap(), "new");
    }
}

fn bytes_are_compared_as_bytes(cx: &Context) {
    let new = Bytes::from("new");
    for (stored, expected) in [("1", "1.0"), ("[1,2]", "[1, 2]"), ("{\"a\":1}", " {\"a\":1}"), ("", " ")] {
        let (stored, expected) = (Bytes::from(stored), Bytes::from(expected));
        cx.store().put("k", &stored).unwrap();
        assert!(!cx.store().compare_and_set("k", Some(&expected), &new).unwrap(), "{expected:?}");
        assert!(!cx.store().compare_and_set("k", None, &new).unwrap());
        assert_eq!(cx.store().get::<Bytes>("k").unwrap(), Some(stored.clone()));
        assert!(cx.store().compare_and_set("k", Some(&stored), &new).unwrap());
        assert_eq!(cx.store().get::<Bytes>("k").unwrap().as_ref(), Some(&new));
    }
    cx.store().delete("k").unwrap();
    assert!(cx.store().compare_and_set("k", None, &new).unwrap());
    // What was put as JSON is compared as its text.
    cx.store().put("k", 5).unwrap();
    assert!(!cx.store().compare_and_set("k", Some(&Bytes::from("5.0")), &new).unwrap());
    assert!(cx.store().compare_and_set("k", Some(&Bytes::from("5")), &new).unwrap());
    // A comparison of JSON still goes by its meaning.
    cx.store().put("k", Bytes::from("5.0")).unwrap();
    assert!(cx.store().compare_and_set("k", Some(&5), &6).unwrap());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    name: String,
    body: Bytes,
    more: Vec<Bytes>,
}

fn bytes_inside_a_larger_value_are_base64(cx: &Context) {
    for bytes in samples() {
        let mail = Mail { name: "a".into(), body: bytes.clone(), more: vec![bytes.clone(); 2] };
        cx.store().put("k", &mail).unwrap();
        assert_eq!(cx.store().get("k").unwrap(), Some(mail));
        cx.store().put("k", (&bytes,)).unwrap();
        assert_eq!(cx.store().get("k").unwrap(), Some((bytes.clone(),)));
        for option in [Some(bytes), None] {
            cx.store().put("k", &option).unwrap();
            assert_eq!(cx.store().get("k").unwrap(), Some(option));
        }
    }
    cx.store().put("k", [Bytes::from("hi"), Bytes::from([0xff, 0xfe, 0xfd])]).unwrap();
    assert_eq!(cx.store().get_bytes("k").unwrap().unwrap(), r#"["aGk=","//79"]"#);
    cx.store().put("k", ["no base64"]).unwrap();
    assert_error!(cx.store().get::<Vec<Bytes>>("k"), Error::Decode { .. });
}

fn what_serde_makes_transparent_is_stored_as_bytes(cx: &Context) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Frame(Bytes);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Counted(u32);

    let bytes = Bytes::from([0xff, 0x00]);
    cx.store().put("box", Box::new(&bytes)).unwrap();
    cx.store().put("cow", Cow::Borrowed(&bytes)).unwrap();
    cx.store().put("frame", Frame(bytes.clone())).unwrap();
    for key in ["box", "cow", "frame"] {
        assert_eq!(cx.store().get_bytes(key).unwrap().as_ref(), Some(&bytes), "{key}");
        assert_eq!(cx.store().get::<Box<Bytes>>(key).unwrap().as_deref(), Some(&bytes));
        assert_eq!(cx.store().get::<Cow<'_, Bytes>>(key).unwrap().as_deref(), Some(&bytes));
        assert_eq!(cx.store().get::<Frame>(key).unwrap(), Some(Frame(bytes.clone())));
    }
    cx.store().put("counted", Counted(7)).unwrap();
    assert_eq!(cx.store().get("counted").unwrap(), Some(Counted(7)));
    assert_eq!(cx.store().incr("counted", 1).unwrap(), 8);
    cx.store().put_bytes("counted", b"7 8").unwrap();
    assert_error!(cx.store().get::<Counted>("counted"), Error::Decode { .. });
}

fn a_value_of_bytes_over_the_limit_is_refused(cx: &Context) {
    let cx = cx.open_another(|config| config.max_value_bytes(8));
    let store = cx.store();
    store.put("k", Bytes::from([0xff; 8])).unwrap();
    assert_error!(store.put("k", Bytes::from([0xff; 9])), Error::TooLarge { .. });
    assert_error!(store.push_back("queue", Bytes::from([0xff; 9])), Error::TooLarge { .. });
    assert_error!(store.map_put("map", "f", Bytes::from([0xff; 9])), Error::TooLarge { .. });
    let mut batch = WriteBatch::new();
    batch.put_bytes("k", &[0xff; 9]).unwrap();
    assert_error!(store.write(&batch), Error::TooLarge { .. });
    assert_eq!(store.get_bytes("k").unwrap().unwrap(), [0xff; 8]);
}
