//! Queues on a server: values that other programs pushed, leases that run out, and waiting, even if the
//! server fails.

use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, StateStore, Ttl};

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, open, options, run_within, wait_for};
use crate::support::shared_server::SharedServer;

const MINUTE: Duration = Duration::from_secs(60);

/// A longer timeout than any test needs.
const LONG: Duration = Duration::from_secs(20);

const LEASES: &str = "t:q:__millpond:leases";
const LEASED: &str = "t:q:__millpond:leased";
const RETURNED: &str = "t:q:__millpond:returned";

impl SharedServer {
    /// Makes all leases of the queue `q` expire.
    fn lapse(&self) {
        let ids: Vec<String> = self.raw.run("ZRANGE", &[LEASES, "0", "-1"]);
        for id in ids {
            self.raw.run::<_, i64>("ZADD", &[LEASES, "XX", "0", &id]);
        }
    }

    fn queue(&self) -> Vec<i64> {
        self.raw.run("LRANGE", &["t:q", "0", "-1"])
    }
}

#[test]
fn a_lease_is_stored_beside_the_queue_until_done() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.push_back_many("q", [1, 2]).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    assert_eq!((*taken.value(), server.queue()), (1, vec![2]));
    let items: Vec<(String, i64)> = server.raw.run("HGETALL", &[LEASED]);
    let scores: Vec<(String, f64)> = server.raw.run("ZRANGE", &[LEASES, "0", "-1", "WITHSCORES"]);
    let now: (u64, u64) = server.raw.run::<&str, _>("TIME", &[]);
    assert_eq!((items.len(), items[0].1), (1, 1));
    assert_eq!(items[0].0, scores[0].0);
    assert_eq!(server.raw.get("t:__millpond:fence").unwrap(), scores[0].0.as_bytes());
    let left = scores[0].1 / 1e6 - f64::from(u32::try_from(now.0).unwrap());
    assert!((50.0..=61.0).contains(&left), "{left}");
    assert!(taken.ack().unwrap());
    assert!(!taken.ack().unwrap());
    assert!(!server.raw.exists(LEASES) && !server.raw.exists(LEASED));
    let taken = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    assert!(!server.raw.exists("t:q") && store.lease::<i64>("q", MINUTE).unwrap().is_none());
    assert!(taken.nack().unwrap());
    assert!(!taken.nack().unwrap());
    assert_eq!(server.queue(), [2]);
}

/// The order is the one in which the values were taken.
#[test]
fn expired_leases_return_values_to_the_front_in_order() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.push_back_many("q", 0..5).unwrap();
    // The later leases run out first.
    let taken: Vec<_> = [50, 40, 30, 20]
        .map(|seconds| store.lease::<i64>("q", Duration::from_secs(seconds)).unwrap().unwrap())
        .into();
    server.lapse();
    assert_eq!(store.queue_len("q").unwrap(), 1, "only a take brings the value back");
    assert!(taken[1].ack().unwrap(), "the value was not leased again");
    let again = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    assert_eq!((*again.value(), server.queue()), (0, vec![2, 3, 4]));
    assert!(!taken[0].ack().unwrap() && !taken[2].nack().unwrap());
    assert!(again.ack().unwrap());
    assert_eq!(server.queue(), [2, 3, 4]);
}

#[test]
fn a_value_whose_lease_runs_out_goes_to_a_waiting_client() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.push_back("q", 7).unwrap();
    let first = store.lease::<i64>("q", Duration::from_millis(50)).unwrap().unwrap();
    let second = store.lease_wait::<i64>("q", MINUTE, LONG).unwrap().unwrap();
    assert_eq!(*second.value(), 7);
    assert!(!first.ack().unwrap());
    assert!(second.ack().unwrap());
    assert!(store.lease_wait::<i64>("q", MINUTE, Duration::from_millis(20)).unwrap().is_none());
}

#[test]
fn another_kind_under_the_key_leaves_leases_unchanged() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.push_back_many("q", [1, 2]).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    store.put("q", "a value").unwrap();
    server.lapse();
    assert_error!(store.lease::<i64>("q", MINUTE), Error::WrongType { key, .. } if key == "q");
    assert_error!(taken.nack(), Error::WrongType { .. });
    assert_eq!(server.raw.run::<_, i64>("ZCARD", &[LEASES]), 1);
    assert_eq!(store.get::<String>("q").unwrap().as_deref(), Some("a value"));
    store.delete("q").unwrap();
    assert!(taken.nack().unwrap());
    assert_eq!(server.queue(), [1]);
}

