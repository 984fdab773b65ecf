//! Servers that cannot be reached when a store is opened: `at_start` decides whether the store opens, and a store that
//! opens says at level `error` what is at risk.

use std::sync::OnceLock;

use millpond::{AtStart, Error, StateStore, Status};

use crate::support::child_process::{self, Process, job};
use crate::support::ports::free_port;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, memory, notice_disconnect, open, wait_until_connected};

fn nowhere() -> String {
    format!("redis://127.0.0.1:{}", free_port())
}

#[test]
fn a_server_that_is_required_must_be_reached_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let url = nowhere();
    for options in [memory(), durable(dir.path())] {
        let error = open(&url, options.at_start(AtStart::Require)).unwrap_err();
        assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        let text = crate::support::chain(&error).join(": ");
        assert!(text.contains(url.strip_prefix("redis://").unwrap()), "the error names the server: {text}");
    }
    let error = StateStore::open(format!("{url}?at_start=require")).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_required_server_that_fails_later_begins_an_outage() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory().at_start(AtStart::Require)).unwrap();
    server.kill();
    notice_disconnect(&store);
    assert!(matches!(store.status(), Status::Disconnected { never_reached: false, .. }));
    store.put("a", 1).unwrap();
    server.restart();
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        child_process::report(&format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// A store as programs keep it: it is never dropped.
static STORE: OnceLock<StateStore> = OnceLock::new();

fn use_a_static_store(url: &str) {
    log::set_logger(&Forward).map(|()| log::set_max_level(log::LevelFilter::Error)).unwrap();
    let store = STORE.get_or_init(|| StateStore::open(url).unwrap());
    child_process::report("opened");
    assert!(matches!(store.status(), Status::Disconnected { never_reached: true, .. }));
    store.put("a", 1).unwrap();
}

#[test]
fn a_store_that_never_reached_its_server_says_at_level_error_what_is_at_risk() {
    if let Some((_, url)) = job() {
        return use_a_static_store(&url.to_string_lossy());
    }
    let this = "outage::at_start::a_store_that_never_reached_its_server_says_at_level_error_what_is_at_risk";
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().display().to_string();
    let (in_memory, in_files) = (nowhere(), format!("{}?fallback=file:{queue}", nowhere()));
    for (url, risk) in [(&in_memory, "lost when the program ends"), (&in_files, queue.as_str())] {
        let lines = Process::start_test(this, "open", url).read_all_reports();
        let opened = lines.iter().position(|line| line == "opened").expect("the store opened");
        let [line] = &lines[..opened] else { panic!("one line before the store is opened: {lines:?}") };
        assert!(line.starts_with("ERROR "), "{line}");
        let address = url.strip_prefix("redis://").unwrap().split('?').next().unwrap();
        for part in [address, "memory serves", risk, "at_start=require", "check the address"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
