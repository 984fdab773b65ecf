//! Owns how a listing reads the key space: the pattern of SCAN, and which keys of a reply belong to the store. Does
//! no I/O.

use redis::Value;

use crate::backend::redis::failure::Failure;
use crate::backend::redis::wire::replies::{array, parsed};
use crate::key::{RESERVED, key_fault};

/// Returns the pattern that matches every key that begins with `prefix`, and no other.
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

/// Reads a reply to SCAN: the next cursor (0 at the end), and keys with the prefix that they have on the server.
#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
pub(crate) fn page(reply: Value) -> Result<(u64, Vec<Vec<u8>>), Failure> {
    let [cursor, keys] = <[Value; 2]>::try_from(array(reply)?)
        .map_err(|parts| Failure::unexpected_reply(&Value::Array(parts)))?;
    let next = parsed(&cursor)?;
    let keys = array(keys)?.into_iter().map(|key| match key {
        Value::BulkString(key) => Ok(key),
        other => Err(Failure::unexpected_reply(&other)),
    });
    Ok((next, keys.collect::<Result<_, _>>()?))
}

/// Returns the key that a listing names, if a store could have written it under `key_prefix`.
pub(crate) fn listed(wire: Vec<u8>, key_prefix: &[u8]) -> Option<String> {
    let mut key = String::from_utf8(wire).ok()?;
    if !key.as_bytes().starts_with(key_prefix) {
        return None;
    }
    key.drain(..key_prefix.len());
    key_fault(&key).is_none().then_some(key)
}

/// Returns whether a key stays when a store is cleared.
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
    fn foreign_keys_are_not_listed() {
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
    fn only_reserved_keys_stay() {
        assert!(is_kept(b"p:__millpond:fence"));
        assert!(is_kept(b"p:\xff:__millpond"));
        assert!(!is_kept(b"p:x__millpond"));
        assert!(!is_kept(b"p:\xff"));
    }

    #[test]
    fn a_reply_of_another_shape_is_no_page() {
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
