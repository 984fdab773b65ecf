//! URLs and configurations that make little sense: none is a panic, a surprise, or shows a password.

use fastrand::Rng;
use millpond::{Error, StateConfig};

#[test]
fn no_url_makes_the_parser_panic() {
    let seeds = [
        "memory:?default_ttl=1h&max_value_bytes=5",
        "file:///a%20b/c?sync=500ms&compact_ratio=0.5",
        "redis://us%40er:p%3Aw@[::1]:6380/3?key_prefix=a:b&timeout=5s&fallback=none",
        "rediss://h?tls_ca_file=/x&pool_size=1",
    ];
    let parts =
        ["%", "%f", "%ff", "é", "\0", "://", "@", ":", "/", "?", "&", "=", "[", "]", "99999999999999999999"];
    let mut random = Rng::with_seed(11);
    for _ in 0..20_000 {
        let mut url: Vec<char> = seeds[random.usize(..seeds.len())].chars().collect();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..=url.len());
            match random.u32(..4) {
                0 => url.truncate(at),
                1 if at < url.len() => drop(url.remove(at)),
                2 => url.insert(at, random.char(..)),
                _ => drop(url.splice(at..at, parts[random.usize(..parts.len())].chars())),
            }
        }
        let url: String = url.into_iter().collect();
        if let Ok(config) = StateConfig::from_url(&url) {
            let again = StateConfig::from_url(&config.to_url());
            assert_eq!(again.as_ref().ok(), Some(&config), "{url:?} became {:?}", config.to_url());
        }
    }
}

/// What stands in the wrong place of a configuration is quoted by whoever cannot read it.
#[test]
fn a_password_in_the_wrong_place_is_not_shown_either() {
    for url in [
        "redis://u:12?s3cret@127.0.0.1:1",
        "redis://u:12/3?s3cret@h",
        "redis://u:1?timeout=s3cret@h",
        "redis://u:1?s3cret=x@h",
        "redis://h?pool_size=s3cret@h",
        "s3cret@host:6379",
        "file:redis://u:s3cret@h",
    ] {
        let error = StateConfig::from_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error}");
    }
    for json in [
        r#"{"backend": "redis://u:s3cret@h"}"#,
        r#"{"backend": {"redis://u:s3cret@h": {}}}"#,
        r#"{"backend": {"redis": "redis://u:s3cret@h"}}"#,
        r#"{"redis://u:s3cret@h": 1}"#,
    ] {
        let error = serde_json::from_str::<StateConfig>(json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{json}: {error}");
    }
}

#[test]
fn what_would_surprise_is_refused() {
    for (url, field, word) in [
        ("file:~/state", "path", "expanded"),
        ("file:$HOME/state", "path", "expanded"),
        ("file:redis://h", "path", "URL"),
        ("memory:?default_ttl=1s&default_ttl=2s", "default_ttl", "twice"),
        ("file:./state?sync=1", "file.sync", "unit"),
    ] {
        match StateConfig::from_url(url) {
            Err(Error::InvalidConfig { field: named, reason, .. }) => {
                assert!(named == field && reason.contains(word), "{url}: {named}: {reason}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
