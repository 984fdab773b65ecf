//! How a store waits for a Redis server, and which connections it uses for that.

use std::time::{Duration, Instant};

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{self, LIMIT, options, run_within};
use crate::support::shared_server::SharedServer;
use crate::support::wait_until;
use millpond::{Error, Fallback, RedisOptions, StateBackend, StateConfig, StateStore, Status};

const LONG: Duration = Duration::from_secs(60);

/// How often a server was sent a command.
fn calls(raw: &RawClient, command: &str) -> u64 {
    let told: String = raw.run("INFO", &["commandstats"]);
    let begin = format!("cmdstat_{command}:calls=");
    let count = told.lines().find_map(|line| line.strip_prefix(&begin)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

fn open(server: &RedisServer) -> (RawClient, StateStore) {
    let url = server.url(0);
    let raw = RawClient::connect(&url);
    let backend = StateBackend::redis(url).key_prefix("p");
    let redis = RedisOptions::default().fallback(Fallback::None);
    (raw, StateStore::with_config(StateConfig::default().backend(backend).redis(redis)).unwrap())
}

/// The pool for waiting once never had a free place, and every wait polled the queue with LPOP.
#[test]
fn a_pop_waits_in_the_server() {
    let server = RedisServer::start();
    let (raw, store) = open(&server);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.pop_front_wait::<i32>("q", LONG).unwrap());
        let blocked = || raw.run::<_, String>("INFO", &["clients"]).contains("blocked_clients:1");
        wait_until("the pop waits in the server", Duration::from_secs(10), blocked);
        store.push_back("q", 7).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(7));
    });
    let before = calls(&raw, "lpop");
    assert_eq!(store.pop_front_wait::<i32>("q", Duration::from_millis(300)).unwrap(), None);
    assert_eq!(calls(&raw, "lpop"), before);
}

/// Each operation within the closure of a transaction once opened a connection of its own and closed it
/// again, although the pool had room.
#[test]
fn the_store_within_a_transaction_uses_the_pool() {
    let server = RedisServer::start();
    let (raw, store) = open(&server);
    let dialled = || {
        let told: String = raw.run("INFO", &["stats"]);
        let count = told.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().parse::<u64>().unwrap()
    };
    store.put("other", 1).unwrap();
    let before = dialled();
    store
        .transaction(|tx| {
            tx.get::<i32>("mine")?;
            for _ in 0..20 {
                store.get::<i32>("other")?;
            }
            tx.put("mine", 1)
        })
        .unwrap();
    assert!(dialled() <= before + 1, "{} connections", dialled() - before);
}

/// A wait ends at its timeout, whatever the server does.
#[test]
fn a_wait_on_a_frozen_server_ends_at_its_timeout() {
    let server = RedisServer::start();
    let (_raw, store) = open(&server);
    let wait = Duration::from_millis(50);
    assert_eq!(store.pop_front_wait::<i32>("q", wait).unwrap(), None);
    assert!(store.lease_wait::<i32>("q", LONG, wait).unwrap().is_none());
    server.pause();
    let begun = Instant::now();
    store.pop_front_wait::<i32>("q", wait).unwrap_err();
    let popped = begun.elapsed();
    store.lock("l", LONG, wait).unwrap_err();
    let locked = begun.elapsed().saturating_sub(popped);
    server.resume();
    let most = Duration::from_secs(1);
    assert!(popped < most && locked < most, "{popped:?}, {locked:?}");
    crate::support::redis_stores::wait_until_connected(&store);
    // The time spent on the frozen server does not reduce the time of later calls.
    store.push_back("q", 1).unwrap();
    assert_eq!(store.pop_front_wait::<i32>("q", wait).unwrap(), Some(1));
}

#[test]
fn many_threads_wait_on_few_connections_and_get_each_value_once() {
    const MANY: i32 = 1000;
    let server = SharedServer::new();
    let backend = StateBackend::redis(server.url).key_prefix("p");
    let redis = RedisOptions::default().fallback(Fallback::None).pool_size(2).wait_connections(2);
    let store = StateStore::with_config(StateConfig::default().backend(backend).redis(redis)).unwrap();
    let mut popped = std::thread::scope(|scope| {
        let pop = || {
            let mut popped = Vec::new();
            while let Some(number) = store.pop_front_wait::<i32>("q", LONG).unwrap()
                && number >= 0
            {
                popped.push(number);
            }
            popped
        };
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(pop)).collect();
        for number in 0..MANY {
            store.push_back("q", number).unwrap();
        }
        store.push_back_many("q", [-1; 12]).unwrap();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    popped.sort_unstable();
    assert_eq!(popped, (0..MANY).collect::<Vec<_>>());
}

/// Each read comes in time, and all of them together do not.
#[test]
fn the_reads_of_a_transaction_share_one_limit() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = redis_stores::open(&proxy.url(), options()).unwrap();
    for n in 0..20 {
        store.put(format!("k{n}"), n).unwrap();
    }
    proxy.set(Mode::Drip(Duration::from_millis(10)));
    let mut reads = 0;
    run_within(2 * LIMIT, || {
        let outcome = store.transaction(|tx| {
            for n in 0..20 {
                tx.get::<i64>(&format!("k{n}"))?;
                reads += 1;
            }
            tx.put("done", true)
        });
        assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
    });
    assert!(reads < 20, "{reads}");
    proxy.set(Mode::Pass);
    wait_until("the store is connected", LONG, || store.status() == Status::Connected);
    assert!(!store.contains("done").unwrap());
}

/// Some of them find out for all whether the server still serves.
#[test]
fn each_of_many_threads_ends_within_the_limit() {
    let server = RedisServer::start();
    for fallback in [Fallback::None, Fallback::Memory] {
        let store = redis_stores::open(&server.url(0), options().pool_size(4).fallback(fallback)).unwrap();
        store.put("a", 1).unwrap();
        server.pause();
        std::thread::scope(|scope| {
            for n in 0..40 {
                let store = &store;
                scope.spawn(move || {
                    // Whether it is served or refused is the business of other tests.
                    run_within(LIMIT, || drop(store.put(format!("k{n}"), n)));
                    run_within(LIMIT, || drop(store.incr("n", 1)));
                });
            }
        });
        server.resume();
        wait_until("the store is connected", LONG, || store.status() == Status::Connected);
    }
}
