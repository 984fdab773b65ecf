//! Servers that are reachable but refuse: typed errors, and a store that works again afterwards.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, Result, StateStore, Status, WriteBatch};

use crate::support::backends::HOUR;
use crate::support::chain;
use crate::support::ports::free_port;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    CONNECT_LIMIT, LIMIT, open, options, run_within, wait_for, wait_until_connected,
};

#[test]
fn a_port_without_redis_is_an_error_and_not_an_outage() {
    for text in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\0\u{1}\u{2}garbage\r\n", "*-7\r\n:x\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let _ = client.read(&mut [0; 512]);
                let _ = client.write_all(text.as_bytes());
                thread::sleep(Duration::from_millis(500));
            }
        });
        let opened = run_within(CONNECT_LIMIT, || {
            open(&format!("redis://{address}"), options().fallback(Fallback::Memory))
        });
        assert!(matches!(opened, Err(Error::Server { .. })), "{opened:?}");
    }
}

#[test]
fn a_wrong_password_is_denied_at_once_and_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for login in ["", ":hunter2@", "nobody:hunter2@"] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port());
        let error =
            run_within(Duration::ZERO, || open(&url, options().fallback(Fallback::Memory)).unwrap_err());
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
    let store = open(&format!("redis://:right@127.0.0.1:{}/2", server.port()), options()).unwrap();
    store.put("a", 1).unwrap();
}

#[test]
fn a_full_server_is_no_outage() {
    let server = RedisServer::start_with(&["--maxmemory", "100kb", "--maxmemory-policy", "noeviction"]);
    let store = open(&server.url(0), options()).unwrap();
    let error = store.put("a", 1).unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error:?}");
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap();
    let error = store.write(&batch).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("OOM"), "{source}");
    assert_eq!(store.get::<i64>("a").unwrap(), None);
}

#[test]
fn a_temporary_refusal_is_unavailable() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options().max_retries(1)).unwrap();
    store.put("a", 1).unwrap();
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &free_port().to_string()]);
    let error = store.put("a", 2).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap();
    assert!(matches!(store.write(&batch), Err(Error::Unavailable { maybe_applied: false, .. })));
    raw.run::<_, ()>("REPLICAOF", &["NO", "ONE"]);
    wait_until_connected(&store);
    store.put("a", 2).unwrap();
}

#[test]
fn a_loading_server_is_unavailable() {
    let mut server = RedisServer::start();
    server.restart_loading(Duration::from_secs(4));
    let error = open(&server.url(0), options()).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store = open(&server.url(0), options().fallback(Fallback::Memory)).unwrap();
    assert!(matches!(store.status(), Status::Disconnected { .. }));
}

type Operation = fn(&StateStore) -> Result<()>;

/// One operation of each kind that writes; each of them changes the entry `a`, if it exists.
const WRITES: [(&str, Operation); 8] = [
    ("put", |s| s.put("a", 9)),
    ("incr", |s| s.incr("a", 1).map(drop)),
    ("incr_with_ttl", |s| s.incr_with_ttl("a", 1, HOUR).map(drop)),
    ("compare_and_set", |s| s.compare_and_set("a", Some(&1), &9).map(drop)),
    ("get_and_delete", |s| s.get_and_delete::<i64>("a").map(drop)),
    ("write", |s| s.write(WriteBatch::new().put("a", 9)?.delete("b")?)),
    ("batch_put", |s| s.batch_put([("a", 9), ("b", 9)])),
    ("batch_incr", |s| s.batch_incr([("a", 1), ("b", 1)]).map(drop)),
];

/// Asserts that every write is refused with an error that is `expected`, and changes nothing.
fn assert_every_write_is_refused(store: &StateStore, expected: impl Fn(&Error) -> bool) {
    for (name, write) in WRITES {
        let error = run_within(LIMIT, || write(store).expect_err(name));
        assert!(expected(&error), "{name}: {error:?}");
    }
}

