//! Maps: fields under one key.

use std::collections::BTreeMap;

use millpond::{Error, Result, StateStore};
use serde_json::json;

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_field_is_put_read_replaced_and_deleted,
    map_put_many_puts_all_fields_and_counts_the_new_ones,
    map_get_many_returns_values_in_the_order_of_the_fields,
    a_map_lists_its_fields_sorted_by_their_bytes,
    an_absent_map_is_empty,
    an_emptied_map_is_removed_with_its_ttl,
    operations_that_create_a_map_give_it_the_default_ttl,
    operations_that_change_a_map_keep_its_ttl,
    an_expired_map_is_absent_and_no_field_brings_it_back,
    a_field_may_have_any_name_of_at_most_512_bytes,
    every_operation_refuses_a_longer_field_name,
    a_field_can_hold_any_value,
    a_field_that_cannot_decode_is_kept_and_carried,
    a_value_that_cannot_be_encoded_is_refused_for_a_field,
    a_field_over_the_limit_is_refused_and_changes_nothing,
    a_field_counts_like_a_counter,
    a_field_that_is_not_an_integer_is_refused_and_unchanged,
    a_field_reaches_both_limits_and_goes_no_further,
    a_map_belongs_to_its_namespace,
    a_map_of_thousands_of_fields_is_complete,
];

type Operation = (&'static str, fn(&StateStore, &str) -> Result<()>);

/// Every operation that names a field.
const ON_A_FIELD: [Operation; 8] = [
    ("map_put", |s, f| s.map_put("k", f, 1).map(drop)),
    ("map_put_many", |s, f| s.map_put_many("k", [("first", 1), (f, 2)]).map(drop)),
    ("map_get", |s, f| s.map_get::<i64>("k", f).map(drop)),
    ("map_get_many", |s, f| s.map_get_many::<i64>("k", ["there", f]).map(drop)),
    ("map_delete", |s, f| s.map_delete("k", f).map(drop)),
    ("map_contains", |s, f| s.map_contains("k", f).map(drop)),
    ("map_incr", |s, f| s.map_incr("k", f, 1).map(drop)),
    ("map_put in a transaction", |s, f| s.transaction(|tx| tx.map_put("k", f, 1).map(drop))),
];

fn numbers(fields: &[(&str, i64)]) -> BTreeMap<String, i64> {
    fields.iter().map(|(field, number)| ((*field).to_owned(), *number)).collect()
}

fn a_field_is_put_read_replaced_and_deleted(cx: &Context) {
    assert!(cx.store().map_put("k", "f", 1).unwrap(), "the field is new");
    assert!(!cx.store().map_put("k", "f", 2).unwrap(), "the field is not new");
    assert!(cx.store().map_put("k", "g", "text").unwrap());
    assert_eq!(cx.store().map_get::<i64>("k", "f").unwrap(), Some(2));
    assert_eq!(cx.store().map_get::<String>("k", "g").unwrap().as_deref(), Some("text"));
    assert!(cx.store().map_contains("k", "f").unwrap());
    assert!(cx.store().map_delete("k", "f").unwrap());
    assert!(!cx.store().map_delete("k", "f").unwrap());
    assert!(!cx.store().map_contains("k", "f").unwrap());
    assert_eq!(cx.store().map_get::<i64>("k", "f").unwrap(), None);
    assert_eq!(cx.store().map_len("k").unwrap(), 1);
    assert_eq!(cx.store().keys("").unwrap(), ["k"], "a map is one key");
    assert_eq!(cx.store().len().unwrap(), 1);
}

fn map_put_many_puts_all_fields_and_counts_the_new_ones(cx: &Context) {
    assert_eq!(cx.store().map_put_many("k", [("a", 1), ("b", 2)]).unwrap(), 2);
    assert_eq!(cx.store().map_put_many("k", [("b", 3), ("c", 4), ("d", 5)]).unwrap(), 2);
    assert_eq!(cx.store().map_put_many("k", vec![("a".to_owned(), 6)]).unwrap(), 0);
    assert_eq!(cx.store().map_put_many("k", [("e", 7), ("e", 8)]).unwrap(), 1, "a repeated name counts once");
    let expected = numbers(&[("a", 6), ("b", 3), ("c", 4), ("d", 5), ("e", 8)]);
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), expected);
    assert_eq!(cx.store().map_put_many::<&str, i64>("k", []).unwrap(), 0);
    assert_eq!(cx.store().map_put_many::<&str, i64>("absent", []).unwrap(), 0);
    assert!(!cx.store().contains("absent").unwrap(), "zero fields create no map");
}

