//! Owns the address in a `redis://` or `unix://` URL: all of it except the options. Knows nothing of connections.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::meant::check_path;
use crate::config::percent::decode;
use crate::error::{Error, Result};

/// The parts of a `redis://` or `unix://` URL, except the options.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisAddress {
    pub(crate) tls: bool,
    pub(crate) endpoint: Endpoint,
    /// `None` if the URL contains no `@`: the connection is that of the server's default user.
    pub(crate) login: Option<Login>,
    pub(crate) db: i64,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without its brackets. A zone follows a `%`: `fe80::1%eth0`.
        host: String,
        port: u16,
    },
    /// A Unix socket.
    Unix { path: PathBuf },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The user that a URL names. Both parts are sent to the server, also if one of them is empty.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

const DEFAULT_PORT: u16 = 6379;

/// The user of a URL that names only a password.
pub(crate) const DEFAULT_USER: &str = "default";

impl RedisAddress {
    /// Parses `redis[s]://[user[:password]@]host[:port][/db]` or `unix://[user[:password]@]/path[?db=…]`. No error quotes a part of the URL: if a password
    /// contains an unencoded `/`, a part of the password is in the place of the port.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (tls, rest) = match url.split_once("://") {
            Some(("redis" | "valkey", rest)) => (false, rest),
            Some(("rediss" | "valkeys", rest)) => (true, rest),
            Some(("unix" | "redis+unix", rest)) => return parse_unix(rest),
            _ => return Err(invalid_url("it must begin with redis://, rediss:// or unix://, in lower case")),
        };
        if rest.contains(['?', '#']) {
            return Err(invalid_url(
                "it contains a query or a fragment: options are set in the configuration, and a ? or # in the user \
                 or the password is written %3F or %23",
            ));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        if path.is_some_and(|path| path.contains('@')) {
            return Err(invalid_url(
                "it has an at sign behind a /: a / in the user or the password is written %2F",
            ));
        }
        let (login, host) = match authority.split_once('@') {
            Some((_, host)) if host.contains('@') => {
                return Err(invalid_url(
                    "it has more than one at sign: one in the user or the password is written %40",
                ));
            }
            Some((login, host)) => (Some(parse_login(login)?), host),
            None => (None, authority),
        };
        let (host, port) = parse_host_and_port(host)?;
        let endpoint = Endpoint::Tcp { host, port };
        Ok(Self { tls, endpoint, login, db: path.map_or(Ok(0), parse_database)? })
    }
}

/// Parses the text behind `unix://`.
fn parse_unix(rest: &str) -> Result<RedisAddress> {
    const FORM: &str = "write unix:///path/to/redis.sock, and a login before the third slash";
    if rest.contains('#') {
        return Err(invalid_url(
            "it contains a fragment: a # in the path, the user or the password is written %23",
        ));
    }
    let (place, db) = match rest.split_once('?') {
        Some((place, query)) => {
            let db = query.strip_prefix("db=").and_then(parse_digits);
            let reason = "nothing but ?db= and the number of a database can follow its path: other options are set in \
                          the configuration";
            (place, db.ok_or_else(|| invalid_url(reason))?)
        }
        None => (rest, 0),
    };
    let (authority, path) =
        place.split_once('/').ok_or_else(|| invalid_url(format!("it has no absolute path: {FORM}")))?;
    let login = match authority.strip_suffix('@') {
        Some(login) if !login.contains('@') => Some(parse_login(login)?),
        None if authority.is_empty() => None,
        Some(_) | None => {
            let reason =
                "it names a host, or a / or an at sign in its user or password is not written %2F or %40";
            return Err(invalid_url(format!("{reason}: {FORM}")));
        }
    };
    let path = decode(path).ok_or_else(|| invalid_url("its path is not valid percent-encoding"))?;
    if path.is_empty() {
        return Err(invalid_url(format!("its path is empty: {FORM}")));
    }
    let path = PathBuf::from(format!("/{path}"));
    check_path(&path).map_err(|reason| invalid_url(format!("its path: {reason}")))?;
    Ok(RedisAddress { tls: false, endpoint: Endpoint::Unix { path }, login, db })
}

/// Parses the text before the `@`. An `@` always means a login: without a user it is that of the default user.
fn parse_login(login: &str) -> Result<Login> {
    let decode = |text: &str| {
        decode(text).ok_or_else(|| {
            invalid_url("its user or password is not valid percent-encoding: a % is written %25")
        })
    };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let user = if user.is_empty() { DEFAULT_USER.to_owned() } else { decode(user)? };
    Ok(Login { user, password: decode(password)? })
}

