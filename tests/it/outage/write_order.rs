//! The order of writes to one key, whatever the server and the threads do at the same time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, StateStore};

use crate::support::Ending;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, pending, wait_for, wait_until_connected};

/// How long the longer tests run, in seconds.
fn seconds() -> Duration {
    let set = std::env::var("MILLPOND_TEST_SECONDS").ok();
    Duration::from_secs(set.and_then(|seconds| seconds.parse().ok()).unwrap_or(3))
}

/// Makes each of several threads write increasing numbers to keys of its own and read them back; returns the
/// last number of each key.
fn write_rising(stores: &[&StateStore], threads: usize, ending: &AtomicBool) -> HashMap<String, i64> {
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                let store = stores[thread % stores.len()];
                scope.spawn(move || {
                    let mut last = HashMap::new();
                    for n in 1.. {
                        if ending.load(Ordering::Relaxed) {
                            break;
                        }
                        let key = format!("k{}", thread * 50 + usize::try_from(n % 50).unwrap());
                        store.put(&key, n).unwrap();
                        assert_eq!(store.get::<i64>(&key).unwrap(), Some(n), "{key} has an older value");
                        last.insert(key, n);
                    }
                    last
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn the_replay_ends_even_if_threads_write_faster() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.put("k", 0).unwrap();
    proxy.set(Mode::Down);
    for n in 0..30_000 {
        store.put(format!("old{n}"), n).unwrap();
    }
    assert_eq!(pending(&store), Some(30_000));
    let ending = AtomicBool::new(false);
    let fresh = AtomicU64::new(0);
    thread::scope(|scope| {
        let _ending = Ending(&ending);
        let keys = scope.spawn(|| write_rising(&[&store], 4, &ending));
        for _ in 0..6 {
            // Each of these is a separate operation in the queue.
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    store.push_back(format!("q{}", fresh.fetch_add(1, Ordering::Relaxed)), 1).unwrap();
                }
            });
        }
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        ending.store(true, Ordering::Relaxed);
        let raw = RawClient::connect(&server.url(0));
        for (key, last) in keys.join().unwrap() {
            assert_eq!(raw.get(&format!("t:{key}")), Some(last.to_string().into_bytes()));
        }
    });
    let raw = RawClient::connect(&server.url(0));
    for n in 0..fresh.load(Ordering::Relaxed) {
        assert_eq!(raw.run::<_, u64>("LLEN", &[format!("t:q{n}")]), 1);
    }
    assert_eq!(raw.get("t:old29999").as_deref(), Some(&b"29999"[..]));
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

/// A write that timed out is still in the network, arrives after newer ones, and restores the old value: an
/// independent client checks that no value ever decreases.
#[test]
fn a_late_write_never_overwrites_a_newer_one() {
    const KEYS: usize = 50;
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let ending = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ending = Ending(&ending);
        let watcher = scope.spawn(|| {
            let raw = RawClient::connect(&server.url(0));
            let mut last = [0_i64; KEYS];
            let names: Vec<String> = (0..KEYS).map(|key| format!("t:h{key}")).collect();
            while !ending.load(Ordering::Relaxed) {
                let found: Vec<Option<i64>> = raw.run("MGET", &names);
                for ((name, last), found) in names.iter().zip(&mut last).zip(found) {
                    let found = found.unwrap_or(0);
                    assert!(found >= *last, "{name} decreased from {last} to {found}");
                    *last = found;
                }
            }
        });
        let writers: Vec<_> = (0..5)
            .map(|writer| {
                let (store, ending) = (&store, &ending);
                scope.spawn(move || {
                    let mut n = 0_i64;
                    while !ending.load(Ordering::Relaxed) {
                        n += 1;
                        for key in (0..KEYS).filter(|key| key % 5 == writer) {
                            // One slow connection is no outage; its operation reports a lost reply.
                            while let Err(error) = store.put(format!("h{key}"), n) {
                                assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
                            }
                        }
                    }
                    n
                })
            })
            .collect();
        let begun = Instant::now();
        for round in 0.. {
            if begun.elapsed() > seconds() {
                break;
            }
            let asked = proxy.requests();
            wait_for("the connections are in use", || proxy.requests() > asked + 50);
            let count = || store.stats().outages.killed_connections + store.stats().outages.outages;
            let before = count();
            proxy.hold_old();
            if round % 2 == 0 {
                proxy.set(Mode::Refuse);
                wait_for("the store is disconnected", || pending(&store).is_some());
                proxy.set(Mode::Pass);
            } else {
                // On a busy machine this may count as an outage, too.
                wait_for("a late write is in quarantine", || count() > before);
            }
            wait_until_connected(&store);
            proxy.release_old();
        }
        ending.store(true, Ordering::Relaxed);
        let numbers: Vec<i64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        watcher.join().unwrap();
        wait_until_connected(&store);
        let raw = RawClient::connect(&server.url(0));
        for key in 0..KEYS {
            assert_eq!(raw.run::<_, i64>("GET", &[format!("t:h{key}")]), numbers[key % 5]);
        }
    });
    let counts = store.stats().outages;
    assert!(counts.outages > 0 && counts.killed_connections > 0, "{counts:?}");
}

