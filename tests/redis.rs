//! The Redis variant against servers that these tests start, stop, freeze and cut off themselves.
#![cfg(feature = "redis")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as the tests do"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{
    Error, Fallback, Kind, RedisOptions, StateBackend, StateConfig, StateStore, Status, Ttl, WriteBatch,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let port = free_port();
        Self::start_on(port, &["--port", &port.to_string()], options, tempfile::tempdir().unwrap())
    }

    fn start_on(port: u16, place: &[&str], options: &[&str], dir: tempfile::TempDir) -> Self {
        let child = Command::new("redis-server")
            .args(place)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes"])
            .args(options)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server: apt-get install redis-server, or brew install redis");
        let server = Self { child, port, dir };
        until("the server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let connection = client.get_connection().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    fn store(&self, options: RedisOptions) -> StateStore {
        open(&self.url(), options).unwrap()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn options() -> RedisOptions {
    let ms = Duration::from_millis;
    RedisOptions::default().connect_timeout(ms(300)).timeout(ms(500)).fallback(Fallback::None)
}

fn open(url: &str, options: RedisOptions) -> millpond::Result<StateStore> {
    let backend = StateBackend::Redis { url: url.to_owned(), key_prefix: "t".to_owned() };
    StateStore::with_config(StateConfig::default().backend(backend).redis(options))
}

fn ask<T: redis::FromRedisValue>(client: &mut redis::Connection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(client).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// Runs `call` and holds it to its limit.
fn within<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let outcome = call();
    assert!(begun.elapsed() < limit + Duration::from_millis(250), "took {:?}", begun.elapsed());
    outcome
}

const PASS: u8 = 0;
const HOLD: u8 = 1;
const REFUSE: u8 = 2;

/// A TCP proxy that passes, holds back and releases later, or refuses new connections.
struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    /// How many connections there were, and how many of the first of them are held back.
    opened: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
}

impl Proxy {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(PASS));
        let (opened, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (shared, count, first) = (Arc::clone(&mode), Arc::clone(&opened), Arc::clone(&held));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.load(Ordering::SeqCst) == REFUSE {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let index = count.fetch_add(1, Ordering::SeqCst);
                pump(client.try_clone().unwrap(), server.try_clone().unwrap(), &shared, &first, index);
                pump(server, client, &shared, &first, index);
            }
        });
        Self { address, mode, opened, held }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    /// Holds back what is sent on the connections that are there; new ones pass.
    fn hold_old(&self) {
        self.held.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn release_old(&self) {
        self.held.store(0, Ordering::SeqCst);
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mode: &Arc<AtomicU8>, held: &Arc<AtomicUsize>, index: usize) {
    let (mode, held) = (Arc::clone(mode), Arc::clone(held));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            while mode.load(Ordering::SeqCst) == HOLD || index < held.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(2));
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // What was held is delivered even if the sender has gone: a network does no less.
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn every_operation_does_on_redis_what_it_says() {
    let server = Server::start(&[]);
    let store = server.store(options());
    let hour = Duration::from_secs(3600);
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert!(store.update("a", 2).unwrap());
    assert!(!store.update("none", 2).unwrap());
    assert_eq!(store.get_and_put::<i64>("a", 3).unwrap(), Some(2));
    assert_eq!(store.get_and_delete::<i64>("a").unwrap(), Some(3));
    assert!(!store.delete("a").unwrap());
    assert!(store.set_if_not_exists("a", 1, Some(hour)).unwrap());
    assert!(!store.set_if_not_exists("a", 2, None).unwrap());
    assert!(store.compare_and_set("a", Some(&1), &5).unwrap());
    assert!(matches!(store.ttl("a").unwrap(), Some(Ttl::In(_))), "a swap keeps the time to live");
    assert!(!store.compare_and_set("a", Some(&1), &5).unwrap());
    assert!(store.compare_and_set("b", None::<&i64>, &5).unwrap());
    assert_eq!(store.modify("b", |found: Option<i64>| found.map(|n| n + 1)).unwrap(), Some(6));
    assert_eq!(store.modify("b", |_: Option<i64>| None).unwrap(), None);
    assert_eq!(store.ttl("b").unwrap(), None);
    assert_eq!(store.incr_with_ttl("n", 4, hour).unwrap(), 4);
    assert_eq!(store.incr_with_ttl("n", -1, hour).unwrap(), 3);
    assert!(matches!(store.ttl("n").unwrap(), Some(Ttl::In(_))));
    assert!(store.persist("n").unwrap());
    assert!(!store.persist("n").unwrap());
    assert_eq!(store.ttl("n").unwrap(), Some(Ttl::Never));
    assert!(store.expire("n", hour).unwrap());
    assert_eq!(store.get_and_touch::<i64>("n", hour).unwrap(), Some(3));
    store.put("n", i64::MAX).unwrap();
    assert!(matches!(store.incr("n", 1), Err(Error::Overflow { .. })));
    store.put("n", "x").unwrap();
    assert!(matches!(store.incr("n", 1), Err(Error::NotAnInteger { .. })));
    store.clear().unwrap();
    store.batch_put((0..2500).map(|n| (format!("k{n}"), n))).unwrap();
    let found: Vec<Option<i64>> = store.batch_get((0..2501).map(|n| format!("k{n}"))).unwrap();
    assert_eq!(found, (0..2500).map(Some).chain([None]).collect::<Vec<_>>());
    assert_eq!(store.len().unwrap(), 2500);
    assert_eq!(store.keys("k249").unwrap().len(), 11);
    assert_eq!(store.keys_page("", Some("k2"), 2).unwrap(), ["k20", "k200"]);
    assert_eq!(store.batch_incr([("k1", 1), ("k2", 1)]).unwrap(), [2, 3]);
    assert_eq!(store.batch_delete(["k1", "none"]).unwrap(), 1);
    let mut batch = WriteBatch::new();
    batch.put("k1", 7).unwrap().delete("k2").unwrap().put_with_ttl("k3", 1, hour).unwrap();
    store.write(&batch).unwrap();
    assert_eq!(store.get::<i64>("k1").unwrap(), Some(7));
    assert_eq!(store.clear().unwrap(), 2499);
    assert_eq!(store.status(), Status::Connected);
    store.close().unwrap();
    assert!(store.get::<i64>("a").is_err());
}

#[test]
fn a_counter_is_born_with_its_ttl_inside_a_batch_too() {
    let server = Server::start(&[]);
    let backend = StateBackend::Redis { url: server.url(), key_prefix: "t".to_owned() };
    let config = StateConfig::default().backend(backend).default_ttl(Duration::from_secs(60));
    let store = StateStore::with_config(config).unwrap();
    store.put_bytes("bad", b"x").unwrap();
    let error = store.batch_incr([("a", 2), ("bad", 1), ("b", 3)]).unwrap_err();
    assert!(matches!(error, Error::Partial { done: 2, .. }), "{error:?}");
    assert!(matches!(store.ttl("b").unwrap(), Some(Ttl::In(_))));
    assert_eq!(store.get::<i64>("b").unwrap(), Some(3));
}

#[test]
fn what_others_wrote_is_read_byte_for_byte() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let store = server.store(options());
    () = ask(&mut client, &["SET", "t:total", r#"{"Integer":10}"#]);
    assert_eq!(store.get_bytes("total").unwrap().unwrap(), br#"{"Integer":10}"#[..]);
    store.put("total", std::collections::BTreeMap::from([("Integer", 11)])).unwrap();
    assert_eq!(ask::<String>(&mut client, &["GET", "t:total"]), r#"{"Integer":11}"#);
    let large = vec![7; 20 << 20];
    store.put_bytes("large", &large).unwrap();
    assert!(store.get_bytes("large").unwrap().unwrap() == large[..]);
}

#[test]
fn other_kinds_are_told_by_name() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let store = server.store(options());
    () = ask(&mut client, &["LPUSH", "t:queue", "1"]);
    () = ask(&mut client, &["HSET", "t:map", "f", "1"]);
    () = ask(&mut client, &["SADD", "t:set", "1"]);
    for (key, kind) in [("queue", Some(Kind::Queue)), ("map", Some(Kind::Map)), ("set", None)] {
        let wrong = |error: Error| match error {
            Error::WrongType { found, .. } => assert_eq!(found, kind),
            other => panic!("{other:?}"),
        };
        wrong(store.get::<i64>(key).unwrap_err());
        wrong(store.update(key, 1).unwrap_err());
        wrong(store.incr(key, 1).unwrap_err());
        wrong(store.incr_with_ttl(key, 1, Duration::from_secs(9)).unwrap_err());
        wrong(store.get_and_delete::<i64>(key).unwrap_err());
        wrong(store.get_and_put::<i64>(key, 1).unwrap_err());
        wrong(store.compare_and_set(key, Some(&1), &2).unwrap_err());
        wrong(store.compare_and_set(key, None::<&i64>, &2).unwrap_err());
        wrong(store.get_and_touch::<i64>(key, Duration::from_secs(9)).unwrap_err());
        wrong(store.batch_get::<i64>([key]).unwrap_err());
        assert!(!store.set_if_not_exists(key, 1, None).unwrap());
    }
    assert_eq!(store.entries::<i64>("").count(), 0);
    assert_eq!(store.len().unwrap(), 3);
}

#[test]
fn glob_characters_are_ordinary_and_foreign_keys_are_cleared() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let store = server.store(options());
    for key in ["a*b", "axb", "a?b", "a[x]b", r"a\b", "a^b", "é"] {
        store.put(key, 1).unwrap();
    }
    assert_eq!(store.keys("a*").unwrap(), ["a*b"]);
    assert_eq!(store.keys("a[").unwrap(), ["a[x]b"]);
    assert_eq!(store.keys(r"a\").unwrap(), [r"a\b"]);
    for key in [&b"t:\xff"[..], b"t:a\nb", b"t:__millpond:fence", b"tx:other"] {
        redis::cmd("SET").arg(key).arg(1).exec(&mut client).unwrap();
    }
    assert_eq!(store.len().unwrap(), 7);
    assert_eq!(store.clear().unwrap(), 9);
    let mut left: Vec<String> = ask(&mut client, &["KEYS", "*"]);
    left.sort();
    assert_eq!(left, ["t:__millpond:fence", "tx:other"]);
    let backend = StateBackend::Redis { url: server.url(), key_prefix: String::new() };
    let bare = StateStore::new(backend).unwrap();
    assert!(matches!(bare.clear(), Err(Error::Unsupported { .. })));
}

#[test]
fn the_script_has_the_name_that_the_server_gives_it() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let script = include_str!("../src/backend/redis/scripts/swap.lua");
    let sha: String = ask(&mut client, &["SCRIPT", "LOAD", script]);
    assert!(include_str!("../src/backend/redis/commands.rs").contains(&sha), "SWAP_SHA must be {sha}");
    let store = server.store(options());
    for n in 0..3 {
        () = ask(&mut client, &["SCRIPT", "FLUSH"]);
        assert!(store.compare_and_set("k", (n > 0).then_some(&(n - 1)), &n).unwrap());
    }
}

#[test]
fn a_server_that_is_down_at_opening_is_replaced_or_told() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let error = within(Duration::from_millis(300), || open(&url, options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store =
        within(Duration::from_millis(300), || open(&url, options().fallback(Fallback::Memory)).unwrap());
    assert!(matches!(store.status(), Status::Away { pending: 0, .. }));
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    let named = "redis://no-such-host.invalid";
    assert!(matches!(open(named, options()), Err(Error::Unavailable { .. })));
}

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
        let opened = within(Duration::from_millis(300), || {
            open(&format!("redis://{address}"), options().fallback(Fallback::Memory))
        });
        assert!(matches!(opened, Err(Error::Server { .. })), "{opened:?}");
    }
}

#[test]
fn a_wrong_password_is_denied_at_once_and_not_shown() {
    let server = Server::start(&["--requirepass", "right"]);
    for login in ["", ":hunter2@", "nobody:hunter2@"] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port);
        let error = within(Duration::ZERO, || open(&url, options().fallback(Fallback::Memory)).unwrap_err());
        assert!(matches!(error, Error::Denied { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
    let store = open(&format!("redis://:right@127.0.0.1:{}/2", server.port), options()).unwrap();
    store.put("a", 1).unwrap();
}

#[test]
fn a_server_that_dies_later_is_an_error_until_it_is_back() {
    let mut server = Server::start(&[]);
    let store = server.store(options());
    store.put("a", 1).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    for _ in 0..3 {
        let error = within(Duration::from_millis(500), || store.put("a", 2).unwrap_err());
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    let port = server.port;
    let _again = Server::start_on(port, &["--port", &port.to_string()], &[], tempfile::tempdir().unwrap());
    store.put("a", 3).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(3));
}

#[test]
fn a_frozen_server_costs_no_call_more_than_its_limit() {
    let server = Server::start(&[]);
    let store = server.store(options().pool_size(2));
    store.put("a", 1).unwrap();
    server.signal("-STOP");
    thread::scope(|scope| {
        for n in 0..6 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..2 {
                    let limit = Duration::from_millis(500);
                    assert!(within(limit, || store.get::<i64>("a")).is_err());
                    assert!(within(limit, || store.put("a", n)).is_err());
                    assert!(within(limit, || store.incr("c", n)).is_err());
                    assert!(within(limit, || store.batch_put((0..50).map(|k| (k.to_string(), n)))).is_err());
                    assert!(within(limit, || store.keys("")).is_err());
                }
            });
        }
    });
    server.signal("-CONT");
    until("the store works again", || store.put("a", 9).is_ok());
    assert_eq!(store.get::<i64>("a").unwrap(), Some(9));
}

#[test]
fn a_timed_out_increment_is_not_repeated() {
    let server = Server::start(&[]);
    let store = server.store(options());
    store.incr("n", 1).unwrap();
    server.signal("-STOP");
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    server.signal("-CONT");
    until("the server is back", || store.get::<i64>("n").is_ok());
    assert_eq!(store.incr("n", 1).unwrap(), 3);
}

#[test]
fn killed_connections_are_replaced_unseen_where_repeating_is_harmless() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let store = server.store(options());
    for n in 0..5 {
        store.put("a", n).unwrap();
        () = ask(&mut client, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(store.get::<i64>("a").unwrap(), Some(n));
        () = ask(&mut client, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.put("a", n + 1).unwrap();
        () = ask(&mut client, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.batch_put([("b", n), ("c", n)]).unwrap();
    }
    () = ask(&mut client, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
    assert_eq!(store.incr("n", 1).unwrap(), 1);
}

/// A put was frozen with its server or held in the network. Newer ones were acknowledged after it, and when
/// it came at last it brought the old value back. Nothing may be written before it is known to be gone.
fn a_late_put_never_wins(user: &str, freeze: impl Fn(bool), url: &str, client: &mut redis::Connection) {
    let store = open(&format!("redis://{user}{url}"), options()).unwrap();
    let mut value = 0;
    for _ in 0..3 {
        value += 1;
        store.put("v", value).unwrap();
        freeze(true);
        value += 1;
        let error = within(Duration::from_millis(500), || store.put("v", value).unwrap_err());
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        let error = within(Duration::from_millis(500), || store.put("v", value).unwrap_err());
        assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        freeze(false);
        value += 1;
        until("a newer put is acknowledged", || store.put("v", value).is_ok());
        for _ in 0..50 {
            let seen: i64 = ask(client, &["GET", "t:v"]);
            assert_eq!(seen, value, "an older put came back");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

const USERS: [&str; 3] = ["", "nokill:pw@", "noinfo:pw@"];

fn server_with_users() -> Server {
    let server = Server::start(&[]);
    let mut client = server.client();
    () = ask(&mut client, &["ACL", "SETUSER", "nokill", "on", ">pw", "~*", "+@all", "-client|kill"]);
    () = ask(&mut client, &["ACL", "SETUSER", "noinfo", "on", ">pw", "~*", "+@all", "-client"]);
    server
}

#[test]
fn a_put_frozen_with_its_server_never_overwrites_a_newer_one() {
    let server = server_with_users();
    let mut client = server.client();
    for user in USERS {
        let freeze = |on| server.signal(if on { "-STOP" } else { "-CONT" });
        a_late_put_never_wins(user, freeze, &format!("127.0.0.1:{}", server.port), &mut client);
    }
}

#[test]
fn a_put_held_in_the_network_never_overwrites_a_newer_one() {
    let server = server_with_users();
    let mut client = server.client();
    for user in USERS {
        let proxy = Proxy::to(server.port);
        let freeze = |on| proxy.set(if on { HOLD } else { PASS });
        a_late_put_never_wins(user, freeze, &proxy.address.to_string(), &mut client);
    }
}

/// The bytes of a put lie in the network while newer puts go by on another connection.
#[test]
fn bytes_that_arrive_after_newer_writes_do_nothing() {
    let server = server_with_users();
    let mut client = server.client();
    for user in USERS {
        let proxy = Proxy::to(server.port);
        let store = open(&format!("redis://{user}{}", proxy.address), options()).unwrap();
        store.put("v", 1).unwrap();
        proxy.hold_old();
        let error = store.put("v", 2).unwrap_err();
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        assert_eq!(store.get::<i64>("v").unwrap(), Some(1), "reads go on");
        if user.is_empty() {
            store.put("v", 3).unwrap();
            assert_eq!(ask::<i64>(&mut client, &["GET", "t:v"]), 3);
        } else {
            let error = store.put("v", 3).unwrap_err();
            assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        }
        proxy.release_old();
        if user.is_empty() {
            for _ in 0..50 {
                assert_eq!(ask::<i64>(&mut client, &["GET", "t:v"]), 3, "an older put came back");
                thread::sleep(Duration::from_millis(2));
            }
        }
        until("a newer put is acknowledged", || store.put("v", 4).is_ok());
        for _ in 0..50 {
            assert_eq!(ask::<i64>(&mut client, &["GET", "t:v"]), 4, "an older put came back");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn refused_connections_are_told_within_the_limit() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(server.port);
    let store = open(&proxy.url(), options()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(REFUSE);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1), "an open connection goes on");
    let error = within(Duration::from_millis(300), || open(&proxy.url(), options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_full_server_is_no_outage() {
    let server = Server::start(&["--maxmemory", "100kb", "--maxmemory-policy", "noeviction"]);
    let store = server.store(options());
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
    let server = Server::start(&[]);
    let mut client = server.client();
    let store = server.store(options().max_retries(1));
    store.put("a", 1).unwrap();
    () = ask(&mut client, &["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let error = store.put("a", 2).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap();
    assert!(matches!(store.write(&batch), Err(Error::Unavailable { maybe_applied: false, .. })));
    () = ask(&mut client, &["REPLICAOF", "NO", "ONE"]);
    store.put("a", 2).unwrap();
}

#[test]
fn a_loading_server_is_away() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    () = ask(&mut client, &["DEBUG", "POPULATE", "2000"]);
    () = ask(&mut client, &["SAVE"]);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    let port = free_port();
    let slow = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"];
    let loading = Server::start_on(port, &["--port", &port.to_string()], &slow, dir);
    let error = open(&loading.url(), options()).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store = open(&loading.url(), options().fallback(Fallback::Memory)).unwrap();
    assert!(matches!(store.status(), Status::Away { .. }));
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_unsupported_in_a_build_without_it() {
    let opened = open("rediss://127.0.0.1:1", options().fallback(Fallback::Memory));
    assert!(matches!(opened, Err(Error::Unsupported { .. })), "{opened:?}");
}

#[cfg(feature = "tls")]
#[test]
fn tls_trusts_the_given_certificates_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["good", "other"] {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status()
            .expect("this test needs openssl");
        assert!(made.success());
    }
    let (good, other) = (dir.path().join("good.crt"), dir.path().join("other.crt"));
    let port = free_port();
    let text = port.to_string();
    let place = ["--port", "0", "--tls-port", &text];
    let tls = ["--tls-cert-file", "good.crt", "--tls-key-file", "good.key", "--tls-ca-cert-file", "good.crt"];
    let tls = [&tls[..], &["--tls-auth-clients", "no"]].concat();
    let server = Server::start_on(port, &place, &tls, dir);
    let url = format!("rediss://127.0.0.1:{}", server.port);
    let options = options().connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(2));
    let store = open(&url, options.clone().tls_ca_file(good)).unwrap();
    store.put("a", vec![1; 100_000]).unwrap();
    assert_eq!(store.get::<Vec<i64>>("a").unwrap().unwrap().len(), 100_000);
    let opened = open(&url, options.clone().fallback(Fallback::Memory).tls_ca_file(other));
    assert!(matches!(opened, Err(Error::Server { .. })), "{opened:?}");
    let missing = options.tls_ca_file(std::path::PathBuf::from("/nonexistent.pem"));
    assert!(matches!(open(&url, missing), Err(Error::InvalidConfig { .. })));
}
