//! Counters: which values count as one, their range, and when their time to live is set.

use millpond::Error;

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_counter_begins_at_zero_and_counts_both_ways,
    a_counter_is_a_value_and_a_value_may_be_a_counter,
    a_value_that_is_not_an_integer_is_refused_and_unchanged,
    a_counter_reaches_both_limits_and_goes_no_further,
    subtracting_the_smallest_number_is_an_overflow,
    a_ttl_is_set_only_when_a_counter_is_created,
    batch_incr_counts_each_key_and_returns_in_order,
    batch_incr_is_partial_if_some_keys_fail,
];

fn a_counter_begins_at_zero_and_counts_both_ways(cx: &Context) {
    assert_eq!(cx.store().incr("k", 5).unwrap(), 5);
    assert_eq!(cx.store().incr("k", -7).unwrap(), -2);
    assert_eq!(cx.store().decr("k", 3).unwrap(), -5);
    assert_eq!(cx.store().decr("k", -5).unwrap(), 0);
    assert_eq!(cx.store().incr("k", 0).unwrap(), 0);
    assert_eq!(cx.store().incr("zero", 0).unwrap(), 0);
    assert!(cx.store().contains("zero").unwrap(), "adding zero creates the counter");
    assert_eq!(cx.store().decr("down", 2).unwrap(), -2);
}

fn a_counter_is_a_value_and_a_value_may_be_a_counter(cx: &Context) {
    cx.store().incr("k", 41).unwrap();
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(41));
    assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(&b"41"[..]));
    cx.store().put("k", -10_i8).unwrap();
    assert_eq!(cx.store().incr("k", 1).unwrap(), -9);
    cx.store().put_bytes("k", b"7").unwrap();
    assert_eq!(cx.store().incr("k", 1).unwrap(), 8);
}

fn a_value_that_is_not_an_integer_is_refused_and_unchanged(cx: &Context) {
    let texts = [
        "01",
        "00",
        "1.0",
        "\"1\"",
        " 1",
        "1 ",
        "-0",
        "+1",
        "-",
        "",
        "1e2",
        "0x1",
        "null",
        "true",
        "[]",
        "١",
        "9223372036854775808",
        "-9223372036854775809",
        "340282366920938463463374607431768211455",
        "1\n",
        "--1",
    ];
    for text in texts {
        cx.store().put_bytes_with_ttl("k", text.as_bytes(), MINUTE).unwrap();
        assert_error!(cx.store().incr("k", 1), Error::NotAnInteger { key, .. } if key == "k");
        assert_error!(cx.store().incr("k", 0), Error::NotAnInteger { .. });
        assert_error!(cx.store().decr("k", 1), Error::NotAnInteger { .. });
        assert_error!(cx.store().incr_with_ttl("k", 1, 2 * MINUTE), Error::NotAnInteger { .. });
        assert_error!(cx.store().batch_incr([("k", 1)]), Error::NotAnInteger { .. });
        assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(text.as_bytes()), "{text:?}");
        cx.assert_ttl("k", MINUTE);
    }
}

fn a_counter_reaches_both_limits_and_goes_no_further(cx: &Context) {
    for (end, step) in [(i64::MAX, 1), (i64::MIN, -1)] {
        cx.store().put_with_ttl("k", end - step, MINUTE).unwrap();
        assert_eq!(cx.store().incr("k", step).unwrap(), end);
        assert_error!(cx.store().incr("k", step), Error::Overflow { key, .. } if key == "k");
        assert_error!(cx.store().incr("k", end), Error::Overflow { .. });
        assert_error!(cx.store().decr("k", -step), Error::Overflow { .. });
        assert_error!(cx.store().incr_with_ttl("k", step, MINUTE * 2), Error::Overflow { .. });
        assert_error!(cx.store().batch_incr([("k", step)]), Error::Overflow { .. });
        assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(end));
        cx.assert_ttl("k", MINUTE);
    }
    assert_eq!(cx.store().incr("born", i64::MIN).unwrap(), i64::MIN);
    assert_eq!(cx.store().incr("born too", i64::MAX).unwrap(), i64::MAX);
    assert_eq!(cx.store().incr("born too", i64::MIN).unwrap(), -1);
}

/// It is an error, and not a panic.
fn subtracting_the_smallest_number_is_an_overflow(cx: &Context) {
    assert_error!(cx.store().decr("k", i64::MIN), Error::Overflow { key, .. } if key == "k");
    assert!(!cx.store().contains("k").unwrap());
    assert_eq!(cx.store().decr("k", i64::MAX).unwrap(), -i64::MAX);
}

fn a_ttl_is_set_only_when_a_counter_is_created(cx: &Context) {
    assert_eq!(cx.store().incr_with_ttl("k", 1, 3 * MINUTE).unwrap(), 1);
    cx.advance(MINUTE);
    assert_eq!(cx.store().incr_with_ttl("k", 1, 3 * MINUTE).unwrap(), 2);
    cx.assert_ttl("k", 2 * MINUTE);
    assert_eq!(cx.store().incr("k", 1).unwrap(), 3);
    cx.assert_ttl("k", 2 * MINUTE);
    cx.advance(2 * MINUTE);
    assert_eq!(cx.store().incr_with_ttl("k", 1, 3 * MINUTE).unwrap(), 1, "a new window begins");
    cx.assert_ttl("k", 3 * MINUTE);
    cx.store().put("eternal", 1).unwrap();
    cx.store().persist("eternal").unwrap();
    cx.store().incr_with_ttl("eternal", 1, MINUTE).unwrap();
    cx.assert_ttl("eternal", None);
}

fn batch_incr_counts_each_key_and_returns_in_order(cx: &Context) {
    cx.store().put("b", 10).unwrap();
    assert_eq!(cx.store().batch_incr([("a", 1), ("b", 2), ("a", 3), ("c", -4)]).unwrap(), [1, 12, 4, -4]);
    assert_eq!(cx.store().batch_incr::<&str>([]).unwrap(), [0; 0]);
    let many = cx.store().batch_incr((0..2500).map(|n| (format!("n:{}", n % 2000), n))).unwrap();
    assert_eq!(many.len(), 2500);
    assert_eq!((many[0], many[1999], many[2000], many[2499]), (0, 1999, 2000, 499 + 2499));
    assert_eq!(cx.store().count("n:").unwrap(), 2000);
}

fn batch_incr_is_partial_if_some_keys_fail(cx: &Context) {
    cx.store().put("text", "x").unwrap();
    cx.store().put("full", i64::MAX).unwrap();
    let error =
        assert_error!(cx.store().batch_incr([("a", 1), ("text", 1), ("b", 1)]), Error::Partial { .. });
    let Error::Partial { done, source, .. } = error else { unreachable!() };
    assert!(matches!(*source, Error::NotAnInteger { .. }), "{source:?}");
    assert_eq!(done, 2, "a key that fails does not stop the others of its chunk");
    assert_eq!(cx.store().batch_get::<i64>(["a", "b"]).unwrap(), [Some(1), Some(1)]);
    assert_error!(cx.store().batch_incr([("full", 1)]), Error::Overflow { .. });
    assert_eq!(cx.store().get::<String>("text").unwrap().as_deref(), Some("x"));
}
