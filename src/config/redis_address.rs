//! Owns the address in a `redis://` URL: all of it except the options. Knows nothing of connections.

use crate::config::percent::decode;
use crate::error::{Error, Result};

/// The parts of a `redis://` URL, except the options.
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
    /// Parses `redis[s]://[user[:password]@]host[:port][/db]`. No error quotes a part of the URL: if a password
    /// contains an unencoded `/`, a part of the password is in the place of the port.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (tls, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(invalid_url("it must begin with redis:// or rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid_url(
                "it contains a query or a fragment: options are set in the configuration",
            ));
        }
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) =
            authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (username, password) = login.map_or(Ok((None, None)), parse_login)?;
        let (host, port) = parse_host_and_port(host)?;
        let db = match db.trim_end_matches('/') {
            "" => 0,
            text => text
                .parse()
                .ok()
                .filter(|db| *db >= 0)
                .ok_or_else(|| invalid_url("the text behind the host is not the number of a database"))?,
        };
        Ok(Self { tls, host, port, username, password, db })
    }
}

fn parse_login(login: &str) -> Result<(Option<String>, Option<String>)> {
    let decode = |text: &str| {
        decode(text).ok_or_else(|| invalid_url("its user or password is not valid percent-encoding"))
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let if_given = |text: String| (!text.is_empty()).then_some(text);
    Ok((if_given(decode(user)?), if_given(decode(password)?)))
}

fn parse_host_and_port(text: &str) -> Result<(String, u16)> {
    // An IPv6 address is in brackets, since it contains colons itself.
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(invalid_url("it names no host"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid_url("its host contains a space or a control character"));
    }
    match port {
        None => Ok((host.to_owned(), 6379)),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok((host.to_owned(), port)),
            _ => Err(invalid_url("its port is not a number from 1 to 65535")),
        },
    }
}

/// Hides the user and the password of a URL, for `Debug`.
pub(crate) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
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
    fn every_form_of_an_address_is_parsed() {
        let full = RedisAddress::parse("rediss://us%40er:p%3Aw%25@example.org:7000/3").unwrap();
        assert!(full.tls);
        assert_eq!((full.host.as_str(), full.port, full.db), ("example.org", 7000, 3));
        assert_eq!(full.username.as_deref(), Some("us@er"));
        assert_eq!(full.password.as_deref(), Some("p:w%"));
        let short = RedisAddress::parse("redis://localhost").unwrap();
        assert_eq!((short.host.as_str(), short.port, short.db, short.tls), ("localhost", 6379, 0, false));
        let ipv6 = RedisAddress::parse("redis://:secret@[::1]:6380/").unwrap();
        assert_eq!((ipv6.host.as_str(), ipv6.port), ("::1", 6380));
        assert_eq!((ipv6.username, ipv6.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn no_error_shows_the_password() {
        for url in
            ["redis://u:hunter2@h:0", "redis://u:hunter2@", "redis://u:hunter2@h/x", "redis://u:hunter2%zz@h"]
        {
            let error = RedisAddress::parse(url).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }
}
