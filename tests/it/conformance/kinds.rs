//! Kinds: which operations work on which kind, and the errors of the others.

use std::collections::BTreeMap;

use millpond::{Error, Kind, Result, StateStore, Transaction, WriteBatch};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    in_a_transaction_another_kind_fails_and_changes_nothing,
    a_put_of_any_form_replaces_any_kind_and_its_ttl,
    any_kind_is_deleted,
    any_kind_has_a_time_to_live,
    any_kind_is_listed_counted_and_cleared,
    set_if_not_exists_treats_any_kind_as_present,
    entries_skip_maps_and_queues,
    an_expired_entry_has_no_kind,
    a_key_may_hold_one_kind_after_another,
    one_wrong_kind_among_many_keys_is_reported,
];

/// Promises that need a connected server, or that end when the server disconnects.
mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        an_operation_on_another_kind_fails_and_changes_nothing,
    ];
}

pub(crate) type OnAStore = (&'static str, fn(&StateStore, &str) -> Result<()>);
type OnATransaction = (&'static str, fn(&mut Transaction<'_>, &str) -> Result<()>);

/// Every operation that works on values only.
pub(crate) const ON_VALUES: [OnAStore; 17] = [
    ("get", |s, k| s.get::<i64>(k).map(drop)),
    ("get_bytes", |s, k| s.get_bytes(k).map(drop)),
    ("update", |s, k| s.update(k, 1).map(drop)),
    ("compare_and_set from nothing", |s, k| s.compare_and_set(k, None::<&i64>, &1).map(drop)),
    ("compare_and_set", |s, k| s.compare_and_set(k, Some(&7), &1).map(drop)),
    ("compare_and_set by meaning", |s, k| s.compare_and_set(k, Some(&7.0), &1.0).map(drop)),
    ("get_and_delete", |s, k| s.get_and_delete::<i64>(k).map(drop)),
    ("get_and_put", |s, k| s.get_and_put::<i64>(k, 1).map(drop)),
    ("get_and_put_with_ttl", |s, k| s.get_and_put_with_ttl::<i64>(k, 1, MINUTE).map(drop)),
    ("modify", |s, k| s.modify::<i64>(k, |_| Some(1)).map(drop)),
    ("modify away", |s, k| s.modify::<i64>(k, |_| None).map(drop)),
    ("incr", |s, k| s.incr(k, 1).map(drop)),
    ("decr", |s, k| s.decr(k, 1).map(drop)),
    ("incr_with_ttl", |s, k| s.incr_with_ttl(k, 1, 2 * MINUTE).map(drop)),
    ("batch_incr", |s, k| s.batch_incr([(k, 1)]).map(drop)),
    ("get_and_touch", |s, k| s.get_and_touch::<i64>(k, 2 * MINUTE).map(drop)),
    ("batch_get", |s, k| s.batch_get::<i64>([k]).map(drop)),
];

/// Every operation that works on maps only.
pub(crate) const ON_MAPS: [OnAStore; 12] = [
    ("map_put", |s, k| s.map_put(k, "f", 1).map(drop)),
    ("map_put_many", |s, k| s.map_put_many(k, [("f", 1), ("g", 2)]).map(drop)),
    ("map_put_many of none", |s, k| s.map_put_many::<&str, i64>(k, []).map(drop)),
    ("map_get", |s, k| s.map_get::<i64>(k, "f").map(drop)),
    ("map_get_many", |s, k| s.map_get_many::<i64>(k, ["f", "g"]).map(drop)),
    ("map_get_many of none", |s, k| s.map_get_many::<i64>(k, [""; 0]).map(drop)),
    ("map_delete", |s, k| s.map_delete(k, "f").map(drop)),
    ("map_contains", |s, k| s.map_contains(k, "f").map(drop)),
    ("map_entries", |s, k| s.map_entries::<i64>(k).map(drop)),
    ("map_keys", |s, k| s.map_keys(k).map(drop)),
    ("map_len", |s, k| s.map_len(k).map(drop)),
    ("map_incr", |s, k| s.map_incr(k, "f", 1).map(drop)),
];