#[test]
fn a_queue_recreated_by_a_lease_has_the_default_ttl() {
    let server = SharedServer::new();
    let store = server.with_default_ttl("t");
    let has_ttl = || matches!(store.ttl("q").unwrap(), Some(Ttl::In(_)));
    store.push_back_many("q", [1, 2]).unwrap();
    assert!(has_ttl());
    let [first, second] = [(); 2].map(|()| store.lease::<i64>("q", MINUTE).unwrap().unwrap());
    assert!(!server.raw.exists("t:q"));
    assert!(second.nack().unwrap());
    assert!(has_ttl());
    store.persist("q").unwrap();
    server.lapse();
    assert_eq!(*store.lease::<i64>("q", MINUTE).unwrap().unwrap().value(), *first.value());
    assert_eq!(store.ttl("q").unwrap(), Some(Ttl::Never), "the queue existed before");
    store.delete("q").unwrap();
    server.lapse();
    store.push_back("other", 1).unwrap();
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_some());
    assert!(!server.raw.exists("t:q"), "the last value was taken");
}

#[test]
fn clear_drops_leases_and_keeps_locks_and_the_fence() {
    let server = SharedServer::new();
    let store = server.store("t");
    let inner = store.namespace("q");
    store.push_back("q", 1).unwrap();
    inner.push_back("a", 1).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    let other = inner.lease::<i64>("a", MINUTE).unwrap().unwrap();
    let guard = store.try_lock("l", MINUTE).unwrap().unwrap();
    store.put("k", 1).unwrap();
    assert_eq!(store.keys("").unwrap(), ["k"]);
    assert_eq!(inner.clear().unwrap(), 0);
    assert!(!other.ack().unwrap(), "its queue was in the namespace");
    assert!(server.raw.exists(LEASES), "this one is not in the namespace of its name");
    assert_eq!(store.clear().unwrap(), 1);
    assert!(!taken.nack().unwrap());
    assert_eq!(server.raw.all_keys(), [&b"t:__millpond:fence"[..], b"t:l:__millpond:lock"]);
    assert!(guard.is_held().unwrap());
}

#[test]
fn lease_names_grow_from_the_fence_whatever_it_holds() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.push_back_many("q", 0..3).unwrap();
    server.raw.set("t:__millpond:fence", "9007199254740000");
    let _taken = [(); 2].map(|()| store.lease::<i64>("q", MINUTE).unwrap());
    let ids: Vec<String> = server.raw.run("ZRANGE", &[LEASES, "0", "-1"]);
    assert_eq!(ids, ["9007199254740001", "9007199254740002"]);
    server.raw.set("t:__millpond:fence", "nonsense");
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_some());
}

#[test]
fn a_server_out_of_memory_loses_no_value() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    store.push_back_many("q", [1, 2]).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
    let told = |error: Error| crate::support::chain(&error).concat().contains("OOM");
    assert!(told(store.lease::<i64>("q", MINUTE).unwrap_err()));
    assert!(told(taken.nack().unwrap_err()));
    assert!(told(store.try_lock("l", MINUTE).unwrap_err()));
    assert!(told(store.lock("l", MINUTE, MINUTE).unwrap_err()));
    assert!(told(store.push_back("q", 1).unwrap_err()));
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [2]);
    assert!(taken.nack().unwrap());
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [1, 2]);
    assert!(store.try_lock("l", MINUTE).unwrap().is_some());
}

/// Waits for a value in another thread.
fn spawn_pop<'s>(
    scope: &'s thread::Scope<'s, '_>,
    store: &'s StateStore,
    timeout: Duration,
) -> thread::ScopedJoinHandle<'s, millpond::Result<Option<i64>>> {
    scope.spawn(move || store.pop_front_wait::<i64>("q", timeout))
}

fn blocked_clients(raw: &RawClient) -> usize {
    let clients: String = raw.run("CLIENT", &["LIST"]);
    clients.lines().filter(|line| line.contains("cmd=blpop") && line.contains("flags=b")).count()
}

