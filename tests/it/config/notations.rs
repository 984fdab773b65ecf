//! A configuration means the same in JSON, TOML and YAML, in every spelling that these write and that a person would
//! write.

use std::time::Duration;

use millpond::{
    Fallback, FileOptions, OnConflict, OnUnknownKey, RedisOptions, StateBackend, StateConfig, SyncPolicy,
};

fn backends() -> [StateBackend; 3] {
    [
        StateBackend::Memory,
        StateBackend::file("./state of a:b"),
        StateBackend::redis("redis://u:p@h:7000/2").key_prefix("orders"),
    ]
}

fn configurations() -> Vec<StateConfig> {
    let second = Duration::from_secs(1);
    let file = FileOptions::default().sync(SyncPolicy::Every(second)).compact_ratio(0.25);
    let redis = RedisOptions::default()
        .fallback(Fallback::file("./queue"))
        .on_unknown_key(OnUnknownKey::Absent)
        .on_conflict(OnConflict::RemoteWins)
        .max_outage(90 * second)
        .exclusive(true)
        .password_file(std::path::PathBuf::from("/run/secret"))
        .tls_cert_file(std::path::PathBuf::from("/etc/client.pem"))
        .tls_key_file(std::path::PathBuf::from("/etc/client.key"))
        .tls_ca_file(std::path::PathBuf::from("/etc/ca.pem"));
    let changed =
        StateConfig::default().default_ttl(3600 * second).max_value_bytes(1024).name("17").slow(second);
    let mut configurations = vec![StateConfig::default(), changed.file(file).redis(redis)];
    for fallback in [Fallback::Memory, Fallback::None] {
        configurations.push(StateConfig::default().redis(RedisOptions::default().fallback(fallback)));
    }
    configurations
}

/// Each notation reads what it has written, and JSON reads what went through the value types of each.
#[test]
fn every_notation_reads_what_it_writes() {
    for backend in backends() {
        let json = serde_json::to_string(&backend).unwrap();
        assert_eq!(serde_json::from_str::<StateBackend>(&json).unwrap(), backend, "{json}");
        let yaml = serde_norway::to_string(&backend).unwrap();
        assert_eq!(serde_norway::from_str::<StateBackend>(&yaml).unwrap(), backend, "{yaml}");
        for config in configurations().into_iter().map(|config| config.backend(backend.clone())) {
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<StateConfig>(&json).unwrap(), config, "{json}");
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!(serde_json::from_value::<StateConfig>(value).unwrap(), config);
            let toml = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<StateConfig>(&toml).unwrap(), config, "{toml}");
            let toml = toml::to_string_pretty(&config).unwrap();
            assert_eq!(toml::from_str::<StateConfig>(&toml).unwrap(), config, "{toml}");
            let value = toml::Value::try_from(&config).unwrap();
            assert_eq!(value.try_into::<StateConfig>().unwrap(), config);
            let yaml = serde_norway::to_string(&config).unwrap();
            assert_eq!(serde_norway::from_str::<StateConfig>(&yaml).unwrap(), config, "{yaml}");
            let value = serde_norway::to_value(&config).unwrap();
            assert_eq!(serde_norway::from_value::<StateConfig>(value).unwrap(), config);
        }
    }
}

#[test]
fn every_spelling_of_a_backend_in_yaml_is_read() {
    let [memory, file, redis] = backends();
    let path = "path: './state of a:b'";
    let fields = "url: 'redis://u:p@h:7000/2', key_prefix: orders";
    let mut spellings = Vec::new();
    for name in ["memory", "Memory", "!memory", "!Memory", "!memory {}", "{memory: }", "{Memory: {}}"] {
        spellings.push((name.to_owned(), &memory));
    }
    for name in ["file", "File"] {
        spellings.push((format!("!{name} {{{path}}}"), &file));
        spellings.push((format!("{{{name}: {{{path}}}}}"), &file));
        spellings.push((format!("!{name}\n    {path}"), &file));
        spellings.push((format!("\n    {name}:\n      {path}"), &file));
    }
    for name in ["redis", "Redis"] {
        spellings.push((format!("!{name} {{{fields}}}"), &redis));
        spellings.push((format!("{{{name}: {{{fields}}}}}"), &redis));
    }
    for (spelling, backend) in spellings {
        let alone: StateBackend =
            serde_norway::from_str(&spelling).unwrap_or_else(|error| panic!("{spelling}: {error}"));
        assert_eq!(alone, *backend, "{spelling}");
        let text = format!("backend: {spelling}\nmax_value_bytes: 1024\n");
        let config: StateConfig =
            serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config, StateConfig::default().backend(backend.clone()).max_value_bytes(1024), "{text}");
    }
}

