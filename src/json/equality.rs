//! Owns the equality of two JSON texts by meaning. Knows nothing of Rust types, nor of where the texts are
//! stored.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::json::readable::MAX_DEPTH;

/// Returns whether two JSON texts have the same meaning. Integers are compared exactly, an integer and a float
/// as `f64`; the order of an object's fields does not matter. Bytes that are not JSON equal only themselves.
pub(crate) fn eq(left: &[u8], right: &[u8]) -> bool {
    if left == right {
        return true;
    }
    match (parse_raw(left), parse_raw(right)) {
        (Some(left), Some(right)) => raw_eq(left, right, 0),
        _ => false,
    }
}

fn parse_raw(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

fn raw_eq(left: &RawValue, right: &RawValue, depth: u32) -> bool {
    type Object<'a> = BTreeMap<String, &'a RawValue>;
    type Array<'a> = Vec<&'a RawValue>;

    let (left, right) = (left.get(), right.get());
    if left == right {
        return true;
    }
    if depth >= MAX_DEPTH {
        return false;
    }
    match (left.as_bytes(), right.as_bytes()) {
        ([b'{', ..], [b'{', ..]) => {
            let (Some(left), Some(right)) = (parse::<Object<'_>>(left), parse::<Object<'_>>(right)) else {
                return false;
            };
            left.len() == right.len()
                && left
                    .iter()
                    .zip(&right)
                    .all(|((name, left), (other, right))| name == other && raw_eq(left, right, depth + 1))
        }
        ([b'[', ..], [b'[', ..]) => {
            let (Some(left), Some(right)) = (parse::<Array<'_>>(left), parse::<Array<'_>>(right)) else {
                return false;
            };
            left.len() == right.len()
                && left.iter().zip(&right).all(|(left, right)| raw_eq(left, right, depth + 1))
        }
        ([b'"', ..], [b'"', ..]) => parse::<String>(left).is_some_and(|text| parse(right) == Some(text)),
        ([b'-' | b'0'..=b'9', ..], [b'-' | b'0'..=b'9', ..]) => number_eq(left, right),
        _ => false,
    }
}

/// Compares two numbers whose texts differ. JSON spells each integer in one way only, except for the sign of
/// zero.
fn number_eq(left: &str, right: &str) -> bool {
    let is_integer = |text: &str| !text.contains(['.', 'e', 'E']);
    if is_integer(left) && is_integer(right) {
        return matches!((left, right), ("0", "-0") | ("-0", "0"));
    }
    match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_by_meaning() {
        for (left, right) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0", "-0"),
            (r#"{"a":1,"b":[1,2]}"#, r#"{"b": [1, 2.0], "a": 1}"#),
            (r#""\u0061""#, r#""a""#),
            ("[]", "[ ]"),
            ("\"x\n", "\"x\n"),
        ] {
            assert!(eq(left.as_bytes(), right.as_bytes()), "{left} {right}");
        }
        for (left, right) in [
            ("1", "2"),
            ("9007199254740993", "9007199254740992"),
            ("340282366920938463463374607431768211455", "340282366920938463463374607431768211454"),
            ("[]", "{}"),
            ("null", "0"),
            ("[1]", "[1,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            ("1", "\"1\""),
            ("\u{1}", "1"),
        ] {
            assert!(!eq(left.as_bytes(), right.as_bytes()), "{left} {right}");
        }
    }

    #[test]
    fn deep_texts_are_compared_without_overflowing_the_stack() {
        let deep = |inner: &str| "[".repeat(100_000) + inner + &"]".repeat(100_000);
        assert!(eq(deep("1").as_bytes(), deep("1").as_bytes()));
        assert!(!eq(deep("1").as_bytes(), deep("2").as_bytes()));
    }
}
