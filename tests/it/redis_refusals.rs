//! Servers that are there and refuse: typed errors, and a store that works again afterwards.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, Status, WriteBatch};

use crate::support::outages::{CONNECT_LIMIT, open, options, within};
use crate::support::raw::Raw;
use crate::support::redis_server::{RedisServer, free_port};

#[test]
fn what_is_no_redis_is_an_error_and_never_memory() {
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
        let opened = within(CONNECT_LIMIT, || {
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
        let error = within(Duration::ZERO, || open(&url, options().fallback(Fallback::Memory)).unwrap_err());
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
fn a_server_that_cannot_serve_for_now_is_unavailable() {
    let server = RedisServer::start();
    let raw = Raw::connect(&server.url(0));
    let store = open(&server.url(0), options().max_retries(1)).unwrap();
    store.put("a", 1).unwrap();
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &free_port().to_string()]);
    let error = store.put("a", 2).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap();
    assert!(matches!(store.write(&batch), Err(Error::Unavailable { maybe_applied: false, .. })));
    raw.run::<_, ()>("REPLICAOF", &["NO", "ONE"]);
    store.put("a", 2).unwrap();
}

#[test]
fn a_loading_server_is_away() {
    let mut server = RedisServer::start();
    let raw = Raw::connect(&server.url(0));
    let fill = "for n = 1, 2000 do redis.call('SET', 'k' .. n, 'value') end";
    raw.run::<_, ()>("EVAL", &[fill, "0"]);
    raw.run::<&str, ()>("SAVE", &[]);
    let slow = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"];
    server.restart_with(&slow);
    let error = open(&server.url(0), options()).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store = open(&server.url(0), options().fallback(Fallback::Memory)).unwrap();
    assert!(matches!(store.status(), Status::Away { .. }));
}