/// Every operation that works on queues only.
pub(crate) const ON_QUEUES: [OnAStore; 15] = [
    ("push_back", |s, k| s.push_back(k, 1).map(drop)),
    ("push_front", |s, k| s.push_front(k, 1).map(drop)),
    ("push_back_many", |s, k| s.push_back_many(k, [1, 2]).map(drop)),
    ("push_back_many of none", |s, k| s.push_back_many::<i64>(k, []).map(drop)),
    ("pop_front", |s, k| s.pop_front::<i64>(k).map(drop)),
    ("pop_back", |s, k| s.pop_back::<i64>(k).map(drop)),
    ("pop_front_wait of no time", |s, k| s.pop_front_wait::<i64>(k, std::time::Duration::ZERO).map(drop)),
    ("pop_front_wait", |s, k| s.pop_front_wait::<i64>(k, super::SHORT).map(drop)),
    ("take", |s, k| s.lease::<i64>(k, MINUTE).map(drop)),
    ("take_wait", |s, k| s.lease_wait::<i64>(k, MINUTE, super::SHORT).map(drop)),
    ("queue_len", |s, k| s.queue_len(k).map(drop)),
    ("queue_range", |s, k| s.queue_range::<i64>(k, ..).map(drop)),
    ("queue_range of none", |s, k| s.queue_range::<i64>(k, 0..0).map(drop)),
    ("queue_trim", |s, k| s.queue_trim(k, 0).map(drop)),
    ("queue_trim to more", |s, k| s.queue_trim(k, u64::MAX).map(drop)),
];

const ON_VALUES_IN_A_TRANSACTION: [OnATransaction; 13] = [
    ("get", |t, k| t.get::<i64>(k).map(drop)),
    ("get_bytes", |t, k| t.get_bytes(k).map(drop)),
    ("update", |t, k| t.update(k, 1).map(drop)),
    ("compare_and_set from nothing", |t, k| t.compare_and_set(k, None::<&i64>, &1).map(drop)),
    ("compare_and_set", |t, k| t.compare_and_set(k, Some(&7), &1).map(drop)),
    ("get_and_delete", |t, k| t.get_and_delete::<i64>(k).map(drop)),
    ("get_and_put", |t, k| t.get_and_put::<i64>(k, 1).map(drop)),
    ("modify", |t, k| t.modify::<i64>(k, |_| Some(1)).map(drop)),
    ("modify away", |t, k| t.modify::<i64>(k, |_| None).map(drop)),
    ("incr", |t, k| t.incr(k, 1).map(drop)),
    ("decr", |t, k| t.decr(k, 1).map(drop)),
    ("incr_with_ttl", |t, k| t.incr_with_ttl(k, 1, 2 * MINUTE).map(drop)),
    ("get_and_touch", |t, k| t.get_and_touch::<i64>(k, 2 * MINUTE).map(drop)),
];

const ON_MAPS_IN_A_TRANSACTION: [OnATransaction; 12] = [
    ("map_put", |t, k| t.map_put(k, "f", 1).map(drop)),
    ("map_put_many", |t, k| t.map_put_many(k, [("f", 1), ("g", 2)]).map(drop)),
    ("map_put_many of none", |t, k| t.map_put_many::<&str, i64>(k, []).map(drop)),
    ("map_get", |t, k| t.map_get::<i64>(k, "f").map(drop)),
    ("map_get_many", |t, k| t.map_get_many::<i64>(k, ["f", "g"]).map(drop)),
    ("map_get_many of none", |t, k| t.map_get_many::<i64>(k, [""; 0]).map(drop)),
    ("map_delete", |t, k| t.map_delete(k, "f").map(drop)),
    ("map_contains", |t, k| t.map_contains(k, "f").map(drop)),
    ("map_entries", |t, k| t.map_entries::<i64>(k).map(drop)),
    ("map_keys", |t, k| t.map_keys(k).map(drop)),
    ("map_len", |t, k| t.map_len(k).map(drop)),
    ("map_incr", |t, k| t.map_incr(k, "f", 1).map(drop)),
];

