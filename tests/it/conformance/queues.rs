//! Queues: values in order under one key.

use std::ops::Bound;

use millpond::{Error, Result, StateStore};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    values_come_out_in_the_order_in_which_they_went_in,
    both_ends_can_be_pushed_and_popped,
    a_push_returns_the_new_length,
    many_values_are_pushed_in_their_order,
    an_absent_queue_is_empty,
    a_range_is_counted_from_the_front,
    a_range_omits_positions_after_the_end,
    ranges_follow_the_front_as_it_moves,
    queue_trim_keeps_the_last_values_and_counts_the_others,
    an_emptied_queue_is_removed_with_its_ttl,
    operations_that_create_a_queue_give_it_the_default_ttl,
    operations_that_change_a_queue_keep_its_ttl,
    an_expired_queue_is_absent_and_no_push_brings_it_back,
    a_queue_can_hold_any_value,
    a_pop_that_cannot_decode_removes_and_carries_the_value,
    a_range_that_cannot_decode_keeps_and_carries_the_value,
    a_value_that_cannot_be_encoded_is_not_pushed,
    a_value_over_the_limit_is_not_pushed,
    a_queue_belongs_to_its_namespace,
    a_queue_of_thousands_of_values_keeps_their_order,
];

type Operation = (&'static str, fn(&StateStore, &str) -> Result<()>);

fn all_values(cx: &Context, key: &str) -> Vec<i64> {
    cx.store().queue_range(key, ..).unwrap()
}

fn fill_queue(cx: &Context, values: impl IntoIterator<Item = i64>) {
    cx.store().delete("q").unwrap();
    cx.store().push_back_many("q", values).unwrap();
}

fn values_come_out_in_the_order_in_which_they_went_in(cx: &Context) {
    for number in 0..5 {
        cx.store().push_back("q", number).unwrap();
    }
    assert_eq!(cx.store().queue_len("q").unwrap(), 5);
    for number in 0..5 {
        assert_eq!(cx.store().pop_front::<i64>("q").unwrap(), Some(number));
    }
    assert_eq!(cx.store().pop_front::<i64>("q").unwrap(), None);
    for number in 0..5 {
        cx.store().push_front("q", number).unwrap();
    }
    for number in 0..5 {
        assert_eq!(cx.store().pop_back::<i64>("q").unwrap(), Some(number));
    }
    assert_eq!(cx.store().pop_back::<i64>("q").unwrap(), None);
}

fn both_ends_can_be_pushed_and_popped(cx: &Context) {
    cx.store().push_back("q", 2).unwrap();
    cx.store().push_front("q", 1).unwrap();
    cx.store().push_back("q", 3).unwrap();
    cx.store().push_front("q", 0).unwrap();
    assert_eq!(all_values(cx, "q"), [0, 1, 2, 3]);
    assert_eq!(cx.store().pop_back::<i64>("q").unwrap(), Some(3));
    assert_eq!(cx.store().pop_front::<i64>("q").unwrap(), Some(0));
    cx.store().push_front("q", -1).unwrap();
    cx.store().push_back("q", 9).unwrap();
    assert_eq!(all_values(cx, "q"), [-1, 1, 2, 9]);
    assert_eq!(cx.store().keys("").unwrap(), ["q"], "a queue is one key");
    assert_eq!(cx.store().len().unwrap(), 1);
}

fn a_push_returns_the_new_length(cx: &Context) {
    assert_eq!(cx.store().push_back("q", 1).unwrap(), 1);
    assert_eq!(cx.store().push_front("q", 2).unwrap(), 2);
    assert_eq!(cx.store().push_back_many("q", [3, 4, 5]).unwrap(), 5);
    assert_eq!(cx.store().push_back_many::<i64>("q", []).unwrap(), 5, "the length is unchanged");
    cx.store().pop_front::<i64>("q").unwrap();
    assert_eq!(cx.store().push_front("q", 6).unwrap(), 5);
    assert_eq!(cx.store().push_back_many::<i64>("absent", []).unwrap(), 0);
    assert!(!cx.store().contains("absent").unwrap(), "zero values create no queue");
}

fn many_values_are_pushed_in_their_order(cx: &Context) {
    cx.store().push_back("q", 0).unwrap();
    cx.store().push_back_many("q", 1..4).unwrap();
    cx.store().push_back_many("q", vec![4, 4, 5]).unwrap();
    assert_eq!(all_values(cx, "q"), [0, 1, 2, 3, 4, 4, 5]);
}

fn an_absent_queue_is_empty(cx: &Context) {
    assert_eq!(cx.store().pop_front::<i64>("q").unwrap(), None);
    assert_eq!(cx.store().pop_back::<i64>("q").unwrap(), None);
    assert_eq!(cx.store().queue_len("q").unwrap(), 0);
    assert!(all_values(cx, "q").is_empty());
    assert_eq!(cx.store().queue_trim("q", 0).unwrap(), 0);
    assert_eq!(cx.store().queue_trim("q", 5).unwrap(), 0);
    assert!(cx.store().is_empty().unwrap(), "reading creates no queue");
}

fn a_range_is_counted_from_the_front(cx: &Context) {
    fill_queue(cx, 10..15);
    let store = cx.store();
    let range = |bounds: (Bound<u64>, Bound<u64>)| store.queue_range::<i64>("q", bounds).unwrap();
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [10, 11, 12, 13, 14]);
    assert_eq!(store.queue_range::<i64>("q", 1..3).unwrap(), [11, 12]);
    assert_eq!(store.queue_range::<i64>("q", 1..=3).unwrap(), [11, 12, 13]);
    assert_eq!(store.queue_range::<i64>("q", 3..).unwrap(), [13, 14]);
    assert_eq!(store.queue_range::<i64>("q", ..2).unwrap(), [10, 11]);
    assert_eq!(store.queue_range::<i64>("q", ..=0).unwrap(), [10]);
    assert_eq!(range((Bound::Excluded(0), Bound::Included(2))), [11, 12]);
    assert_eq!(range((Bound::Excluded(3), Bound::Unbounded)), [14]);
    assert_eq!(range((Bound::Excluded(1), Bound::Excluded(3))), [12]);
    assert_eq!(store.queue_len("q").unwrap(), 5, "reading removes nothing");
}

