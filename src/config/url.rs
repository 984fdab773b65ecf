//! Owns the URL notation of a configuration. Knows nothing of how a store is opened.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::config::file_path::{behind_scheme, path_behind_scheme};
use crate::config::memory::ONLY_MEMORY;
use crate::config::percent::{decode, encode};
use crate::config::redis::Fallback;
use crate::config::redis_address::{RedisAddress, invalid_url};
use crate::config::state_backend::{DEFAULT_KEY_PREFIX, StateBackend};
use crate::config::state_config::StateConfig;
use crate::error::{Error, Result};

const KNOWN_SCHEMES: &str = "expected memory:, file: (file:./state), redis://, rediss:// or unix:// (valkey:// and \
                             valkeys:// are redis:// and rediss://)";

const AT_SIGN_IN_QUERY: &str =
    "it has an at sign behind the ?: a ? in the user or the password is written %3F, and an at sign %40";

impl StateConfig {
    /// Parses the URL notation, the one that [`StateStore::open`](crate::StateStore::open) takes.
    ///
    /// `memory:` · `file:./relative` · `file:///absolute` ·
    /// `redis://[user[:password]@]host[:port][/db]` · `rediss://…` (also `valkey://` and `valkeys://`) ·
    /// `unix://[user[:password]@]/path/to.sock`, each with options behind a `?`, and no option twice:
    /// `default_ttl`, `max_value_bytes`, `name` and `slow`, those of [`MemoryOptions`](crate::MemoryOptions) for memory, those of [`FileOptions`](crate::FileOptions) for a file, `key_prefix` and those of
    /// [`RedisOptions`](crate::RedisOptions) for Redis, and for a Unix socket `db`, the number of the database. Every character except letters and digits may be percent-encoded.
    ///
    /// A user logs in, also without a password; a password without a user is that of the user `default`. An IPv6
    /// address is in brackets, and its zone follows `%25`: `redis://[fe80::1%25eth0]:6379`.
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    ///
    /// let config = StateConfig::from_url("redis://127.0.0.1:6379/2?key_prefix=orders&pool_size=4")?;
    /// assert_eq!(config.redis.pool_size, 4);
    /// assert_eq!(config.backend, StateBackend::redis("redis://127.0.0.1:6379/2").key_prefix("orders"));
    /// # Ok::<(), millpond::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig), naming the option, or `url`.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::default().overridden_by_url(url)
    }

    /// Replaces the backend by that of a URL, and each option that the URL names.
    pub(crate) fn overridden_by_url(self, url: &str) -> Result<Self> {
        let kept_prefix = match &self.backend {
            StateBackend::Redis { key_prefix, .. } => key_prefix.clone(),
            StateBackend::Memory | StateBackend::File { .. } => DEFAULT_KEY_PREFIX.to_owned(),
        };
        let (backend, query) = parse(url, kept_prefix)?;
        set_options(Self { backend, ..self }, query)
    }

    /// Returns the URL that [`from_url`](Self::from_url) parses into this configuration, except for the options of
    /// other backends. **It contains the password.**
    ///
    /// ```
    /// use millpond::{StateBackend, StateConfig};
    /// # use std::time::Duration;
    ///
    /// let config = StateConfig::default()
    ///     .backend(StateBackend::file("./state"))
    ///     .default_ttl(Duration::from_secs(3600));
    /// assert_eq!(config.to_url(), "file:./state?default_ttl=1h");
    /// ```
    #[must_use]
    pub fn to_url(&self) -> String {
        format(self)
    }
}

/// Parses a URL: the scheme and the address select the backend. Returns it and the query, which contains the options.
fn parse(url: &str, key_prefix: String) -> Result<(StateBackend, &str)> {
    // The reason does not show the URL, which may hold a password.
    if url.chars().any(char::is_control) || url.trim() != url {
        return Err(invalid_url(
            "it contains a control character, or begins or ends with a space: write it without, as in \
             file:./state or redis://host:6379",
        ));
    }
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(invalid_url(format!("it has no scheme: {KNOWN_SCHEMES}")));
    };
    let backend = match scheme {
        "memory" if matches!(rest, "" | "//") => StateBackend::Memory,
        "memory" => return Err(invalid_url("nothing but options can follow memory:")),
        "file" => StateBackend::File { path: file_path(rest)? },
        "redis" | "rediss" | "valkey" | "valkeys" => {
            // After an unencoded `?` in a password, the rest of the password would be read as options.
            if query.contains('@') {
                return Err(invalid_url(AT_SIGN_IN_QUERY));
            }
            RedisAddress::parse(address)?;
            let url = format!("{}:{rest}", scheme.replace("valkey", "redis"));
            StateBackend::Redis { url, key_prefix }
        }
        "unix" | "redis+unix" => {
            if query.contains('@') {
                return Err(invalid_url(AT_SIGN_IN_QUERY));
            }
            let url = format!("unix:{rest}");
            RedisAddress::parse(&url)?;
            StateBackend::Redis { url, key_prefix }
        }
        other => {
            // The text before the colon may be a password.
            let shown = if address.contains('@') { String::new() } else { format!(" {other:?}") };
            return Err(invalid_url(format!("unknown scheme{shown}: {KNOWN_SCHEMES}")));
        }
    };
    if query.contains('?') {
        return Err(invalid_url(
            "it has a second ?: options are joined by &, and a ? in a value is written %3F",
        ));
    }
    if query.contains('#') {
        return Err(invalid_url(
            "it has a # behind the ?: a URL has no fragment, and a # in a value is written %23",
        ));
    }
    Ok((backend, query))
}