#[test]
fn a_push_or_a_timeout_ends_a_wait() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options().pool_size(1)).unwrap();
    for timeout in [0, 1, 2, 3, 40] {
        let timeout = Duration::from_millis(timeout);
        let begun = Instant::now();
        assert_eq!(run_within(timeout + LIMIT, || store.pop_front_wait::<i64>("q", timeout)).unwrap(), None);
        assert!(begun.elapsed() >= timeout.saturating_sub(Duration::from_millis(2)));
    }
    // Longer than one BLPOP.
    let begun = Instant::now();
    let timeout = Duration::from_millis(1200);
    assert_eq!(run_within(timeout + LIMIT, || store.pop_front_wait::<i64>("q", timeout)).unwrap(), None);
    assert!(begun.elapsed() >= timeout);
    for timeout in [LONG, Duration::MAX] {
        thread::scope(|scope| {
            let waiting = spawn_pop(scope, &store, timeout);
            wait_for("a client waits", || blocked_clients(&raw) == 1);
            run_within(LIMIT, || store.push_back("q", 7)).unwrap();
            assert_eq!(run_within(LIMIT, || waiting.join().unwrap()).unwrap(), Some(7));
        });
    }
    store.push_back("q", 8).unwrap();
    assert_eq!(store.pop_front_wait::<i64>("q", LONG).unwrap(), Some(8));
    assert!(!raw.exists("t:q"));
}

#[test]
fn more_threads_may_wait_than_there_are_connections() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options().pool_size(2).wait_connections(2)).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..6).map(|_| spawn_pop(scope, &store, LONG)).collect();
        wait_for("two of them are blocked", || blocked_clients(&raw) == 2);
        store.push_back_many("q", 0..6).unwrap();
        let mut found: Vec<_> =
            waiting.into_iter().map(|thread| thread.join().unwrap().unwrap().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_wait_on_another_kind_is_an_error() {
    let server = SharedServer::new();
    let store = server.store("t");
    store.put("q", 1).unwrap();
    let error = assert_error!(store.pop_front_wait::<i64>("q", LONG), Error::WrongType { .. });
    assert_eq!(error.to_string(), "wrong kind under key \"q\": expected a queue, found a value");
    assert_error!(store.pop_front_wait::<i64>("q", Duration::ZERO), Error::WrongType { .. });
}

#[test]
fn a_wait_continues_after_another_client_ends_it() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    thread::scope(|scope| {
        let waiting = spawn_pop(scope, &store, LONG);
        for how in ["TIMEOUT", "ERROR"] {
            wait_for("the blocked client is released", || {
                let clients: String = raw.run("CLIENT", &["LIST"]);
                let line = clients.lines().find(|line| line.contains("cmd=blpop")).unwrap_or_default();
                let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next());
                id.is_some_and(|id| raw.run::<_, i64>("CLIENT", &["UNBLOCK", id, how]) == 1)
            });
        }
        wait_for("the store waits again", || blocked_clients(&raw) == 1);
        raw.run::<_, ()>("RPUSH", &["t:q", "7"]);
        assert_eq!(waiting.join().unwrap().unwrap(), Some(7));
    });
}

#[test]
fn closing_the_store_ends_waits_soon() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    let guard = store.try_lock("l", LONG).unwrap().unwrap();
    thread::scope(|scope| {
        let popping = spawn_pop(scope, &store, LONG);
        let taking = scope.spawn(|| store.lease_wait::<i64>("q", MINUTE, LONG).map(drop));
        let locking = scope.spawn(|| store.lock("l", MINUTE, LONG).map(drop));
        wait_for("one thread waits for a value", || blocked_clients(&raw) == 1);
        wait_for("one thread waits for the lock", || raw.exists("t:l:__millpond:lock_queue"));
        store.close().unwrap();
        run_within(Duration::from_secs(3), || {
            for outcome in
                [popping.join().unwrap().map(drop), taking.join().unwrap(), locking.join().unwrap()]
            {
                let error = assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
                assert!(!error.is_transient(), "{error:?}");
            }
        });
    });
    drop(guard);
}

#[test]
fn a_server_that_dies_or_refuses_ends_a_wait() {
    let mut server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    proxy.set(Mode::Refuse);
    let refused = run_within(LIMIT, || store.pop_front_wait::<i64>("q", LONG));
    assert_error!(refused, Error::Unavailable { maybe_applied: false, .. });
    proxy.set(Mode::Pass);
    crate::support::redis_stores::wait_until_connected(&store);
    thread::scope(|scope| {
        let waiting = spawn_pop(scope, &store, LONG);
        wait_for("a client waits", || blocked_clients(&raw) == 1);
        server.kill();
        let outcome = run_within(LIMIT, || waiting.join().unwrap());
        assert_error!(outcome, Error::Unavailable { maybe_applied: true, .. });
    });
}

