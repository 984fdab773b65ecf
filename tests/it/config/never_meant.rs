//! Texts that nobody can mean are refused when a store is opened, and the error shows the right form.

use std::fs;
use std::path::PathBuf;

use millpond::{Error, Fallback, RedisOptions, StateBackend, StateConfig, StateStore};

#[track_caller]
fn assert_refused(outcome: Result<StateStore, Error>, field: &str, shows: &str) {
    let error = assert_error!(outcome, Error::InvalidConfig { .. });
    let Error::InvalidConfig { field: named, reason, .. } = &error else { unreachable!() };
    assert!(named == field && reason.contains(shows), "{error}");
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02x}"))
}

/// Paths, and what the error about each must contain.
const PATHS: &[(&str, &str)] = &[
    ("", "./state"),
    (" ", "./state"),
    ("\n", "./state"),
    ("DIR/app\n", "DIR/app\""),
    ("DIR/app\r\n", "DIR/app\""),
    ("DIR/app\t", "DIR/app\""),
    ("DIR/a\u{7}pp", "DIR/app\""),
    ("DIR/app\0", "DIR/app\""),
    (" DIR/app", "DIR/app\""),
    ("DIR/app ", "DIR/app\""),
    ("DIR/app\u{a0}", "DIR/app\""),
    ("~/app", "expanded"),
    ("~", "expanded"),
    ("$HOME/app", "expanded"),
    ("file:DIR/app", "./state"),
    ("redis://127.0.0.1:1", "./state"),
    ("memory:", "./state"),
];

#[test]
fn a_path_that_nobody_means_is_refused_in_every_notation() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().to_string_lossy();
    for (path, shows) in PATHS {
        let (path, shows) = (path.replace("DIR", &real), shows.replace("DIR", &real));
        let file = StateBackend::file(path.clone());
        assert_refused(StateStore::new(file), "path", &shows);
        let json = serde_json::json!({"backend": {"file": {"path": path}}});
        let config: StateConfig = serde_json::from_value(json).unwrap();
        assert_refused(StateStore::with_config(config), "path", &shows);
        let encoded = percent_encoded(&path);
        if !path.starts_with("file:") {
            assert_refused(StateStore::open(format!("file:{encoded}")), "path", &shows);
        }
        let redis = |options| {
            let url = "redis://127.0.0.1:1".to_owned();
            StateConfig::default().backend(StateBackend::redis(url).key_prefix("t")).redis(options)
        };
        let options = RedisOptions::default().fallback(Fallback::file(&path));
        assert_refused_on_redis(redis(options), "redis.fallback", &shows);
        let url = format!("redis://127.0.0.1:1?fallback=file:{encoded}");
        assert_refused(StateStore::open(&url), "redis.fallback", &shows);
        let options = RedisOptions::default().tls_ca_file(PathBuf::from(&path));
        assert_refused_on_redis(redis(options), "redis.tls_ca_file", &shows);
        let options = RedisOptions::default().tls_cert_file(PathBuf::from(&path));
        assert_refused_on_redis(redis(options), "redis.tls_cert_file", &shows);
        let options = RedisOptions::default().tls_key_file(PathBuf::from(&path));
        assert_refused_on_redis(redis(options), "redis.tls_key_file", &shows);
        let options = RedisOptions::default().password_file(PathBuf::from(&path));
        assert_refused_on_redis(redis(options), "redis.password_file", &shows);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn assert_refused_on_redis(config: StateConfig, field: &str, shows: &str) {
    assert_refused(StateStore::with_config(config), field, shows);
}

#[test]
fn a_url_that_nobody_means_is_refused() {
    for url in [
        "memory:\n",
        " memory:",
        "file:./state\n",
        "file:./state?sync=never\n",
        "\tfile:./state",
        "redis://127.0.0.1:1\n",
        "redis://127.0.0.1:1/0\r\n",
        "redis://127.0.0.1:1?key_prefix=a\n",
        "redis://127.0.0.1:1?key_prefix=a ",
        "redis://127.0.0.\n1:1",
        "redis://us\ner:pw@127.0.0.1:1",
        "redis://us%20er:pw@127.0.0.1:1",
        "redis://us%0aer:pw@127.0.0.1:1",
        "redis://user:pw%0a@127.0.0.1:1",
        "redis://127.0.0.1,127.0.0.2:1",
        "redis://127.0.0.1%0a:1",
        "redis://ho*st:1",
        "redis://\"host\":1",
    ] {
        let error =
            assert_error!(StateStore::open(url), Error::InvalidConfig { field, .. } if field == "url");
        assert!(!error.to_string().contains("pw"), "{error}");
        if url.starts_with("redis") {
            let config = StateConfig::default().backend(StateBackend::redis(url).key_prefix("t"));
            assert_error!(StateStore::with_config(config), Error::InvalidConfig { .. });
        }
    }
}

#[test]
fn a_key_prefix_that_nobody_means_is_refused() {
    for (prefix, shows) in [
        ("orders\n", "\"orders\""),
        (" orders", "\"orders\""),
        ("orders ", "\"orders\""),
        ("or\u{0}ders", "\"orders\""),
    ] {
        let url = "redis://127.0.0.1:1".to_owned();
        let config = StateConfig::default().backend(StateBackend::redis(url).key_prefix(prefix));
        assert_refused(StateStore::with_config(config), "key_prefix", shows);
        let encoded = percent_encoded(prefix);
        assert_refused(
            StateStore::open(format!("redis://127.0.0.1:1?key_prefix={encoded}")),
            "key_prefix",
            shows,
        );
    }
}

/// Rare, but possible.
#[test]
fn unusual_texts_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["with space", "ünïcödé", "per%cent", "a:b", "quo\"te", "back\\slash", ".hidden", "~x"] {
        let path = dir.path().join(name);
        StateStore::new(StateBackend::file(path.clone())).unwrap();
        assert!(path.is_dir(), "{name}");
    }
    for url in [
        "redis://under_score-1.example:1?fallback=none&timeout=10ms",
        "redis://[::1]:1",
        "redis://[fe80::1%25eth0.1]:1",
        "redis://user:p%20w@127.0.0.1:1?key_prefix=a b",
        "redis://b%C3%BCcher.example",
    ] {
        StateConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}