fn map_get_many_returns_values_in_the_order_of_the_fields(cx: &Context) {
    cx.store().map_put_many("k", [("a", 1), ("b", 2)]).unwrap();
    let read = cx.store().map_get_many::<i64>("k", ["b", "absent", "a", "b"]).unwrap();
    assert_eq!(read, [Some(2), None, Some(1), Some(2)]);
    assert_eq!(cx.store().map_get_many::<i64>("k", [""; 0]).unwrap(), []);
    assert_eq!(cx.store().map_get_many::<i64>("absent", ["a", "b"]).unwrap(), [None, None]);
    assert_eq!(cx.store().map_get_many::<i64>("absent", [""; 0]).unwrap(), []);
}

fn a_map_lists_its_fields_sorted_by_their_bytes(cx: &Context) {
    let mut fields = ["b", "a", "B", "", "a:b", "a b", "ä", "z", "🦀", "10", "9", "\0", "aa"];
    for (number, field) in fields.iter().enumerate() {
        assert!(cx.store().map_put("k", field, number).unwrap());
    }
    let expected: BTreeMap<String, usize> = fields.iter().map(ToString::to_string).zip(0..).collect();
    assert_eq!(cx.store().map_entries::<usize>("k").unwrap(), expected);
    fields.sort_unstable();
    assert_eq!(cx.store().map_keys("k").unwrap(), fields);
    assert_eq!(cx.store().map_len("k").unwrap(), fields.len() as u64);
}

fn an_absent_map_is_empty(cx: &Context) {
    assert_eq!(cx.store().map_get::<i64>("k", "f").unwrap(), None);
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), BTreeMap::new());
    assert_eq!(cx.store().map_keys("k").unwrap(), [""; 0]);
    assert_eq!(cx.store().map_len("k").unwrap(), 0);
    assert!(!cx.store().map_contains("k", "f").unwrap());
    assert!(!cx.store().map_delete("k", "f").unwrap());
    assert!(cx.store().is_empty().unwrap(), "reading creates no map");
}

fn an_emptied_map_is_removed_with_its_ttl(cx: &Context) {
    cx.store().map_put_many("k", [("a", 1), ("b", 2)]).unwrap();
    cx.store().expire("k", MINUTE).unwrap();
    assert!(cx.store().map_delete("k", "a").unwrap());
    cx.assert_ttl("k", MINUTE);
    assert!(cx.store().map_delete("k", "b").unwrap());
    assert!(!cx.store().contains("k").unwrap());
    assert_eq!(cx.store().ttl("k").unwrap(), None);
    assert!(cx.store().is_empty().unwrap());
    cx.store().map_put("k", "c", 3).unwrap();
    cx.assert_default_ttl("k");
    cx.store().map_delete("k", "c").unwrap();
    assert_eq!(cx.store().push_back("k", 1).unwrap(), 1, "the key may hold another kind afterwards");
}

fn operations_that_create_a_map_give_it_the_default_ttl(cx: &Context) {
    cx.store().map_put("put", "f", 1).unwrap();
    cx.assert_default_ttl("put");
    cx.store().map_put_many("many", [("f", 1), ("g", 2)]).unwrap();
    cx.assert_default_ttl("many");
    assert_eq!(cx.store().map_incr("incr", "f", 1).unwrap(), 1);
    cx.assert_default_ttl("incr");
}

