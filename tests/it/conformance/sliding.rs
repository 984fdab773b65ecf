//! Handles on which a read of a value renews its time to live.

use millpond::{Bytes, Error, StateStore};

use super::MINUTE;
use crate::support::backends::{Context, HOUR};

promises![
    a_sliding_handle_needs_a_default_ttl,
    a_read_renews_the_ttl_of_a_value,
    every_read_of_a_value_renews,
    other_operations_renew_nothing,
    an_entry_without_a_ttl_stays_without_one,
    a_longer_ttl_is_not_shortened,
    an_expired_or_absent_value_is_not_renewed,
    another_kind_is_refused_and_not_renewed,
    a_value_that_cannot_be_decoded_is_renewed,
    a_read_in_a_transaction_renews,
    a_read_that_renews_counts_as_a_get,
    many_readers_keep_a_value_alive,
];

/// A store with a `default_ttl` of an hour, and a sliding handle on it.
fn with_ttl(cx: &Context) -> Context {
    cx.open_another(|config| config.default_ttl(HOUR))
}

fn sliding(cx: &Context) -> StateStore {
    cx.store().sliding().unwrap()
}

fn a_sliding_handle_needs_a_default_ttl(cx: &Context) {
    let without = cx.open_another(|config| config.default_ttl(None));
    assert_error!(without.store().sliding(), Error::InvalidConfig { field, .. } if field == "default_ttl");
}

fn a_read_renews_the_ttl_of_a_value(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put_with_ttl("k", 1, 2 * MINUTE).unwrap();
    for _ in 0..3 {
        assert_eq!(sliding(cx).get::<i64>("k").unwrap(), Some(1));
        cx.assert_ttl("k", HOUR);
        cx.advance(50 * MINUTE);
    }
    cx.assert_ttl("k", 10 * MINUTE);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", 10 * MINUTE);
    cx.advance(10 * MINUTE);
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), None);
}

fn every_read_of_a_value_renews(cx: &Context) {
    let cx = &with_ttl(cx);
    let reads: [fn(&StateStore); 5] = [
        |store| assert_eq!(store.get("a").unwrap(), Some(1)),
        |store| assert_eq!(store.get_bytes("a").unwrap().as_deref(), Some(&b"1"[..])),
        |store| assert_eq!(store.batch_get::<i64>(["absent", "a"]).unwrap(), [None, Some(1)]),
        |store| assert_eq!(store.value::<i64>("a").get().unwrap(), Some(1)),
        |store| assert_eq!(store.value::<i64>("a").get_or_insert_with(|| 2).unwrap(), 1),
    ];
    for read in reads {
        cx.store().namespace("n").put_with_ttl("a", 1, MINUTE).unwrap();
        read(&sliding(cx).namespace("n"));
        cx.assert_ttl("n:a", HOUR);
        assert_eq!(cx.store().ttl("n:absent").unwrap(), None);
    }
}

fn other_operations_renew_nothing(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put_with_ttl("a", 1, MINUTE).unwrap();
    cx.store().map_put("m", "f", 1).unwrap();
    cx.store().push_back("q", 1).unwrap();
    for key in ["m", "q"] {
        assert!(cx.store().expire(key, MINUTE).unwrap());
    }
    let store = sliding(cx);
    assert!(store.contains("a").unwrap() && store.kind("a").unwrap().is_some());
    assert_eq!(store.keys("").unwrap(), ["a", "m", "q"]);
    assert_eq!(store.entries::<i64>("a").count(), 1);
    assert!(store.update("a", 2).unwrap());
    assert!(store.compare_and_set("a", Some(&2), &3).unwrap());
    assert_eq!(store.modify("a", |n: Option<i64>| n.map(|n| n + 1)).unwrap(), Some(4));
    assert_eq!(store.incr("a", 1).unwrap(), 5);
    assert_eq!(store.map_get("m", "f").unwrap(), Some(1));
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [1]);
    drop(store);
    for key in ["a", "m", "q"] {
        cx.assert_ttl(key, MINUTE);
    }
    sliding(cx).put("a", 1).unwrap();
    cx.assert_ttl("a", HOUR);
}

