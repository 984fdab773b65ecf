//! Which failures count as an outage and which do not, with real servers that refuse for real reasons.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, StateStore, Status};

use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    CONNECT_LIMIT, LIMIT, memory, open, pending, run_within, wait_for, wait_until_connected,
};
use crate::support::server_program::{PROTECTED_SETTINGS, since_7};

/// Whether the store is disconnected.
fn is_disconnected(store: &StateStore) -> bool {
    matches!(store.status(), Status::Disconnected { .. })
}

/// The server refuses between `begin` and `end`: writes during that time are served, and applied on the
/// server later.
fn assert_serves_and_returns(
    server: &RedisServer,
    begin: impl FnOnce(&RawClient),
    end: impl FnOnce(&RawClient),
) {
    let store = open(&server.url(0), memory()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.put("a", 1).unwrap();
    store.incr("n", 1).unwrap();
    begin(&raw);
    run_within(LIMIT, || store.put("a", 2).unwrap());
    assert!(is_disconnected(&store));
    assert_eq!(store.incr("n", 1).unwrap(), 2);
    assert_eq!(store.get::<i32>("a").unwrap(), Some(2));
    assert_eq!(pending(&store), Some(2));
    end(&raw);
    wait_until_connected(&store);
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"2"[..]));
    assert_eq!(raw.get("t:n").as_deref(), Some(&b"2"[..]));
    let stats = store.stats().outages;
    assert_eq!((stats.outages, stats.rejected, stats.conflicts), (1, 0, 0));
    raw.flush();
}

fn set(raw: &RawClient, name: &str, value: &str) {
    raw.run::<_, ()>("CONFIG", &["SET", name, value]);
}

#[test]
fn a_temporary_refusal_is_an_outage_and_the_server_returns() {
    let server = RedisServer::start();
    let nobody = |raw: &RawClient| raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", "1"]);
    let myself = |raw: &RawClient| raw.run::<_, ()>("REPLICAOF", &["NO", "ONE"]);
    // READONLY
    assert_serves_and_returns(&server, nobody, myself);
    // MASTERDOWN
    assert_serves_and_returns(
        &server,
        |raw| {
            set(raw, "replica-serve-stale-data", "no");
            nobody(raw);
        },
        |raw| {
            myself(raw);
            set(raw, "replica-serve-stale-data", "yes");
        },
    );
    // NOREPLICAS
    assert_serves_and_returns(
        &server,
        |raw| set(raw, "min-replicas-to-write", "1"),
        |raw| set(raw, "min-replicas-to-write", "0"),
    );
}

#[test]
fn an_endless_script_is_an_outage_until_it_is_killed() {
    let server = RedisServer::start_with(&["--lua-time-limit", "20"]);
    let url = server.url(0);
    thread::scope(|scope| {
        assert_serves_and_returns(
            &server,
            |raw| {
                scope.spawn(|| {
                    let endless = RawClient::connect(&url).ask::<_, ()>("EVAL", &["while true do end", "0"]);
                    assert!(endless.is_err());
                });
                wait_for("the server is busy", || raw.ask::<_, ()>("GET", &["x"]).is_err());
            },
            |raw| wait_for("the script is killed", || raw.ask::<_, ()>("SCRIPT", &["KILL"]).is_ok()),
        );
    });
}

#[test]
fn a_server_that_loads_or_is_full_is_an_outage_and_returns() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory()).unwrap();
    store.put("a", 1).unwrap();
    server.restart_loading(Duration::from_millis(1_500));
    run_within(LIMIT, || store.put("a", 2).unwrap());
    assert!(is_disconnected(&store), "the server loads");
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"2"[..]));
    drop(store);

    let filler = RawClient::connect(&server.url(0));
    wait_for("only two clients are connected", || {
        raw.run::<_, String>("CLIENT", &["LIST"]).lines().count() == 2
    });
    set(&raw, "maxclients", "2");
    let store = run_within(CONNECT_LIMIT, || open(&server.url(0), memory()).unwrap());
    store.put("a", 3).unwrap();
    assert_eq!(pending(&store), Some(1));
    drop(filler);
    set(&raw, "maxclients", "100");
    wait_until_connected(&store);
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"3"[..]));
}

/// The server refuses while a store is opened: with a fallback the store is disconnected at first, and without one it
/// cannot be opened, or its writes fail.
fn assert_opens_disconnected(
    server: &RedisServer,
    name: &str,
    begin: impl FnOnce(&RawClient),
    end: impl FnOnce(&RawClient),
) {
    let raw = RawClient::connect(&server.url(0));
    begin(&raw);
    let strict = run_within(CONNECT_LIMIT, || open(&server.url(0), memory().fallback(Fallback::None)));
    let refused = strict.and_then(|store| run_within(LIMIT, || store.put("a", 1)));
    assert_error!(refused, Error::Unavailable { .. });
    let store = run_within(CONNECT_LIMIT, || open(&server.url(0), memory()).unwrap());
    assert!(is_disconnected(&store), "{name}");
    store.put("a", 2).unwrap();
    end(&raw);
    wait_until_connected(&store);
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"2"[..]), "{name}");
    raw.flush();
}

