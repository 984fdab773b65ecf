//! Servers that a configuration cannot mean. Opening fails with the words of the server and says what to change; no
//! such store is connected, and none is served from memory.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;

use millpond::{Error, Fallback, Result, StateStore};

use crate::support::chain;
use crate::support::ports::free_port;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options, wait_for};
use crate::support::server_program;

/// Opens a store with and without a fallback, asserts that both fail alike and that the error says all of `words`.
#[track_caller]
fn assert_refused(url: &str, words: &[&str], expected: impl Fn(&Error) -> bool) {
    assert_refused_with_a_fallback(url, words, &expected);
    assert_refusal(open(url, options()), url, words, expected);
}

/// As [`assert_refused`], for a server that a store without a fallback accepts.
#[track_caller]
fn assert_refused_with_a_fallback(url: &str, words: &[&str], expected: impl Fn(&Error) -> bool) {
    assert_refusal(open(url, options().fallback(Fallback::Memory)), url, words, expected);
}

#[track_caller]
fn assert_refusal(opened: Result<StateStore>, url: &str, words: &[&str], expected: impl Fn(&Error) -> bool) {
    match opened {
        Ok(store) => panic!("{url} was opened, and is {:?}", store.status()),
        Err(error) => {
            let shown = chain(&error).join(": ");
            assert!(expected(&error), "{url}: {error:?}");
            assert!(words.iter().all(|word| shown.contains(word)), "{url}: {shown}");
            assert!(!shown.contains("hunter2"), "{url}: {shown}");
        }
    }
}

fn is_denied(error: &Error) -> bool {
    matches!(error, Error::Denied { .. })
}

fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Unsupported { .. })
}

fn is_of_the_server(error: &Error) -> bool {
    matches!(error, Error::Server { .. })
}

/// A listener that replies with the same bytes to every client, and closes.
fn speaker(text: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(text);
            let _ = client.read(&mut [0; 512]);
        }
    });
    address.to_string()
}

/// A Sentinel, killed on drop.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_port_of_a_sentinel_is_named() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("sentinel.conf");
    std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\n")).unwrap();
    let started = server_program::server().arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn();
    let _sentinel = Sentinel(started.unwrap());
    wait_for("the Sentinel listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_refused(&format!("redis://127.0.0.1:{port}"), &["sentinel", "primary", "URL"], is_unsupported);
}

#[test]
fn a_node_of_a_cluster_is_named() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    assert_refused(&server.url(0), &["mode: cluster", "URL"], is_unsupported);
    let slots = (0..16_384).map(|slot: u32| slot.to_string());
    let add_all: Vec<String> = ["ADDSLOTS".to_owned()].into_iter().chain(slots).collect();
    RawClient::connect(&server.url(0)).run::<_, ()>("CLUSTER", &add_all);
    assert_refused(&server.url(0), &["mode: cluster", "URL"], is_unsupported);
}

#[test]
fn a_replica_is_named_if_writes_would_have_to_wait() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &free_port().to_string()]);
    assert_refused_with_a_fallback(&server.url(0), &["role: replica", "primary", "URL"], is_unsupported);
    let reader = open(&server.url(0), options()).unwrap();
    assert_eq!(reader.get::<i64>("a").unwrap(), None, "without a fallback, a replica may be read");
    assert_error!(reader.put("a", 1), Error::Unavailable { maybe_applied: false, .. });
    raw.run::<_, ()>("REPLICAOF", &["NO", "ONE"]);
    open(&server.url(0), options()).unwrap().put("a", 1).unwrap();
}

#[test]
fn protected_mode_is_named() {
    let denied = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set\r\n";
    let words = ["DENIED Redis is running in protected mode", "password", "URL"];
    assert_refused(&format!("redis://{}", speaker(denied)), &words, is_denied);
    assert_refused(&format!("redis://anna:hunter2@{}", speaker(denied)), &words, is_denied);
}

#[test]
fn another_protocol_at_the_port_is_quoted() {
    for (text, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], ["HTTP/1.1 400 Bad Request", "port of the URL"]),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", ["SSH-2.0-OpenSSH_9.2p1", "port of the URL"]),
    ] {
        assert_refused(&format!("redis://{}", speaker(text)), &words, is_of_the_server);
    }
}

