//! Owns the URL spelling of a configuration. Knows nothing of opening anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{DEFAULT_KEY_PREFIX, Fallback, StateBackend, StateConfig};
use crate::error::{Error, Result};

/// Reads a URL: the scheme and what follows choose the backend, the query holds the options.
pub(super) fn parse(url: &str) -> Result<StateConfig> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(invalid(
            "it has no scheme: expected memory:, file: (file:./state), redis:// or rediss://",
        ));
    };
    let (backend, section) = match scheme {
        "memory" if matches!(rest, "" | "//") => (StateBackend::Memory, None),
        "memory" => return Err(invalid("nothing but options can follow memory:")),
        "file" => (StateBackend::File { path: file_path(rest)? }, Some("file")),
        "redis" | "rediss" => {
            // A `?` in a password that is not encoded would make options of the rest of it.
            if query.contains('@') {
                return Err(invalid("an @ stands behind the ?: percent-encode the user and the password"));
            }
            RedisAddress::parse(address)?;
            let key_prefix = DEFAULT_KEY_PREFIX.to_owned();
            (StateBackend::Redis { url: address.to_owned(), key_prefix }, Some("redis"))
        }
        other => {
            let known = "expected memory:, file:, redis:// or rediss://";
            // What stands before the colon may as well be a password.
            let shown = if address.contains('@') { String::new() } else { format!(" {other:?}") };
            return Err(invalid(format!("unknown scheme{shown}: {known}")));
        }
    };
    if query.contains('?') {
        return Err(invalid(
            "a second ? stands in it: options are joined by &, and a ? in a value is written %3F",
        ));
    }
    let mut config = StateConfig { backend, ..StateConfig::default() };
    let mut options: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or_else(|| invalid("an option's name is not valid percent-encoding"))?;
        let value = decode(value)
            .ok_or_else(|| Error::invalid_config(&name, "its value is not valid percent-encoding"))?;
        if options.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid_config(name, "it is given twice"));
        }
        options.push((name, value));
    }
    // What waits for a server may be kept in files, and these have the same options everywhere.
    let keeps_files = options.iter().any(|(name, value)| name == "fallback" && value.starts_with("file:"));
    for (name, value) in options {
        let is_of_files = keeps_files && section == Some("redis") && config.has_option("file", &name);
        set(&mut config, if is_of_files { Some("file") } else { section }, &name, value)?;
    }
    Ok(config)
}

fn set(config: &mut StateConfig, section: Option<&str>, name: &str, value: String) -> Result<()> {
    if let (StateBackend::Redis { key_prefix, .. }, "key_prefix") = (&mut config.backend, name) {
        *key_prefix = value;
        return Ok(());
    }
    // A query knows only text; what is spelled like a number or a truth value is one, and every option that
    // takes text takes no text that is spelled so.
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

/// Writes the URL that reads back as this configuration. It holds the password.
pub(super) fn format(config: &StateConfig) -> String {
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
    let path = decode(rest).ok_or_else(|| invalid("its path is not valid percent-encoding"))?;
    path_behind_scheme(&path).map_err(|(field, reason)| Error::invalid_config(field, reason))
}

/// Reads the path behind `file:`, or says what is wrong, and with which option.
pub(super) fn path_behind_scheme(rest: &str) -> Result<PathBuf, (&'static str, &'static str)> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(("url", "a file URL names no host: write file:///absolute or file:./relative"));
        }
        None => rest,
    };
    if path.starts_with("~/") || path.starts_with('$') {
        return Err(("path", "~ and $ are not expanded here: write the path out"));
    }
    if path.contains("://") {
        return Err(("path", "it is a URL"));
    }
    if path.is_empty() || path.contains('\0') {
        return Err(("path", "it is empty or holds a NUL"));
    }
    Ok(Path::new(path).to_path_buf())
}

/// Writes what [`path_behind_scheme`] reads as this path.
pub(super) fn behind_scheme(path: &Path) -> String {
    let path = path.to_string_lossy();
    // Two slashes at the beginning would read as those of a host.
    let host = if path.starts_with("//") { "//" } else { "" };
    format!("{host}{path}")
}

/// What a `redis://` URL says, apart from its options.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisAddress {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
}

impl RedisAddress {
    /// Reads `redis[s]://[user[:password]@]host[:port][/db]`. No part of the URL gets into an error: where
    /// a password holds a `/` that is not encoded, it stands where the port is looked for.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (tls, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(invalid("it must begin with redis:// or rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid("it holds a query or a fragment: options are set in the configuration"));
        }
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(l, p)| (Some(l), p));
        let (username, password) = login.map_or(Ok((None, None)), parse_login)?;
        let (host, port) = parse_place(place)?;
        let db = match db.trim_end_matches('/') {
            "" => 0,
            text => text
                .parse()
                .ok()
                .filter(|db| *db >= 0)
                .ok_or_else(|| invalid("what follows the host is not the number of a database"))?,
        };
        Ok(Self { tls, host, port, username, password, db })
    }
}

fn parse_login(login: &str) -> Result<(Option<String>, Option<String>)> {
    let part = |text: &str| {
        decode(text).ok_or_else(|| invalid("its user or password is not valid percent-encoding"))
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let filled = |text: String| (!text.is_empty()).then_some(text);
    Ok((filled(part(user)?), filled(part(password)?)))
}

fn parse_place(place: &str) -> Result<(String, u16)> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(invalid("it names no host"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid("its host holds a space or a control character"));
    }
    match port {
        None => Ok((host.to_owned(), 6379)),
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => Ok((host.to_owned(), port)),
            _ => Err(invalid("its port is not a number from 1 to 65535")),
        },
    }
}

/// Hides the login of a URL: for `Debug`.
pub(super) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://***@{place}"),
        (None, Some((_, place))) => format!("***@{place}"),
        (_, None) => url.to_owned(),
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::invalid_config("url", reason)
}

/// Percent-decoding; `None` where the text is not valid.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encoding of everything but letters, digits, `-._~` and what is named in `plain`.
fn encode(text: &str, plain: &[u8]) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_all_its_forms() {
        let full = RedisAddress::parse("rediss://us%40er:p%3Aw%25@example.org:7000/3").unwrap();
        assert!(full.tls);
        assert_eq!((full.host.as_str(), full.port, full.db), ("example.org", 7000, 3));
        assert_eq!(full.username.as_deref(), Some("us@er"));
        assert_eq!(full.password.as_deref(), Some("p:w%"));
        let short = RedisAddress::parse("redis://localhost").unwrap();
        assert_eq!((short.host.as_str(), short.port, short.db, short.tls), ("localhost", 6379, 0, false));
        let six = RedisAddress::parse("redis://:secret@[::1]:6380/").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 6380));
        assert_eq!((six.username, six.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in
            ["redis://u:hunter2@h:0", "redis://u:hunter2@", "redis://u:hunter2@h/x", "redis://u:hunter2%zz@h"]
        {
            let error = RedisAddress::parse(url).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
        let backend = StateBackend::Redis { url: "redis://u:hunter2@h".into(), key_prefix: "p".into() };
        assert!(!format!("{backend:?}").contains("hunter2"));
    }

    #[test]
    fn percent_encoding_goes_both_ways() {
        let text = "a b/ü?&=%";
        assert_eq!(decode(&encode(text, b"")).as_deref(), Some(text));
        for bad in ["%", "%1", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
