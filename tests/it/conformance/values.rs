//! Put, get, update, delete, contains.

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_fresh_store_is_empty,
    a_put_is_read_back_and_replaced_by_the_next,
    delete_returns_whether_the_key_existed,
    an_update_changes_only_existing_values_and_keeps_their_ttl,
    a_put_replaces_the_ttl,
    contains_is_true_for_any_value,
    a_borrowed_and_an_owned_value_are_the_same_value,
    a_deleted_key_can_be_put_again,
    reading_changes_nothing,
    flush_changes_nothing,
];

fn a_fresh_store_is_empty(cx: &Context) {
    assert!(cx.store().is_empty().unwrap());
    assert_eq!(cx.store().len().unwrap(), 0);
    assert_eq!(cx.store().keys("").unwrap(), [""; 0]);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), None);
    assert_eq!(cx.store().get_bytes("k").unwrap(), None);
    assert_eq!(cx.store().ttl("k").unwrap(), None);
    assert_eq!(cx.store().clear().unwrap(), 0);
    assert!(cx.store().scan("").next().is_none());
    assert!(cx.store().entries::<i64>("").next().is_none());
}

fn a_put_is_read_back_and_replaced_by_the_next(cx: &Context) {
    cx.store().put("k", 1).unwrap();
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.store().put("k", "now a text").unwrap();
    assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("now a text"));
    assert_eq!(cx.store().len().unwrap(), 1);
}

fn delete_returns_whether_the_key_existed(cx: &Context) {
    assert!(!cx.store().delete("k").unwrap());
    cx.store().put("k", 1).unwrap();
    assert!(cx.store().delete("k").unwrap());
    assert!(!cx.store().delete("k").unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), None);
    assert!(cx.store().is_empty().unwrap());
}

fn an_update_changes_only_existing_values_and_keeps_their_ttl(cx: &Context) {
    assert!(!cx.store().update("k", 1).unwrap());
    assert!(!cx.store().contains("k").unwrap());
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    assert!(cx.store().update("k", 2).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(2));
    cx.assert_ttl("k", MINUTE);
    cx.store().persist("k").unwrap();
    assert!(cx.store().update("k", 3).unwrap());
    cx.assert_ttl("k", None);
    cx.store().put_bytes("raw", b"\xff").unwrap();
    assert!(cx.store().update("raw", 4).unwrap(), "an update replaces any value");
    assert_eq!(cx.store().get::<i64>("raw").unwrap(), Some(4));
}

fn a_put_replaces_the_ttl(cx: &Context) {
    cx.store().put("k", 1).unwrap();
    cx.assert_default_ttl("k");
    cx.store().put_with_ttl("k", 2, MINUTE).unwrap();
    cx.assert_ttl("k", MINUTE);
    cx.store().put_with_ttl("k", 2, 2 * MINUTE).unwrap();
    cx.assert_ttl("k", 2 * MINUTE);
    cx.store().put("k", 3).unwrap();
    cx.assert_default_ttl("k");
    cx.store().persist("k").unwrap();
    cx.store().put("k", 4).unwrap();
    cx.assert_default_ttl("k");
}

fn contains_is_true_for_any_value(cx: &Context) {
    assert!(!cx.store().contains("k").unwrap());
    for put in [b"null".as_slice(), b"", b"0", b"false", b"\"\""] {
        cx.store().put_bytes("k", put).unwrap();
        assert!(cx.store().contains("k").unwrap(), "{put:?}");
    }
}

fn a_borrowed_and_an_owned_value_are_the_same_value(cx: &Context) {
    let names = vec!["anna".to_owned()];
    cx.store().put("a", &names).unwrap();
    cx.store().put("b", names.as_slice()).unwrap();
    cx.store().put("c", ["anna"]).unwrap();
    cx.store().put("d", names).unwrap();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(cx.store().get::<Vec<String>>(key).unwrap().unwrap(), ["anna"]);
    }
}

fn a_deleted_key_can_be_put_again(cx: &Context) {
    for round in 0..20 {
        cx.store().put_with_ttl("k", round, MINUTE).unwrap();
        assert!(cx.store().delete("k").unwrap());
        cx.store().put("k", round).unwrap();
        cx.assert_default_ttl("k");
        assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(round));
        assert_eq!(cx.store().keys("").unwrap(), ["k"]);
    }
}

fn reading_changes_nothing(cx: &Context) {
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    for _ in 0..3 {
        cx.store().get::<i64>("k").unwrap();
        cx.store().get_bytes("k").unwrap();
        cx.store().contains("k").unwrap();
        cx.store().ttl("k").unwrap();
        cx.store().batch_get::<i64>(["k", "absent"]).unwrap();
        cx.store().scan("").for_each(drop);
        cx.store().entries::<i64>("").for_each(drop);
    }
    cx.assert_ttl("k", MINUTE);
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
}

fn flush_changes_nothing(cx: &Context) {
    cx.store().flush().unwrap();
    cx.store().put("k", 1).unwrap();
    cx.store().flush().unwrap();
    cx.store().flush().unwrap();
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
}
