//! Owns how a listing reads the key space: which pattern is asked for, and which of the keys that come are
//! this crate's to name. Does no I/O.

use redis::Value;

use crate::backend::redis::failure::Failure;
use crate::backend::redis::wire::replies::refused;
use crate::key::{RESERVED, key_fault};

/// The pattern that matches every key that begins with `prefix`, and no other.
pub(crate) fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix {
        if b"*?[]\\^".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

/// One answer to SCAN: where to go on (0: the end), and keys as they lie on the server.
pub(crate) fn page(answer: Value) -> Result<(u64, Vec<Vec<u8>>), Failure> {
    let answer = refused(answer)?;
    let Value::Array(parts) = answer else {
        return Err(Failure::unexpected_reply(&answer));
    };
    let Ok([cursor, keys]) = <[Value; 2]>::try_from(parts) else {
        return Err(Failure::unexpected_reply(&Value::Nil));
    };
    let next = match &cursor {
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    let (Some(next), Value::Array(keys)) = (next, keys) else {
        return Err(Failure::unexpected_reply(&cursor));
    };
    let keys = keys.into_iter().map(|key| match key {
        Value::BulkString(key) => Ok(key),
        other => Err(Failure::unexpected_reply(&other)),
    });
    Ok((next, keys.collect::<Result<_, _>>()?))
}

/// The key that a listing names, if it is one that a store could have written under `key_prefix`.
pub(crate) fn listed(wire: Vec<u8>, key_prefix: &[u8]) -> Option<String> {
    let mut key = String::from_utf8(wire).ok()?;
    if !key.as_bytes().starts_with(key_prefix) {
        return None;
    }
    key.drain(..key_prefix.len());
    key_fault(&key).is_none().then_some(key)
}

/// Whether a key is kept when all others go.
pub(crate) fn is_kept(wire: &[u8]) -> bool {
    wire.split(|byte| *byte == b':').any(|part| part == RESERVED.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_characters_are_literal() {
        assert_eq!(pattern(b"a:"), b"a:*");
        assert_eq!(pattern(b""), b"*");
        assert_eq!(pattern(br"*?[]\^"), br"\*\?\[\]\\\^*");
    }

    #[test]
    fn foreign_keys_are_passed_over() {
        for (wire, key) in [
            (&b"p:a"[..], Some("a")),
            (b"p:a:b", Some("a:b")),
            (b"p:", None),
            (b"p:\xff", None),
            (b"p:a\n", None),
            (b"p:a:__millpond:b", None),
            (b"q:a", None),
        ] {
            assert_eq!(listed(wire.to_vec(), b"p:").as_deref(), key, "{wire:?}");
        }
        assert_eq!(listed(b"a".to_vec(), b"").as_deref(), Some("a"));
    }

    #[test]
    fn only_what_is_reserved_is_kept() {
        assert!(is_kept(b"p:__millpond:fence"));
        assert!(is_kept(b"p:\xff:__millpond"));
        assert!(!is_kept(b"p:x__millpond"));
        assert!(!is_kept(b"p:\xff"));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_page() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let good = Value::Array(vec![bulk("17"), Value::Array(vec![bulk("k")])]);
        assert_eq!(page(good).unwrap(), (17, vec![b"k".to_vec()]));
        for bad in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![bulk("x"), Value::Array(vec![])]),
            Value::Array(vec![bulk("1"), Value::Array(vec![Value::Nil])]),
        ] {
            assert!(page(bad).is_err());
        }
    }
}
