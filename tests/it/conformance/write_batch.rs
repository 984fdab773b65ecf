//! `WriteBatch`: all of its writes, or none.

use millpond::{Error, WriteBatch};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_write_batch_is_written_as_a_whole,
    the_writes_of_a_batch_are_made_in_order,
    a_batch_with_one_invalid_write_changes_nothing,
    a_ttl_in_a_batch_counts_from_the_write,
    an_empty_write_batch_does_nothing,
    a_batch_may_be_written_again_and_emptied,
    a_write_batch_of_thousands_is_written_as_a_whole,
];

fn a_write_batch_is_written_as_a_whole(cx: &Context) {
    cx.store().put("gone", 1).unwrap();
    cx.store().put_with_ttl("replaced", 1, MINUTE).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("new", [1, 2]).unwrap().put("replaced", "two").unwrap();
    batch.delete("gone").unwrap().delete("never there").unwrap();
    cx.store().write(&batch).unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["new", "replaced"]);
    assert_eq!(cx.store().get::<Vec<i64>>("new").unwrap(), Some(vec![1, 2]));
    assert_eq!(cx.store().get::<String>("replaced").unwrap().as_deref(), Some("two"));
    cx.assert_default_ttl("new");
    cx.assert_default_ttl("replaced");
}

fn the_writes_of_a_batch_are_made_in_order(cx: &Context) {
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap().delete("a").unwrap().put("a", 2).unwrap();
    batch.put_with_ttl("b", 1, MINUTE).unwrap().delete("b").unwrap();
    batch.delete("c").unwrap().put_with_ttl("c", 1, MINUTE).unwrap().put("c", 2).unwrap();
    cx.store().write(&batch).unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["a", "c"]);
    assert_eq!(cx.store().batch_get::<i64>(["a", "b", "c"]).unwrap(), [Some(2), None, Some(2)]);
    cx.assert_default_ttl("c");
}

fn a_batch_with_one_invalid_write_changes_nothing(cx: &Context) {
    cx.store().namespace("n").put("kept", 1).unwrap();
    let mut batch = WriteBatch::new();
    batch.put("new", 1).unwrap().delete("kept").unwrap();
    batch.put("k".repeat(512), 1).unwrap().put("more", 1).unwrap();
    let error = assert_error!(cx.store().namespace("n").write(&batch), Error::InvalidKey { .. });
    assert!(error.to_string().contains("n:kkk"), "{error}");
    assert_eq!(cx.store().keys("").unwrap(), ["n:kept"]);
    cx.store().write(&batch).unwrap();
    assert_eq!(cx.store().len().unwrap(), 4, "without the namespace the keys are short enough");
}

fn a_ttl_in_a_batch_counts_from_the_write(cx: &Context) {
    let mut batch = WriteBatch::new();
    batch.put_with_ttl("k", 1, MINUTE).unwrap();
    cx.advance(2 * MINUTE);
    cx.store().write(&batch).unwrap();
    cx.assert_ttl("k", MINUTE);
    cx.advance(MINUTE);
    assert!(cx.store().is_empty().unwrap());
}

fn an_empty_write_batch_does_nothing(cx: &Context) {
    let batch = WriteBatch::new();
    assert!(batch.is_empty());
    cx.store().write(&batch).unwrap();
    assert!(cx.store().is_empty().unwrap());
}

fn a_batch_may_be_written_again_and_emptied(cx: &Context) {
    let mut batch = WriteBatch::new();
    batch.put("k", 1).unwrap();
    cx.store().write(&batch).unwrap();
    cx.store().put("k", 2).unwrap();
    cx.store().write(&batch.clone()).unwrap();
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    batch.clear();
    assert_eq!((batch.len(), batch.is_empty()), (0, true));
    batch.delete("k").unwrap();
    cx.store().write(&batch).unwrap();
    assert!(cx.store().is_empty().unwrap());
}

fn a_write_batch_of_thousands_is_written_as_a_whole(cx: &Context) {
    let mut batch = WriteBatch::new();
    for n in 0..2500 {
        batch.put(n.to_string(), n).unwrap();
    }
    for n in 0..500 {
        batch.delete(n.to_string()).unwrap();
    }
    cx.store().write(&batch).unwrap();
    assert_eq!(cx.store().len().unwrap(), 2000);
    assert_eq!(cx.store().get::<i64>("499").unwrap(), None);
    assert_eq!(cx.store().get::<i64>("2499").unwrap(), Some(2499));
}
