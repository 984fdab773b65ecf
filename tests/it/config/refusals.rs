//! What a configuration cannot say is refused in every notation, by a text that shows the right form.

use millpond::{AtStart, Fallback, OnConflict, OnUnknownKey, StateConfig, SyncPolicy};

#[derive(Clone, Copy, Debug)]
enum Notation {
    Url,
    Json,
    Toml,
    Yaml,
}

fn refusal(notation: Notation, text: &str) -> String {
    let refused = match notation {
        Notation::Url => StateConfig::from_url(text).map_err(|error| error.to_string()),
        Notation::Json => serde_json::from_str::<StateConfig>(text).map_err(|error| error.to_string()),
        Notation::Toml => toml::from_str::<StateConfig>(text).map_err(|error| error.to_string()),
        Notation::Yaml => serde_norway::from_str::<StateConfig>(text).map_err(|error| error.to_string()),
    };
    refused.err().unwrap_or_else(|| panic!("{notation:?} accepts {text}"))
}

/// Wrong texts, and what the error about each must contain.
const REFUSALS: &[(Notation, &str, &[&str])] = {
    use Notation::{Json, Toml, Url, Yaml};
    const REDIS: &str = "backend = \"redis\" needs a url: { redis = { url = \"redis://…\" } }";
    const FILE: &str = "backend = \"file\" needs a path: { file = { path = \"./state\" } }";
    &[
        (Toml, "backend = 'redis'", &[REDIS]),
        (Json, r#"{"backend": "redis"}"#, &[REDIS]),
        (Json, r#"{"backend": {"redis": {}}}"#, &[REDIS]),
        (Json, r#"{"backend": {"redis": "redis://h"}}"#, &[REDIS]),
        (Yaml, "backend: redis", &[REDIS]),
        (Yaml, "backend: !redis", &[REDIS]),
        (Yaml, "backend: !Redis {key_prefix: a}", &[REDIS]),
        (Toml, "backend = 'file'", &[FILE]),
        (Yaml, "backend: !file", &[FILE]),
        (Yaml, "backend: !file ./state", &[FILE]),
        (Toml, "backend = 'file:./state'", &["{ file = { path", "a URL alone is the whole configuration"]),
        (Toml, "backend = {type = 'redis', url = 'redis://h'}", &["{ redis = { url"]),
        (Json, r#""nothing""#, &["file:./state"]),
        (Json, "17", &["table of options", "file:./state"]),
        (Url, "memory:?default_ttl=1M", &["default_ttl", "1min", "1month"]),
        (Json, r#"{"default_ttl": "1M"}"#, &["default_ttl", "1min"]),
        (Toml, "redis.timeout = '2M'", &["redis.timeout", "2min"]),
        (Toml, "redis.max_outage = '1M'", &["redis.max_outage", "1min"]),
        (Yaml, "file: {sync: 1M}", &["file.sync", "1min"]),
        (Url, "memory:?max_value_bytes=1M", &["max_value_bytes", "1MiB"]),
        (Json, r#"{"max_value_bytes": "1M"}"#, &["max_value_bytes", "1MiB"]),
        (Toml, "file.compact_min_bytes = '64k'", &["file.compact_min_bytes", "64KiB"]),
        (Yaml, "redis: {max_pending_bytes: 1GB}", &["redis.max_pending_bytes", "1GiB"]),
        (Url, "redis://h?shadow_bytes=1.5MiB", &["redis.shadow_bytes", "64MiB"]),
        (Url, "redis://h?timeout=1s&timeout=2s", &["timeout", "twice"]),
        (Url, "redis://h?timeout=1s&%74imeout=1s", &["timeout", "twice"]),
        (Url, "unix:///s?db=1&db=2", &["db", "twice"]),
        (Json, r#"{"default_ttl": "1h", "default_ttl": "2h"}"#, &["default_ttl", "twice"]),
        (Json, r#"{"redis": {"timeout": "1s", "timeout": "1s"}}"#, &["timeout", "twice"]),
        (Json, r#"{"redis": {"timeout": "1s"}, "redis": {}}"#, &["redis", "twice"]),
        (Toml, "default_ttl = '1h'\ndefault_ttl = '2h'", &["default_ttl"]),
        (Yaml, "default_ttl: 1h\ndefault_ttl: 2h", &["default_ttl"]),
        (Json, r#""memory: ""#, &["file:./state"]),
        (Json, r#""redis://h\n""#, &["control character"]),
        (Yaml, "redis: {at_start: wait}", &["redis.at_start", "serve", "require"]),
        (Toml, "redis.fallback = 'disk'", &["redis.fallback", "memory", "none", "file:"]),
    ]
};

#[test]
fn what_is_refused_is_named_and_the_right_form_is_shown() {
    for (notation, text, shown) in REFUSALS {
        let error = refusal(*notation, text);
        for part in *shown {
            assert!(error.contains(part), "{notation:?} {text}: {part:?} is not in {error:?}");
        }
    }
}

/// Each option has one place: the URL in `backend.redis.url` takes none.
#[test]
fn the_url_of_a_backend_contains_no_option() {
    for url in ["redis://h?timeout=5s", "unix:///s?timeout=5s"] {
        let json = serde_json::json!({"backend": {"redis": {"url": url}}, "redis": {"timeout": "9s"}});
        let config: StateConfig = serde_json::from_value(json).unwrap();
        let error = millpond::StateStore::with_config(config).unwrap_err().to_string();
        assert!(error.contains("options are set in the configuration"), "{url}: {error}");
    }
}

#[test]
fn single_values_are_read_from_their_texts() {
    assert_eq!("redis://h".parse::<StateConfig>().unwrap(), StateConfig::from_url("redis://h").unwrap());
    assert_eq!(StateConfig::try_from("memory:").unwrap(), StateConfig::default());
    assert_eq!("1s".parse::<SyncPolicy>().unwrap(), SyncPolicy::Every(std::time::Duration::from_secs(1)));
    assert_eq!(SyncPolicy::try_from("never").unwrap(), SyncPolicy::Never);
    assert_eq!("none".parse::<Fallback>().unwrap(), Fallback::None);
    assert_eq!("memory".parse::<Fallback>().unwrap(), Fallback::Memory);
    assert_eq!(Fallback::try_from("file:./queue").unwrap(), Fallback::file("./queue"));
    assert_eq!("require".parse::<AtStart>().unwrap(), AtStart::Require);
    assert_eq!("remote_wins".parse::<OnConflict>().unwrap(), OnConflict::RemoteWins);
    assert_eq!("absent".parse::<OnUnknownKey>().unwrap(), OnUnknownKey::Absent);
    for (error, shown) in [
        ("nothing".parse::<StateConfig>().unwrap_err(), "redis://"),
        ("1M".parse::<SyncPolicy>().unwrap_err(), "1min"),
        ("disk".parse::<Fallback>().unwrap_err(), "file:"),
        ("wait".parse::<AtStart>().unwrap_err(), "require"),
        ("me".parse::<OnConflict>().unwrap_err(), "local_wins"),
        ("none".parse::<OnUnknownKey>().unwrap_err(), "absent"),
    ] {
        assert!(error.to_string().contains(shown), "{error}");
    }
}
