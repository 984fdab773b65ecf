//! All entries of a server as of one instant, while other clients write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use millpond::{Error, ExportOptions, Isolation, StateStore};
use serde_json::Value;

use crate::support::backends::HOUR;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options, patient};
use crate::support::seeds::any_seeds;

/// How many pairs of keys are changed together.
const PAIRS: usize = 1000;
const WRITERS: usize = 8;

/// Returns the lines of an export by key, and for which writers it is from one instant.
fn exported(store: &StateStore) -> (BTreeMap<String, Value>, Isolation) {
    let mut text = Vec::new();
    let exported = store.export(&mut text, &ExportOptions::new()).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let entries = lines.filter_map(|line| Some((line.get("k")?.as_str()?.to_owned(), line)));
    (entries.collect(), exported.isolation)
}

/// Runs `work` while other threads repeat `step`, each with its number and that of the repetition.
fn meanwhile<T>(threads: usize, step: impl Fn(usize, u64) + Sync, work: impl FnOnce() -> T) -> T {
    let end = AtomicBool::new(false);
    let seed = any_seeds(1).next().unwrap();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (end, step) = (&end, &step);
            scope.spawn(move || {
                fastrand::seed(seed + thread as u64);
                for repetition in 0.. {
                    if end.load(Ordering::Relaxed) {
                        return;
                    }
                    step(thread, repetition);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        end.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn connections(server: &RedisServer, count: usize) -> Vec<Mutex<redis::Connection>> {
    let client = redis::Client::open(server.url(0)).unwrap();
    (0..count).map(|_| Mutex::new(client.get_connection().unwrap())).collect()
}

/// Runs `work` while other clients transfer: each of their transactions raises a key, its twin and the total.
fn while_transferring<T>(server: &RedisServer, work: impl FnOnce() -> T) -> T {
    let connections = connections(server, WRITERS);
    let transfer = |writer: usize, _| {
        let pair = fastrand::usize(..PAIRS);
        let mut transfer = redis::pipe();
        transfer.atomic().incr(format!("t:a:{pair}"), 1).incr(format!("t:b:{pair}"), 1).incr("t:total", 1);
        transfer.exec(&mut *connections[writer].lock().unwrap()).unwrap();
    };
    meanwhile(WRITERS, transfer, work)
}

fn check_transfers(entries: &BTreeMap<String, Value>) -> i64 {
    let number = |key: &str| entries.get(key).map_or(0, |line| line["v"].as_i64().unwrap());
    let mut sum = 0;
    for pair in 0..PAIRS {
        let (a, b) = (number(&format!("a:{pair}")), number(&format!("b:{pair}")));
        assert_eq!(a, b, "pair {pair}");
        sum += a;
    }
    assert_eq!(sum, number("total"));
    sum
}

/// Returns a store whose user may send all commands except those of CLIENT that are not named.
fn store_with(server: &RedisServer, client: &[&str]) -> StateStore {
    let raw = RawClient::connect(&server.url(0));
    let mut rules: Vec<&str> = vec!["SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-client"];
    rules.extend(client);
    raw.run::<_, ()>("ACL", &rules);
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    open(&url, patient(options())).unwrap()
}

const TRACKING: &[&str] = &["+client|info", "+client|kill", "+client|tracking"];

fn transfers_are_whole(server: &RedisServer, store: &StateStore, cuts: usize) {
    let begun = Instant::now();
    let sums = while_transferring(server, || {
        (0..cuts)
            .map(|_| {
                let (entries, isolation) = exported(store);
                assert_eq!(isolation, Isolation::Exact);
                check_transfers(&entries)
            })
            .collect::<Vec<_>>()
    });
    assert!(sums.is_sorted() && sums[0] < sums[cuts - 1], "{sums:?}");
    println!("{cuts} cuts in {:?}, {} transfers", begun.elapsed(), sums[cuts - 1]);
}

#[test]
fn a_cut_splits_no_transaction_of_another_client() {
    let server = RedisServer::start();
    transfers_are_whole(&server, &open(&server.url(0), patient(options())).unwrap(), 50);
}

#[test]
fn a_user_that_may_not_hold_back_writers_gets_cuts_of_one_instant() {
    let server = RedisServer::start();
    transfers_are_whole(&server, &store_with(&server, TRACKING), 50);
}

#[test]
fn a_user_whom_the_server_does_not_tell_learns_that_the_cut_may_be_mixed() {
    let server = RedisServer::start();
    let store = store_with(&server, &["+client|info", "+client|kill"]);
    store.put("a", 1).unwrap();
    store.push_back("q", 1).unwrap();
    let (entries, isolation) = exported(&store);
    assert_eq!((entries.len(), isolation), (2, Isolation::Process));
}

/// Returns the ids of the connections that are told of changes.
fn tracked(raw: &RawClient) -> Vec<u64> {
    let list: String = raw.run("CLIENT", &["LIST"]);
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let is_tracked = |line: &&str| field(line, "flags=").contains('t');
    list.lines().filter(is_tracked).map(|line| field(line, "id=").parse().unwrap()).collect()
}

/// Runs `act` once for each connection of a cut, soon after it was made.
fn once_for_each_cut<T>(
    server: &RedisServer,
    act: impl Fn(&RawClient, u64) + Sync,
    work: impl FnOnce() -> T,
) -> T {
    let raw = RawClient::connect(&server.url(0));
    let seen = Mutex::new(BTreeSet::new());
    let step = |_, _| {
        for id in tracked(&raw) {
            if seen.lock().unwrap().insert(id) {
                act(&raw, id);
            }
        }
    };
    meanwhile(1, step, work)
}

const GENERATION: usize = 3000;

/// Deletes everything, and stores another generation, in one step.
fn next_generation(raw: &RawClient) {
    let script = "
        local generation = tonumber(redis.call('GET', 't:generation') or '0') + 1
        redis.call('FLUSHALL')
        redis.call('SET', 't:generation', generation)
        for n = 1, tonumber(ARGV[1]) do redis.call('SET', 't:' .. n, generation) end";
    raw.run::<_, ()>("EVAL", &[script, "0", &GENERATION.to_string()]);
}

fn check_generation(entries: &BTreeMap<String, Value>) -> i64 {
    let generation = entries["generation"]["v"].as_i64().unwrap();
    assert_eq!(entries.len(), GENERATION + 1);
    assert!(entries.values().all(|line| line["v"].as_i64() == Some(generation)), "generation {generation}");
    generation
}

#[test]
fn a_cut_begins_again_when_all_keys_are_deleted() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for store in [open(&server.url(0), patient(options())).unwrap(), store_with(&server, TRACKING)] {
        next_generation(&raw);
        let last = once_for_each_cut(
            &server,
            |raw, _| next_generation(raw),
            || {
                let mut last = 0;
                for _ in 0..20 {
                    let (entries, isolation) = exported(&store);
                    assert_eq!(isolation, Isolation::Exact);
                    last = check_generation(&entries);
                }
                last
            },
        );
        assert!(last > 5, "{last}");
    }
}

#[test]
fn a_cut_begins_again_when_its_connection_is_lost() {
    let server = RedisServer::start();
    let store = open(&server.url(0), patient(options()).max_retries(100)).unwrap();
    let raw = RawClient::connect(&server.url(0));
    let killed = Mutex::new(0);
    let kill = |raw: &RawClient, id: u64| {
        if id.is_multiple_of(2) {
            raw.run::<_, ()>("CLIENT", &["KILL", "ID", &id.to_string()]);
            *killed.lock().unwrap() += 1;
        }
    };
    while_transferring(&server, || {
        once_for_each_cut(&server, kill, || {
            for _ in 0..20 {
                let (entries, isolation) = exported(&store);
                assert_eq!(isolation, Isolation::Exact);
                check_transfers(&entries);
            }
        });
    });
    println!("{} connections were killed", killed.into_inner().unwrap());
    assert_eq!(tracked(&raw), [0; 0]);
}

#[test]
fn a_server_that_dies_during_a_cut_is_an_error() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    next_generation(&RawClient::connect(&server.url(0)));
    check_generation(&exported(&store).0);
    server.kill();
    let error = store.export(Vec::new(), &ExportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

/// Each pair of keys is written in one transaction and expires at the same time.
#[test]
fn a_cut_holds_all_or_none_of_what_expires_together() {
    let server = RedisServer::start();
    let connections = connections(&server, WRITERS);
    let write = |writer: usize, _| {
        let now = u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let (pair, deadline) = (fastrand::usize(..PAIRS), now + fastrand::u64(1..40));
        let mut pipe = redis::pipe();
        pipe.atomic();
        for side in ["a", "b"] {
            pipe.cmd("SET").arg(format!("t:{side}:{pair}")).arg(deadline).arg("PXAT").arg(deadline).ignore();
        }
        pipe.exec(&mut *connections[writer].lock().unwrap()).unwrap();
    };
    for store in [open(&server.url(0), patient(options())).unwrap(), store_with(&server, TRACKING)] {
        let mut seen = 0;
        meanwhile(WRITERS, write, || {
            for _ in 0..30 {
                let (entries, isolation) = exported(&store);
                assert_eq!(isolation, Isolation::Exact);
                for (key, line) in &entries {
                    let twin = if let Some(pair) = key.strip_prefix("a:") {
                        format!("b:{pair}")
                    } else {
                        key.replace("b:", "a:")
                    };
                    let twin = entries.get(&twin).unwrap_or_else(|| panic!("{line} is alone"));
                    assert_eq!(twin["v"], line["v"]);
                    // Redis 6.2 tells only how long a key has left.
                    assert!(line["x"].as_u64().unwrap().abs_diff(line["v"].as_u64().unwrap()) <= 1, "{line}");
                    seen += 1;
                }
            }
        });
        assert!(seen > 0);
    }
}

#[test]
fn a_cut_holds_each_value_of_a_queue_once_while_they_are_leased_and_returned() {
    const VALUES: u64 = 200;
    let server = RedisServer::start();
    for store in [open(&server.url(0), patient(options())).unwrap(), store_with(&server, TRACKING)] {
        store.delete("q").unwrap();
        for value in 0..VALUES {
            if value % 4 == 0 {
                store.push_after("q", value, HOUR).unwrap();
            } else {
                store.push_back("q", value).unwrap();
            }
        }
        let lease = |_, _| {
            let lease = store.lease::<u64>("q", HOUR).unwrap().unwrap();
            assert!(lease.nack().unwrap());
        };
        meanwhile(4, lease, || {
            for _ in 0..30 {
                let mut text = Vec::new();
                let exported = store.export(&mut text, &ExportOptions::new()).unwrap();
                assert_eq!(exported.isolation, Isolation::Exact);
                let mut values = BTreeSet::new();
                for line in text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"k\"")) {
                    let line: Value = serde_json::from_slice(line).unwrap();
                    for part in ["q", "d"].iter().filter_map(|part| line[part].as_array()).flatten() {
                        assert!(values.insert(part["v"].as_u64().unwrap()), "twice: {part}");
                    }
                }
                assert_eq!(values.len() as u64, VALUES);
            }
        });
        // What was delayed has stayed so; the next store finds an empty queue.
        while store.pop_front::<u64>("q").unwrap().is_some() {}
        RawClient::connect(&server.url(0)).flush();
    }
}
