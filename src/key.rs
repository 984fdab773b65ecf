//! Owns the rules of keys, prefixes and namespaces, and their joining. Knows nothing of where keys are stored.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::error::{Error, Result};

/// The longest key in bytes, its namespace included.
pub(crate) const MAX_KEY_BYTES: usize = 512;

/// The `:`-separated part of a key that marks it as this crate's own.
pub(crate) const RESERVED: &str = "__millpond";

/// Behind the name of a semaphore, and in front of the number of a permit.
const PERMITS: &str = ":__millpond:permit";

const FENCE: &str = "__millpond:fence";

/// Between a namespace and the id of an event that was processed in it.
const RECEIPT: &str = "__millpond:receipt:";

/// What this crate stores beside one of the caller's keys, on every backend. It is never listed or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companion {
    /// The leases of a queue. `clear` removes them with the queue.
    Leases,
    /// The lock of that name.
    Lock,
}

impl Companion {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Leases => ":__millpond:leases",
            Self::Lock => ":__millpond:lock",
        }
    }

    /// Returns the caller's key beside which this companion is stored as `key`; `None` for any other key.
    pub(crate) fn strip_from(self, key: &str) -> Option<&str> {
        key.strip_suffix(self.suffix())
    }
}

/// Returns the name under which those are known that wait for this lock, if it is a permit: see [`Key::permits`].
pub(crate) fn permits_of(lock: &str) -> Option<&str> {
    let permit = Companion::Lock.strip_from(lock)?;
    let (permits, _number) = permit.rsplit_once(':')?;
    permits.ends_with(PERMITS).then_some(permits)
}

/// Returns whether a reserved key goes when all keys that begin with `prefix` are cleared: the leases of a queue
/// go with the queue, and the receipts of a namespace when all its keys go.
pub(crate) fn is_cleared(reserved: &[u8], prefix: &[u8]) -> bool {
    let queue = reserved.strip_suffix(Companion::Leases.suffix().as_bytes());
    let owner = queue.or_else(|| Some(reserved.get(..receipt_position(reserved)?).unwrap_or_default()));
    owner.is_some_and(|owner| owner.starts_with(prefix))
}

/// Returns where the namespace of a receipt ends; `None` for any other key.
fn receipt_position(key: &[u8]) -> Option<usize> {
    let begins_part = |at: &usize| key.get(..*at).is_some_and(|before| matches!(before, [] | [.., b':']));
    memchr::memmem::find_iter(key, RECEIPT).find(begins_part)
}

/// Returns whether the key is that of a receipt: the sign that an event was processed.
#[cfg(feature = "redis")]
pub(crate) fn is_receipt(key: &str) -> bool {
    receipt_position(key.as_bytes()).is_some()
}

/// Returns the key whose namespace and name are those of a receipt's event; `None` for any other key.
pub(crate) fn event_of_receipt(key: &str) -> Option<String> {
    let (namespace, receipt) = key.split_at_checked(receipt_position(key.as_bytes())?)?;
    Some([namespace, receipt.strip_prefix(RECEIPT)?].concat())
}

/// A key that satisfies every rule, its namespace included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key<'a>(Cow<'a, str>);

impl Deref for Key<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Key<'_> {
    /// Takes a key from a listing, which has checked it.
    pub(crate) fn listed(full: String) -> Key<'static> {
        Key(Cow::Owned(full))
    }

    /// Takes a key of this crate's own, which has a reserved part.
    pub(crate) fn reserved(full: impl Into<Cow<'static, str>>) -> Key<'static> {
        Key(full.into())
    }

    /// A key of this crate's own that is stored beside this one; `suffix` begins with a reserved part.
    pub(crate) fn with_suffix(&self, suffix: &str) -> Key<'static> {
        Key(Cow::Owned([self, suffix].concat()))
    }

    pub(crate) fn companion(&self, companion: Companion) -> Key<'static> {
        self.with_suffix(companion.suffix())
    }

    /// The name under which those are known that wait for a permit of this name.
    pub(crate) fn permits(&self) -> Key<'static> {
        self.with_suffix(PERMITS)
    }

    /// The name of the lock that is a permit of this name.
    pub(crate) fn permit(&self, number: u32) -> Key<'static> {
        Key(Cow::Owned(format!("{}{PERMITS}:{number}", &**self)))
    }

    pub(crate) fn is_companion(key: &str, companion: Companion) -> bool {
        companion.strip_from(key).is_some()
    }

    /// The key of the last fencing token that the store gave out.
    pub(crate) fn fence() -> Key<'static> {
        Key::reserved(FENCE)
    }

    pub(crate) fn into_owned(self) -> Key<'static> {
        Key(Cow::Owned(self.0.into_owned()))
    }
}

