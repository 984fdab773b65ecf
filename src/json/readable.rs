//! Owns the check of JSON text that a caller wrote: whether it can be read back as any JSON value. Knows nothing of
//! where the text is embedded.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The first depth of nesting that `serde_json` refuses to read: no value is written, or compared, as deep as this.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Why a nesting is refused.
pub(crate) const TOO_DEEP: &str = "it is nested too deeply to be read back";

/// Fails unless a text, embedded at this depth, is JSON that can be read as a `serde_json::Value`: its numbers are
/// within the range of `f64`, its texts are valid Unicode, and its nesting is not too deep.
pub(crate) fn check(text: &str, depth: u32) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Readable { depth }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Returns whether bytes that any program may have written are a JSON text as this crate writes one: it can be read back,
/// and nothing stands around it.
#[cfg(feature = "redis")]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let is_solid = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_whitespace());
    is_solid(bytes.first())
        && is_solid(bytes.last())
        && std::str::from_utf8(bytes).is_ok_and(|text| check(text, 0).is_ok())
}

/// Reads a value at a depth, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Readable {
    depth: u32,
}

impl Readable {
    fn enter<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth < MAX_DEPTH { Ok(Self { depth }) } else { Err(E::custom(TOO_DEEP)) }
    }
}

impl<'de> DeserializeSeed<'de> for Readable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Values without parts.
macro_rules! accepts {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, _: $type) -> Result<(), E> { Ok(()) })*
    };
}

impl<'de> Visitor<'de> for Readable {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    accepts! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        while fields.next_entry_seed(inner, inner)?.is_some() {}
        Ok(())
    }
}
