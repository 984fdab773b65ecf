//! Owns the notation of durations in a configuration: `500ms`, `5s`, `1h 30m`. Knows nothing of the options that
//! have one.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserializer, Serializer};

use crate::config::any_value::any_value;

pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if let Some(number) = number_of_capital_m(text) {
        return Err(format!("{text:?} may mean months or minutes: write {number}min, or {number}month"));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a duration such as 500ms, 5s or 1h ({error})"))
}

/// Returns the number that is followed by the unit `M`, if there is one.
fn number_of_capital_m(text: &str) -> Option<&str> {
    text.match_indices('M').find_map(|(at, _)| {
        let (before, after) = (text[..at].trim_end(), &text[at + 1..]);
        let number = &before[before.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
        (!number.is_empty() && !after.starts_with(char::is_alphabetic)).then_some(number)
    })
}

pub(crate) fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&text(deserializer)?).map_err(D::Error::custom)
}

/// Reads the text of a duration. A bare number is the common mistake: its error names the missing unit, not the
/// missing string.
#[expect(clippy::wildcard_enum_match_arm, reason = "the configuration may hold any JSON value")]
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match any_value(deserializer)? {
        serde_json::Value::String(text) => Ok(text),
        other => Err(D::Error::custom(format!("{other} is not a duration: write it with a unit, \"5s\""))),
    }
}

/// The same notation for an optional duration.
pub(crate) mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::config::duration::format;

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` asks for")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(format).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Notation(#[serde(with = "super")] Duration);
        Ok(Option::<Notation>::deserialize(deserializer)?.map(|Notation(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_capital_m_is_neither_months_nor_minutes() {
        for (text, shown) in [("1M", "1min"), ("1h 30M", "30min"), ("5 M", "5min"), ("2M3s", "2min")] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(shown) && error.contains("month"), "{text}: {error}");
        }
        for text in ["1m", "1min", "1month", "1h 30m"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }
}
