//! `exactly_once` without a fallback: a call is repeated, and applied once.

use std::thread;
use std::time::Duration;

use millpond::{Error, RedisOptions};

use crate::support::proxied_server::call_script;
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, open, options, run_within, wait_for};

fn exactly_once() -> RedisOptions {
    options().exactly_once(true).retry_delay(Duration::from_millis(1))
}

fn reply_caches(raw: &RawClient) -> Vec<String> {
    raw.run("KEYS", &["t:__millpond:replies:*"])
}

#[test]
fn a_call_that_is_cut_is_repeated_and_applied_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    for way in [Way::Answer, Way::Request] {
        let store = open(&proxy.url(), exactly_once().pool_size(1)).unwrap();
        raw.flush();
        for (times, at) in (1..).zip(0..) {
            proxy.cut(way, at);
            assert_eq!(store.incr("n", 1).unwrap(), times);
            let was_cut = proxy.cancel_cut();
            assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), times);
            if !was_cut {
                break;
            }
        }
    }
}

/// As the documentation of the option says: nothing is queued, and the server is not asked later.
#[test]
fn a_call_whose_every_reply_is_lost_may_have_been_applied() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), exactly_once().fallback(millpond::Fallback::Memory)).unwrap();
    for store in [open(&proxy.url(), exactly_once()).unwrap(), store.without_fallback()] {
        store.incr("n", 1).unwrap();
        server.pause();
        let error = run_within(LIMIT, || store.incr("n", 1).unwrap_err());
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        server.resume();
        wait_for("the store works again", || store.incr("n", 1).is_ok());
    }
}

#[test]
fn a_call_waits_for_a_server_that_freezes_briefly() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let patient = exactly_once().timeout(Duration::from_secs(6)).connect_timeout(Duration::from_secs(2));
    let store = open(&proxy.url(), patient).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.incr("n", 1).unwrap();
    for times in 2..4_i64 {
        store.get_bytes("used just now").unwrap();
        thread::scope(|scope| {
            server.pause();
            let sent = || proxy.tried() + proxy.requests();
            let before = sent();
            let late = scope.spawn(|| store.incr("n", 1));
            wait_for("the first attempt has ended, and the second one has begun", || sent() > before + 1);
            server.resume();
            assert_eq!(late.join().unwrap().unwrap(), times);
        });
        assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), times);
    }
    assert!(store.stats().outages.killed_connections >= 2);
}

/// A command that was sent before may arrive late, from a connection that the server has not closed yet.
#[test]
fn a_late_call_is_refused_and_a_repeated_one_is_answered() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), exactly_once()).unwrap();
    for times in 1..4 {
        assert_eq!(store.incr("n", 1).unwrap(), times);
    }
    let notes = reply_caches(&raw).remove(0);
    let born: String = raw.run("HGET", &[notes.as_str(), "cache_id"]);
    let say = |born: &str, number: &str| -> redis::RedisResult<Vec<i64>> {
        let script = call_script();
        raw.ask("EVAL", &[&script, "2", &notes, "t:n", born, "1", number, "1", "", "INCRBY", "", "1", "1"])
    };
    assert_eq!(say(&born, "3").unwrap(), [3], "it gets the same reply as before");
    assert_eq!(say(&born, "2").unwrap_err().code(), Some("LATE"));
    assert_eq!(say("7", "4").unwrap_err().code(), Some("EVICTED"));
    assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), 3);
    store.close().unwrap();
    assert_eq!(say(&born, "4").unwrap_err().code(), Some("EVICTED"), "the server forgot the closed store");
    assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), 3);
}

#[test]
fn a_server_out_of_memory_refuses_before_any_change() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.batch_incr([("n", 1), ("n1", 1)]).unwrap();
    store.map_incr("m", "n", 1).unwrap();
    store.push_back_many("q", [1, 2, 3]).unwrap();
    let noted: Vec<Vec<u8>> = raw.run("HGETALL", &reply_caches(&raw));
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
    for error in [
        store.incr("n", 1).unwrap_err(),
        store.incr_with_ttl("new", 1, Duration::from_secs(9)).unwrap_err(),
        store.batch_incr([("n", 1), ("n1", 1)]).unwrap_err(),
        store.map_incr("m", "n", 1).unwrap_err(),
        store.push_back("q", 4).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Server { .. }), "{error:?}");
        let told = crate::support::chain(&error).join(": ");
        assert!(told.contains("OOM"), "{told}");
    }
    assert_eq!(raw.run::<_, Vec<Vec<u8>>>("HGETALL", &reply_caches(&raw)), noted);
    assert_eq!(raw.run::<_, Vec<Option<i64>>>("MGET", &["t:n", "t:n1", "t:new"]), [Some(1), Some(1), None]);
    assert_eq!(raw.run::<_, i64>("HGET", &["t:m", "n"]), 1);
    // An operation that removes data frees memory.
    assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(1));
    assert_eq!(store.pop_back::<i64>("q").unwrap(), Some(3));
    assert_eq!(store.pop_back::<i64>("none").unwrap(), None);
    let late = open(&server.url(0), exactly_once()).unwrap();
    assert_eq!(late.pop_front::<i64>("q").unwrap(), Some(2), "also for a new store");
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
    assert_eq!(store.incr("n", 1).unwrap(), 2);
    assert_eq!(late.push_back("q", 5).unwrap(), 1);
}

