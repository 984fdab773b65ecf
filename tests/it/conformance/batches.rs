//! Batches of any size, in chunks.

use std::time::Duration;

use millpond::Error;

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_batch_of_thousands_is_put_read_and_deleted,
    a_batch_returns_values_in_the_order_of_its_keys,
    the_last_of_two_puts_to_one_key_wins,
    an_empty_batch_does_nothing,
    a_batch_with_a_ttl_sets_it_on_each_entry,
    a_late_error_counts_the_operations_before_it,
    a_batch_marks_each_absent_key_once,
    marks_get_the_ttl_of_the_batch_or_the_default_one,
    a_batch_leaves_keys_of_every_kind_alone_that_exist,
    batch_expire_counts_the_entries_that_exist,
    an_invalid_ttl_of_a_batch_changes_nothing,
];

fn a_batch_of_thousands_is_put_read_and_deleted(cx: &Context) {
    let keys: Vec<String> = (0..2500).map(|n| format!("k:{n}")).collect();
    cx.store().batch_put(keys.iter().zip(0..)).unwrap();
    assert_eq!(cx.store().len().unwrap(), 2500);
    let values = cx.store().batch_get::<i64>(&keys).unwrap();
    assert!(values.into_iter().eq((0..2500).map(Some)));
    assert_eq!(cx.store().batch_delete(&keys).unwrap(), 2500);
    assert_eq!(cx.store().batch_delete(&keys).unwrap(), 0);
    assert!(cx.store().is_empty().unwrap());
}

fn a_batch_returns_values_in_the_order_of_its_keys(cx: &Context) {
    cx.store().batch_put([("a", 1), ("b", 2)]).unwrap();
    let values = cx.store().batch_get::<i64>(["b", "absent", "a", "b"]).unwrap();
    assert_eq!(values, [Some(2), None, Some(1), Some(2)]);
    assert_eq!(cx.store().batch_delete(["a", "absent", "a"]).unwrap(), 1);
}

fn the_last_of_two_puts_to_one_key_wins(cx: &Context) {
    cx.store().batch_put((0..10).map(|n| ("k", n))).unwrap();
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(9));
    assert_eq!(cx.store().len().unwrap(), 1);
}

fn an_empty_batch_does_nothing(cx: &Context) {
    cx.store().batch_put::<&str, i64>([]).unwrap();
    cx.store().batch_put_with_ttl::<&str, i64>([], MINUTE).unwrap();
    assert_eq!(cx.store().batch_get::<i64>([""; 0]).unwrap(), []);
    assert_eq!(cx.store().batch_delete([""; 0]).unwrap(), 0);
    assert!(cx.store().batch_set_if_not_exists([("", 1); 0], None).unwrap().is_empty());
    assert_eq!(cx.store().batch_expire([""; 0], MINUTE).unwrap(), 0);
    assert!(cx.store().is_empty().unwrap());
}

fn a_batch_with_a_ttl_sets_it_on_each_entry(cx: &Context) {
    cx.store().put("k:0", 0).unwrap();
    cx.store().batch_put_with_ttl((0..1500).map(|n| (format!("k:{n}"), n)), MINUTE).unwrap();
    for key in ["k:0", "k:999", "k:1000", "k:1499"] {
        cx.assert_ttl(key, MINUTE);
    }
    cx.store().batch_put([("k:0", 0), ("new", 0)]).unwrap();
    cx.assert_default_ttl("k:0");
    cx.assert_default_ttl("new");
    cx.advance(MINUTE);
    assert_eq!(cx.store().keys("").unwrap(), ["k:0", "new"]);
}

fn a_late_error_counts_the_operations_before_it(cx: &Context) {
    let keys = || (0..1500).map(|n| n.to_string()).chain([String::new()]);
    let error = assert_error!(cx.store().batch_put(keys().map(|key| (key, 1))), Error::Partial { .. });
    let Error::Partial { done, source, .. } = error else { unreachable!() };
    assert!(matches!(*source, Error::InvalidKey { .. }), "{source:?}");
    assert_eq!(cx.store().len().unwrap(), done, "the error says how many were done");
    assert!((1..1501).contains(&done), "{done}");
    assert_error!(cx.store().batch_delete(keys()), Error::Partial { .. });
    assert!(cx.store().len().unwrap() < done);
}

