//! `compare_and_set`, and which values are equal to it.

use serde::Serialize;
use serde_json::json;

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_value_is_replaced_only_if_it_equals_the_expected_one,
    expecting_none_means_that_the_key_is_absent,
    values_are_compared_by_meaning_and_not_by_text,
    big_integers_are_compared_exactly,
    bytes_that_are_not_json_equal_no_value,
    a_failed_comparison_changes_nothing,
];

fn a_value_is_replaced_only_if_it_equals_the_expected_one(cx: &Context) {
    assert!(!cx.store().compare_and_set("k", Some(&1), &2).unwrap(), "there is no value");
    assert!(!cx.store().contains("k").unwrap());
    cx.store().put("k", 1).unwrap();
    assert!(cx.store().compare_and_set("k", Some(&1), &2).unwrap());
    assert!(!cx.store().compare_and_set("k", Some(&1), &3).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(2));
    assert!(cx.store().compare_and_set("k", Some(&json!(2)), &json!("a text now")).unwrap());
    assert!(cx.store().compare_and_set("k", Some(&json!("a text now")), &json!(["or", "more"])).unwrap());
    assert!(cx.store().compare_and_set("k", Some(&json!(["or", "more"])), &json!(null)).unwrap());
    assert!(cx.store().compare_and_set("k", Some(&json!(null)), &json!(1)).unwrap(), "a null is a value");
    assert!(cx.store().compare_and_set("k", Some(&1), &1).unwrap(), "replaced by itself");
}

fn expecting_none_means_that_the_key_is_absent(cx: &Context) {
    assert!(cx.store().compare_and_set("k", None::<&i64>, &1).unwrap());
    assert!(!cx.store().compare_and_set("k", None::<&i64>, &2).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.store().put("null", ()).unwrap();
    assert!(!cx.store().compare_and_set("null", None::<&i64>, &2).unwrap(), "a null is a value");
}

fn values_are_compared_by_meaning_and_not_by_text(cx: &Context) {
    for (stored, expected) in [
        (r"1", json!(1.0)),
        (r"1.0", json!(1)),
        (r"1e2", json!(100)),
        (r"-0", json!(0)),
        (r#"{"b":[1,2.0],"a":{"y":null,"x":""}}"#, json!({"a": {"x": "", "y": null}, "b": [1, 2]})),
        (" { \"a\" :\n 1 } ", json!({"a": 1})),
        (r#""\u00fc""#, json!("ü")),
        (r"[ ]", json!([])),
    ] {
        cx.store().put_bytes_with_ttl("k", stored.as_bytes(), MINUTE).unwrap();
        assert!(
            cx.store().compare_and_set("k", Some(&expected), &json!("new")).unwrap(),
            "{stored} {expected}"
        );
        assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("new"));
        cx.assert_ttl("k", MINUTE);
    }
    for (stored, expected) in [
        ("1", json!("1")),
        ("0", json!(null)),
        ("false", json!(0)),
        ("[]", json!({})),
        ("[1,2]", json!([2, 1])),
        ("[1]", json!([1, 1])),
        (r#"{"a":1}"#, json!({"a": 1, "b": null})),
        (r#""a""#, json!("A")),
    ] {
        cx.store().put_bytes("k", stored.as_bytes()).unwrap();
        assert!(
            !cx.store().compare_and_set("k", Some(&expected), &json!("new")).unwrap(),
            "{stored} {expected}"
        );
        assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(stored.as_bytes()));
    }
}

/// Two types of integers, for one call.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Signed(i128),
    Unsigned(u128),
}

fn big_integers_are_compared_exactly(cx: &Context) {
    let odd = (1_i64 << 53) + 1;
    cx.store().put("k", odd).unwrap();
    assert!(!cx.store().compare_and_set("k", Some(&(odd - 1)), &0).unwrap());
    assert!(
        cx.store()
            .compare_and_set("k", Some(&Number::Signed(odd.into())), &Number::Unsigned(u64::MAX.into()))
            .unwrap()
    );
    assert!(!cx.store().compare_and_set("k", Some(&(u64::MAX - 1)), &0).unwrap());
    assert!(cx.store().compare_and_set("k", Some(&u128::from(u64::MAX)), &u128::MAX).unwrap());
    assert!(!cx.store().compare_and_set("k", Some(&(u128::MAX - 1)), &0).unwrap());
    assert!(
        cx.store()
            .compare_and_set("k", Some(&Number::Unsigned(u128::MAX)), &Number::Signed(i128::MIN))
            .unwrap()
    );
    assert_eq!(cx.store().get::<i128>("k").unwrap(), Some(i128::MIN));
}

fn bytes_that_are_not_json_equal_no_value(cx: &Context) {
    for bytes in [&b"\xff"[..], b"", b"abc", b"{"] {
        cx.store().put_bytes("k", bytes).unwrap();
        assert!(!cx.store().compare_and_set("k", Some("abc"), "x").unwrap());
        assert!(!cx.store().compare_and_set("k", None::<&i64>, &1).unwrap());
        assert_eq!(cx.store().get_bytes("k").unwrap().as_deref(), Some(bytes));
    }
}

fn a_failed_comparison_changes_nothing(cx: &Context) {
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    assert!(!cx.store().compare_and_set("k", Some(&2), &3).unwrap());
    assert!(!cx.store().compare_and_set("k", None::<&i64>, &3).unwrap());
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", MINUTE);
}
