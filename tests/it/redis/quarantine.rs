//! Writes whose reply was lost: the store closes their connections, or keeps them in quarantine, so that such
//! a write never overtakes a newer one.

use std::thread;
use std::time::Duration;

use millpond::Error;

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, open, options, run_within, wait_for};

/// A put was delayed by a frozen server or by the network. Newer puts were acknowledged after it, and when it
/// finally arrived, it restored the old value. No write may be sent before such a put is known to have no
/// effect.
fn assert_late_put_never_wins(user: &str, freeze: impl Fn(bool), url: &str, raw: &RawClient) {
    let store = open(&format!("redis://{user}{url}"), options()).unwrap();
    let mut value = 0;
    for _ in 0..3 {
        value += 1;
        store.put("v", value).unwrap();
        freeze(true);
        value += 1;
        let error = run_within(LIMIT, || store.put("v", value).unwrap_err());
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        let error = run_within(LIMIT, || store.put("v", value).unwrap_err());
        assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        freeze(false);
        value += 1;
        wait_for("a newer put is acknowledged", || store.put("v", value).is_ok());
        for _ in 0..50 {
            let seen: i64 = raw.run("GET", &["t:v"]);
            assert_eq!(seen, value, "an older put overwrote a newer one");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn server_with_users() -> RedisServer {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    // Redis 6.2 can permit a subcommand, and cannot forbid one.
    raw.run::<_, ()>("ACL", &["SETUSER", "nokill", "on", ">pw", "~*", "+@all", "-client", "+client|info"]);
    raw.run::<_, ()>("ACL", &["SETUSER", "noinfo", "on", ">pw", "~*", "+@all", "-client"]);
    server
}

const USERS: [&str; 3] = ["", "nokill:pw@", "noinfo:pw@"];

#[test]
fn a_put_frozen_with_its_server_never_overwrites_a_newer_one() {
    let server = server_with_users();
    let raw = RawClient::connect(&server.url(0));
    for user in USERS {
        let freeze = |on| if on { server.pause() } else { server.resume() };
        assert_late_put_never_wins(user, freeze, &format!("127.0.0.1:{}", server.port()), &raw);
    }
}

#[test]
fn a_put_held_in_the_network_never_overwrites_a_newer_one() {
    let server = server_with_users();
    let raw = RawClient::connect(&server.url(0));
    for user in USERS {
        let proxy = Proxy::to(server.port());
        let freeze = |on| proxy.set(if on { Mode::Hold } else { Mode::Pass });
        assert_late_put_never_wins(user, freeze, &proxy.address().to_string(), &raw);
    }
}

/// The bytes of a put are still in the network while newer puts succeed on another connection.
#[test]
fn bytes_that_arrive_after_newer_writes_do_nothing() {
    let server = server_with_users();
    let raw = RawClient::connect(&server.url(0));
    for user in USERS {
        let proxy = Proxy::to(server.port());
        let store = open(&format!("redis://{user}{}", proxy.address()), options()).unwrap();
        store.put("v", 1).unwrap();
        proxy.hold_old();
        let error = store.put("v", 2).unwrap_err();
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        assert_eq!(store.get::<i64>("v").unwrap(), Some(1), "reads still work");
        if user.is_empty() {
            store.put("v", 3).unwrap();
            assert_eq!(raw.run::<_, i64>("GET", &["t:v"]), 3);
        } else {
            let error = store.put("v", 3).unwrap_err();
            assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        }
        proxy.release_old();
        if user.is_empty() {
            for _ in 0..50 {
                assert_eq!(raw.run::<_, i64>("GET", &["t:v"]), 3, "an older put overwrote a newer one");
                thread::sleep(Duration::from_millis(2));
            }
        }
        wait_for("a newer put is acknowledged", || store.put("v", 4).is_ok());
        for _ in 0..50 {
            assert_eq!(raw.run::<_, i64>("GET", &["t:v"]), 4, "an older put overwrote a newer one");
            thread::sleep(Duration::from_millis(2));
        }
    }
}