/// Returns the rule that a full key breaks, or nothing.
#[inline]
pub(crate) fn key_fault(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.len() > MAX_KEY_BYTES {
        return Some("it is longer than 512 bytes");
    }
    if is_plain(key.as_bytes()) {
        return None;
    }
    if key.chars().any(char::is_control) {
        return Some("it contains a control character");
    }
    if is_reserved(key) {
        return Some("its part `__millpond` is reserved");
    }
    None
}

/// Returns whether a part of the key is reserved. Such keys are never listed or counted, and only
/// [`is_cleared`] decides which of them are cleared.
pub(crate) fn is_reserved(key: &str) -> bool {
    !is_plain(key.as_bytes()) && key.split(':').any(|part| part == RESERVED)
}

/// Returns whether a key certainly consists of printable ASCII without an underscore, as nearly all keys do.
/// Every operation calls it, so it checks eight bytes at a time.
#[inline]
fn is_plain(key: &[u8]) -> bool {
    let (words, rest) = key.as_chunks::<8>();
    match key.last_chunk::<8>() {
        Some(last) => words.iter().chain([last]).all(|word| is_plain_word(u64::from_le_bytes(*word))),
        None => rest.iter().all(|byte| is_plain_word(EACH * u64::from(*byte))),
    }
}

/// A byte times this is a word of eight such bytes.
const EACH: u64 = 0x0101_0101_0101_0101;

/// For a byte beyond ASCII, below a space, DEL or an underscore, one of the terms has the high bit of that byte
/// set. A borrow can also set it for the next byte, which does no harm: the word is rejected anyway.
#[inline]
fn is_plain_word(word: u64) -> bool {
    let below = |bytes: u64, least: u64| bytes.wrapping_sub(EACH * least);
    let rejected = word | below(word, 0x20) | below(word ^ (EACH * 0x7f), 1) | below(word ^ (EACH * 0x5f), 1);
    rejected & (EACH * 0x80) == 0
}

impl AsRef<str> for Key<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A part of the key space. All its keys begin with the same text, which ends in `:`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace(Option<Arc<str>>);