/// Sets the options that a query names.
fn set_options(mut config: StateConfig, query: &str) -> Result<StateConfig> {
    let section = section_of(&config.backend);
    let options = parse_query(query)?;
    // A queue that is kept in files takes the options of files too.
    let fallback = options.iter().find(|(name, _)| name == "fallback").map(|(_, value)| value);
    let queue_is_in_files = fallback.map_or_else(
        || matches!(config.redis.fallback, Fallback::File { .. }),
        |fallback| fallback.starts_with("file:"),
    );
    for (name, value) in options {
        let is_of_files = queue_is_in_files && section == "redis" && config.has_option("file", &name);
        set(&mut config, if is_of_files { "file" } else { section }, &name, value)?;
    }
    Ok(config)
}

/// Returns the options of a query, each once.
fn parse_query(query: &str) -> Result<Vec<(String, String)>> {
    let mut options: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        let name =
            decode(name).ok_or_else(|| invalid_url("an option's name is not valid percent-encoding"))?;
        let value = value.ok_or_else(|| {
            Error::invalid_config(&name, "it has no value: options are name=value, joined by &")
        })?;
        let value = decode(value)
            .ok_or_else(|| Error::invalid_config(&name, "its value is not valid percent-encoding"))?;
        if options.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid_config(name, "it is given twice: write it once"));
        }
        options.push((name, value));
    }
    Ok(options)
}

/// The section of the options that belong to a backend.
fn section_of(backend: &StateBackend) -> &'static str {
    match backend {
        StateBackend::Memory => "memory",
        StateBackend::File { .. } => "file",
        StateBackend::Redis { .. } => "redis",
    }
}

fn set(config: &mut StateConfig, section: &str, name: &str, value: String) -> Result<()> {
    match (&mut config.backend, name) {
        (StateBackend::Redis { key_prefix, .. }, "key_prefix") => {
            *key_prefix = value;
            return Ok(());
        }
        // The URL of a TCP server has a place for the database; that of a Unix socket has only the query.
        (StateBackend::Redis { url, .. }, "db") if url.starts_with("unix:") => {
            *url = format!("{url}?db={value}");
            return RedisAddress::parse(url).map(drop);
        }
        _ => {}
    }
    // A query contains only text. A text that looks like a number or a boolean becomes one: no option that takes
    // a text accepts such a text, except for the name of a store.
    let value = match serde_json::from_str(&value) {
        _ if name == "name" => Value::String(value),
        Ok(plain @ (Value::Number(_) | Value::Bool(_))) => plain,
        _ => Value::String(value),
    };
    let field = match (name, section) {
        ("default_ttl" | "max_value_bytes" | "name" | "slow", _) => name.to_owned(),
        // Without bounds, Memory has no options of its own.
        (_, "memory") if !config.has_option("memory", name) => name.to_owned(),
        (_, "file" | "redis") if config.has_option("memory", name) => {
            return Err(Error::invalid_config(name, ONLY_MEMORY));
        }
        (_, section) => format!("{section}.{name}"),
    };
    config.set(&field, value)
}

/// Returns the URL that is parsed into this configuration. It contains the password.
fn format(config: &StateConfig) -> String {
    let section = section_of(&config.backend);
    let mut url = match &config.backend {
        StateBackend::Memory => "memory:".to_owned(),
        StateBackend::File { path } => format!("file:{}", encode(&behind_scheme(path), b"/")),
        StateBackend::Redis { url, .. } => url.clone(),
    };
    let mut options = Vec::new();
    if let StateBackend::Redis { key_prefix, .. } = &config.backend
        && key_prefix != DEFAULT_KEY_PREFIX
    {
        options.push(("key_prefix".to_owned(), Value::String(key_prefix.clone())));
    }
    options.extend(config.changed_options(section));
    if matches!((section, &config.redis.fallback), ("redis", Fallback::File { .. })) {
        options.extend(config.changed_in("file"));
    }
    for (index, (name, value)) in options.into_iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let separator = if index == 0 && !url.contains('?') { '?' } else { '&' };
        // Writing to a String cannot fail.
        let _ = write!(url, "{separator}{name}={}", encode(&value, b"/:"));
    }
    url
}

fn file_path(rest: &str) -> Result<PathBuf> {
    let path = decode(rest).ok_or_else(|| invalid_url("its path is not valid percent-encoding"))?;
    path_behind_scheme(&path).map_err(|(field, reason)| Error::invalid_config(field, reason))
}
