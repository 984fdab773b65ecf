//! Owns the configuration as a whole: its general options, their defaults and limits, and its serde notation.
//! Knows nothing of how a backend is opened.

use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::clock::Millis;
use crate::config::any_value::any_value;
use crate::config::duration;
use crate::config::file::FileOptions;
use crate::config::meant::{check_password, check_path, check_text};
use crate::config::memory::{MemoryOptions, ONLY_MEMORY};
use crate::config::range::in_range;
use crate::config::redis::RedisOptions;
use crate::config::redis_address::{Login, RedisAddress, invalid_url};
use crate::config::size;
use crate::config::state_backend::StateBackend;
use crate::error::{Error, Result};
use crate::key::{MAX_KEY_BYTES, is_reserved};

/// The default of `max_value_bytes`: 64 MiB.
const DEFAULT_MAX_VALUE_BYTES: usize = 64 << 20;

/// The largest value of `max_value_bytes`, which is the longest string of Redis: 512 MiB.
const MOST_VALUE_BYTES: usize = 512 << 20;

/// The longest name of a store.
const MOST_NAME_BYTES: usize = 128;

/// The least value of `slow`.
const LEAST_SLOW: Duration = Duration::from_micros(1);

/// All options of a store. A URL is another notation for the same: every option has one name and one default in
/// both.
///
/// It is a serde type, so it can be a part of the JSON, TOML or YAML file of a program; there, too, a URL alone is a
/// whole configuration: `state = "file:./state?sync=1s"`. An unknown option is an error that names it, and so is an
/// option that is given twice. The URL in `backend.redis.url` contains no options: each option has one place.
///
/// Durations are texts with a unit: `"500ms"`, `"5s"`, `"1h"`. Sizes are numbers of bytes, or texts with the unit `KiB`,
/// `MiB` or `GiB`: `"64MiB"`.
///
/// Its serialized form contains the password that its URL contains; `Debug` hides it.
///
/// ```
/// use millpond::{FileOptions, StateBackend, StateConfig, SyncPolicy};
/// use std::time::Duration;
///
/// let built = StateConfig::default()
///     .backend(StateBackend::file("./state"))
///     .default_ttl(Duration::from_secs(3600))
///     .file(FileOptions::default().sync(SyncPolicy::Never));
/// let read: StateConfig = serde_json::from_str(
///     r#"{ "backend": {"file": {"path": "./state"}}, "default_ttl": "1h", "file": {"sync": "never"} }"#,
/// ).unwrap();
/// assert_eq!(built, read);
/// let url = "file:./state?default_ttl=1h&sync=never";
/// assert_eq!(built, url.parse().unwrap());
/// assert_eq!(built, serde_json::from_value(url.into()).unwrap());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StateConfig {
    /// The place where the state is stored. Defaults to Memory.
    pub backend: StateBackend,
    /// The time to live for every write that creates an entry, or replaces it as a whole, without naming a time
    /// to live. Defaults to none: entries stay.
    #[serde(with = "duration::option")]
    pub default_ttl: Option<Duration>,
    /// The largest value in bytes. Defaults to 64 MiB (`67108864`); at most 512 MiB.
    pub max_value_bytes: usize,
    /// The name of the store in log lines about slow operations and in metrics: 1 to 128 bytes of UTF-8 without control
    /// characters. Defaults to none.
    pub name: Option<String>,
    /// An operation that takes at least this long is logged as a warning, with its key, its time and how many attempts
    /// it took: at most one each second, and then how many were left out. Waits for a value or a lock are not slow.
    /// Defaults to none: no operation is logged. At least `1µs`.
    #[serde(with = "duration::option")]
    pub slow: Option<Duration>,
    /// Bounds of the Memory variant; the others refuse them.
    pub memory: MemoryOptions,
    /// Options of the File variant; the others ignore them.
    pub file: FileOptions,
    /// Options of the Redis variant; the others ignore them.
    pub redis: RedisOptions,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            backend: StateBackend::Memory,
            default_ttl: None,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            name: None,
            slow: None,
            memory: MemoryOptions::default(),
            file: FileOptions::default(),
            redis: RedisOptions::default(),
        }
    }
}

