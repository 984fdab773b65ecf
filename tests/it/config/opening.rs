//! The ways to open a store, and the notations of a configuration: a URL, and fields.

use std::time::Duration;

use millpond::{
    AtStart, Error, Fallback, FileOptions, MemoryOptions, OnConflict, OnUnknownKey, RedisOptions,
    StateBackend, StateConfig, StateStore, SyncPolicy, WhenFull,
};
use serde_json::json;

const MS: Duration = Duration::from_millis(1);

fn file() -> StateConfig {
    StateConfig::default().backend(StateBackend::file("./state"))
}

fn redis() -> StateConfig {
    let backend = StateBackend::redis("redis://h:7000/2").key_prefix("millpond");
    StateConfig::default().backend(backend)
}

type Spelling = (&'static str, serde_json::Value, StateConfig);

/// Every option of every backend, each as a URL, as JSON, and as the configuration that both describe.
fn spellings() -> Vec<Spelling> {
    [memory_spellings(), file_spellings(), redis_spellings()].concat()
}

fn memory_spellings() -> Vec<Spelling> {
    let memory = StateConfig::default;
    let bounded =
        |change: fn(MemoryOptions) -> MemoryOptions| memory().memory(change(MemoryOptions::default()));
    vec![
        ("memory:", json!({}), memory()),
        ("memory:", json!({"backend": "memory"}), memory()),
        ("memory:?default_ttl=1h", json!({"default_ttl": "1h"}), memory().default_ttl(3_600_000 * MS)),
        (
            "memory:?default_ttl=1h%2030m",
            json!({"default_ttl": "1h 30m"}),
            memory().default_ttl(5_400_000 * MS),
        ),
        ("memory:", json!({"default_ttl": null}), memory()),
        ("memory:?max_value_bytes=1024", json!({"max_value_bytes": 1024}), memory().max_value_bytes(1024)),
        ("memory:?max_value_bytes=1KiB", json!({"max_value_bytes": "1KiB"}), memory().max_value_bytes(1024)),
        ("memory:?name=orders", json!({"name": "orders"}), memory().name("orders")),
        ("memory:?name=7", json!({"name": "7"}), memory().name("7")),
        ("memory:?name=two%20words", json!({"name": "two words"}), memory().name("two words")),
        ("memory:?slow=100ms", json!({"slow": "100ms"}), memory().slow(100 * MS)),
        ("memory:", json!({"slow": null, "name": null}), memory()),
        ("memory:?max_entries=7", json!({"memory": {"max_entries": 7}}), bounded(|o| o.max_entries(7))),
        (
            "memory:?max_bytes=1MiB",
            json!({"memory": {"max_bytes": "1MiB"}}),
            bounded(|o| o.max_bytes(1 << 20)),
        ),
        ("memory:?max_bytes=4096", json!({"memory": {"max_bytes": 4096}}), bounded(|o| o.max_bytes(4096))),
        (
            "memory:?when_full=evict",
            json!({"memory": {"when_full": "evict"}}),
            bounded(|o| o.when_full(WhenFull::Evict)),
        ),
        ("memory:", json!({"memory": {"max_entries": null, "max_bytes": null}}), memory()),
    ]
}

fn file_spellings() -> Vec<Spelling> {
    let json =
        |options: serde_json::Value| json!({"backend": {"file": {"path": "./state"}}, "file": options});
    let set = |change: fn(FileOptions) -> FileOptions| file().file(change(FileOptions::default()));
    vec![
        ("file:./state", json(json!({})), file()),
        ("file:./state?sync=always", json(json!({"sync": "always"})), file()),
        ("file:./state?sync=never", json(json!({"sync": "never"})), set(|o| o.sync(SyncPolicy::Never))),
        (
            "file:./state?sync=500ms",
            json(json!({"sync": "500ms"})),
            set(|o| o.sync(SyncPolicy::Every(500 * MS))),
        ),
        (
            "file:./state?compact_ratio=0.25",
            json(json!({"compact_ratio": 0.25})),
            set(|o| o.compact_ratio(0.25)),
        ),
        (
            "file:./state?compact_min_bytes=8192",
            json(json!({"compact_min_bytes": 8192})),
            set(|o| o.compact_min_bytes(8192)),
        ),
        (
            "file:./state?compact_min_bytes=8KiB",
            json(json!({"compact_min_bytes": "8KiB"})),
            set(|o| o.compact_min_bytes(8192)),
        ),
    ]
}

type SetDuration = fn(RedisOptions, Duration) -> RedisOptions;

fn redis_spellings() -> Vec<Spelling> {
    let json = |options: serde_json::Value| json!({"backend": {"redis": {"url": "redis://h:7000/2"}}, "redis": options});
    let set = |change: fn(RedisOptions) -> RedisOptions| redis().redis(change(RedisOptions::default()));
    let prefixed = StateBackend::redis("redis://h:7000/2").key_prefix("a:b c");
    let durations: [(_, _, SetDuration); 4] = [
        ("redis://h:7000/2?connect_timeout=250ms", "connect_timeout", RedisOptions::connect_timeout),
        ("redis://h:7000/2?timeout=250ms", "timeout", RedisOptions::timeout),
        ("redis://h:7000/2?retry_delay=250ms", "retry_delay", RedisOptions::retry_delay),
        ("redis://h:7000/2?max_retry_delay=250ms", "max_retry_delay", RedisOptions::max_retry_delay),
    ];
    let durations = durations.map(|(url, name, change)| {
        let config = redis().redis(change(RedisOptions::default(), 250 * MS));
        (url, json(json!({name: "250ms"})), config)
    });
    let mut all = vec![
        ("redis://h:7000/2", json(json!({})), redis()),
        (
            "redis://h:7000/2?key_prefix=a:b%20c",
            json!({"backend": {"redis": {"url": "redis://h:7000/2", "key_prefix": "a:b c"}}}),
            redis().backend(prefixed),
        ),
        ("redis://h:7000/2?pool_size=3", json(json!({"pool_size": 3})), set(|o| o.pool_size(3))),
        (
            "redis://h:7000/2?min_connections=3",
            json(json!({"min_connections": 3})),
            set(|o| o.min_connections(3)),
        ),
        (
            "redis://h:7000/2?wait_connections=3",
            json(json!({"wait_connections": 3})),
            set(|o| o.wait_connections(3)),
        ),
        ("redis://h:7000/2?max_retries=0", json(json!({"max_retries": 0})), set(|o| o.max_retries(0))),
        (
            "redis://h:7000/2?pipeline_batch_size=50",
            json(json!({"pipeline_batch_size": 50})),
            set(|o| o.pipeline_batch_size(50)),
        ),
        ("redis://h:7000/2?scan_count=77", json(json!({"scan_count": 77})), set(|o| o.scan_count(77))),
        (
            "redis://h:7000/2?fallback=none",
            json(json!({"fallback": "none"})),
            set(|o| o.fallback(Fallback::None)),
        ),
        ("redis://h:7000/2?fallback=memory", json(json!({"fallback": "memory"})), redis()),
        (
            "redis://h:7000/2?password_file=/run/secret%20a",
            json(json!({"password_file": "/run/secret a"})),
            set(|o| o.password_file(Some("/run/secret a".into()))),
        ),
        (
            "redis://h:7000/2?tls_cert_file=/etc/client.pem&tls_key_file=/etc/client.key",
            json(json!({"tls_cert_file": "/etc/client.pem", "tls_key_file": "/etc/client.key"})),
            set(|o| {
                o.tls_cert_file(Some("/etc/client.pem".into())).tls_key_file(Some("/etc/client.key".into()))
            }),
        ),
        (
            "redis://h:7000/2?tls_ca_file=/etc/ca.pem",
            json(json!({"tls_ca_file": "/etc/ca.pem"})),
            set(|o| o.tls_ca_file(Some("/etc/ca.pem".into()))),
        ),
    ];
    all.extend(outage_spellings(json));
    all.extend(durations);
    all
}

/// The options for outages.
fn outage_spellings(json: impl Fn(serde_json::Value) -> serde_json::Value) -> Vec<Spelling> {
    let set = |change: fn(RedisOptions) -> RedisOptions| redis().redis(change(RedisOptions::default()));
    vec![
        (
            "redis://h:7000/2?on_unknown_key=error",
            json(json!({"on_unknown_key": "error"})),
            set(|o| o.on_unknown_key(OnUnknownKey::Error)),
        ),
        (
            "redis://h:7000/2?at_start=require",
            json(json!({"at_start": "require"})),
            set(|o| o.at_start(AtStart::Require)),
        ),
        ("redis://h:7000/2?exclusive=true", json(json!({"exclusive": true})), set(|o| o.exclusive(true))),
        (
            "redis://h:7000/2?exactly_once=true",
            json(json!({"exactly_once": true})),
            set(|o| o.exactly_once(true)),
        ),
        (
            "redis://h:7000/2?on_conflict=remote_wins",
            json(json!({"on_conflict": "remote_wins"})),
            set(|o| o.on_conflict(OnConflict::RemoteWins)),
        ),
        ("redis://h:7000/2?max_pending=9", json(json!({"max_pending": 9})), set(|o| o.max_pending(9))),
        (
            "redis://h:7000/2?max_outage=5m",
            json(json!({"max_outage": "5m"})),
            set(|o| o.max_outage(300_000 * MS)),
        ),
        (
            "redis://h:7000/2?max_pending_bytes=4096",
            json(json!({"max_pending_bytes": 4096})),
            set(|o| o.max_pending_bytes(4096)),
        ),
        (
            "redis://h:7000/2?max_pending_bytes=1GiB",
            json(json!({"max_pending_bytes": "1GiB"})),
            set(|o| o.max_pending_bytes(1 << 30)),
        ),
        (
            "valkey://h:7000/2?shadow_bytes=64%20MiB",
            json(json!({"shadow_bytes": "64 MiB"})),
            set(|o| o.shadow_bytes(64 << 20)),
        ),
        (
            "redis://h:7000/2?fallback=file:./queue%20a",
            json(json!({"fallback": "file:./queue a"})),
            set(|o| o.fallback(Fallback::file("./queue a"))),
        ),
        (
            "redis://h:7000/2?fallback=file:/queue&sync=never",
            json!({
                "backend": {"redis": {"url": "redis://h:7000/2"}},
                "redis": {"fallback": "file:/queue"},
                "file": {"sync": "never"},
            }),
            set(|o| o.fallback(Fallback::file("/queue")))
                .file(FileOptions::default().sync(SyncPolicy::Never)),
        ),
        ("redis://h:7000/2?shadow_bytes=0", json(json!({"shadow_bytes": 0})), set(|o| o.shadow_bytes(0))),
    ]
}

#[test]
fn a_url_a_configuration_file_and_the_builder_say_the_same() {
    for (url, json, built) in spellings() {
        assert_eq!(StateConfig::from_url(url).unwrap(), built, "{url}");
        assert_eq!(serde_json::from_value::<StateConfig>(json.clone()).unwrap(), built, "{json}");
    }
}

#[test]
fn every_option_survives_a_round_trip_in_every_notation() {
    for (_, _, built) in spellings() {
        assert_eq!(StateConfig::from_url(&built.to_url()).unwrap(), built, "{}", built.to_url());
        let text = serde_json::to_string(&built).unwrap();
        assert_eq!(serde_json::from_str::<StateConfig>(&text).unwrap(), built, "{text}");
        let text = toml::to_string(&built).unwrap();
        assert_eq!(toml::from_str::<StateConfig>(&text).unwrap(), built, "{text}");
        let text = serde_norway::to_string(&built).unwrap();
        assert_eq!(serde_norway::from_str::<StateConfig>(&text).unwrap(), built, "{text}");
    }
}

#[test]
fn every_existing_option_is_tested_in_both_notations() {
    let all = serde_json::to_value(StateConfig::default()).unwrap();
    for section in ["memory", "file", "redis"] {
        for name in all[section].as_object().unwrap().keys() {
            let tried = spellings().into_iter().any(|(_, json, _)| json[section].get(name).is_some());
            assert!(tried, "{section}.{name} is not tested in this file");
        }
    }
}

#[test]
fn paths_and_prefixes_with_odd_characters_survive_a_url() {
    for path in ["/var/lib/x", "./a b", "../ü/?&=#%", "rel", "/a:b", "//a", "///"] {
        let config = StateConfig::default().backend(StateBackend::file(path));
        assert_eq!(StateConfig::from_url(&config.to_url()).unwrap(), config, "{}", config.to_url());
    }
    for prefix in ["", "a:b", "a b&c=d?#%", "*[]", "ü", "5", "1.5", "null"] {
        let backend = StateBackend::redis("redis://h").key_prefix(prefix);
        let config = StateConfig::default().backend(backend);
        assert_eq!(StateConfig::from_url(&config.to_url()).unwrap(), config, "{}", config.to_url());
    }
    assert_eq!(StateConfig::from_url("file:///var/lib/x").unwrap().backend, StateBackend::file("/var/lib/x"));
}

#[track_caller]
fn assert_names(result: Result<impl std::fmt::Debug, Error>, field: &str) {
    let error = assert_error!(result, Error::InvalidConfig { .. });
    let Error::InvalidConfig { field: named, reason, .. } = &error else { unreachable!() };
    assert_eq!(named, field, "{reason}");
    assert!(!reason.is_empty() && !error.is_transient());
}

#[test]
fn the_error_for_a_wrong_url_names_the_mistake() {
    for (url, field) in [
        ("", "url"),
        ("nothing", "url"),
        ("http://h", "url"),
        ("Memory:", "url"),
        ("memory:x", "url"),
        ("memory://h", "url"),
        ("redis:", "url"),
        ("redis://", "url"),
        ("redis://:6379", "url"),
        ("redis://h:0", "url"),
        ("redis://h:65536", "url"),
        ("redis://h:port", "url"),
        ("redis://h:6379/x", "url"),
        ("redis://h/-1", "url"),
        ("redis://u:%zz@h", "url"),
        ("redis://h h", "url"),
        ("file://host/path", "url"),
        ("file:", "path"),
        ("file:?sync=never", "path"),
        ("memory:?nothing=1", "nothing"),
        ("memory:?sync=never", "sync"),
        ("memory:?default_ttl=5", "default_ttl"),
        ("memory:?default_ttl=", "default_ttl"),
        ("memory:?default_ttl=5 parsecs", "default_ttl"),
        ("memory:?slow=100", "slow"),
        ("memory:?slow=never", "slow"),
        ("memory:?max_value_bytes=-1", "max_value_bytes"),
        ("memory:?max_value_bytes=many", "max_value_bytes"),
        ("memory:?max_value_bytes=%zz", "max_value_bytes"),
        ("memory:?max_entries=0.5", "memory.max_entries"),
        ("memory:?max_bytes=1MB", "memory.max_bytes"),
        ("memory:?when_full=drop", "memory.when_full"),
        ("file:./x?max_entries=5", "max_entries"),
        ("redis://h?when_full=evict", "when_full"),
        ("redis://h?fallback=file:/q&max_bytes=1MiB", "max_bytes"),
        ("file:./x?pool_size=3", "file.pool_size"),
        ("file:./x?sync=sometimes", "file.sync"),
        ("file:./x?sync=5", "file.sync"),
        ("file:./x?compact_ratio=half", "file.compact_ratio"),
        ("redis://h?sync=never", "redis.sync"),
        ("redis://h?timeout=5", "redis.timeout"),
        ("redis://h?key_prefix", "key_prefix"),
        ("redis://h?timeout", "timeout"),
        ("redis://h?key_prefix=a#b", "url"),
        ("redis://h/#insecure", "url"),
        ("memory:#x", "url"),
        ("REDIS://h", "url"),
        ("redis://h/0/1", "url"),
        ("redis://h1,h2", "url"),
        ("redis://a@b@h", "url"),
        ("redis://h?timeout=-5s", "redis.timeout"),
        ("redis://h?pool_size=1.5", "redis.pool_size"),
        ("redis://h?fallback=mem", "redis.fallback"),
        ("redis://h?Timeout=5s", "redis.Timeout"),
    ] {
        assert_names(StateConfig::from_url(url), field);
        assert_names(StateStore::open(url), field);
    }
}

#[test]
fn an_unknown_or_wrong_option_in_a_file_is_named() {
    for (json, word) in [
        (json!({"nothing": 1}), "nothing"),
        (json!({"file": {"synk": "never"}}), "file.synk"),
        (json!({"redis": {"timeout": 5}}), "redis.timeout"),
        (json!({"redis": {"timeout": "5"}}), "redis.timeout"),
        (json!({"redis": []}), "redis"),
        (json!({"backend": {"file": {"path": "x", "sync": 1}}}), "backend"),
        (json!({"backend": {"redis": {}}}), "backend"),
        (json!({"backend": "disk"}), "backend"),
        (json!({"default_ttl": 60}), "default_ttl"),
        (json!({"slow": 100}), "slow"),
        (json!({"name": 7}), "name"),
        (json!({"max_value_bytes": "1k"}), "max_value_bytes"),
        (json!([]), "configuration"),
    ] {
        let error = serde_json::from_value::<StateConfig>(json.clone()).unwrap_err().to_string();
        assert!(error.contains(word), "{json}: {error}");
    }
}

#[test]
fn an_option_out_of_range_is_named_at_opening() {
    let set = |change: fn(RedisOptions) -> RedisOptions| {
        StateConfig::default().redis(change(RedisOptions::default()))
    };
    let file =
        |change: fn(FileOptions) -> FileOptions| StateConfig::default().file(change(FileOptions::default()));
    let prefix = |prefix: &str| {
        let backend = StateBackend::redis("redis://127.0.0.1:1").key_prefix(prefix);
        StateConfig::default().backend(backend)
    };
    let url = |url: &str| StateConfig::default().backend(StateBackend::redis(url).key_prefix("p"));
    let hours = Duration::from_secs(3601);
    for (config, field) in [
        (StateConfig::default().default_ttl(Duration::ZERO), "default_ttl"),
        (StateConfig::default().default_ttl(Duration::MAX), "default_ttl"),
        (StateConfig::default().slow(Duration::ZERO), "slow"),
        (StateConfig::default().name(""), "name"),
        (StateConfig::default().name(" orders"), "name"),
        (StateConfig::default().name("n".repeat(129)), "name"),
        (StateConfig::default().max_value_bytes(0), "max_value_bytes"),
        (StateConfig::default().max_value_bytes((512 << 20) + 1), "max_value_bytes"),
        (file(|o| o.sync(SyncPolicy::Every(Duration::ZERO))), "file.sync"),
        (file(|o| o.compact_ratio(0.0)), "file.compact_ratio"),
        (file(|o| o.compact_ratio(f64::NAN)), "file.compact_ratio"),
        (file(|o| o.compact_ratio(1.5)), "file.compact_ratio"),
        (file(|o| o.compact_min_bytes(0)), "file.compact_min_bytes"),
        (set(|o| o.pool_size(0)), "redis.pool_size"),
        (set(|o| o.pool_size(1025)), "redis.pool_size"),
        (set(|o| o.wait_connections(0)), "redis.wait_connections"),
        (set(|o| o.wait_connections(1025)), "redis.wait_connections"),
        (set(|o| o.connect_timeout(Duration::ZERO)), "redis.connect_timeout"),
        (set(|o| o.timeout(Duration::ZERO)), "redis.timeout"),
        (StateConfig::default().redis(RedisOptions::default().timeout(hours)), "redis.timeout"),
        (set(|o| o.max_retries(101)), "redis.max_retries"),
        (set(|o| o.retry_delay(Duration::ZERO)), "redis.retry_delay"),
        (set(|o| o.max_retry_delay(Duration::ZERO)), "redis.max_retry_delay"),
        (set(|o| o.pipeline_batch_size(0)), "redis.pipeline_batch_size"),
        (set(|o| o.scan_count(0)), "redis.scan_count"),
        (set(|o| o.max_outage(Duration::ZERO)), "redis.max_outage"),
        (set(|o| o.max_outage(Duration::MAX)), "redis.max_outage"),
        (StateConfig::default().backend(StateBackend::file("")), "path"),
        (prefix("a\nb"), "key_prefix"),
        (prefix("a:__millpond"), "key_prefix"),
        (prefix(&"p".repeat(513)), "key_prefix"),
        (url("redis://h?timeout=5s"), "url"),
        (url("redis://h#x"), "url"),
        (url("h:6379"), "url"),
        (url(""), "url"),
    ] {
        assert_names(StateStore::with_config(config.clone()), field);
    }
    for config in [
        StateConfig::default().default_ttl(MS),
        StateConfig::default().max_value_bytes(512 << 20),
        StateConfig::default().name("n".repeat(128)).slow(Duration::from_micros(1)),
        file(|o| o.compact_ratio(0.1).compact_min_bytes(4096).sync(SyncPolicy::Every(MS))),
        set(|o| o.pool_size(1024).wait_connections(1024).max_retries(100).timeout(MS).scan_count(100_000)),
    ] {
        StateStore::with_config(config).unwrap();
    }
}

#[test]
fn there_are_five_ways_to_open_a_store() {
    let stores = [
        StateStore::memory(),
        StateStore::new(StateBackend::Memory).unwrap(),
        StateStore::with_config(StateConfig::default()).unwrap(),
        StateStore::open("memory:").unwrap(),
    ];
    for store in stores {
        store.put("k", 1).unwrap();
        assert!(matches!(store, StateStore::Memory(_)));
        assert_eq!(store.len().unwrap(), 1, "each is a store of its own");
    }
}

#[test]
fn only_the_url_itself_shows_a_password() {
    let url = "redis://anna:hunter2@127.0.0.1:1/0";
    let config = StateConfig::from_url(&format!("{url}?fallback=none&max_retries=0")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", config.backend).contains("hunter2"));
    for url in ["anna:hunter2@h", "redis://anna:hunter2@h@i", "redis://anna:hunter2/@h"] {
        let backend = StateBackend::redis(url).key_prefix("p");
        assert!(!format!("{backend:?}").contains("hunter2"), "{url}");
    }
    assert!(config.to_url().contains("hunter2"), "the URL is the one place that holds it");
    for url in [
        "redis://anna:hunter2@127.0.0.1:1?fallback=none&max_retries=0",
        "redis://anna:hunter2@h:port",
        "redis://anna:hunter2@",
        "redis://anna:hunter2@h/db",
        "redis://anna:hunter2%zz@h",
        "redis://anna:hunter2@h?nothing=1",
        "redis:anna:hunter2@h",
        "rediss:/anna:hunter2@h",
        "redis://anna:hunter2@h:1:2",
        "redis://anna:hunter2/x@h",
        "redis://anna:hunter2#x@h",
        "redis://:hunter2",
        "redis://anna:hunter2",
        "redis://h/hunter2",
        "http://anna:hunter2@h",
        "anna:hunter2@h",
    ] {
        let error = StateStore::open(url).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", crate::support::chain(&error));
        assert!(!shown.contains("hunter2"), "{url}: {shown}");
    }
}
