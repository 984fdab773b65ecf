//! Owns the way between Rust values and JSON text, and when two texts mean the same. Knows nothing of
//! where the text is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;

use crate::bytes::Bytes;
use crate::error::{Cause, Error, Result};
use crate::json::finite;
use crate::value::Value;

/// A scratch buffer larger than this is not kept.
const KEPT_BUFFER: usize = 64 * 1024;

/// How many characters of a decoder's message are kept.
const LONGEST_CAUSE: usize = 200;

/// The depth that `serde_json` no longer reads: a value is not nested so deep, nor are two compared.
const MAX_DEPTH: u32 = 128;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a value as compact JSON. `key` is for the error only.
pub(crate) fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Value> {
    // The buffer is taken out of its cell, since a `Serialize` may itself come back here.
    let mut buffer = BUFFER.take();
    buffer.clear();
    let written = write(&mut buffer, value);
    let encoded = Value::json(&buffer);
    if buffer.capacity() <= KEPT_BUFFER {
        BUFFER.replace(buffer);
    }
    match written {
        Ok(()) => Ok(encoded),
        Err(source) => Err(Error::Encode { key: key.to_owned(), source }),
    }
}

fn write<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) -> Result<(), Cause> {
    let mut wrote_null = false;
    let formatter = ValidatingFormatter { wrote_null: &mut wrote_null, depth: 0 };
    value.serialize(&mut serde_json::Serializer::with_formatter(buffer, formatter))?;
    // A null may stand for a number that is not finite: only then is the value walked again.
    if wrote_null {
        finite::check(value)?;
    }
    Ok(())
}

/// The compact format, which notes whether a null was written and refuses what could not be read back.
struct ValidatingFormatter<'a> {
    wrote_null: &'a mut bool,
    depth: u32,
}

impl ValidatingFormatter<'_> {
    fn deeper(&mut self) -> io::Result<()> {
        self.depth += 1;
        match self.depth < MAX_DEPTH {
            true => Ok(()),
            false => Err(io::Error::other("it is nested too deeply to be read back")),
        }
    }
}

impl Formatter for ValidatingFormatter<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.wrote_null = true;
        CompactFormatter.write_null(writer)
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_array(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.deeper()?;
        CompactFormatter.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_object(writer)
    }
}

/// Decodes stored bytes. `key` is for the error only.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: Bytes) -> Result<T> {
    serde_json::from_slice(&bytes).map_err(|error| {
        let source = error.to_string();
        // The decoder quotes what it met, however long that is.
        let source = match source.char_indices().nth(LONGEST_CAUSE) {
            Some((end, _)) => format!("{} …", &source[..end]).into(),
            None => error.into(),
        };
        Error::Decode { key: key.to_owned(), raw: bytes, source }
    })
}

/// Decodes what may be there.
pub(crate) fn decode_found<T: DeserializeOwned>(key: &str, found: Option<Bytes>) -> Result<Option<T>> {
    found.map(|bytes| decode(key, bytes)).transpose()
}

/// Tells whether two JSON texts mean the same: integers exactly, an integer against a float as `f64`, the
/// order of an object's fields does not matter. Bytes that are no JSON equal only themselves.
pub(crate) fn eq(left: &[u8], right: &[u8]) -> bool {
    if left == right {
        return true;
    }
    match (raw(left), raw(right)) {
        (Some(left), Some(right)) => raw_eq(left, right, 0),
        _ => false,
    }
}

fn raw(bytes: &[u8]) -> Option<&RawValue> {
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
                    .all(|((name, mine), (other, theirs))| name == other && raw_eq(mine, theirs, depth + 1))
        }
        ([b'[', ..], [b'[', ..]) => {
            let (Some(left), Some(right)) = (parse::<Array<'_>>(left), parse::<Array<'_>>(right)) else {
                return false;
            };
            left.len() == right.len()
                && left.iter().zip(&right).all(|(mine, theirs)| raw_eq(mine, theirs, depth + 1))
        }
        ([b'"', ..], [b'"', ..]) => parse::<String>(left).is_some_and(|text| parse(right) == Some(text)),
        ([b'-' | b'0'..=b'9', ..], [b'-' | b'0'..=b'9', ..]) => number_eq(left, right),
        _ => false,
    }
}

/// Two numbers whose texts differ. JSON spells an integer in one way only, but for the sign of zero.
fn number_eq(left: &str, right: &str) -> bool {
    let integer = |text: &str| !text.contains(['.', 'e', 'E']);
    if integer(left) && integer(right) {
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
    fn equality_is_of_meaning() {
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
    fn what_does_not_decode_is_not_quoted_at_length() {
        let long = encode("k", &"é".repeat(5000)).unwrap();
        let Err(Error::Decode { source, .. }) = decode::<u8>("k", long.bytes) else { panic!("it decoded") };
        assert!(source.to_string().len() < 500, "{source}");
    }

    #[test]
    fn what_is_written_can_be_read_back_however_deep_it_is() {
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