#[test]
fn a_frozen_server_ends_a_wait_in_time_and_pops_nothing() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    let timeout = Duration::from_millis(300);
    for before in [true, false] {
        thread::scope(|scope| {
            if before {
                server.pause();
            }
            let begun = Instant::now();
            let waiting = spawn_pop(scope, &store, timeout);
            if !before {
                wait_for("a client waits", || blocked_clients(&raw) == 1);
                server.pause();
            }
            let outcome = waiting.join().unwrap();
            assert!(begun.elapsed() < timeout + LIMIT, "{:?}", begun.elapsed());
            let may_have_popped = !before;
            match outcome {
                Err(Error::Unavailable { maybe_applied, .. }) => {
                    assert!(maybe_applied || !may_have_popped);
                }
                other => panic!("{other:?}"),
            }
        });
        server.resume();
        wait_for("the server answers", || store.push_back("q", 7).is_ok());
        assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(7), "the earlier wait popped nothing");
        assert_eq!(store.queue_len("q").unwrap(), 0);
    }
}

/// Commands of others, and the values that are leased after them, each with its number.
type Case = (&'static [&'static [&'static str]], &'static [(i64, u64)]);

/// What others do to the list never gives a value the number of another one.
#[test]
fn attempts_stay_right_whatever_others_do_to_the_list() {
    let cases: [Case; 9] = [
        (&[], &[(1, 2), (2, 1), (3, 1)]),
        (&[&["LPOP", "t:q"]], &[(2, 1), (3, 1)]),
        (&[&["LPOP", "t:q"], &["RPUSH", "t:q", "4"]], &[(2, 1), (3, 1), (4, 1)]),
        (&[&["RPUSH", "t:q", "4", "5"]], &[(1, 2), (2, 1), (3, 1), (4, 1), (5, 1)]),
        (&[&["LPUSH", "t:q", "9"]], &[(9, 1), (1, 2), (2, 1), (3, 1)]),
        (&[&["LPUSH", "t:q", "9"], &["RPUSH", "t:q", "4"]], &[(9, 1), (1, 2), (2, 1), (3, 1), (4, 1)]),
        (&[&["LTRIM", "t:q", "1", "-1"]], &[(2, 1), (3, 1)]),
        (&[&["DEL", "t:q"], &["RPUSH", "t:q", "5", "6"]], &[(5, 1), (6, 1)]),
        (&[&["DEL", "t:q"], &["RPUSH", "t:q", "5", "6", "7", "1"]], &[(5, 1), (6, 1), (7, 1), (1, 1)]),
    ];
    for (commands, expected) in cases {
        let server = SharedServer::new();
        let store = server.store("t");
        store.push_back_many("q", [1, 2, 3]).unwrap();
        assert!(store.lease::<i64>("q", MINUTE).unwrap().unwrap().nack().unwrap());
        for command in commands {
            server.raw.run::<_, redis::Value>(command[0], &command[1..]);
        }
        let leases = std::iter::from_fn(|| store.lease::<i64>("q", MINUTE).unwrap());
        let counted: Vec<_> = leases.map(|leased| (*leased.value(), leased.attempts())).collect();
        assert_eq!(counted, expected, "{commands:?}");
        assert!(!server.raw.exists(RETURNED), "{commands:?}");
    }
}

#[test]
fn there_are_never_more_records_of_returned_values_than_values() {
    let server = SharedServer::new();
    let store = server.store("t");
    for number in 0..100 {
        store.push_back_many("q", [number, -number]).unwrap();
        assert!(store.lease::<i64>("q", MINUTE).unwrap().unwrap().nack().unwrap());
        server.raw.run::<_, Vec<i64>>("RPOP", &["t:q", "2"]);
        store.push_back("q", number).unwrap();
        assert!(store.lease::<i64>("q", MINUTE).unwrap().unwrap().nack().unwrap());
        let (records, values): (i64, i64) =
            (server.raw.run("LLEN", &[RETURNED]), server.raw.run("LLEN", &["t:q"]));
        assert!(records <= values, "{records} records of {values} values");
        server.raw.run::<_, Option<i64>>("LPOP", &["t:q"]);
    }
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    assert!(!server.raw.exists(RETURNED));
}
