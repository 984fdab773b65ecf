//! Batches of any size, in chunks.

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