const ON_QUEUES_IN_A_TRANSACTION: [OnATransaction; 11] = [
    ("push_back", |t, k| t.push_back(k, 1).map(drop)),
    ("push_front", |t, k| t.push_front(k, 1).map(drop)),
    ("push_back_many", |t, k| t.push_back_many(k, [1, 2]).map(drop)),
    ("push_back_many of none", |t, k| t.push_back_many::<i64>(k, []).map(drop)),
    ("pop_front", |t, k| t.pop_front::<i64>(k).map(drop)),
    ("pop_back", |t, k| t.pop_back::<i64>(k).map(drop)),
    ("queue_len", |t, k| t.queue_len(k).map(drop)),
    ("queue_range", |t, k| t.queue_range::<i64>(k, ..).map(drop)),
    ("queue_range of none", |t, k| t.queue_range::<i64>(k, 0..0).map(drop)),
    ("queue_trim", |t, k| t.queue_trim(k, 0).map(drop)),
    ("queue_trim to more", |t, k| t.queue_trim(k, u64::MAX).map(drop)),
];

const KINDS: [Kind; 3] = [Kind::Value, Kind::Map, Kind::Queue];

/// The keys under which [`prepare`] stores one entry of each kind.
const KEYS: [&str; 3] = ["n:value", "n:map", "n:queue"];

fn prepare(cx: &Context) {
    let store = cx.store();
    store.put("n:value", 7).unwrap();
    store.map_put_many("n:map", [("f", 7), ("h", 8)]).unwrap();
    store.push_back_many("n:queue", [7, 8]).unwrap();
    for key in KEYS {
        assert!(store.expire(key, MINUTE).unwrap());
    }
}

#[track_caller]
fn assert_as_prepared(cx: &Context, name: &str) {
    let store = cx.store();
    assert_eq!(store.get::<i64>("n:value").unwrap(), Some(7), "{name}");
    let fields = BTreeMap::from([("f".to_owned(), 7), ("h".to_owned(), 8)]);
    assert_eq!(store.map_entries::<i64>("n:map").unwrap(), fields, "{name}");
    assert_eq!(store.queue_range::<i64>("n:queue", ..).unwrap(), [7, 8], "{name}");
    assert_eq!(store.len().unwrap(), 3, "{name}");
    drop(store);
    for key in KEYS {
        cx.assert_ttl(key, MINUTE);
    }
}

#[track_caller]
fn assert_wrong(name: &str, outcome: Result<()>, at: &str, wanted: Kind, there: Kind) {
    let error = assert_error!(outcome, Error::WrongType { .. });
    let Error::WrongType { key, expected, found, .. } = &error else { unreachable!() };
    assert_eq!((key.as_str(), *expected, *found), (at, wanted, Some(there)), "{name}");
    assert!(!error.is_transient());
}

/// The other kinds, each with its key.
fn other_kinds(wanted: Kind) -> impl Iterator<Item = (Kind, &'static str)> {
    KINDS.into_iter().zip(KEYS).filter(move |(kind, _)| *kind != wanted)
}

fn an_operation_on_another_kind_fails_and_changes_nothing(cx: &Context) {
    prepare(cx);
    let operations = [(Kind::Value, &ON_VALUES[..]), (Kind::Map, &ON_MAPS), (Kind::Queue, &ON_QUEUES)];
    for (wanted, operations) in operations {
        for (there, key) in other_kinds(wanted) {
            let store = cx.store().namespace("n");
            for (name, operation) in operations {
                let inner = key.strip_prefix("n:").expect("a key of the namespace");
                assert_wrong(name, operation(&store, inner), key, wanted, there);
            }
            drop(store);
            assert_as_prepared(cx, key);
        }
    }
}

fn in_a_transaction_another_kind_fails_and_changes_nothing(cx: &Context) {
    prepare(cx);
    let operations = [
        (Kind::Value, &ON_VALUES_IN_A_TRANSACTION[..]),
        (Kind::Map, &ON_MAPS_IN_A_TRANSACTION),
        (Kind::Queue, &ON_QUEUES_IN_A_TRANSACTION),
    ];
    for (wanted, operations) in operations {
        for (there, key) in other_kinds(wanted) {
            let store = cx.store();
            for (name, operation) in operations {
                let given_up = store.transaction(|tx| {
                    tx.put("new", 1)?;
                    operation(tx, key)
                });
                assert_wrong(name, given_up, key, wanted, there);
            }
            // A program may continue after the error; then the rest of the transaction is done.
            let went_on = store.transaction(|tx| {
                for (name, operation) in operations {
                    assert_wrong(name, operation(tx, key), key, wanted, there);
                }
                tx.put("done", 1)
            });
            went_on.unwrap();
            assert!(store.delete("done").unwrap());
            drop(store);
            assert_as_prepared(cx, key);
        }
    }
}

