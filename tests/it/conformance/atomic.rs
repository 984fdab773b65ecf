//! Atomic operations on one value, as seen by one thread.

use super::MINUTE;
use crate::support::backends::Context;

promises![
    set_if_not_exists_sets_only_once,
    get_and_delete_returns_the_removed_value,
    get_and_put_returns_the_replaced_value,
    modify_reads_writes_and_returns_the_new_value,
    modify_deletes_by_none_and_creates_by_some,
    modify_runs_again_after_a_write_in_between,
    modify_sees_a_deletion_and_a_creation_in_between,
    the_closure_of_modify_may_use_the_store,
];

fn set_if_not_exists_sets_only_once(cx: &Context) {
    assert!(cx.store().set_if_not_exists("k", 1, Some(MINUTE)).unwrap());
    cx.assert_ttl("k", MINUTE);
    assert!(!cx.store().set_if_not_exists("k", 2, Some(2 * MINUTE)).unwrap());
    assert!(!cx.store().set_if_not_exists("k", 2, None).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", MINUTE);
    cx.store().delete("k").unwrap();
    assert!(cx.store().set_if_not_exists("k", 3, None).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(3));
    cx.store().put("null", ()).unwrap();
    assert!(!cx.store().set_if_not_exists("null", 1, None).unwrap(), "a null is a value");
}

fn get_and_delete_returns_the_removed_value(cx: &Context) {
    assert_eq!(cx.store().get_and_delete::<i64>("k").unwrap(), None);
    cx.store().put("k", 1).unwrap();
    assert_eq!(cx.store().get_and_delete::<i64>("k").unwrap(), Some(1));
    assert_eq!(cx.store().get_and_delete::<i64>("k").unwrap(), None);
    assert!(cx.store().is_empty().unwrap());
}

fn get_and_put_returns_the_replaced_value(cx: &Context) {
    assert_eq!(cx.store().get_and_put::<i64>("k", 1).unwrap(), None);
    assert_eq!(cx.store().get_and_put::<i64>("k", "text").unwrap(), Some(1));
    assert_eq!(cx.store().get_and_put::<String>("k", 2).unwrap().as_deref(), Some("text"));
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(2));
    cx.assert_default_ttl("k");
    assert_eq!(cx.store().get_and_put_with_ttl::<i64>("k", 3, MINUTE).unwrap(), Some(2));
    cx.assert_ttl("k", MINUTE);
    let seen = cx.store().transaction(|tx| {
        let before = tx.get_and_put_with_ttl::<i64>("k", 4, 2 * MINUTE)?;
        Ok((before, tx.get::<i64>("k")?))
    });
    assert_eq!(seen.unwrap(), (Some(3), Some(4)));
    cx.assert_ttl("k", 2 * MINUTE);
    assert_eq!(cx.store().get_and_put::<i64>("k", 5).unwrap(), Some(4));
    cx.assert_default_ttl("k");
}

fn modify_reads_writes_and_returns_the_new_value(cx: &Context) {
    cx.store().put_with_ttl("k", vec![1], MINUTE).unwrap();
    let grown = cx.store().modify("k", |found: Option<Vec<i64>>| {
        let mut list = found.unwrap_or_default();
        list.push(2);
        Some(list)
    });
    assert_eq!(grown.unwrap(), Some(vec![1, 2]));
    assert_eq!(cx.store().get::<Vec<i64>>("k").unwrap(), Some(vec![1, 2]));
    cx.assert_ttl("k", MINUTE);
    cx.store().modify("k", |found: Option<Vec<i64>>| found).unwrap();
    cx.assert_ttl("k", MINUTE);
}

fn modify_deletes_by_none_and_creates_by_some(cx: &Context) {
    assert_eq!(cx.store().modify("k", |_: Option<i64>| None).unwrap(), None);
    assert!(!cx.store().contains("k").unwrap());
    assert_eq!(cx.store().modify("k", |found: Option<i64>| Some(found.unwrap_or(10))).unwrap(), Some(10));
    cx.assert_default_ttl("k");
    assert_eq!(cx.store().modify("k", |_: Option<i64>| None).unwrap(), None);
    assert!(!cx.store().contains("k").unwrap());
    cx.store().put("null", ()).unwrap();
    let mut seen = None;
    cx.store()
        .modify("null", |found: Option<Option<i64>>| {
            seen = Some(found);
            Some(None)
        })
        .unwrap();
    assert_eq!(seen, Some(Some(None)), "a null differs from an absent value");
}

fn modify_runs_again_after_a_write_in_between(cx: &Context) {
    let store = cx.store();
    store.put_with_ttl("k", 1, MINUTE).unwrap();
    let mut seen = Vec::new();
    let made = store.modify("k", |found: Option<i64>| {
        if seen.is_empty() {
            store.update("k", 100).unwrap();
        }
        seen.extend(found);
        found.map(|number| number + 1)
    });
    assert_eq!(made.unwrap(), Some(101));
    assert_eq!(seen, [1, 100]);
    drop(store);
    cx.assert_ttl("k", MINUTE);
}

fn modify_sees_a_deletion_and_a_creation_in_between(cx: &Context) {
    let store = cx.store();
    let mut seen = Vec::new();
    let made = store.modify("k", |found: Option<i64>| {
        seen.push(found);
        match seen.len() {
            1 => store.put("k", 5).unwrap(),
            2 => assert!(store.delete("k").unwrap()),
            3 => store.put("k", 6).unwrap(),
            _ => return None,
        }
        Some(1)
    });
    assert_eq!(made.unwrap(), None);
    assert_eq!(seen, [None, Some(5), None, Some(6)]);
    assert!(!store.contains("k").unwrap());
}

fn the_closure_of_modify_may_use_the_store(cx: &Context) {
    let store = cx.store();
    store.put("price", 3).unwrap();
    let total = store.modify("total", |found: Option<i64>| {
        let price = store.get::<i64>("price").unwrap()?;
        store.incr("calls", 1).unwrap();
        store.keys("").unwrap();
        let inner = store.modify("inner", |n: Option<i64>| Some(n.unwrap_or(0) + 1)).unwrap()?;
        Some(found.unwrap_or(0) + price + inner)
    });
    assert_eq!(total.unwrap(), Some(4));
    assert_eq!(store.get::<i64>("calls").unwrap(), Some(1));
}