fn a_range_omits_positions_after_the_end(cx: &Context) {
    fill_queue(cx, 10..15);
    let store = cx.store();
    let range = |bounds: (Bound<u64>, Bound<u64>)| store.queue_range::<i64>("q", bounds).unwrap();
    assert_eq!(store.queue_range::<i64>("q", 3..100).unwrap(), [13, 14]);
    assert_eq!(store.queue_range::<i64>("q", 4..=u64::MAX).unwrap(), [14]);
    assert_eq!(store.queue_range::<i64>("q", 0..u64::MAX).unwrap().len(), 5);
    assert_eq!(store.queue_range::<i64>("q", ..=i64::MAX as u64).unwrap().len(), 5);
    let nothing = [
        (Bound::Included(5), Bound::Unbounded),
        (Bound::Included(5), Bound::Included(9)),
        (Bound::Included(2), Bound::Excluded(2)),
        (Bound::Included(0), Bound::Excluded(0)),
        (Bound::Unbounded, Bound::Excluded(0)),
        (Bound::Excluded(2), Bound::Excluded(3)),
        (Bound::Included(3), Bound::Excluded(1)),
        (Bound::Included(3), Bound::Included(1)),
        (Bound::Excluded(2), Bound::Excluded(2)),
        (Bound::Included(u64::MAX), Bound::Included(u64::MAX)),
        (Bound::Excluded(u64::MAX), Bound::Unbounded),
        (Bound::Included(u64::MAX), Bound::Excluded(0)),
        (Bound::Included(1 << 63), Bound::Unbounded),
        (Bound::Included(i64::MAX as u64), Bound::Included(u64::MAX)),
    ];
    for bounds in nothing {
        assert!(range(bounds).is_empty(), "{bounds:?}");
    }
    assert!(store.queue_range::<i64>("absent", 0..3).unwrap().is_empty());
}