fn a_batch_marks_each_absent_key_once(cx: &Context) {
    cx.store().batch_put((0..2500).step_by(2).map(|n| (format!("k:{n}"), -1))).unwrap();
    let keys: Vec<String> = (0..2500).map(|n| format!("k:{n}")).collect();
    let marked = cx.store().batch_set_if_not_exists(keys.iter().zip(0..), None).unwrap();
    assert!(marked.into_iter().eq((0..2500).map(|n| n % 2 == 1)));
    let expected = (0..2500).map(|n| Some(if n % 2 == 1 { n } else { -1 }));
    assert!(cx.store().batch_get::<i64>(&keys).unwrap().into_iter().eq(expected));
    // Of equal keys the first one counts, also in another chunk.
    let twice = (0..2500).map(|n| (format!("twice:{}", n % 1250), n));
    let marked = cx.store().batch_set_if_not_exists(twice, None).unwrap();
    assert!(marked.into_iter().eq((0..2500).map(|n| n < 1250)));
    assert_eq!(cx.store().get::<i64>("twice:1249").unwrap(), Some(1249));
    let marked = cx.store().batch_set_if_not_exists([("a", 1), ("b", 2), ("a", 3)], None).unwrap();
    assert_eq!(marked, [true, true, false]);
    assert_eq!(cx.store().batch_get::<i64>(["a", "b"]).unwrap(), [Some(1), Some(2)]);
}

fn marks_get_the_ttl_of_the_batch_or_the_default_one(cx: &Context) {
    cx.store().put_with_ttl("old", 1, 2 * MINUTE).unwrap();
    let marked = cx.store().batch_set_if_not_exists([("old", 2), ("new", 2)], MINUTE).unwrap();
    assert_eq!(marked, [false, true]);
    cx.assert_ttl("old", 2 * MINUTE);
    cx.assert_ttl("new", MINUTE);
    assert_eq!(cx.store().batch_set_if_not_exists([("other", 2)], None).unwrap(), [true]);
    cx.assert_default_ttl("other");
    cx.advance(MINUTE);
    let marked = cx.store().batch_set_if_not_exists([("old", 3), ("new", 3)], Some(MINUTE)).unwrap();
    assert_eq!(marked, [false, true], "an expired mark is absent");
}

fn a_batch_leaves_keys_of_every_kind_alone_that_exist(cx: &Context) {
    cx.store().map_put("map", "f", 1).unwrap();
    cx.store().push_back("queue", 1).unwrap();
    cx.store().put("null", ()).unwrap();
    let marked =
        cx.store().batch_set_if_not_exists(["map", "queue", "null", "new"].map(|key| (key, 5)), None);
    assert_eq!(marked.unwrap(), [false, false, false, true]);
    assert_eq!(cx.store().map_get::<i64>("map", "f").unwrap(), Some(1));
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [1]);
}

fn batch_expire_counts_the_entries_that_exist(cx: &Context) {
    cx.store().batch_put((0..1500).map(|n| (format!("k:{n}"), n))).unwrap();
    cx.store().map_put("map", "f", 1).unwrap();
    cx.store().push_back("queue", 1).unwrap();
    let keys = (0..2000).map(|n| format!("k:{n}")).chain(["map", "queue"].map(str::to_owned));
    assert_eq!(cx.store().batch_expire(keys, MINUTE).unwrap(), 1502);
    for key in ["k:0", "k:1499", "map", "queue"] {
        cx.assert_ttl(key, MINUTE);
    }
    cx.store().namespace("k").put("other", 1).unwrap();
    assert_eq!(cx.store().namespace("k").batch_expire(["other", "0", "0"], 2 * MINUTE).unwrap(), 3);
    cx.advance(MINUTE);
    assert_eq!(cx.store().keys("").unwrap(), ["k:0", "k:other"]);
}

fn an_invalid_ttl_of_a_batch_changes_nothing(cx: &Context) {
    cx.store().put("k", 1).unwrap();
    let zero = Duration::ZERO;
    assert_error!(cx.store().batch_expire(["k"], zero), Error::InvalidTtl { .. });
    assert_error!(cx.store().batch_set_if_not_exists([("new", 1)], zero), Error::InvalidTtl { .. });
    assert_error!(cx.store().get_and_put_with_ttl::<i64>("k", 2, zero), Error::InvalidTtl { .. });
    let value = cx.store().value::<i64>("new");
    assert_error!(value.get_or_insert_with_ttl(zero, || unreachable!()), Error::InvalidTtl { .. });
    drop(value);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
    cx.assert_default_ttl("k");
}