impl StateConfig {
    /// Sets the place where the state is stored. Defaults to Memory.
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    ///
    /// let config = StateConfig::default().backend(StateBackend::file("./state"));
    /// assert_eq!(config, StateConfig::from_url("file:./state")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn backend(mut self, backend: StateBackend) -> Self {
        self.backend = backend;
        self
    }

    /// Sets the time to live for writes that name none. Defaults to none: entries stay.
    ///
    /// ```
    /// # use millpond::Ttl;
    /// use millpond::{StateConfig, StateStore};
    /// # use std::time::Duration;
    ///
    /// let sessions = StateStore::with_config(StateConfig::default().default_ttl(Duration::from_secs(1800)))?;
    /// sessions.put("7", "anna")?;
    /// assert!(matches!(sessions.ttl("7")?, Some(Ttl::In(_))));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn default_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.default_ttl = ttl.into();
        self
    }

    /// Sets the largest value in bytes. Defaults to 64 MiB; at most 512 MiB.
    ///
    /// ```
    /// use millpond::{StateConfig, StateStore};
    ///
    /// let store = StateStore::with_config(StateConfig::default().max_value_bytes(1024))?;
    /// assert!(store.put("page", "x".repeat(2000)).unwrap_err().is_too_large());
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Names the store in log lines about slow operations and in metrics: 1 to 128 bytes of UTF-8 without control
    /// characters. Defaults to none.
    ///
    /// ```
    /// use millpond::StateConfig;
    ///
    /// let config = StateConfig::default().name("orders");
    /// assert_eq!(config, StateConfig::from_url("memory:?name=orders")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Logs operations that take at least this long as warnings, with the key, the time and how many attempts it took:
    /// at most one each second, and then how many were left out. Waits for a value or a lock are not slow. The time of a
    /// transaction is that of its closure too. Defaults to none: no operation is logged. At least `1µs`.
    ///
    /// ```
    /// use millpond::StateConfig;
    /// use std::time::Duration;
    ///
    /// let config = StateConfig::default().slow(Duration::from_millis(100));
    /// assert_eq!(config, StateConfig::from_url("memory:?slow=100ms")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn slow(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.slow = threshold.into();
        self
    }

    /// Sets the bounds of the Memory variant.
    ///
    /// ```
    /// use millpond::{MemoryOptions, StateConfig, WhenFull};
    ///
    /// let bounds = MemoryOptions::default().max_entries(10_000).max_bytes(64 << 20).when_full(WhenFull::Evict);
    /// let config = StateConfig::default().memory(bounds);
    /// assert_eq!(config, StateConfig::from_url("memory:?max_entries=10000&max_bytes=64MiB&when_full=evict")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn memory(mut self, options: MemoryOptions) -> Self {
        self.memory = options;
        self
    }

    /// Sets the options of the File variant, and of the files in which a
    /// [`Fallback::File`](crate::Fallback::File) keeps its queue.
    ///
    /// ```
    /// use millpond::{FileOptions, StateBackend, StateConfig, SyncPolicy};
    ///
    /// let config = StateConfig::default()
    ///     .backend(StateBackend::file("./state"))
    ///     .file(FileOptions::default().sync(SyncPolicy::Never));
    /// assert_eq!(config, StateConfig::from_url("file:./state?sync=never")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn file(mut self, options: FileOptions) -> Self {
        self.file = options;
        self
    }

    /// Sets the options of the Redis variant.
    ///
    /// ```
    /// use millpond::{Fallback, RedisOptions, StateBackend, StateConfig};
    ///
    /// let config = StateConfig::default()
    ///     .backend(StateBackend::redis("redis://127.0.0.1:6379"))
    ///     .redis(RedisOptions::default().fallback(Fallback::None));
    /// assert_eq!(config, StateConfig::from_url("redis://127.0.0.1:6379?fallback=none")?);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.redis = options;
        self
    }

    /// Checks every option against its limits; the error names the first wrong one.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(ttl) = self.default_ttl {
            Millis::new(ttl).map_err(|error| Error::invalid_config("default_ttl", error.to_string()))?;
        }
        in_range("max_value_bytes", self.max_value_bytes, 1..=MOST_VALUE_BYTES)?;
        if let Some(name) = &self.name {
            check_name(name).map_err(|reason| Error::invalid_config("name", reason))?;
        }
        if self.slow.is_some_and(|threshold| threshold < LEAST_SLOW) {
            return Err(Error::invalid_config(
                "slow",
                "it is less than 1µs: every operation would be logged",
            ));
        }
        self.memory.validate()?;
        if !matches!(self.backend, StateBackend::Memory)
            && let Some((name, _)) = self.changed_in("memory").first()
        {
            return Err(Error::invalid_config(format!("memory.{name}"), ONLY_MEMORY));
        }
        self.file.validate()?;
        self.redis.validate()?;
        match &self.backend {
            StateBackend::File { path } => {
                check_path(path).map_err(|reason| Error::invalid_config("path", reason))
            }
            StateBackend::Memory => Ok(()),
            StateBackend::Redis { url, key_prefix } => {
                let address = RedisAddress::parse(url)?;
                address.login.as_ref().map_or(Ok(()), validate_login)?;
                self.redis.validate_for(&address)?;
                validate_key_prefix(key_prefix)
            }
        }
    }

    /// Sets one option by its name: `default_ttl`, `file.sync`, `redis.timeout`.
    pub(crate) fn set(&mut self, field: &str, value: Value) -> Result<()> {
        let outcome = match field.split_once('.') {
            Some(("memory", name)) => replace(&mut self.memory, name, value),
            Some(("file", name)) => replace(&mut self.file, name, value),
            Some(("redis", name)) => replace(&mut self.redis, name, value),
            _ => match field {
                "backend" => from_value(value).map(|backend| self.backend = backend),
                "max_value_bytes" => size::deserialize(value)
                    .map(|bytes| self.max_value_bytes = bytes)
                    .map_err(|error: serde_json::Error| error.to_string()),
                "name" => from_value(value).map(|name| self.name = name),
                "slow" => duration::option::deserialize(value)
                    .map(|threshold| self.slow = threshold)
                    .map_err(|error| error.to_string()),
                "default_ttl" => duration::option::deserialize(value)
                    .map(|ttl| self.default_ttl = ttl)
                    .map_err(|error| error.to_string()),
                _ => Err("there is no such option".to_owned()),
            },
        };
        outcome.map_err(|reason| Error::invalid_config(field, reason))
    }

    fn from_value(value: Value) -> Result<Self> {
        if let Some(url) = value.as_str() {
            return Self::from_url(url);
        }
        let mut config = Self::default();
        for (field, value) in
            object(value).map_err(|reason| Error::invalid_config("configuration", reason))?
        {
            if !matches!(field.as_str(), "memory" | "file" | "redis") {
                config.set(&field, value)?;
                continue;
            }
            for (name, value) in object(value).map_err(|reason| Error::invalid_config(&field, reason))? {
                config.set(&format!("{field}.{name}"), value)?;
            }
        }
        Ok(config)
    }

    /// Returns whether a section has an option of that name.
    pub(crate) fn has_option(&self, section: &str, name: &str) -> bool {
        as_map(self).get(section).is_some_and(|section| section.get(name).is_some())
    }

    /// The options that differ from their defaults: the general ones and those of one section.
    pub(crate) fn changed_options(&self, section: &str) -> Vec<(String, Value)> {
        let mut changed = differing(&as_map(self), &as_map(&Self::default()));
        changed.retain(|(name, _)| name != "backend");
        changed.extend(self.changed_in(section));
        changed
    }

    /// The options of one section that differ from their defaults.
    pub(crate) fn changed_in(&self, section: &str) -> Vec<(String, Value)> {
        match (as_map(self).get(section), as_map(&Self::default()).get(section)) {
            (Some(Value::Object(options)), Some(Value::Object(defaults))) => differing(options, defaults),
            _ => Vec::new(),
        }
    }
}