fn ranges_follow_the_front_as_it_moves(cx: &Context) {
    fill_queue(cx, 0..6);
    cx.store().pop_front::<i64>("q").unwrap();
    assert_eq!(cx.store().queue_range::<i64>("q", 0..2).unwrap(), [1, 2]);
    cx.store().push_front("q", 9).unwrap();
    cx.store().push_front("q", 8).unwrap();
    assert_eq!(cx.store().queue_range::<i64>("q", 0..3).unwrap(), [8, 9, 1]);
    cx.store().queue_trim("q", 3).unwrap();
    assert_eq!(cx.store().queue_range::<i64>("q", 0..=1).unwrap(), [3, 4]);
    cx.store().pop_back::<i64>("q").unwrap();
    assert_eq!(cx.store().queue_range::<i64>("q", 1..).unwrap(), [4]);
}

fn queue_trim_keeps_the_last_values_and_counts_the_others(cx: &Context) {
    fill_queue(cx, 0..6);
    cx.store().expire("q", MINUTE).unwrap();
    for max in [6, 7, i64::MAX as u64, (i64::MAX as u64) + 1, u64::MAX] {
        assert_eq!(cx.store().queue_trim("q", max).unwrap(), 0, "{max}");
    }
    assert_eq!(cx.store().queue_trim("q", 4).unwrap(), 2);
    assert_eq!(all_values(cx, "q"), [2, 3, 4, 5]);
    cx.assert_ttl("q", MINUTE);
    assert_eq!(cx.store().queue_trim("q", 1).unwrap(), 3);
    assert_eq!(all_values(cx, "q"), [5]);
    assert_eq!(cx.store().queue_trim("q", 0).unwrap(), 1);
    assert!(!cx.store().contains("q").unwrap());
}

fn an_emptied_queue_is_removed_with_its_ttl(cx: &Context) {
    let empties: [Operation; 3] = [
        ("pop_front", |s, q| s.pop_front::<i64>(q).map(|found| assert_eq!(found, Some(2)))),
        ("pop_back", |s, q| s.pop_back::<i64>(q).map(|found| assert_eq!(found, Some(2)))),
        ("queue_trim", |s, q| s.queue_trim(q, 0).map(|dropped| assert_eq!(dropped, 1))),
    ];
    for (name, empty) in empties {
        fill_queue(cx, [1, 2]);
        cx.store().expire("q", MINUTE).unwrap();
        cx.store().pop_front::<i64>("q").unwrap();
        cx.assert_ttl("q", MINUTE);
        empty(&cx.store(), "q").unwrap();
        assert!(!cx.store().contains("q").unwrap(), "{name}");
        assert_eq!(cx.store().ttl("q").unwrap(), None, "{name}");
        assert!(cx.store().is_empty().unwrap(), "{name}");
        assert!(cx.store().map_put("q", "f", 1).unwrap(), "the key may hold another kind afterwards");
    }
    fill_queue(cx, [1]);
    cx.store().persist("q").unwrap();
    cx.store().pop_back::<i64>("q").unwrap();
    cx.store().push_back("q", 2).unwrap();
    cx.assert_default_ttl("q");
}

fn operations_that_create_a_queue_give_it_the_default_ttl(cx: &Context) {
    cx.store().push_back("back", 1).unwrap();
    cx.assert_default_ttl("back");
    cx.store().push_front("front", 1).unwrap();
    cx.assert_default_ttl("front");
    cx.store().push_back_many("many", [1, 2]).unwrap();
    cx.assert_default_ttl("many");
}

