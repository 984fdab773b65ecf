//! Owns the reading of single values of a configuration from their texts: what serde reads from a text, `FromStr` and
//! `TryFrom<&str>` read too.

use std::str::FromStr;

use serde_json::Value;

use crate::config::file::SyncPolicy;
use crate::config::redis::{AtStart, Fallback, OnConflict, OnUnknownKey};
use crate::config::state_config::StateConfig;
use crate::error::Error;

/// Implements both for types that serde reads from a text. The errors name the field.
macro_rules! from_text {
    ($($Type:ident: $field:literal),+ $(,)?) => {$(
        impl FromStr for $Type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                serde_json::from_value(Value::String(text.to_owned()))
                    .map_err(|error| Error::invalid_config($field, error.to_string()))
            }
        }

        impl TryFrom<&str> for $Type {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self, Error> {
                text.parse()
            }
        }
    )+};
}

from_text! {
    AtStart: "redis.at_start",
    Fallback: "redis.fallback",
    OnConflict: "redis.on_conflict",
    OnUnknownKey: "redis.on_unknown_key",
    SyncPolicy: "file.sync",
}

impl FromStr for StateConfig {
    type Err = Error;

    /// As [`from_url`](StateConfig::from_url).
    fn from_str(url: &str) -> Result<Self, Error> {
        Self::from_url(url)
    }
}

impl TryFrom<&str> for StateConfig {
    type Error = Error;

    /// As [`from_url`](StateConfig::from_url).
    fn try_from(url: &str) -> Result<Self, Error> {
        Self::from_url(url)
    }
}