/// Parses the text behind the `/`. A `/` with nothing behind it selects database 0.
fn parse_database(path: &str) -> Result<i64> {
    if path.is_empty() {
        return Ok(0);
    }
    parse_digits(path).ok_or_else(|| {
        invalid_url("the text behind the host is not the number of a database: write redis://host:6379/3")
    })
}

fn parse_host_and_port(text: &str) -> Result<(String, u16)> {
    if text.contains(',') {
        return Err(invalid_url(
            "it names several hosts: write one, redis://host:6379; Sentinel and Cluster are not supported",
        ));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(invalid_ipv6)?;
            (
                parse_ipv6(host)?,
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(invalid_port)?) },
            )
        }
        // An IPv6 address contains colons itself.
        None if text.matches(':').count() > 1 => {
            return Err(invalid_url(
                "it has more than one : in its host and port: write redis://host:6379, or redis://[::1]:6379 for an \
                 IPv6 address",
            ));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (parse_host_name(host)?, Some(port)),
            None => (parse_host_name(text)?, None),
        },
    };
    let port = port.map_or(Some(DEFAULT_PORT), parse_digits).filter(|port| *port > 0);
    Ok((host, port.ok_or_else(invalid_port)?))
}

/// Parses a name or an IPv4 address.
fn parse_host_name(text: &str) -> Result<String> {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    match decode(text) {
        Some(host) if host.is_empty() => Err(invalid_url("it names no host: write redis://host:6379")),
        Some(host) if host.chars().all(is_allowed) => Ok(host),
        Some(_) | None => Err(invalid_url(
            "its host contains a character that no host has: write a name, an IPv4 address, or an IPv6 address in \
             brackets",
        )),
    }
}

/// Parses the text in brackets: an IPv6 address, and its zone behind `%25` or `%`.
fn parse_ipv6(text: &str) -> Result<String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return Err(invalid_ipv6());
    }
    let Some(zone) = zone else {
        return Ok(address.to_owned());
    };
    // The standard writes `%25`, and many programs write `%`.
    let zone = zone.strip_prefix("25").map_or_else(|| Some(zone.to_owned()), decode);
    let is_allowed = |c: char| c.is_ascii_graphic() && c != '%';
    match zone {
        Some(zone) if !zone.is_empty() && zone.chars().all(is_allowed) => Ok(format!("{address}%{zone}")),
        Some(_) | None => Err(invalid_ipv6()),
    }
}

/// Parses a number that consists of digits: no sign, no space.
fn parse_digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn invalid_port() -> Error {
    invalid_url("its port is not a number from 1 to 65535")
}