fn operations_that_change_a_queue_keep_its_ttl(cx: &Context) {
    let change_all = || {
        cx.store().push_back("q", 1).unwrap();
        cx.store().push_front("q", 1).unwrap();
        cx.store().push_back_many("q", [1, 2, 3]).unwrap();
        cx.store().pop_front::<i64>("q").unwrap();
        cx.store().pop_back::<i64>("q").unwrap();
        cx.store().queue_trim("q", 2).unwrap();
    };
    cx.store().push_back("q", 0).unwrap();
    cx.store().expire("q", 2 * MINUTE).unwrap();
    cx.advance(MINUTE);
    change_all();
    cx.assert_ttl("q", MINUTE);
    cx.store().persist("q").unwrap();
    change_all();
    cx.assert_ttl("q", None);
}

fn an_expired_queue_is_absent_and_no_push_brings_it_back(cx: &Context) {
    let pushes: [Operation; 3] = [
        ("push_back", |s, q| s.push_back(q, 9).map(|length| assert_eq!(length, 1))),
        ("push_front", |s, q| s.push_front(q, 9).map(|length| assert_eq!(length, 1))),
        ("push_back_many", |s, q| s.push_back_many(q, [9]).map(|length| assert_eq!(length, 1))),
    ];
    for (name, push) in pushes {
        fill_queue(cx, 0..3);
        cx.store().expire("q", MINUTE).unwrap();
        cx.advance(MINUTE);
        assert_eq!(cx.store().queue_len("q").unwrap(), 0, "{name}");
        assert!(all_values(cx, "q").is_empty(), "{name}");
        assert_eq!(cx.store().pop_front::<i64>("q").unwrap(), None, "{name}");
        assert_eq!(cx.store().pop_back::<i64>("q").unwrap(), None, "{name}");
        assert_eq!(cx.store().queue_trim("q", 1).unwrap(), 0, "{name}");
        assert_eq!(cx.store().push_back_many::<i64>("q", []).unwrap(), 0, "{name}");
        assert!(cx.store().is_empty().unwrap(), "{name}");
        push(&cx.store(), "q").unwrap();
        assert_eq!(all_values(cx, "q"), [9], "{name}");
        cx.assert_default_ttl("q");
    }
}

fn a_queue_can_hold_any_value(cx: &Context) {
    cx.store().push_back("q", None::<i64>).unwrap();
    assert_eq!(cx.store().queue_len("q").unwrap(), 1, "a null is a value");
    assert_eq!(cx.store().pop_front::<Option<i64>>("q").unwrap(), Some(None));
    assert_eq!(cx.store().pop_front::<Option<i64>>("q").unwrap(), None);
    let long = "ü\n\"\0".repeat(100_000);
    cx.store().push_back("q", &long).unwrap();
    assert!(cx.store().pop_back::<String>("q").unwrap() == Some(long));
    cx.store().push_back_many("q", [u128::MAX, 0]).unwrap();
    cx.store().push_front("q", (1, "two", [0.1])).unwrap();
    assert_eq!(cx.store().pop_front::<(i64, String, [f64; 1])>("q").unwrap(), Some((1, "two".into(), [0.1])));
    assert_eq!(cx.store().queue_range::<u128>("q", ..).unwrap(), [u128::MAX, 0]);
}