#[test]
fn a_read_only_server_refuses_to_pop_from_an_empty_queue() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once().max_retries(0)).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.incr("n", 1).unwrap();
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", "1"]);
    assert_error!(store.pop_front::<i64>("none"), Error::Unavailable { maybe_applied: false, .. });
    assert_error!(store.incr("n", 1), Error::Unavailable { maybe_applied: false, .. });
}

#[test]
fn scripts_that_the_server_forgets_are_sent_again() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    for times in 1..5_i64 {
        raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
        assert_eq!(store.incr("n", 1).unwrap(), times);
        raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
        assert_eq!(store.push_back("q", 1).unwrap(), times.unsigned_abs());
    }
}

/// It is deleted when the store is closed.
#[test]
fn the_reply_cache_is_a_small_hash_that_lives_for_a_month() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    assert!(reply_caches(&raw).is_empty(), "a store without calls has no reply cache");
    for n in 0..50 {
        store.push_back("q", n).unwrap();
        store.incr("n", 1).unwrap();
    }
    let key = reply_caches(&raw);
    assert_eq!(key.len(), 1);
    assert_eq!(raw.run::<_, i64>("HLEN", &key), 2, "its id, and one slot");
    let month = 30 * 24 * 3600;
    let left = |raw: &RawClient| raw.run::<_, i64>("TTL", &reply_caches(raw));
    assert!((month - 60..=month).contains(&left(&raw)));
    raw.run::<_, ()>("EXPIRE", &[key[0].as_str(), "1000"]);
    for _ in 0..256 {
        store.incr("n", 1).unwrap();
    }
    assert!(left(&raw) > 1000, "the time to live is renewed from time to time");
    assert_eq!(store.keys("").unwrap(), ["n", "q"]);
    assert_eq!(store.clear().unwrap(), 2);
    assert_eq!(reply_caches(&raw), key, "the reply cache is not an entry of the store");
    store.close().unwrap();
    assert!(reply_caches(&raw).is_empty());
}

#[test]
fn a_reply_cache_that_was_lost_is_created_again() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    for times in 1..10_i64 {
        assert_eq!(store.incr("n", 1).unwrap(), times);
        raw.run::<_, ()>("DEL", &reply_caches(&raw));
    }
}

/// Only the reply cache is gone. The first attempt may have been applied, and the server cannot know.
#[test]
fn a_retry_without_the_reply_cache_may_have_been_applied() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    for fallback in [millpond::Fallback::None, millpond::Fallback::Memory] {
        let store = open(&proxy.url(), exactly_once().fallback(fallback)).unwrap();
        let before = store.incr("n", 1).unwrap();
        thread::scope(|scope| {
            proxy.cut_and_set(Way::Answer, 0, Mode::Hold);
            let call = scope.spawn(|| store.incr("n", 1));
            wait_for("the reply is lost", || proxy.is_cut());
            raw.run::<_, ()>("DEL", &reply_caches(&raw));
            proxy.set(Mode::Pass);
            assert_error!(call.join().unwrap(), Error::Unavailable { maybe_applied: true, .. });
        });
        assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), before + 1);
        assert_eq!(store.incr("n", 1).unwrap(), before + 2);
        store.close().unwrap();
    }
}

#[test]
fn waiting_for_a_value_writes_nothing() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.incr("n", 1).unwrap();
    let written = || -> String {
        let info: String = raw.run("INFO", &["replication"]);
        let persistence: String = raw.run("INFO", &["persistence"]);
        let lines = info.lines().chain(persistence.lines());
        lines.filter(|line| line.starts_with("rdb_changes_since")).collect()
    };
    let before = written();
    assert_eq!(store.pop_front_wait::<i64>("q", Duration::from_millis(200)).unwrap(), None);
    assert_eq!(written(), before);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.pop_front_wait::<i64>("q", Duration::from_secs(10)));
        store.push_back("q", 7).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), Some(7));
    });
}

/// More values than fit on the stack of a script, and more than fit into one command.
#[test]
fn a_push_of_very_many_values_is_complete() {
    let server = RedisServer::start();
    let store = open(&server.url(0), exactly_once().timeout(Duration::from_secs(20))).unwrap();
    let raw = RawClient::connect(&server.url(0));
    for count in [3_999, 4_000, 4_001, 20_000_u64] {
        assert_eq!(store.push_back_many("q", 0..count).unwrap(), count);
        let found: Vec<u64> = raw.run("LRANGE", &["t:q", "0", "-1"]);
        assert!(found.into_iter().eq(0..count));
        store.delete("q").unwrap();
    }
    assert_eq!(store.push_back_many("q", 0..500_001_u64).unwrap(), 500_001);
}