fn a_put_of_any_form_replaces_any_kind_and_its_ttl(cx: &Context) {
    let puts: [OnAStore; 6] = [
        ("put", |s, k| s.put(k, 1)),
        ("put_bytes", |s, k| s.put_bytes(k, b"1")),
        ("batch_put", |s, k| s.batch_put([(k, 1)])),
        ("write", |s, k| {
            let mut batch = WriteBatch::new();
            s.write(batch.put(k, 1)?)
        }),
        ("put in a transaction", |s, k| s.transaction(|tx| tx.put(k, 1))),
        ("put_bytes in a transaction", |s, k| s.transaction(|tx| tx.put_bytes(k, b"1"))),
    ];
    let puts_with_ttl: [OnAStore; 5] = [
        ("put_with_ttl", |s, k| s.put_with_ttl(k, 1, 2 * MINUTE)),
        ("put_bytes_with_ttl", |s, k| s.put_bytes_with_ttl(k, b"1", 2 * MINUTE)),
        ("batch_put_with_ttl", |s, k| s.batch_put_with_ttl([(k, 1)], 2 * MINUTE)),
        ("write", |s, k| {
            let mut batch = WriteBatch::new();
            s.write(batch.put_with_ttl(k, 1, 2 * MINUTE)?)
        }),
        ("put_with_ttl in a transaction", |s, k| s.transaction(|tx| tx.put_with_ttl(k, 1, 2 * MINUTE))),
    ];
    for (name, put) in puts {
        prepare(cx);
        for key in KEYS {
            put(&cx.store(), key).unwrap();
            assert_eq!(cx.store().get::<i64>(key).unwrap(), Some(1), "{name}");
            cx.assert_default_ttl(key);
            assert!(cx.store().delete(key).unwrap(), "{name}");
        }
    }
    for (name, put) in puts_with_ttl {
        prepare(cx);
        for key in KEYS {
            put(&cx.store(), key).unwrap();
            assert_eq!(cx.store().get::<i64>(key).unwrap(), Some(1), "{name}");
            cx.assert_ttl(key, 2 * MINUTE);
            assert!(cx.store().delete(key).unwrap(), "{name}");
        }
    }
}

fn any_kind_is_deleted(cx: &Context) {
    let deletions: [OnAStore; 4] = [
        ("delete", |s, k| s.delete(k).map(|was_there| assert!(was_there))),
        ("batch_delete", |s, k| s.batch_delete([k]).map(|count| assert_eq!(count, 1))),
        ("write", |s, k| {
            let mut batch = WriteBatch::new();
            s.write(batch.delete(k)?)
        }),
        ("in a transaction", |s, k| s.transaction(|tx| tx.delete(k).map(|was_there| assert!(was_there)))),
    ];
    for (name, delete) in deletions {
        prepare(cx);
        for key in KEYS {
            assert!(cx.store().contains(key).unwrap(), "{name}");
            delete(&cx.store(), key).unwrap();
            assert!(!cx.store().contains(key).unwrap(), "{name}");
            assert!(!cx.store().delete(key).unwrap(), "{name}");
        }
    }
}

fn any_kind_has_a_time_to_live(cx: &Context) {
    prepare(cx);
    for key in KEYS {
        assert!(cx.store().persist(key).unwrap());
        cx.assert_ttl(key, None);
        assert!(!cx.store().persist(key).unwrap());
        assert!(cx.store().expire(key, MINUTE).unwrap());
    }
    assert_as_prepared(cx, "expire and persist");
    cx.advance(MINUTE);
    assert!(cx.store().is_empty().unwrap());
}

fn any_kind_is_listed_counted_and_cleared(cx: &Context) {
    prepare(cx);
    let mut sorted = KEYS;
    sorted.sort_unstable();
    assert_eq!(cx.store().keys("").unwrap(), sorted);
    assert_eq!(cx.store().keys_page("n:", Some("n:map"), 1).unwrap(), ["n:queue"]);
    let mut scanned: Vec<String> = cx.store().scan("").map(Result::unwrap).collect();
    scanned.sort();
    scanned.dedup();
    assert_eq!(scanned, sorted);
    assert_eq!(cx.store().count("n:").unwrap(), 3);
    assert_eq!(cx.store().len().unwrap(), 3);
    assert_eq!(cx.store().delete_prefix("n:m").unwrap(), 1);
    assert_eq!(cx.store().namespace("n").keys("").unwrap(), ["queue", "value"]);
    assert_eq!(cx.store().clear().unwrap(), 2);
    assert!(cx.store().is_empty().unwrap());
}