fn a_pop_that_cannot_decode_removes_and_carries_the_value(cx: &Context) {
    cx.store().push_back_many("n:q", ["first", "middle", "last"]).unwrap();
    let pops: [(Operation, &[u8]); 2] = [
        (("pop_front", |s, q| s.pop_front::<i64>(q).map(drop)), br#""first""#),
        (("pop_back", |s, q| s.pop_back::<i64>(q).map(drop)), br#""last""#),
    ];
    for ((name, pop), expected) in pops {
        let error = assert_error!(pop(&cx.store().namespace("n"), "q"), Error::Decode { .. });
        let Error::Decode { key, raw, .. } = error else { unreachable!() };
        assert_eq!((key.as_str(), raw.as_ref()), ("n:q", expected), "{name}");
    }
    assert_eq!(cx.store().queue_range::<String>("n:q", ..).unwrap(), ["middle"]);
    assert_error!(cx.store().pop_front::<i64>("n:q"), Error::Decode { .. });
    assert!(!cx.store().contains("n:q").unwrap(), "the last value is removed too");
}

fn a_range_that_cannot_decode_keeps_and_carries_the_value(cx: &Context) {
    cx.store().push_back("q", 1).unwrap();
    cx.store().push_back("q", "text").unwrap();
    let error = assert_error!(cx.store().queue_range::<i64>("q", ..), Error::Decode { .. });
    let Error::Decode { key, raw, .. } = error else { unreachable!() };
    assert_eq!((key.as_str(), raw.as_ref()), ("q", &br#""text""#[..]));
    assert_eq!(cx.store().queue_len("q").unwrap(), 2);
    assert_eq!(
        cx.store().queue_range::<i64>("q", ..1).unwrap(),
        [1],
        "only the values in the range are decoded"
    );
}

/// Nothing is changed.
fn a_value_that_cannot_be_encoded_is_not_pushed(cx: &Context) {
    cx.store().push_back("q", 1.5).unwrap();
    for number in [f64::NAN, f64::NEG_INFINITY] {
        assert_error!(cx.store().push_back("q", number), Error::Encode { key, .. } if key == "q");
        assert_error!(cx.store().push_front("q", number), Error::Encode { .. });
        assert_error!(cx.store().push_back_many("q", [1.0, number]), Error::Encode { .. });
        assert_error!(cx.store().push_back("new", number), Error::Encode { .. });
        assert_error!(cx.store().push_back_many("new", [1.0, number]), Error::Encode { .. });
    }
    assert_eq!(cx.store().queue_range::<f64>("q", ..).unwrap(), [1.5]);
    assert_eq!(cx.store().keys("").unwrap(), ["q"]);
}

fn a_value_over_the_limit_is_not_pushed(cx: &Context) {
    let cx = &cx.open_another(|config| config.max_value_bytes(10));
    let (fits, over) = ("12345678", "123456789");
    cx.store().push_back("q", fits).unwrap();
    assert_error!(cx.store().push_back("q", over), Error::TooLarge { bytes: 11, limit: 10, .. });
    assert_error!(cx.store().push_front("q", over), Error::TooLarge { key, .. } if key == "q");
    assert_error!(cx.store().push_back_many("q", [fits, over]), Error::TooLarge { .. });
    assert_error!(cx.store().push_back_many("new", [fits, over]), Error::TooLarge { .. });
    assert_eq!(cx.store().queue_len("q").unwrap(), 1);
    assert_eq!(cx.store().push_back_many("q", [fits, fits]).unwrap(), 3, "each value counts by itself");
    assert_eq!(cx.store().keys("").unwrap(), ["q"]);
}

fn a_queue_belongs_to_its_namespace(cx: &Context) {
    cx.store().namespace("n").push_back("q", 1).unwrap();
    assert_eq!(cx.store().push_back("n:q", 2).unwrap(), 2);
    assert_eq!(cx.store().queue_len("q").unwrap(), 0);
    assert_eq!(cx.store().namespace("n").pop_front::<i64>("q").unwrap(), Some(1));
    assert_eq!(cx.store().keys("").unwrap(), ["n:q"]);
    assert_eq!(cx.store().delete_prefix("n:").unwrap(), 1);
    assert_eq!(cx.store().namespace("n").pop_front::<i64>("q").unwrap(), None);
}

fn a_queue_of_thousands_of_values_keeps_their_order(cx: &Context) {
    assert_eq!(cx.store().push_back_many("q", 0..12_000).unwrap(), 12_000);
    assert!(all_values(cx, "q").into_iter().eq(0..12_000));
    let store = cx.store();
    for number in 0..1500 {
        assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(number));
        store.push_back("q", 12_000 + number).unwrap();
    }
    drop(store);
    assert!(all_values(cx, "q").into_iter().eq(1500..13_500));
    assert_eq!(cx.store().queue_range::<i64>("q", 5000..5002).unwrap(), [6500, 6501]);
    assert_eq!(cx.store().queue_trim("q", 2).unwrap(), 11_998);
    assert_eq!(all_values(cx, "q"), [13_498, 13_499]);
    cx.assert_default_ttl("q");
}
