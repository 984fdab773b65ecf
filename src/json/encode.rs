//! Owns the encoding of Rust values as JSON text or bytes, and their decoding. Knows nothing of where the text is
//! stored.

use std::cell::RefCell;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::bytes::Bytes;
use crate::error::{Cause, Error, Result};
use crate::json::finite;
use crate::json::readable;
use crate::json::readable::{MAX_DEPTH, TOO_DEEP};
use crate::json::value_deserializer;
use crate::json::value_serializer::ValueSerializer;
use crate::value::{Form, Value};

/// A larger scratch buffer is freed after use.
const KEPT_BUFFER: usize = 64 * 1024;

/// At most this many characters of a decoder's message are kept.
const LONGEST_CAUSE: usize = 200;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a value as compact JSON; [`Bytes`] are left as they are. `key` only names the entry in an error.
pub(crate) fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Value> {
    // A `Serialize` implementation may encode another value, so the buffer must not stay borrowed. The destructor of
    // another thread-local may encode a value when the thread's buffer is gone already.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    buffer.clear();
    let written = write(&mut buffer, value);
    let encoded = match &written {
        Ok(Some(raw)) => Value::new(raw.clone(), Form::Raw),
        Ok(None) | Err(_) => Value::json(&buffer),
    };
    if buffer.capacity() <= KEPT_BUFFER {
        // If the thread's buffer is gone, this one is freed.
        let _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
    match written {
        Ok(_) => Ok(encoded),
        Err(source) => Err(Error::Encode { key: key.to_owned(), source }),
    }
}

/// Writes a value as JSON, or returns its bytes if it has no JSON.
fn write<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) -> Result<Option<Bytes>, Cause> {
    let mut raw = None;
    let mut wrote_null = false;
    let formatter = ValidatingFormatter { wrote_null: &mut wrote_null, depth: 0 };
    let mut json = serde_json::Serializer::with_formatter(buffer, formatter);
    value.serialize(ValueSerializer::new(&mut json, &mut raw))?;
    // `serde_json` writes null for a number that is not finite; only a null makes the second walk necessary.
    if wrote_null {
        finite::check(value)?;
    }
    Ok(raw)
}

/// The compact format; it also records whether a null was written, and refuses nesting that could not be read
/// back.
struct ValidatingFormatter<'a> {
    wrote_null: &'a mut bool,
    depth: u32,
}

impl ValidatingFormatter<'_> {
    fn enter_nesting(&mut self) -> io::Result<()> {
        self.depth += 1;
        if self.depth < MAX_DEPTH { Ok(()) } else { Err(io::Error::other(TOO_DEEP)) }
    }
}

impl Formatter for ValidatingFormatter<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.wrote_null = true;
        CompactFormatter.write_null(writer)
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter_nesting()?;
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_array(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter_nesting()?;
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_object(writer)
    }

    /// Writes the text of a `RawValue`, of which `serde_json` has only checked the grammar.
    fn write_raw_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        readable::check(fragment, self.depth).map_err(io::Error::other)?;
        CompactFormatter.write_raw_fragment(writer, fragment)
    }
}

/// Decodes stored bytes. `key` only names the entry in an error.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: Bytes) -> Result<T> {
    value_deserializer::decode(&bytes).map_err(|error| {
        let source = error.to_string();
        // The decoder quotes the offending text in full, so the message may be as long as the value.
        let source = match source.char_indices().nth(LONGEST_CAUSE) {
            Some((end, _)) => format!("{} …", &source[..end]).into(),
            None => error.into(),
        };
        Error::Decode { key: key.to_owned(), raw: bytes, lease: None, source }
    })
}

/// Decodes the stored bytes of an entry, if there is one.
pub(crate) fn decode_found<T: DeserializeOwned>(key: &str, found: Option<Bytes>) -> Result<Option<T>> {
    found.map(|bytes| decode(key, bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_an_error_wherever_it_hides() {
        #[derive(Serialize)]
        enum Shape {
            Unit,
            Tuple(f64, Option<f32>),
            Fields { deep: Vec<BTreeMap<String, f64>> },
        }
        assert!(encode("k", &f64::NAN).is_err());
        assert!(encode("k", &Some(f32::INFINITY)).is_err());
        assert!(encode("k", &[1.0, f64::NEG_INFINITY]).is_err());
        assert!(encode("k", &Shape::Tuple(1.0, Some(f32::NAN))).is_err());
        let deep = vec![BTreeMap::from([("x".to_owned(), f64::NAN)])];
        assert!(encode("k", &Shape::Fields { deep }).is_err());
        assert!(encode("k", &(Shape::Unit, Shape::Tuple(1.0, None), ())).is_ok());
        assert!(encode("k", &BTreeMap::from([((1, 2), 3)])).is_err());
    }

    #[test]
    fn a_decode_error_quotes_only_a_part_of_the_value() {
        let long = encode("k", &"é".repeat(5000)).unwrap();
        let Err(Error::Decode { source, .. }) = decode::<u8>("k", long.bytes) else {
            panic!("a long text decoded as a number")
        };
        assert!(source.to_string().len() < 500, "{source}");
    }

    #[test]
    fn every_nesting_that_is_written_can_be_read_back() {
        let nested = |depth| (1..depth).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
        let deepest = encode("k", &nested(127)).unwrap();
        assert_eq!(decode::<serde_json::Value>("k", deepest.bytes).unwrap(), nested(127));
        assert!(encode("k", &nested(128)).is_err());
        assert!(encode("k", &[nested(2), nested(2)]).is_ok());
    }

    #[test]
    fn a_value_may_encode_another_while_it_is_encoded() {
        struct Nested;
        impl Serialize for Nested {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = encode("inner", &[1, 2, 3]).unwrap();
                serializer.serialize_u64(inner.bytes.len() as u64)
            }
        }
        assert_eq!(*encode("outer", &("x", Nested)).unwrap().bytes, *br#"["x",7]"#);
    }
}
