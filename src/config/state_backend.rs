//! Owns the names of the backends in a configuration, and what each of them needs. Knows nothing of options.

use std::fmt;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::any_value::{any_value, is_nothing, variant};
use crate::config::redis_address::without_password;

/// The prefix of Redis keys if a URL or a configuration names no `key_prefix`.
pub(crate) const DEFAULT_KEY_PREFIX: &str = "millpond";

/// The place where the state is stored.
///
/// In a configuration: `"memory"`, `{"file": {"path": "./state"}}`, or
/// `{"redis": {"url": "redis://127.0.0.1:6379", "key_prefix": "orders"}}`. The variant may also be written as in Rust
/// (`File`), and in YAML as a tag (`!file`).
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StateBackend {
    /// In the memory of this process. It is lost when the process ends.
    #[default]
    Memory,
    /// In memory and in a directory that one process has open at a time. Made by [`StateBackend::file`].
    #[non_exhaustive]
    File {
        /// The directory; it is created if it is missing.
        path: PathBuf,
    },
    /// On a Redis server, 6.2 or newer. Made by [`StateBackend::redis`].
    #[non_exhaustive]
    Redis {
        /// `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS, or
        /// `unix://[user[:password]@]/path/to.sock[?db=…]` for a Unix socket. It contains no options.
        url: String,
        /// Keys are stored under `{key_prefix}:{key}`; with an empty prefix, under the bare key. Defaults to
        /// `millpond` in a configuration that does not name it.
        key_prefix: String,
    },
}

impl StateBackend {
    /// The memory of this process.
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    ///
    /// assert_eq!(StateBackend::memory(), StateConfig::default().backend);
    /// ```
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory
    }

    /// A directory; it is created if it is missing.
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    ///
    /// let config = StateConfig::default().backend(StateBackend::file("./state"));
    /// assert_eq!(config.to_url(), "file:./state");
    /// ```
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into() }
    }

    /// A Redis server, by its URL without options. The key prefix is `millpond`, unless
    /// [`key_prefix`](Self::key_prefix) sets another one.
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    ///
    /// let config = StateConfig::default().backend(StateBackend::redis("redis://127.0.0.1:6379"));
    /// assert_eq!(config.to_url(), "redis://127.0.0.1:6379");
    /// ```
    #[must_use]
    pub fn redis(url: impl Into<String>) -> Self {
        Self::Redis { url: url.into(), key_prefix: default_key_prefix() }
    }

    /// Sets the key prefix of a Redis backend. Memory and File have none and stay as they are.
    ///
    /// ```
    /// use millpond::StateBackend;
    ///
    /// let backend = StateBackend::redis("redis://127.0.0.1:6379").key_prefix("orders");
    /// assert!(matches!(backend, StateBackend::Redis { key_prefix, .. } if key_prefix == "orders"));
    /// ```
    #[must_use]
    pub fn key_prefix(self, prefix: impl Into<String>) -> Self {
        match self {
            Self::Redis { url, .. } => Self::Redis { url, key_prefix: prefix.into() },
            Self::Memory | Self::File { .. } => self,
        }
    }
}

impl fmt::Debug for StateBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::File { path } => f.debug_struct("File").field("path", path).finish(),
            Self::Redis { url, key_prefix } => f
                .debug_struct("Redis")
                .field("url", &without_password(url))
                .field("key_prefix", key_prefix)
                .finish(),
        }
    }
}

/// The fields of [`StateBackend::File`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFields {
    path: PathBuf,
}

/// The fields of [`StateBackend::Redis`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisFields {
    url: String,
    #[serde(default = "default_key_prefix")]
    key_prefix: String,
}

fn default_key_prefix() -> String {
    DEFAULT_KEY_PREFIX.to_owned()
}

impl Serialize for StateBackend {
    /// Writes a map with one field, which each notation can write and read: YAML would write an enum as a tag.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Memory => serializer.serialize_str("memory"),
            Self::File { path } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("file", &FileFields { path: path.clone() })?;
                map.end()
            }
            Self::Redis { url, key_prefix } => {
                let mut map = serializer.serialize_map(Some(1))?;
                let fields = RedisFields { url: url.clone(), key_prefix: key_prefix.clone() };
                map.serialize_entry("redis", &fields)?;
                map.end()
            }
        }
    }
}

/// The right forms of a backend, which the errors show. They quote nothing that was given: it may be a password.
const FORMS: &str = "expected \"memory\", { file = { path = \"./state\" } } or { redis = { url = \"redis://…\" } }; a \
                     URL alone is the whole configuration, not its backend";
const FILE_FORM: &str = "backend = \"file\" needs a path: { file = { path = \"./state\" } }";
const REDIS_FORM: &str = "backend = \"redis\" needs a url: { redis = { url = \"redis://…\" } }";

impl<'de> Deserialize<'de> for StateBackend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, content) = variant(any_value(deserializer)?).ok_or_else(|| D::Error::custom(FORMS))?;
        let fields = content.as_object().is_some_and(|fields| !fields.is_empty());
        match name.as_str() {
            "memory" if is_nothing(&content) => Ok(Self::Memory),
            "file" if fields && content.get("path").is_some() => {
                let FileFields { path } = serde_json::from_value(content).map_err(D::Error::custom)?;
                Ok(Self::File { path })
            }
            "redis" if fields && content.get("url").is_some() => {
                let RedisFields { url, key_prefix } =
                    serde_json::from_value(content).map_err(D::Error::custom)?;
                Ok(Self::Redis { url, key_prefix })
            }
            "file" => Err(D::Error::custom(FILE_FORM)),
            "redis" => Err(D::Error::custom(REDIS_FORM)),
            _ => Err(D::Error::custom(FORMS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_backend_hides_the_password() {
        let backend = StateBackend::Redis { url: "redis://u:hunter2@h".into(), key_prefix: "p".into() };
        assert!(!format!("{backend:?}").contains("hunter2"));
    }
}