fn invalid_ipv6() -> Error {
    invalid_url(
        "the text in brackets is no IPv6 address: write redis://[::1]:6379, or redis://[fe80::1%25eth0]:6379 with a \
         zone",
    )
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

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn every_part_of_an_address_is_kept() {
        for (url, host, port, db) in [
            ("redis://localhost", "localhost", 6379, 0),
            ("redis://localhost/", "localhost", 6379, 0),
            ("redis://localhost:6379/", "localhost", 6379, 0),
            ("redis://127.0.0.1:1/15", "127.0.0.1", 1, 15),
            ("redis://my_host-1.example.org.:65535/0", "my_host-1.example.org.", 65535, 0),
            ("redis://my%2Dhost", "my-host", 6379, 0),
            ("redis://[::1]", "::1", 6379, 0),
            ("redis://[::ffff:127.0.0.1]:7/1", "::ffff:127.0.0.1", 7, 1),
            ("redis://[fe80::1%25eth0]:6380", "fe80::1%eth0", 6380, 0),
            ("redis://[fe80::1%eth0]:6380", "fe80::1%eth0", 6380, 0),
            ("redis://[fe80::1%252]", "fe80::1%2", 6379, 0),
            ("redis://[fe80::1%2]", "fe80::1%2", 6379, 0),
            ("redis://[fe80::1%25my%2Dzone]", "fe80::1%my-zone", 6379, 0),
        ] {
            let address = RedisAddress::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let endpoint = Endpoint::Tcp { host: host.to_owned(), port };
            assert_eq!((&address.endpoint, address.db), (&endpoint, db), "{url}");
            assert!(!address.tls && address.login.is_none(), "{url}");
        }
        assert!(
            RedisAddress::parse("rediss://h").unwrap().tls && RedisAddress::parse("valkeys://h").unwrap().tls
        );
        assert!(RedisAddress::parse("valkey://h").unwrap() == RedisAddress::parse("redis://h").unwrap());
    }

    #[test]
    fn the_path_of_a_unix_socket_is_kept() {
        for (url, path, db, user) in [
            ("unix:///run/redis.sock", "/run/redis.sock", 0, None),
            ("redis+unix:///run/redis.sock?db=2", "/run/redis.sock", 2, None),
            ("unix:///a%20b/c%3Fd@e", "/a b/c?d@e", 0, None),
            ("unix://app:p%2Fw@/s", "/s", 0, Some(login("app", "p/w"))),
            ("unix://:pw@/s?db=15", "/s", 15, Some(login("default", "pw"))),
        ] {
            let address = RedisAddress::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((&address.endpoint, address.db), (&Endpoint::Unix { path: path.into() }, db), "{url}");
            assert!(!address.tls && address.login == user, "{url}");
        }
        for (url, shown) in [
            ("unix:/run/s", "unix://"),
            ("unix://", "unix:///path"),
            ("unix:///", "unix:///path"),
            ("unix://run", "unix:///path"),
            ("unix://run/s", "unix:///path"),
            ("unix://u:p/w@/s", "%2F"),
            ("unix://u@v@/s", "%40"),
            ("unix:///s?db=", "?db="),
            ("unix:///s?db=x", "?db="),
            ("unix:///s?timeout=1s", "?db="),
            ("unix:///s#x", "%23"),
            ("unix:///s%0a", "\"/s\""),
            ("unix:///s%20", "\"/s\""),
            ("unix:///s%zz", "percent"),
        ] {
            let error = RedisAddress::parse(url).err().unwrap_or_else(|| panic!("{url}")).to_string();
            assert!(error.contains(shown), "{url}: {error}");
        }
    }

    #[test]
    fn every_spelling_of_a_user_is_kept() {
        for (text, expected) in [
            ("", None),
            ("app@", Some(login("app", ""))),
            ("app:@", Some(login("app", ""))),
            ("app:secret@", Some(login("app", "secret"))),
            (":secret@", Some(login("default", "secret"))),
            ("default@", Some(login("default", ""))),
            ("@", Some(login("default", ""))),
            (":@", Some(login("default", ""))),
            ("us%40er:p%3Aw%25%2F@", Some(login("us@er", "p:w%/"))),
            ("a%3Ab:c@", Some(login("a:b", "c"))),
            ("app:a:b@", Some(login("app", "a:b"))),
            ("%C3%BC:%00@", Some(login("\u{fc}", "\0"))),
        ] {
            for rest in ["h", "[::1]:7/2"] {
                let address = RedisAddress::parse(&format!("redis://{text}{rest}")).unwrap();
                assert!(address.login == expected, "{text:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_the_right_form_is_shown() {
        for (rest, shown) in [
            ("", "redis://host"),
            (":6379", "redis://host"),
            ("app@", "redis://host"),
            ("app:pw@:1", "redis://host"),
            ("h:", "1 to 65535"),
            ("h:0", "1 to 65535"),
            ("h:65536", "1 to 65535"),
            ("h:+80", "1 to 65535"),
            ("h: 80", "1 to 65535"),
            ("[::1]6380", "1 to 65535"),
            ("h:1:2", "redis://host:6379"),
            ("::1", "redis://[::1]:6379"),
            ("[::1", "redis://[::1]:6379"),
            ("[]", "redis://[::1]:6379"),
            ("[localhost]", "redis://[::1]:6379"),
            ("[fe80::1%25]", "%25eth0"),
            ("[fe80::1%]", "%25eth0"),
            ("[fe80::1%a%zz]", "%25eth0"),
            ("a,b", "redis://host:6379"),
            ("a:1,b:2/0", "redis://host:6379"),
            ("h h", "a name"),
            ("h\n", "a name"),
            ("h\\", "a name"),
            ("h%zz", "a name"),
            ("h//", "redis://host:6379/3"),
            ("h//1", "redis://host:6379/3"),
            ("h/1/", "redis://host:6379/3"),
            ("h/0/1", "redis://host:6379/3"),
            ("h/abc", "redis://host:6379/3"),
            ("h/-1", "redis://host:6379/3"),
            ("h/+1", "redis://host:6379/3"),
            ("h/99999999999999999999", "redis://host:6379/3"),
            ("h?x=1", "%3F"),
            ("h#x", "%23"),
            ("h/#insecure", "%23"),
            ("a@b@h", "%40"),
            ("a:b@c:d@h", "%40"),
            ("a:b/c@h", "%2F"),
            ("a:50%@h", "%25"),
        ] {
            let error = RedisAddress::parse(&format!("redis://{rest}")).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(shown)), "{rest:?}: {error:?}");
        }
        for url in [
            "REDIS://h",
            "Redis://h",
            "redis:h",
            "redis:/h",
            "//h",
            " redis://h",
            "unix:///tmp/redis.sock?x=1",
        ] {
            assert!(RedisAddress::parse(url).is_err(), "{url}");
        }
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
