//! What an operator reads about an outage: the log lines, and the texts of errors.

use std::sync::Mutex;

use millpond::{Event, RedisOptions, StateStore};

use crate::support::child_process::{self, Process, job};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, memory, notice_disconnect, open, options, wait_until_connected};

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

/// Many calls on one key during an outage, and the end of the store in it.
fn lose_writes(options: RedisOptions) {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options).unwrap();
    log::set_logger(&Forward).map(|()| log::set_max_level(log::LevelFilter::Info)).unwrap();
    server.kill();
    notice_disconnect(&store);
    for number in 0..97 {
        store.put("k", number).unwrap();
    }
    let told = store.pending(10);
    assert_eq!((told.len(), told[0].command, told[0].calls), (1, "SET", 97));
    assert!(store.pending(0).is_empty());
    drop(store);
}

fn lines_of(name: &str) -> Vec<String> {
    let this = "outage::log_lines::the_lines_of_an_outage_say_what_serves_and_what_is_lost";
    let dir = tempfile::tempdir().unwrap();
    Process::start_test(this, name, &dir.path().to_string_lossy()).read_all_reports()
}

#[test]
fn the_lines_of_an_outage_say_what_serves_and_what_is_lost() {
    if let Some((name, dir)) = job() {
        return lose_writes(if name == "memory" { memory() } else { durable(&dir) });
    }
    let lines = lines_of("memory");
    let find = |part: &str| lines.iter().find(|line| line.contains(part)).expect(part);
    let begun = find("WARN cannot reach Redis 127.0.0.1:");
    assert!(begun.contains("/0 (prefix \"t\"): "), "{begun}");
    assert!(begun.contains("; serving from memory, writes are queued (at most "), "{begun}");
    let lost = find("97 writes (1 after merging) are lost: Redis 127.0.0.1:");
    assert!(lost.starts_with("ERROR ") && lost.contains("fallback=file keeps them"), "{lost}");

    let lines = lines_of("files");
    let kept = lines.iter().find(|line| line.contains("97 writes (1 after merging)")).expect("a line");
    assert!(kept.starts_with("INFO Redis ") && kept.contains("kept in "), "{kept}");
}

#[test]
fn an_error_of_a_full_queue_names_the_limit() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory().max_pending(2)).unwrap();
    server.kill();
    notice_disconnect(&store);
    let error = (0..9).find_map(|n| store.put(format!("k{n}"), 1).err()).expect("the queue is full");
    let text = error.to_string();
    assert!(text.starts_with("the store is unavailable: the server is disconnected"), "{text}");
    assert!(
        text.contains("the replay queue is full: 2 operations, ") && text.contains("(max_pending 2)"),
        "{text}"
    );
    let strict = store.without_fallback().get::<i64>("k").unwrap_err();
    assert!(strict.is_unavailable() && strict.to_string().contains("disconnected"), "{strict}");
    assert!(store.status().to_string().contains("; queued: 2 operations"), "{}", store.status());
}

#[test]
fn a_database_that_the_server_does_not_have_is_named_in_the_text() {
    let server = RedisServer::start();
    let error = open(&server.url(99), options()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot log in to 127.0.0.1:{}: database 99", server.port())),
        "{text}"
    );
    assert!(text.ends_with("ERR DB index is out of range"), "{text}");
}

#[test]
fn a_listener_that_is_stopped_hears_no_more_and_one_whose_handle_is_dropped_does() {
    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let listen = |store: &StateStore, name: &'static str| {
        store.on_event(move |event: &Event| HEARD.lock().unwrap().push(format!("{name}: {event}")))
    };
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory()).unwrap();
    let stopped = listen(&store, "stopped");
    drop(listen(&store, "dropped"));
    server.kill();
    notice_disconnect(&store);
    stopped.stop();
    store.put("k", 1).unwrap();
    server.restart();
    wait_until_connected(&store);
    store.reconnect().unwrap();
    store.close().unwrap();
    let heard = HEARD.lock().unwrap().clone();
    assert!(
        heard.iter().any(|line| line.starts_with("stopped: disconnected from the server: ")),
        "{heard:?}"
    );
    assert!(!heard.iter().any(|line| line.starts_with("stopped: connected")), "{heard:?}");
    let again = heard.iter().find(|line| line.starts_with("dropped: connected")).expect("an event");
    assert!(again.ends_with("; replayed: 1 operation"), "{again}");
}

#[test]
fn the_debug_text_of_a_redis_store_names_its_place_without_secrets() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let url = format!("redis://:hunter2@127.0.0.1:{}/3", server.port());
    let store = open(&url, memory()).unwrap().namespace("orders");
    let host = format!("127.0.0.1:{}", server.port());
    let text = format!("Redis {{ host: {host:?}, db: 3, prefix: \"t\", namespace: \"orders\" }}");
    assert_eq!(format!("{store:?}"), text);
}