fn operations_that_change_a_map_keep_its_ttl(cx: &Context) {
    let change_all = || {
        cx.store().map_put("k", "f", 1).unwrap();
        cx.store().map_put("k", "new", 1).unwrap();
        cx.store().map_put_many("k", [("f", 2), ("newer", 2)]).unwrap();
        cx.store().map_incr("k", "f", 1).unwrap();
        cx.store().map_incr("k", "counter", 1).unwrap();
        assert!(cx.store().map_delete("k", "new").unwrap());
    };
    cx.store().map_put("k", "first", 0).unwrap();
    cx.store().expire("k", 2 * MINUTE).unwrap();
    cx.advance(MINUTE);
    change_all();
    cx.assert_ttl("k", MINUTE);
    cx.store().persist("k").unwrap();
    change_all();
    cx.assert_ttl("k", None);
}

fn an_expired_map_is_absent_and_no_field_brings_it_back(cx: &Context) {
    let writes: [Operation; 3] = [
        ("map_put", |s, k| s.map_put(k, "new", 1).map(|new| assert!(new))),
        ("map_put_many", |s, k| s.map_put_many(k, [("new", 1), ("old", 1)]).map(|new| assert_eq!(new, 2))),
        ("map_incr", |s, k| s.map_incr(k, "old", 1).map(|number| assert_eq!(number, 1))),
    ];
    for (name, write) in writes {
        cx.store().map_put_many("k", [("old", 7), ("older", 8)]).unwrap();
        cx.store().expire("k", MINUTE).unwrap();
        cx.advance(MINUTE);
        assert_eq!(cx.store().map_get::<i64>("k", "old").unwrap(), None, "{name}");
        assert_eq!(cx.store().map_get_many::<i64>("k", ["old"]).unwrap(), [None], "{name}");
        assert_eq!(cx.store().map_len("k").unwrap(), 0, "{name}");
        assert!(cx.store().map_keys("k").unwrap().is_empty(), "{name}");
        assert!(cx.store().map_entries::<i64>("k").unwrap().is_empty(), "{name}");
        assert!(!cx.store().map_contains("k", "old").unwrap(), "{name}");
        assert!(!cx.store().map_delete("k", "old").unwrap(), "{name}");
        assert!(cx.store().is_empty().unwrap(), "{name}");
        write(&cx.store(), "k").unwrap();
        assert_eq!(cx.store().map_get::<i64>("k", "older").unwrap(), None, "{name}");
        cx.assert_default_ttl("k");
        cx.store().delete("k").unwrap();
    }
}

fn a_field_may_have_any_name_of_at_most_512_bytes(cx: &Context) {
    let every_control: String = (0..32).chain([127, 133]).filter_map(char::from_u32).collect();
    let (long, wide) = ("f".repeat(512), "é".repeat(256));
    let names =
        ["", " ", "\0", "\n", &every_control, "ключ", "🦀\u{10ffff}", "*", "__millpond", ":", &long, &wide];
    for (number, name) in names.iter().enumerate() {
        assert!(cx.store().map_put("k", name, number).unwrap(), "{name:?}");
        assert_eq!(cx.store().map_incr("counters", name, 5).unwrap(), 5, "{name:?}");
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(cx.store().map_get::<usize>("k", name).unwrap(), Some(number), "{name:?}");
        assert!(cx.store().map_contains("k", name).unwrap(), "{name:?}");
    }
    let read = cx.store().map_get_many::<usize>("k", names).unwrap();
    assert!(read.into_iter().eq((0..names.len()).map(Some)));
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(cx.store().map_keys("k").unwrap(), sorted);
    for name in names {
        assert!(cx.store().map_delete("k", name).unwrap(), "{name:?}");
    }
    assert!(!cx.store().contains("k").unwrap());
}

/// It does nothing else.
fn every_operation_refuses_a_longer_field_name(cx: &Context) {
    cx.store().map_put("k", "there", 7).unwrap();
    for field in ["f".repeat(513), "é".repeat(257)] {
        for (name, operation) in ON_A_FIELD {
            let error = assert_error!(operation(&cx.store(), &field), Error::InvalidKey { .. });
            assert!(error.to_string().contains("512"), "{name}: {error}");
        }
    }
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), numbers(&[("there", 7)]));
    cx.assert_default_ttl("k");
}