fn set_if_not_exists_treats_any_kind_as_present(cx: &Context) {
    prepare(cx);
    for key in KEYS {
        assert!(!cx.store().set_if_not_exists(key, 1, None).unwrap());
        assert!(!cx.store().set_if_not_exists(key, 1, Some(2 * MINUTE)).unwrap());
        assert!(!cx.store().transaction(|tx| tx.set_if_not_exists(key, 1, None)).unwrap());
    }
    assert_as_prepared(cx, "set_if_not_exists");
}

fn entries_skip_maps_and_queues(cx: &Context) {
    prepare(cx);
    cx.store().put("n:another", 9).unwrap();
    let mut entries: Vec<(String, i64)> = cx.store().entries("").map(Result::unwrap).collect();
    entries.sort();
    entries.dedup();
    assert_eq!(entries, [("n:another".to_owned(), 9), ("n:value".to_owned(), 7)]);
    assert!(cx.store().entries::<i64>("n:map").next().is_none());
}

fn an_expired_entry_has_no_kind(cx: &Context) {
    let writes: [OnAStore; 6] = [
        ("incr", |s, k| s.incr(k, 1).map(|number| assert_eq!(number, 1))),
        ("compare_and_set", |s, k| s.compare_and_set(k, None::<&i64>, &1).map(|set| assert!(set))),
        ("set_if_not_exists", |s, k| s.set_if_not_exists(k, 1, None).map(|set| assert!(set))),
        ("map_put", |s, k| s.map_put(k, "new", 1).map(|new| assert!(new))),
        ("push_back", |s, k| s.push_back(k, 1).map(|length| assert_eq!(length, 1))),
        ("in a transaction", |s, k| s.transaction(|tx| tx.map_incr(k, "new", 1)).map(|n| assert_eq!(n, 1))),
    ];
    for (name, write) in writes {
        prepare(cx);
        cx.advance(MINUTE);
        for key in KEYS {
            assert_eq!(cx.store().get::<i64>(key).unwrap(), None, "{name}");
            assert_eq!(cx.store().map_len(key).unwrap(), 0, "{name}");
            assert_eq!(cx.store().queue_len(key).unwrap(), 0, "{name}");
            assert!(!cx.store().update(key, 1).unwrap(), "{name}");
            write(&cx.store(), key).unwrap();
            cx.assert_default_ttl(key);
            assert!(cx.store().delete(key).unwrap(), "{name}");
        }
    }
}

fn a_key_may_hold_one_kind_after_another(cx: &Context) {
    for round in 0..3 {
        cx.store().push_back("k", round).unwrap();
        assert_eq!(cx.store().pop_front::<i64>("k").unwrap(), Some(round));
        cx.store().map_put("k", "f", round).unwrap();
        assert!(cx.store().map_delete("k", "f").unwrap());
        assert_eq!(cx.store().incr("k", round).unwrap(), round);
        assert!(cx.store().delete("k").unwrap());
    }
    assert!(cx.store().is_empty().unwrap());
}

fn one_wrong_kind_among_many_keys_is_reported(cx: &Context) {
    prepare(cx);
    let read = cx.store().batch_get::<i64>(["n:value", "absent", "n:map", "n:queue"]);
    assert_error!(read, Error::WrongType { key, .. } if key == "n:map");
    let error = assert_error!(cx.store().batch_incr([("n:value", 1), ("n:map", 1)]), Error::Partial { .. });
    let Error::Partial { done, source, .. } = error else { unreachable!() };
    assert!(matches!(*source, Error::WrongType { .. }), "{source:?}");
    assert_eq!(done, 1);
    assert_eq!(cx.store().get::<i64>("n:value").unwrap(), Some(8));
    assert_eq!(cx.store().batch_delete(KEYS).unwrap(), 3);
}
