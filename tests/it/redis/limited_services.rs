//! Services that offer only a part of what a Redis server can do: commands are missing, renamed, or refused.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, RedisOptions, StateStore, Status};

use crate::support::chain;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    LIMIT, memory, open, options, run_within, wait_for, wait_until_connected,
};

/// A word of a command, and what a service makes of it.
type Rewrite = (&'static str, &'static str);

fn bulk(word: &str) -> Vec<u8> {
    format!("${}\r\n{word}\r\n", word.len()).into_bytes()
}

/// Starts a proxy that replaces words in requests, and returns its port.
fn rewriting_proxy(port: u16, rewrites: &'static [Rewrite]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
            let [from, to] = ends;
            thread::spawn(move || pump(from, to, rewrites));
            thread::spawn(move || pump(server, client, &[]));
        }
    });
    own
}

fn pump(mut from: TcpStream, mut to: TcpStream, rewrites: &[Rewrite]) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut data = buffer[..read].to_vec();
        for (word, instead) in rewrites {
            let word = bulk(word);
            while let Some(at) = data.windows(word.len()).position(|window| window == word) {
                data.splice(at..at + word.len(), bulk(instead));
            }
        }
        if to.write_all(&data).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// `CLIENT KILL` is not there, or not with these arguments, or `CLIENT INFO` is not there, or the reply comes from
/// another server behind the same proxy, which knows of no such connection.
const WITHOUT_KILL: [&[Rewrite]; 5] = [
    &[("KILL", "KILX")],
    &[("ADDR", "ADXR")],
    &[("INFO", "INFX")],
    &[("CLIENT", "CLIENX")],
    &[("ADDR", "LADDR")],
];

fn assert_outlives_a_lost_reply(server: &RedisServer, rewrites: &'static [Rewrite], fallback: &Fallback) {
    let raw = RawClient::connect(&server.url(0));
    let port = rewriting_proxy(server.port(), rewrites);
    let store = open(&format!("redis://127.0.0.1:{port}"), options().fallback(fallback.clone())).unwrap();
    store.put("v", 1).unwrap();
    server.pause();
    run_within(LIMIT, || assert_error!(store.incr("n", 1), Error::Unavailable { .. }));
    let _ = store.put("v", 2);
    server.resume();
    let name = format!("{rewrites:?}, {fallback:?}");
    wait_for(&format!("the store is connected: {name}"), || store.status() == Status::Connected);
    wait_for(&format!("a write is acknowledged: {name}"), || store.put("v", 3).is_ok());
    assert_eq!(store.get::<i64>("v").unwrap(), Some(3), "{name}");
    for _ in 0..20 {
        assert_eq!(raw.run::<_, i64>("GET", &["t:v"]), 3, "{name}: an older put came late");
        thread::sleep(Duration::from_millis(2));
    }
    store.close().unwrap();
}

/// The lost reply was an obstacle for ever.
#[test]
fn a_lost_reply_is_outlived_where_connections_cannot_be_killed() {
    for rewrites in WITHOUT_KILL {
        for fallback in [Fallback::None, Fallback::Memory] {
            assert_outlives_a_lost_reply(&RedisServer::start(), rewrites, &fallback);
        }
    }
    let server = RedisServer::start_with(&["--rename-command", "ECHO", ""]);
    assert_outlives_a_lost_reply(&server, WITHOUT_KILL[0], &Fallback::None);
}

/// A server that does not know the connection proves nothing behind a proxy: another one may have it.
#[test]
fn a_kill_that_finds_nothing_behind_a_proxy_is_no_proof() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(rewriting_proxy(server.port(), &[("ADDR", "LADDR")]));
    let store = open(&proxy.url(), options()).unwrap();
    store.put("v", 1).unwrap();
    proxy.hold_old();
    assert_error!(store.put("v", 2), Error::Unavailable { maybe_applied: true, .. });
    for _ in 0..3 {
        assert_error!(store.put("v", 3), Error::Unavailable { maybe_applied: false, .. });
    }
    proxy.release_old();
    wait_for("a newer put is acknowledged", || store.put("v", 4).is_ok());
    for _ in 0..20 {
        assert_eq!(raw.run::<_, i64>("GET", &["t:v"]), 4, "an older put overwrote a newer one");
        thread::sleep(Duration::from_millis(2));
    }
}

fn open_as(server: &RedisServer, user: &str, options: RedisOptions) -> millpond::Result<StateStore> {
    open(&format!("redis://{user}127.0.0.1:{}", server.port()), options)
}

/// Asserts that the store is refused with a fallback, by an error that says what is missing, and works without.
fn assert_needs_no_fallback(server: &RedisServer, user: &str, missing: &str) {
    let error = open_as(server, user, memory()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. } | Error::Denied { .. }), "{missing}: {error:?}");
    let told = chain(&error).join(": ");
    assert!(told.contains(missing) && told.contains("fallback=none"), "{told}");
    let store = open_as(server, user, options()).unwrap();
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<u32>("a").unwrap(), Some(1));
}

/// Writes were acknowledged during an outage, and could never be replayed.
#[test]
fn a_server_on_which_the_replay_cannot_work_is_refused_at_opening() {
    let server = RedisServer::start_with(&["--rename-command", "EVAL", ""]);
    assert_needs_no_fallback(&server, "", "EVAL");
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for (command, user) in [("eval", "noeval"), ("hsetnx", "nohash"), ("hmget", "noread")] {
        raw.run::<_, ()>("ACL", &["SETUSER", user, "on", ">pw", "~t:*", "+@all", &format!("-{command}")]);
        assert_needs_no_fallback(
            &server,
            &format!("{user}:pw@"),
            &format!("'{command}'").replace("'hmget'", "EVAL"),
        );
    }
    drop(open(&server.url(0), memory()).unwrap());
    assert_eq!(raw.all_keys(), [b"t:a"], "the check leaves nothing behind");
}

/// A permission that is taken away later loses nothing: the store waits until it is back, and says why.
#[test]
fn a_right_that_is_taken_away_later_keeps_the_store_disconnected_until_it_is_back() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "on", ">pw", "~t:*", "+@all"]);
    let store = open(&proxy.url().replace("redis://", "redis://app:pw@"), memory()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Down);
    wait_for("the store is disconnected", || {
        store.put("a", 2).is_ok() && store.status() != Status::Connected
    });
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "-eval"]);
    proxy.set(Mode::Pass);
    for _ in 0..3 {
        assert_error!(store.reconnect(), Error::Denied { .. });
    }
    assert!(store.put("b", 3).is_ok() && store.take_rejected().is_empty());
    match store.status() {
        Status::Disconnected { reason, .. } => assert!(reason.contains("eval"), "{reason}"),
        other => panic!("{other:?}"),
    }
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "+eval"]);
    wait_until_connected(&store);
    assert_eq!((raw.get("t:a").as_deref(), raw.get("t:b").as_deref()), (Some(&b"2"[..]), Some(&b"3"[..])));
}