impl Namespace {
    /// Returns the namespace `name` inside this one; with an empty name, this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        if name.is_empty() {
            return self.clone();
        }
        Self(Some(format!("{}{name}:", self.text()).into()))
    }

    /// The text that all keys of this namespace begin with.
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
        let reason = if key.is_empty() { Some("it is empty") } else { key_fault(&full) };
        match reason {
            None => Ok(Key(full)),
            Some(reason) => Err(Error::InvalidKey { key: full.into_owned(), reason }),
        }
    }

    /// Joins and checks the key of the receipt that an event was processed. The id of the event follows the rules of
    /// keys.
    pub(crate) fn receipt(&self, event_id: &str) -> Result<Key<'static>> {
        self.key(event_id)?;
        Ok(Key::reserved([self.text(), RECEIPT, event_id].concat()))
    }

    /// Joins and checks a key that was exported without its namespace. It may be that of a receipt.
    pub(crate) fn imported(&self, key: &str) -> Result<SmolStr> {
        let full = self.join(key);
        let reason = match event_of_receipt(&full) {
            Some(event) => key_fault(&event),
            None if key.is_empty() => key_fault(key),
            None => key_fault(&full),
        };
        match reason {
            None => Ok(SmolStr::new(full)),
            Some(reason) => Err(Error::InvalidKey { key: full.into_owned(), reason }),
        }
    }

    /// Joins and checks the prefix of a listing. Every text that a key can begin with is valid, the empty one
    /// included.
    pub(crate) fn prefix(&self, prefix: &str) -> Result<String> {
        let full = self.join(prefix).into_owned();
        let reason = match full.as_str() {
            "" => None,
            _ => key_fault(&full).filter(|_| !is_reserved(&full)),
        };
        match reason {
            None => Ok(full),
            Some(reason) => Err(Error::InvalidKey { key: full, reason }),
        }
    }

    /// Removes the namespace from a key that was listed in it.
    pub(crate) fn strip(&self, full: &str) -> String {
        full.strip_prefix(self.text()).unwrap_or(full).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_characters_are_valid() {
        for key in ["a", "a b", "*?[]\\^", "a/b", "a::b", ":", "ключ", "__millpondx", "x__millpond", "é"]
        {
            assert_eq!(key_fault(key), None, "{key:?}");
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
            assert!(key_fault(key).is_some_and(|reason| reason.contains(word)), "{key:?}");
        }
        assert_eq!(key_fault(&"k".repeat(512)), None);
        assert!(key_fault(&"k".repeat(513)).is_some_and(|reason| reason.contains("512")));
    }

    #[test]
    fn a_byte_is_recognised_at_every_position() {
        for byte in 0..=0x7f_u8 {
            let plain = !byte.is_ascii_control() && byte != b'_';
            for (length, at) in (1..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let mut key = vec![b'k'; length];
                key[at] = byte;
                assert_eq!(is_plain(&key), plain, "{byte:#x} at {at} of {length}");
            }
        }
        assert!(!is_plain("kkkkkkkké".as_bytes()));
    }

    #[test]
    fn leases_are_cleared_with_their_queue_and_receipts_with_their_namespace() {
        for (reserved, prefix, goes) in [
            ("jobs:__millpond:leases", "", true),
            ("jobs:__millpond:leases", "jobs", true),
            ("jobs:__millpond:leases", "jobs:", false),
            ("jobs:a:__millpond:leases", "jobs:", true),
            ("jobs:__millpond:lock", "", false),
            ("__millpond:fence", "", false),
            ("__millpond:epoch", "", false),
            ("__millpond:receipt:17", "", true),
            ("__millpond:receipt:17", "1", false),
            ("__millpond:receipt:17", "_", false),
            ("a:__millpond:receipt:17", "", true),
            ("a:__millpond:receipt:17", "a", true),
            ("a:__millpond:receipt:17", "a:", true),
            ("a:__millpond:receipt:17", "a:1", false),
            ("a:b:__millpond:receipt:17:x", "a:b:", true),
            ("x__millpond:receipt:__millpond:lock", "", false),
        ] {
            assert_eq!(is_cleared(reserved.as_bytes(), prefix.as_bytes()), goes, "{reserved} {prefix}");
        }
    }

    #[test]
    fn the_namespace_counts_towards_the_length() {
        let namespace = Namespace::default().child("orders");
        assert!(namespace.key(&"k".repeat(505)).is_ok());
        assert!(namespace.key(&"k".repeat(506)).is_err());
    }

    #[test]
    fn a_receipt_is_a_reserved_key_of_its_namespace() {
        let namespace = Namespace::default().child("x__millpond:receipt");
        let receipt = namespace.receipt("a:17").unwrap();
        assert_eq!(&*receipt, "x__millpond:receipt:__millpond:receipt:a:17");
        assert!(is_reserved(&receipt));
        assert_eq!(event_of_receipt(&receipt).as_deref(), Some("x__millpond:receipt:a:17"));
        for id in ["", "a\nb", "a:__millpond", &"k".repeat(513)] {
            assert!(namespace.receipt(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn a_namespace_nests_unless_its_name_is_empty() {
        let inner = Namespace::default().child("a").child("").child("b");
        assert_eq!(inner.text(), "a:b:");
        assert_eq!(&*inner.key("k").unwrap(), "a:b:k");
        assert_eq!(inner.strip("a:b:k"), "k");
        assert!(inner.key("").is_err());
    }
}