#[test]
fn every_spelling_of_a_backend_in_toml_is_read() {
    let [memory, file, _] = backends();
    for (text, backend) in [
        ("backend = 'memory'", &memory),
        ("backend = 'Memory'", &memory),
        ("[backend.memory]", &memory),
        ("backend = {file = {path = './state of a:b'}}", &file),
        ("[backend.file]\npath = './state of a:b'", &file),
        ("[backend.File]\npath = './state of a:b'", &file),
        ("backend.file.path = './state of a:b'", &file),
    ] {
        let config: StateConfig = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.backend, *backend, "{text}");
    }
}

#[test]
fn every_spelling_of_an_option_with_variants_is_read() {
    for (text, options) in [
        ("fallback: !memory", RedisOptions::default()),
        ("fallback: None", RedisOptions::default().fallback(Fallback::None)),
        ("fallback: file:./queue", RedisOptions::default().fallback(Fallback::file("./queue"))),
        ("fallback: !File {path: ./queue}", RedisOptions::default().fallback(Fallback::file("./queue"))),
        ("fallback: {file: {path: ./queue}}", RedisOptions::default().fallback(Fallback::file("./queue"))),
        ("fallback: {file: ./queue}", RedisOptions::default().fallback(Fallback::file("./queue"))),
        ("on_unknown_key: Absent", RedisOptions::default().on_unknown_key(OnUnknownKey::Absent)),
        ("on_unknown_key: error", RedisOptions::default().on_unknown_key(OnUnknownKey::Error)),
        ("on_conflict: RemoteWins", RedisOptions::default().on_conflict(OnConflict::RemoteWins)),
        ("on_conflict: local_wins", RedisOptions::default()),
        ("timeout: 5s", RedisOptions::default().timeout(Duration::from_secs(5))),
    ] {
        let alone: RedisOptions =
            serde_norway::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(alone, options, "{text}");
        let config: StateConfig = serde_norway::from_str(&format!("redis:\n  {text}\n")).unwrap();
        assert_eq!(config.redis, options, "{text}");
    }
    for (text, sync) in [("sync: Always", SyncPolicy::Always), ("sync: never", SyncPolicy::Never)] {
        assert_eq!(serde_norway::from_str::<FileOptions>(text).unwrap().sync, sync, "{text}");
    }
}

#[test]
fn a_backend_that_is_none_is_refused_by_a_text_that_shows_the_forms() {
    for text in
        ["disk", "!disk {path: x}", "{file: }", "file", "[memory]", "17", "{file: {path: a}, memory: {}}"]
    {
        let error = serde_norway::from_str::<StateBackend>(text).unwrap_err().to_string();
        assert!(error.contains("path = "), "{text}: {error}");
        let error =
            serde_norway::from_str::<StateConfig>(&format!("backend: {text}")).unwrap_err().to_string();
        assert!(error.contains("backend") && error.contains("path = "), "{text}: {error}");
    }
    for text in ["memory: {path: x}", "file: {path: x, other: 1}", "redis: {key_prefix: x}"] {
        assert!(serde_norway::from_str::<StateBackend>(text).is_err(), "{text}");
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Program {
    state: StateConfig,
}

#[test]
fn a_url_is_a_whole_configuration_in_every_notation() {
    let url = "redis://u:p@h:7000/2?key_prefix=orders&timeout=5s&shadow_bytes=1MiB";
    let program = Program { state: url.parse().unwrap() };
    let json = format!("{{\"state\": \"{url}\"}}");
    assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
    assert_eq!(toml::from_str::<Program>(&format!("state = '{url}'")).unwrap(), program);
    assert_eq!(serde_norway::from_str::<Program>(&format!("state: {url}")).unwrap(), program);
    assert_eq!(serde_json::from_value::<StateConfig>(url.into()).unwrap(), program.state);
    let toml = toml::to_string(&program).unwrap();
    assert_eq!(toml::from_str::<Program>(&toml).unwrap(), program, "{toml}");
}
