//! Owns the stored value: its bytes, and whether they are JSON text that this crate wrote. Knows nothing of
//! Rust types.

use crate::bytes::Bytes;

/// The origin of the bytes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON text from our own encoder, which may be written to a file unchanged.
    Json,
    /// Arbitrary bytes, which are encoded as Base64 in a file.
    Raw,
}

/// The bytes of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    pub(crate) form: Form,
    /// How many leases of a queue have returned the value to it. It is 0 for a value that was never leased.
    pub(crate) returns: u32,
}

impl Value {
    pub(crate) fn json(text: &[u8]) -> Self {
        Self::new(Bytes::from(text), Form::Json)
    }

    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self::new(Bytes::from(bytes), Form::Raw)
    }

    pub(crate) fn new(bytes: Bytes, form: Form) -> Self {
        Self { bytes, form, returns: 0 }
    }

    /// The value after one more lease has returned it to its queue.
    pub(crate) fn returned(self) -> Self {
        Self { returns: self.returns.saturating_add(1), ..self }
    }

    /// The size in bytes as text in a file: raw bytes are encoded as Base64 there.
    pub(crate) fn weight(&self) -> u64 {
        match self.form {
            Form::Json => self.bytes.len() as u64,
            Form::Raw => (self.bytes.len().div_ceil(3) * 4) as u64,
        }
    }

    /// The value of a counter.
    pub(crate) fn integer(number: i64) -> Self {
        Self::json(number.to_string().as_bytes())
    }
}

/// Parses a counter: `0` or `-?[1-9][0-9]*` within `i64`, which is the grammar of Redis.
pub(crate) fn counter(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = match digits {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_one_spelling() {
        for (text, number) in [
            ("0", 0),
            ("7", 7),
            ("-10", -10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(counter(text.as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e2",
            "9223372036854775808",
            "\"1\"",
            "null",
        ] {
            assert_eq!(counter(text.as_bytes()), None, "{text:?}");
        }
    }
}