#[test]
fn a_wrong_or_missing_password_is_named() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    for (login, words) in [
        (":hunter2@", ["WRONGPASS", "check the user and the password"]),
        ("nobody:right@", ["WRONGPASS", "check the user and the password"]),
        ("nobody@", ["WRONGPASS", "check the user and the password"]),
        ("default@", ["WRONGPASS", "check the user and the password"]),
        ("@", ["WRONGPASS", "check the user and the password"]),
        ("", ["NOAUTH", "redis://user:password@host"]),
    ] {
        assert_refused(&format!("redis://{login}127.0.0.1:{}", server.port()), &words, is_denied);
    }
}

#[test]
fn a_database_that_the_server_does_not_have_is_named() {
    let server = RedisServer::start_with(&["--databases", "4"]);
    assert_refused(&server.url(4), &["database 4 of the URL", "DB index is out of range"], is_of_the_server);
    open(&server.url(3), options()).unwrap().put("a", 1).unwrap();
}

#[test]
fn a_server_without_hello_is_used_with_auth_and_info() {
    let server = RedisServer::start_with(&["--rename-command", "HELLO", "", "--requirepass", "right"]);
    let at = |login: &str, database: u32| format!("redis://{login}127.0.0.1:{}/{database}", server.port());
    let store = open(&at(":right@", 3), options()).unwrap();
    store.put("a", 1).unwrap();
    let raw = RawClient::connect(&at(":right@", 3));
    assert_eq!(raw.get("t:a").as_deref(), Some(&b"1"[..]));
    assert_refused(&at(":hunter2@", 0), &["WRONGPASS", "check the user and the password"], is_denied);
    assert_refused(&at("", 0), &["NOAUTH"], is_denied);
    assert_refused(&at(":right@", 99), &["database 99 of the URL", "out of range"], is_of_the_server);
    raw.run::<_, ()>("ACL", &["SETUSER", "blind", "on", "nopass", "~*", "+@all", "-info"]);
    assert_refused(&at("blind@", 0), &["HELLO", "INFO", "NOPERM"], is_denied);
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &free_port().to_string()]);
    assert_refused_with_a_fallback(&at(":right@", 0), &["role: slave", "primary"], is_unsupported);
}

#[test]
fn the_user_of_a_url_logs_in_also_without_a_password() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("ACL", &["SETUSER", "app", "on", "nopass", "~t:*", "+@all"]);
    raw.run::<_, ()>("ACL", &["SETUSER", "us@er:%", "on", ">p@ss/w:%?#", "~t:*", "+@all"]);
    raw.run::<_, ()>("ACL", &["SETUSER", "closed", "off", "nopass", "~*", "+@all"]);
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port());
    let user_of = |store: &StateStore| {
        store.put("a", 1).unwrap();
        let clients: String = raw.run("CLIENT", &["LIST"]);
        let fields =
            |line: &str| line.split(' ').find_map(|field| field.strip_prefix("user=").map(str::to_owned));
        let mut users: Vec<String> =
            clients.lines().filter(|line| !line.contains("cmd=client")).filter_map(fields).collect();
        users.dedup();
        users
    };
    for (login, user) in [
        ("", "default"),
        ("@", "default"),
        (":@", "default"),
        ("default@", "default"),
        ("app@", "app"),
        ("app:@", "app"),
        ("app:anything@", "app"),
        ("us%40er%3A%25:p%40ss%2Fw:%25%3F%23@", "us@er:%"),
    ] {
        let store = open(&url(login), options()).unwrap();
        assert_eq!(user_of(&store), [user], "{login:?}");
        store.close().unwrap();
        wait_for("the store's connections are closed", || {
            raw.run::<_, String>("CLIENT", &["LIST"]).lines().count() == 1
        });
    }
    for login in ["nobody@", "nobody:@", "closed@", "app%40@", "us%40er%3A%25@", "APP@"] {
        assert_refused(&url(login), &["WRONGPASS"], is_denied);
    }
    // The user has no right to other prefixes.
    let other = StateStore::open(format!("{}?key_prefix=other&fallback=none", url("app@"))).unwrap();
    assert_error!(other.put("a", 1), Error::Denied { .. });
}