/// The options that differ from their defaults.
fn differing(options: &Map<String, Value>, defaults: &Map<String, Value>) -> Vec<(String, Value)> {
    options
        .iter()
        .filter(|(name, value)| !value.is_object() && defaults.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

impl<'de> Deserialize<'de> for StateConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(any_value(deserializer)?).map_err(D::Error::custom)
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty: leave it out".to_owned());
    }
    if name.len() > MOST_NAME_BYTES {
        return Err(format!("it is longer than {MOST_NAME_BYTES} bytes"));
    }
    check_text(name)
}

fn validate_key_prefix(prefix: &str) -> Result<()> {
    let reason = if prefix.len() > MAX_KEY_BYTES {
        "it is longer than 512 bytes".to_owned()
    } else if is_reserved(prefix) {
        "its part `__millpond` is reserved".to_owned()
    } else {
        match check_text(prefix) {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        }
    };
    Err(Error::invalid_config("key_prefix", reason))
}

/// No reason shows a part of the login.
fn validate_login(login: &Login) -> Result<()> {
    if login.user.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid_url(
            "its user contains a space or a control character: no user of Redis has one",
        ));
    }
    check_password(&login.password).map_err(|reason| invalid_url(format!("its password: {reason}")))
}

/// Replaces one option of a section. The serde rules of the section decide whether it exists, and which values
/// it accepts.
fn replace<T: Serialize + DeserializeOwned>(section: &mut T, name: &str, value: Value) -> Result<(), String> {
    let mut fields = as_map(section);
    fields.insert(name.to_owned(), value);
    *section = from_value(Value::Object(fields))?;
    Ok(())
}

fn as_map<T: Serialize>(section: &T) -> Map<String, Value> {
    match serde_json::to_value(section) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the configuration may hold any JSON value")]
fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err("expected a table of options, or for the whole configuration a URL such as file:./state"
            .to_owned()),
    }
}