#[test]
fn a_server_that_takes_no_writes_for_now_is_an_outage_at_opening() {
    let server = RedisServer::start_with(&["--lua-time-limit", "20"]);
    assert_opens_disconnected(
        &server,
        "NOREPLICAS",
        |raw| set(raw, "min-replicas-to-write", "1"),
        |raw| set(raw, "min-replicas-to-write", "0"),
    );
    assert_opens_disconnected(
        &server,
        "CLIENT PAUSE",
        |raw| raw.run::<_, ()>("CLIENT", &["PAUSE", "60000", "WRITE"]),
        |raw| raw.run::<_, ()>("CLIENT", &["UNPAUSE"]),
    );
    let url = server.url(0);
    thread::scope(|scope| {
        assert_opens_disconnected(
            &server,
            "BUSY",
            |raw| {
                scope.spawn(|| RawClient::connect(&url).ask::<_, ()>("EVAL", &["while true do end", "0"]));
                wait_for("the server is busy", || raw.ask::<_, ()>("GET", &["x"]).is_err());
            },
            |raw| wait_for("the script is killed", || raw.ask::<_, ()>("SCRIPT", &["KILL"]).is_ok()),
        );
    });
}

#[test]
fn a_permanent_refusal_is_an_error_and_no_outage() {
    let server = RedisServer::start_with(since_7(PROTECTED_SETTINGS));
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "on", ">pw", "~t:*", "+@all", "-incrby"]);
    let url = |password: &str| format!("redis://limited:{password}@127.0.0.1:{}", server.port());
    assert_error!(open(&url("wrong"), memory()), Error::Denied { .. });
    let store = open(&url("pw"), memory()).unwrap();
    store.put("a", 1).unwrap();
    assert_error!(store.incr("n", 1), Error::Denied { .. });
    assert_error!(store.push_back("a", 1), Error::WrongType { .. });
    set(&raw, "maxmemory", "1");
    assert_error!(store.put("a", 2), Error::Server { .. });
    set(&raw, "maxmemory", "0");
    let dir = server.dir().join("gone");
    std::fs::create_dir(&dir).unwrap();
    set(&raw, "save", "3600 1000000");
    set(&raw, "dir", dir.to_str().unwrap());
    std::fs::remove_dir(&dir).unwrap();
    raw.run::<&str, ()>("BGSAVE", &[]);
    wait_for("the server cannot save", || {
        raw.run::<_, String>("INFO", &["persistence"]).contains("rdb_last_bgsave_status:err")
    });
    assert_error!(store.put("a", 2), Error::Server { .. });
    set(&raw, "save", "");
    store.put("a", 3).unwrap();
    // From now on the password is another one.
    raw.run::<_, ()>("ACL", &["SETUSER", "limited", "resetpass", ">other"]);
    raw.run::<_, ()>("CLIENT", &["KILL", "USER", "limited"]);
    run_within(LIMIT, || assert_error!(store.get::<i32>("a"), Error::Denied { .. }));
    assert_eq!((store.status(), store.stats().outages.outages), (Status::Connected, 0));
}

/// Sends the same bytes to every client until it is dropped.
fn serve_noise(port: u16, answer: &'static [u8]) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mine = listener.try_clone().unwrap();
    thread::spawn(move || {
        for mut client in mine.incoming().flatten() {
            let mut request = [0; 4096];
            match client.read(&mut request) {
                Ok(read) if request[..read].starts_with(b"enough") => return,
                _ => _ = client.write_all(answer),
            }
        }
    });
    listener
}

/// The real server is found again afterwards.
#[test]
fn noise_on_the_port_is_an_error_within_the_limit() {
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..], b"\x00\xff\x13*-7\r\n$9999999999\r\n"]
    {
        let listener = serve_noise(0, answer);
        let port = listener.local_addr().unwrap().port();
        let url = format!("redis://127.0.0.1:{port}");
        run_within(CONNECT_LIMIT, || {
            assert_error!(open(&url, memory()), Error::Server { .. } | Error::Unavailable { .. })
        });
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap().write_all(b"enough").unwrap();

        let mut server = RedisServer::start();
        let store = open(&server.url(0), memory()).unwrap();
        store.put("a", 1).unwrap();
        server.kill();
        store.put("a", 2).unwrap();
        let listener = serve_noise(server.port(), answer);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(pending(&store), Some(1), "a port with noise does not count as the server");
        let mut end = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
        end.write_all(b"enough").unwrap();
        // The thread ends when the listener is closed.
        let _ = end.read(&mut [0; 1]);
        drop(listener);
        server.restart();
        wait_until_connected(&store);
        assert_eq!(store.get::<i32>("a").unwrap(), Some(2));
    }
}
