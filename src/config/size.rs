//! Owns the notation of sizes in a configuration: a number of bytes, `512KiB`, `64MiB`, `1GiB`. Knows nothing of the
//! options that have one.

use serde::de::Error as _;
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::config::any_value::any_value;

/// The units, and by how many bits a number of each is shifted.
const UNITS: [(&str, u32); 4] = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)];

/// Parses a whole number of bytes, or of a unit.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let shift = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, shift)| *shift);
    match (number.parse::<u64>(), shift) {
        (Ok(number), Some(shift)) => number
            .checked_mul(1 << shift)
            .ok_or_else(|| format!("{text:?} is more bytes than can be counted")),
        _ => Err(format!("{text:?} is not a size: write {}", meant(number, unit))),
    }
}

/// Returns how a size that cannot be read was probably meant.
fn meant(number: &str, unit: &str) -> String {
    let number = if number.is_empty() { "64" } else { number };
    match unit.trim_start().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => format!("{number}KiB (1024 bytes each)"),
        "m" | "mb" | "mib" => format!("{number}MiB (1024 KiB each)"),
        "g" | "gb" | "gib" => format!("{number}GiB (1024 MiB each)"),
        _ => "a whole number of bytes, or one with a unit, such as 512KiB, 64MiB or 1GiB".to_owned(),
    }
}

pub(crate) fn serialize<S: Serializer, T: Serialize>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.serialize(serializer)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the configuration may hold any JSON value")]
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let bytes = match any_value(deserializer)? {
        Value::String(text) => parse(&text),
        number => parse(&number.to_string()),
    };
    let bytes = bytes.map_err(D::Error::custom)?;
    T::try_from(bytes).map_err(|_| D::Error::custom(format!("{bytes} is more bytes than can be counted")))
}

/// The same notation for an optional size.
pub(crate) mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` asks for")]
    pub(crate) fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        #[derive(Deserialize)]
        struct Notation(#[serde(with = "super")] u64);
        Ok(Option::<Notation>::deserialize(deserializer)?.map(|Notation(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_size_is_a_number_of_bytes_or_of_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 67_108_864),
            ("512KiB", 512 << 10),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_that_cannot_be_read_is_refused_by_a_text_that_shows_the_right_form() {
        for (text, shown) in [
            ("1M", "1MiB"),
            ("1MB", "1MiB"),
            ("1mib", "1MiB"),
            ("10k", "10KiB"),
            ("2g", "2GiB"),
            ("", "64MiB"),
            ("MiB", "64MiB"),
            ("-1", "64MiB"),
            ("1.5MiB", "64MiB"),
            ("1TB", "64MiB"),
            ("many", "64MiB"),
            ("1 \u{660}", "64MiB"),
            ("18446744073709551616", "64MiB"),
            ("18446744073709551615KiB", "counted"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(shown), "{text}: {error}");
        }
    }
}