fn an_entry_without_a_ttl_stays_without_one(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put("k", 1).unwrap();
    assert!(cx.store().persist("k").unwrap());
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", None);
    assert_eq!(sliding(cx).batch_get::<i64>(["k"]).unwrap(), [Some(1)]);
    cx.assert_ttl("k", None);
}

fn a_longer_ttl_is_not_shortened(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put_with_ttl("k", 1, 3 * HOUR).unwrap();
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", 3 * HOUR);
    cx.advance(2 * HOUR + MINUTE);
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", HOUR);
}

fn an_expired_or_absent_value_is_not_renewed(cx: &Context) {
    let cx = &with_ttl(cx);
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), None);
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    cx.advance(MINUTE);
    assert_eq!(sliding(cx).get::<i64>("k").unwrap(), None);
    assert_eq!(sliding(cx).get_bytes("k").unwrap(), None);
    assert!(!cx.store().contains("k").unwrap());
    assert!(cx.store().is_empty().unwrap());
}

fn another_kind_is_refused_and_not_renewed(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().map_put("m", "f", 1).unwrap();
    cx.store().push_back("q", 1).unwrap();
    for key in ["m", "q"] {
        assert!(cx.store().expire(key, MINUTE).unwrap());
        assert_error!(sliding(cx).get::<i64>(key), Error::WrongType { .. });
        assert_error!(sliding(cx).batch_get::<i64>([key]), Error::WrongType { .. });
        cx.assert_ttl(key, MINUTE);
    }
    assert_error!(sliding(cx).get::<i64>(""), Error::InvalidKey { .. });
}

fn a_value_that_cannot_be_decoded_is_renewed(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put_with_ttl("k", "text", MINUTE).unwrap();
    assert_error!(sliding(cx).get::<i64>("k"), Error::Decode { .. });
    cx.assert_ttl("k", HOUR);
    assert_eq!(sliding(cx).get::<Bytes>("k").unwrap().as_deref(), Some(&br#""text""#[..]));
}

fn a_read_in_a_transaction_renews(cx: &Context) {
    let cx = &with_ttl(cx);
    for key in ["a", "b", "c"] {
        cx.store().put_with_ttl(key, 1, MINUTE).unwrap();
    }
    let store = sliding(cx);
    let sum = store.transaction(|tx| {
        let read: Option<i64> = tx.get("a")?;
        tx.put_with_ttl("b", 2, MINUTE)?;
        Ok(read.unwrap_or(0) + tx.get::<i64>("b")?.unwrap_or(0) + tx.get::<i64>("absent")?.unwrap_or(0))
    });
    drop(store);
    assert_eq!(sum.unwrap(), 3);
    cx.assert_ttl("a", HOUR);
    cx.assert_ttl("b", HOUR);
    cx.assert_ttl("c", MINUTE);
    assert!(!cx.store().contains("absent").unwrap());
}

fn a_read_that_renews_counts_as_a_get(cx: &Context) {
    let cx = &with_ttl(cx);
    let store = sliding(cx);
    store.put("k", 1).unwrap();
    let before = store.stats();
    assert_eq!(store.get("k").unwrap(), Some(1));
    assert_eq!(store.get::<i64>("absent").unwrap(), None);
    let counted = store.stats() - before;
    assert_eq!((counted.operations.gets, counted.hits, counted.misses), (2, 1, 1));
    assert_eq!(counted.operations.puts, 0);
}

fn many_readers_keep_a_value_alive(cx: &Context) {
    let cx = &with_ttl(cx);
    cx.store().put_with_ttl("k", 0, MINUTE).unwrap();
    let store = sliding(cx);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert!(store.get::<i64>("k").unwrap().is_some());
                    store.incr("k", 1).unwrap();
                }
            });
        }
    });
    assert_eq!(store.get::<i64>("k").unwrap(), Some(100));
    drop(store);
    cx.assert_ttl("k", HOUR);
}
