//! Owns what a `redis://` URL says, apart from its options. Knows nothing of how a connection is made.

use crate::config::percent::decode;
use crate::error::{Error, Result};

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
            _ => return Err(invalid_url("it must begin with redis:// or rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid_url("it holds a query or a fragment: options are set in the configuration"));
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
                .ok_or_else(|| invalid_url("what follows the host is not the number of a database"))?,
        };
        Ok(Self { tls, host, port, username, password, db })
    }
}

fn parse_login(login: &str) -> Result<(Option<String>, Option<String>)> {
    let part = |text: &str| {
        decode(text).ok_or_else(|| invalid_url("its user or password is not valid percent-encoding"))
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
        return Err(invalid_url("it names no host"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid_url("its host holds a space or a control character"));
    }
    match port {
        None => Ok((host.to_owned(), 6379)),
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => Ok((host.to_owned(), port)),
            _ => Err(invalid_url("its port is not a number from 1 to 65535")),
        },
    }
}

/// Hides the login of a URL: for `Debug`.
pub(crate) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://***@{place}"),
        (None, Some((_, place))) => format!("***@{place}"),
        (_, None) => url.to_owned(),
    }
}

pub(crate) fn invalid_url(reason: impl Into<String>) -> Error {
    Error::invalid_config("url", reason)
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
    }
}
