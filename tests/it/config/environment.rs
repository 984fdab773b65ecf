//! The URL in the variable `MILLPOND_URL`, alone and as the last word over a configuration.

use std::process::Command;
use std::time::Duration;

use millpond::{
    Error, Fallback, FileOptions, RedisOptions, StateBackend, StateConfig, StateStore, SyncPolicy,
};

#[track_caller]
fn assert_names(error: &Error, field: &str) {
    assert!(matches!(error, Error::InvalidConfig { field: named, .. } if named == field), "{error:?}");
}

/// Runs one test of this binary in a child process with the given environment.
fn run_in_child(test: &str, url: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([test, "--exact", "--nocapture"]).env("MILLPOND_TEST_CHILD", "1").env_remove("MILLPOND_URL");
    if let Some(url) = url {
        command.env("MILLPOND_URL", url);
    }
    let output = command.output().expect("a child process");
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{output:?}");
    output.status.success()
}

#[test]
fn the_environment_names_the_store() {
    if std::env::var_os("MILLPOND_TEST_CHILD").is_some() {
        let opened = StateStore::from_env();
        match std::env::var("MILLPOND_URL") {
            Ok(url) if url.starts_with("memory:") => opened.unwrap().put("k", 1).unwrap(),
            Ok(_) => assert_names(&opened.unwrap_err(), "url"),
            Err(_) => {
                let error = opened.unwrap_err();
                assert!(error.to_string().contains("MILLPOND_URL"), "{error}");
                assert_names(&error, "MILLPOND_URL");
            }
        }
        return;
    }
    for url in [Some("memory:?default_ttl=5s"), Some("nonsense"), None] {
        assert!(run_in_child("config::environment::the_environment_names_the_store", url), "{url:?}");
    }
}

fn of_a_file() -> StateConfig {
    StateConfig::default()
        .backend(StateBackend::redis("redis://of-file:7000/2").key_prefix("orders"))
        .default_ttl(Duration::from_secs(3600))
        .file(FileOptions::default().compact_ratio(0.5))
        .redis(RedisOptions::default().pool_size(3).timeout(Duration::from_secs(9)))
}

/// URLs in the environment, and what they make of [`of_a_file`].
fn overrides() -> Vec<(Option<&'static str>, StateConfig)> {
    let redis = RedisOptions::default().pool_size(3).timeout(Duration::from_secs(9));
    vec![
        (None, of_a_file()),
        (Some("memory:"), of_a_file().backend(StateBackend::memory())),
        (
            Some("file:./state?sync=never&default_ttl=1min"),
            of_a_file()
                .backend(StateBackend::file("./state"))
                .default_ttl(Duration::from_secs(60))
                .file(FileOptions::default().compact_ratio(0.5).sync(SyncPolicy::Never)),
        ),
        (
            Some("redis://other?timeout=5s"),
            of_a_file()
                .backend(StateBackend::redis("redis://other").key_prefix("orders"))
                .redis(redis.clone().timeout(Duration::from_secs(5))),
        ),
        (
            Some("redis://other?key_prefix=tests&fallback=file:./queue&sync=never"),
            of_a_file()
                .backend(StateBackend::redis("redis://other").key_prefix("tests"))
                .file(FileOptions::default().compact_ratio(0.5).sync(SyncPolicy::Never))
                .redis(redis.fallback(Fallback::file("./queue"))),
        ),
    ]
}

#[test]
fn the_environment_replaces_what_its_url_names_and_nothing_else() {
    if std::env::var_os("MILLPOND_TEST_CHILD").is_some() {
        let url = std::env::var("MILLPOND_URL").ok();
        let overridden = of_a_file().overridden_by_env();
        match overrides().into_iter().find(|(named, _)| *named == url.as_deref()) {
            Some((_, expected)) => assert_eq!(overridden.unwrap(), expected, "{url:?}"),
            None => assert!(matches!(overridden, Err(Error::InvalidConfig { .. })), "{url:?}"),
        }
        return;
    }
    let this = "config::environment::the_environment_replaces_what_its_url_names_and_nothing_else";
    for (url, _) in overrides() {
        assert!(run_in_child(this, url), "{url:?}");
    }
    for wrong in ["", "nothing", "redis://h?sync=never", "memory:?default_ttl=1M"] {
        assert!(run_in_child(this, Some(wrong)), "{wrong:?}");
    }
}
