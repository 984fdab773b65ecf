//! Owns the URL notation of a configuration. Knows nothing of how a store is opened.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::config::file_path::{behind_scheme, path_behind_scheme};
use crate::config::percent::{decode, encode};
use crate::config::redis::Fallback;
use crate::config::redis_address::{RedisAddress, invalid_url};
use crate::config::state_backend::{DEFAULT_KEY_PREFIX, StateBackend};
use crate::config::state_config::StateConfig;
use crate::error::{Error, Result};

impl StateConfig {
    /// Parses the URL notation, the one that [`StateStore::open`](crate::StateStore::open) takes.
    ///
    /// `memory:` · `file:./relative` · `file:///absolute` ·
    /// `redis://[user[:password]@]host[:port][/db]` · `rediss://…`, each with options behind a `?`:
    /// `default_ttl` and `max_value_bytes`, those of [`FileOptions`](crate::FileOptions) for a file, `key_prefix` and those of
    /// [`RedisOptions`](crate::RedisOptions) for Redis. Every character except letters and digits may be percent-encoded.
    ///
    /// A user logs in, also without a password; a password without a user is that of the user `default`. An IPv6
    /// address is in brackets, and its zone follows `%25`: `redis://[fe80::1%25eth0]:6379`.
    ///
    /// # Errors
    /// [`InvalidConfig`](Error::InvalidConfig), naming the option, or `url`.
    pub fn from_url(url: &str) -> Result<Self> {
        parse(url)
    }

    /// Returns the URL that [`from_url`](Self::from_url) parses into this configuration, except for the options of
    /// other backends. **It contains the password.**
    #[must_use]
    pub fn to_url(&self) -> String {
        format(self)
    }
}

/// Parses a URL: the scheme and the address select the backend, the query contains the options.
fn parse(url: &str) -> Result<StateConfig> {
    // The reason does not show the URL, which may hold a password.
    if url.chars().any(char::is_control) || url.trim() != url {
        return Err(invalid_url(
            "it contains a control character, or begins or ends with a space: write it without, as in \
             file:./state or redis://host:6379",
        ));
    }
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(invalid_url(
            "it has no scheme: expected memory:, file: (file:./state), redis:// or rediss://",
        ));
    };
    let (backend, section) = match scheme {
        "memory" if matches!(rest, "" | "//") => (StateBackend::Memory, None),
        "memory" => return Err(invalid_url("nothing but options can follow memory:")),
        "file" => (StateBackend::File { path: file_path(rest)? }, Some("file")),
        "redis" | "rediss" => {
            // After an unencoded `?` in a password, the rest of the password would be read as options.
            if query.contains('@') {
                return Err(invalid_url(
                    "it has an at sign behind the ?: a ? in the user or the password is written %3F, and an at sign %40",
                ));
            }
            RedisAddress::parse(address)?;
            let key_prefix = DEFAULT_KEY_PREFIX.to_owned();
            (StateBackend::Redis { url: address.to_owned(), key_prefix }, Some("redis"))
        }
        other => {
            let known = "expected memory:, file:, redis:// or rediss://";
            // The text before the colon may be a password.
            let shown = if address.contains('@') { String::new() } else { format!(" {other:?}") };
            return Err(invalid_url(format!("unknown scheme{shown}: {known}")));
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
    let mut config = StateConfig { backend, ..StateConfig::default() };
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
            return Err(Error::invalid_config(name, "it is given twice"));
        }
        options.push((name, value));
    }
    // A queue that is kept in files takes the options of files too.
    let queue_is_in_files =
        options.iter().any(|(name, value)| name == "fallback" && value.starts_with("file:"));
    for (name, value) in options {
        let is_of_files = queue_is_in_files && section == Some("redis") && config.has_option("file", &name);
        set(&mut config, if is_of_files { Some("file") } else { section }, &name, value)?;
    }
    Ok(config)
}

fn set(config: &mut StateConfig, section: Option<&str>, name: &str, value: String) -> Result<()> {
    if let (StateBackend::Redis { key_prefix, .. }, "key_prefix") = (&mut config.backend, name) {
        *key_prefix = value;
        return Ok(());
    }
    // A query contains only text. A text that looks like a number or a boolean becomes one: no option that takes
    // a text accepts such a text.
    let value = match serde_json::from_str(&value) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_))) => plain,
        _ => Value::String(value),
    };
    let field = match (name, section) {
        ("default_ttl" | "max_value_bytes", _) | (_, None) => name.to_owned(),
        (_, Some(section)) => format!("{section}.{name}"),
    };
    config.set(&field, value)
}

/// Returns the URL that is parsed into this configuration. It contains the password.
fn format(config: &StateConfig) -> String {
    let (mut url, section) = match &config.backend {
        StateBackend::Memory => ("memory:".to_owned(), None),
        StateBackend::File { path } => (format!("file:{}", encode(&behind_scheme(path), b"/")), Some("file")),
        StateBackend::Redis { url, .. } => (url.clone(), Some("redis")),
    };
    let mut options = Vec::new();
    if let StateBackend::Redis { key_prefix, .. } = &config.backend
        && key_prefix != DEFAULT_KEY_PREFIX
    {
        options.push(("key_prefix".to_owned(), Value::String(key_prefix.clone())));
    }
    options.extend(config.changed_options(section));
    if matches!((section, &config.redis.fallback), (Some("redis"), Fallback::File { .. })) {
        options.extend(config.changed_in("file"));
    }
    for (index, (name, value)) in options.into_iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let separator = if index == 0 { '?' } else { '&' };
        // Writing to a String cannot fail.
        let _ = write!(url, "{separator}{name}={}", encode(&value, b"/:"));
    }
    url
}

fn file_path(rest: &str) -> Result<PathBuf> {
    let path = decode(rest).ok_or_else(|| invalid_url("its path is not valid percent-encoding"))?;
    path_behind_scheme(&path).map_err(|(field, reason)| Error::invalid_config(field, reason))
}