fn assert_every_write_is_applied(store: &StateStore) {
    for (name, write) in WRITES {
        store.put("a", 1).unwrap();
        store.delete("b").unwrap();
        write(store).expect(name);
    }
    store.put("a", 1).unwrap();
}

fn is_not_applied(error: &Error) -> bool {
    matches!(error, Error::Unavailable { maybe_applied: false, .. })
}

fn open_impatient(server: &RedisServer) -> StateStore {
    let store = open(&server.url(0), options().max_retries(1)).unwrap();
    assert_every_write_is_applied(&store);
    store
}

/// Nothing was applied.
#[test]
fn a_server_busy_with_a_script_is_unavailable() {
    let server = RedisServer::start_with(&["--lua-time-limit", "1"]);
    let (raw, other) = (RawClient::connect(&server.url(0)), RawClient::connect(&server.url(0)));
    let store = open_impatient(&server);
    thread::scope(|scope| {
        let script = scope.spawn(|| other.ask::<_, ()>("EVAL", &["while true do end", "0"]));
        wait_for("the server says that it is busy", || raw.ask::<&str, ()>("PING", &[]).is_err());
        assert_every_write_is_refused(&store, is_not_applied);
        assert!(is_not_applied(&store.get::<i64>("a").unwrap_err()));
        assert!(is_not_applied(&store.keys("").unwrap_err()));
        assert!(is_not_applied(&open(&server.url(0), options()).unwrap_err()));
        raw.run::<_, ()>("SCRIPT", &["KILL"]);
        assert!(script.join().unwrap().is_err());
    });
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert_every_write_is_applied(&store);
}

#[test]
fn a_server_with_too_few_replicas_is_unavailable() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open_impatient(&server);
    raw.run::<_, ()>("CONFIG", &["SET", "min-replicas-to-write", "1"]);
    assert_every_write_is_refused(&store, is_not_applied);
    // A server that accepts no writes counts as unavailable: reads do not reach it either.
    assert!(is_not_applied(&store.get::<i64>("a").unwrap_err()));
    raw.run::<_, ()>("CONFIG", &["SET", "min-replicas-to-write", "0"]);
    wait_until_connected(&store);
    assert_every_write_is_applied(&store);
}

#[test]
fn a_server_that_cannot_save_refuses_writes_but_is_no_outage() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open_impatient(&server);
    // A directory has the name of the file in which the server should save.
    let in_the_way = server.dir().join("dump.rdb");
    std::fs::create_dir(&in_the_way).unwrap();
    raw.run::<_, ()>("CONFIG", &["SET", "save", "3600 1000000"]);
    raw.run::<&str, ()>("BGSAVE", &[]);
    let failed = || raw.run::<_, String>("INFO", &["persistence"]).contains("rdb_last_bgsave_status:err");
    wait_for("the server knows that it cannot save", failed);
    assert_every_write_is_refused(&store, |error| {
        matches!(error, Error::Server { .. }) && chain(error)[1].contains("MISCONF")
    });
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    std::fs::remove_dir(&in_the_way).unwrap();
    raw.run::<&str, ()>("SAVE", &[]);
    assert_every_write_is_applied(&store);
}

#[test]
fn a_server_with_too_many_clients_is_unavailable() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open_impatient(&server);
    raw.run::<_, ()>("CONFIG", &["SET", "maxclients", "2"]);
    assert!(is_not_applied(&open(&server.url(0), options()).unwrap_err()));
    store.put("a", 1).unwrap();
    raw.run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    raw.run::<_, ()>("CONFIG", &["SET", "maxclients", "1"]);
    assert!(is_not_applied(&store.get::<i64>("a").unwrap_err()));
    assert_every_write_is_refused(&store, is_not_applied);
    raw.run::<_, ()>("CONFIG", &["SET", "maxclients", "100"]);
    wait_until_connected(&store);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert_every_write_is_applied(&store);
}