fn a_field_can_hold_any_value(cx: &Context) {
    cx.store().map_put("k", "null", None::<i64>).unwrap();
    assert!(cx.store().map_contains("k", "null").unwrap(), "a null is a value");
    assert_eq!(cx.store().map_get::<Option<i64>>("k", "null").unwrap(), Some(None));
    assert_eq!(cx.store().map_get::<Option<i64>>("k", "absent").unwrap(), None);
    cx.store().map_put("k", "big", u128::MAX).unwrap();
    assert_eq!(cx.store().map_get::<u128>("k", "big").unwrap(), Some(u128::MAX));
    cx.store().map_put("k", "float", 5e-324).unwrap();
    assert_eq!(cx.store().map_get::<f64>("k", "float").unwrap(), Some(5e-324));
    let lists = BTreeMap::from([("a", vec![1]), ("b", vec![])]);
    cx.store().map_put("k", "lists", &lists).unwrap();
    let read = cx.store().map_get::<BTreeMap<String, Vec<i64>>>("k", "lists").unwrap().unwrap();
    assert!(read.iter().map(|(name, list)| (name.as_str(), list)).eq(lists.iter().map(|(n, l)| (*n, l))));
    let long = "ü\n\"".repeat(100_000);
    cx.store().map_put("k", "long", &long).unwrap();
    assert!(cx.store().map_get::<String>("k", "long").unwrap() == Some(long));
}

fn a_field_that_cannot_decode_is_kept_and_carried(cx: &Context) {
    cx.store().map_put("n:k", "f", "text").unwrap();
    cx.store().map_put("n:k", "g", 1).unwrap();
    let reads: [Operation; 3] = [
        ("map_get", |s, k| s.map_get::<i64>(k, "f").map(drop)),
        ("map_get_many", |s, k| s.map_get_many::<i64>(k, ["g", "f"]).map(drop)),
        ("map_entries", |s, k| s.map_entries::<i64>(k).map(drop)),
    ];
    for (name, read) in reads {
        let error = assert_error!(read(&cx.store().namespace("n"), "k"), Error::Decode { .. });
        let Error::Decode { key, raw, .. } = error else { unreachable!() };
        assert_eq!((key.as_str(), raw.as_ref()), ("n:k", &br#""text""#[..]), "{name}");
    }
    assert_eq!(cx.store().map_get::<String>("n:k", "f").unwrap().as_deref(), Some("text"));
    assert_eq!(cx.store().map_len("n:k").unwrap(), 2);
}

/// Nothing is changed.
fn a_value_that_cannot_be_encoded_is_refused_for_a_field(cx: &Context) {
    cx.store().map_put("k", "f", 1).unwrap();
    for number in [f64::NAN, f64::INFINITY] {
        assert_error!(cx.store().map_put("k", "f", number), Error::Encode { key, .. } if key == "k");
        assert_error!(cx.store().map_put("new", "f", number), Error::Encode { .. });
        assert_error!(cx.store().map_put_many("k", [("a", 1.0), ("f", number)]), Error::Encode { .. });
        assert_error!(cx.store().map_put_many("new", [("a", 1.0), ("f", number)]), Error::Encode { .. });
    }
    assert_error!(cx.store().map_put("k", "f", BTreeMap::from([((), 1)])), Error::Encode { .. });
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), numbers(&[("f", 1)]));
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
}

fn a_field_over_the_limit_is_refused_and_changes_nothing(cx: &Context) {
    let cx = &cx.open_another(|config| config.max_value_bytes(10));
    cx.store().map_put("k", "a field whose name is long", "12345678").unwrap();
    let (fits, over) = ("12345678", "123456789");
    assert_error!(cx.store().map_put("k", "f", over), Error::TooLarge { bytes: 11, limit: 10, .. });
    let many = [("a", fits), ("b", over)];
    assert_error!(cx.store().map_put_many("k", many), Error::TooLarge { key, .. } if key == "k");
    assert_error!(cx.store().map_put_many("new", many), Error::TooLarge { .. });
    assert_eq!(cx.store().map_len("k").unwrap(), 1);
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
    assert_eq!(
        cx.store().map_put_many("k", [("a", fits), ("b", fits)]).unwrap(),
        2,
        "each field counts by itself"
    );
}