/// Nor do they cause a storm of connections.
#[test]
fn frequent_outages_lose_and_double_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let ending = AtomicBool::new(false);
    let (sure, unsure) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut flaps = 0;
    thread::scope(|scope| {
        let _ending = Ending(&ending);
        let keys = scope.spawn(|| write_rising(&[&store], 4, &ending));
        scope.spawn(|| {
            while !ending.load(Ordering::Relaxed) {
                match store.incr("n", 1) {
                    Ok(_) => sure.fetch_add(1, Ordering::Relaxed),
                    Err(Error::Unavailable { maybe_applied: true, .. }) => {
                        unsure.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => panic!("{error:?}"),
                };
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < seconds() {
            proxy.set(Mode::Down);
            thread::sleep(Duration::from_millis(50));
            proxy.set(Mode::Pass);
            thread::sleep(Duration::from_millis(50));
            flaps += 1;
        }
        ending.store(true, Ordering::Relaxed);
        let keys = keys.join().unwrap();
        wait_until_connected(&store);
        let raw = RawClient::connect(&server.url(0));
        for (key, last) in keys {
            assert_eq!(raw.get(&format!("t:{key}")), Some(last.to_string().into_bytes()), "{key}");
        }
    });
    let found = store.get::<u64>("n").unwrap().unwrap_or(0);
    let (sure, unsure) = (sure.into_inner(), unsure.into_inner());
    assert!((sure..=sure + unsure).contains(&found), "{found} of {sure} to {}", sure + unsure);
    let stats = store.stats().outages;
    assert!(stats.outages > 0, "{stats:?}");
    assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0));
    // After each outage each thread may open a connection, and the backoff of the probe begins again.
    assert!(proxy.tried() < flaps * 40, "{} connections in {flaps} turns", proxy.tried());
}

/// A thread that noticed the end of one outage late began a second outage. The numbers of its queue were
/// lower than the server's marker, which was taken for an old copy of the files: the store never reconnected.
#[test]
fn outages_that_follow_each_other_closely_all_end() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let options = memory().timeout(Duration::from_millis(100)).connect_timeout(Duration::from_millis(50));
    let store = open(&proxy.url(), options).unwrap();
    let ending = AtomicBool::new(false);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    thread::scope(|scope| {
        let _ending = Ending(&ending);
        for thread in 0..8 {
            let (store, ending) = (&store, &ending);
            scope.spawn(move || {
                for n in 0.. {
                    if ending.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = store.put(format!("k{thread}:{}", n % 10), n);
                    assert!(matches!(outcome, Ok(()) | Err(Error::Unavailable { .. })), "{outcome:?}");
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < seconds() {
            proxy.set(Mode::Hold);
            wait_for("the store is disconnected", || pending(&store).is_some());
            thread::sleep(Duration::from_millis(random.u64(..40)));
            proxy.set(Mode::Pass);
            wait_until_connected(&store);
        }
    });
    assert!(store.stats().outages.outages > 3, "{:?}", store.stats());
}
