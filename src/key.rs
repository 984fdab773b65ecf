//! Owns which keys, prefixes and namespaces are valid and how they are joined. Knows nothing of where keys
//! are stored.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest key in bytes, its namespace included.
pub(crate) const MAX_KEY_BYTES: usize = 512;

/// A `:`-separated part of a key that is this crate's own.
pub(crate) const RESERVED: &str = "__millpond";

/// A key that holds every rule, its namespace included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a>(Cow<'a, str>);

impl Deref for Key<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Key<'_> {
    /// Takes a key that a store listed, which was checked when it was listed.
    pub(crate) fn listed(full: String) -> Key<'static> {
        Key(Cow::Owned(full))
    }
}

/// Says which rule a full key breaks, or nothing.
#[inline]
pub(crate) fn fault(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.len() > MAX_KEY_BYTES {
        return Some("it is longer than 512 bytes");
    }
    // Nearly all keys hold nothing of note; they are looked at once.
    let seen = key.bytes().fold(0, |seen, byte| seen | NOTE[usize::from(byte)]);
    if seen & CONTROL != 0 || (seen & HIGH != 0 && key.chars().any(char::is_control)) {
        return Some("it holds a control character");
    }
    if seen & UNDERSCORE != 0 && is_reserved(key) {
        return Some("its part `__millpond` is reserved");
    }
    None
}

/// Tells whether a part of the key is this crate's own; such keys are never listed, counted or cleared.
pub(crate) fn is_reserved(key: &str) -> bool {
    key.split(':').any(|part| part == RESERVED)
}

const CONTROL: u8 = 1;
const HIGH: u8 = 2;
const UNDERSCORE: u8 = 4;

/// What is of note about each byte of a key.
static NOTE: [u8; 256] = {
    let mut note = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        note[byte] = match byte {
            0..0x20 | 0x7f => CONTROL,
            0x80.. => HIGH,
            0x5f => UNDERSCORE,
            _ => 0,
        };
        byte += 1;
    }
    note
};

/// A part of the key space: every key in it begins with the same text, which ends in `:`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace(Option<Arc<str>>);

impl Namespace {
    /// The namespace `name` inside this one; an empty name is this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        if name.is_empty() {
            return self.clone();
        }
        Self(Some(format!("{}{name}:", self.text()).into()))
    }

    /// What the keys of this namespace begin with.
    pub(crate) fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    fn join<'a>(&self, rest: &'a str) -> Cow<'a, str> {
        match &self.0 {
            None => Cow::Borrowed(rest),
            Some(text) => Cow::Owned([text, rest].concat()),
        }
    }

    /// Joins and checks a key of this namespace.
    #[inline]
    pub(crate) fn key<'a>(&self, key: &'a str) -> Result<Key<'a>> {
        let full = self.join(key);
        let reason = if key.is_empty() { Some("it is empty") } else { fault(&full) };
        match reason {
            None => Ok(Key(full)),
            Some(reason) => Err(Error::InvalidKey { key: full.into_owned(), reason }),
        }
    }

    /// Joins and checks what the keys of a listing begin with. Any text that a key can begin with will do,
    /// the empty one included.
    pub(crate) fn prefix(&self, prefix: &str) -> Result<String> {
        let full = self.join(prefix).into_owned();
        let reason = match full.as_str() {
            "" => None,
            _ => fault(&full).filter(|_| !is_reserved(&full)),
        };
        match reason {
            None => Ok(full),
            Some(reason) => Err(Error::InvalidKey { key: full, reason }),
        }
    }

    /// Takes the namespace off a key that was listed in it.
    pub(crate) fn strip(&self, full: &str) -> String {
        full.strip_prefix(self.text()).unwrap_or(full).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_characters_are_ordinary() {
        for key in ["a", "a b", "*?[]\\^", "a/b", "a::b", ":", "ключ", "__millpondx", "x__millpond", "é"]
        {
            assert_eq!(fault(key), None, "{key:?}");
        }
    }

    #[test]
    fn each_rule_is_named() {
        for (key, word) in [
            ("", "empty"),
            ("a\nb", "control"),
            ("a\u{7f}", "control"),
            ("a\u{85}", "control"),
            ("__millpond", "reserved"),
            ("a:__millpond:b", "reserved"),
        ] {
            assert!(fault(key).is_some_and(|reason| reason.contains(word)), "{key:?}");
        }
        assert_eq!(fault(&"k".repeat(512)), None);
        assert!(fault(&"k".repeat(513)).is_some_and(|reason| reason.contains("512")));
    }

    #[test]
    fn the_namespace_counts_towards_the_length() {
        let namespace = Namespace::default().child("orders");
        assert!(namespace.key(&"k".repeat(505)).is_ok());
        assert!(namespace.key(&"k".repeat(506)).is_err());
    }

    #[test]
    fn a_namespace_nests_and_an_empty_name_is_the_same() {
        let inner = Namespace::default().child("a").child("").child("b");
        assert_eq!(inner.text(), "a:b:");
        assert_eq!(&*inner.key("k").unwrap(), "a:b:k");
        assert_eq!(inner.strip("a:b:k"), "k");
        assert!(inner.key("").is_err());
    }
}