fn a_field_counts_like_a_counter(cx: &Context) {
    assert_eq!(cx.store().map_incr("k", "f", 5).unwrap(), 5);
    assert_eq!(cx.store().map_incr("k", "f", -7).unwrap(), -2);
    assert_eq!(cx.store().map_incr("k", "zero", 0).unwrap(), 0);
    assert!(cx.store().map_contains("k", "zero").unwrap(), "adding zero creates the field");
    assert_eq!(cx.store().map_get::<i64>("k", "f").unwrap(), Some(-2));
    cx.store().map_put("k", "f", 40).unwrap();
    assert_eq!(cx.store().map_incr("k", "f", 2).unwrap(), 42);
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), numbers(&[("f", 42), ("zero", 0)]));
}

fn a_field_that_is_not_an_integer_is_refused_and_unchanged(cx: &Context) {
    cx.store().map_put("k", "counter", 1).unwrap();
    cx.store().expire("k", MINUTE).unwrap();
    for value in [json!("1"), json!(""), json!(1.5), json!(1.0), json!(true), json!(null), json!(u64::MAX)] {
        cx.store().map_put("k", "f", &value).unwrap();
        for by in [0, 1] {
            let counted = cx.store().map_incr("k", "f", by);
            assert_error!(counted, Error::NotAnInteger { key, .. } if key == "k");
        }
        assert_eq!(cx.store().map_get::<serde_json::Value>("k", "f").unwrap(), Some(value));
        cx.assert_ttl("k", MINUTE);
    }
    assert_eq!(cx.store().map_incr("k", "counter", 1).unwrap(), 2, "the other fields still count");
}

fn a_field_reaches_both_limits_and_goes_no_further(cx: &Context) {
    for (end, step) in [(i64::MAX, 1), (i64::MIN, -1)] {
        cx.store().map_put("k", "f", end - step).unwrap();
        assert_eq!(cx.store().map_incr("k", "f", step).unwrap(), end);
        assert_error!(cx.store().map_incr("k", "f", step), Error::Overflow { key, .. } if key == "k");
        assert_error!(cx.store().map_incr("k", "f", end), Error::Overflow { .. });
        assert_eq!(cx.store().map_get::<i64>("k", "f").unwrap(), Some(end));
    }
    assert_eq!(cx.store().map_incr("k", "least", i64::MIN).unwrap(), i64::MIN);
    assert_eq!(cx.store().map_incr("k", "most", i64::MAX).unwrap(), i64::MAX);
    assert_eq!(cx.store().map_incr("k", "most", i64::MIN).unwrap(), -1);
}

fn a_map_belongs_to_its_namespace(cx: &Context) {
    cx.store().namespace("n").map_put("k", "f", 1).unwrap();
    assert_eq!(cx.store().map_get::<i64>("n:k", "f").unwrap(), Some(1));
    assert_eq!(cx.store().namespace("n").map_incr("k", "f", 1).unwrap(), 2);
    assert_eq!(cx.store().map_len("k").unwrap(), 0);
    assert_eq!(cx.store().keys("").unwrap(), ["n:k"]);
    assert_eq!(cx.store().namespace("n").clear().unwrap(), 1);
    assert_eq!(cx.store().map_len("n:k").unwrap(), 0);
}

fn a_map_of_thousands_of_fields_is_complete(cx: &Context) {
    let fields: BTreeMap<String, i64> = (0..12_000).map(|n| (format!("f:{n}"), n)).collect();
    assert_eq!(cx.store().map_put_many("k", &fields).unwrap(), 12_000);
    assert_eq!(cx.store().map_entries::<i64>("k").unwrap(), fields);
    assert!(cx.store().map_keys("k").unwrap().iter().eq(fields.keys()));
    let read = cx.store().map_get_many::<i64>("k", fields.keys()).unwrap();
    assert!(read.into_iter().eq(fields.values().copied().map(Some)));
    let again = fields.iter().map(|(field, number)| (format!("{field}0"), number));
    let new = again.clone().filter(|(field, _)| !fields.contains_key(field)).count() as u64;
    assert_eq!(cx.store().map_put_many("k", again).unwrap(), new);
    assert_eq!(cx.store().map_len("k").unwrap(), 12_000 + new);
    cx.assert_default_ttl("k");
}
