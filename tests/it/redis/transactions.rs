//! Transactions on a server: what they send, what they leave behind, and servers that fail during one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use millpond::{Error, RedisOptions, Result, StateStore, Transaction, Ttl, WriteBatch};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{LIMIT, open, options, run_within, wait_for};

const HOUR: Duration = Duration::from_secs(3600);

/// A store with one connection, through a proxy, and a raw client for the same data.
struct Setup {
    _server: Option<RedisServer>,
    proxy: Proxy,
    raw: RawClient,
    store: StateStore,
}

impl Setup {
    fn new(options: RedisOptions) -> Self {
        let (server, database) = RedisServer::shared();
        Self::on(server, database, options)
    }

    /// On a server of its own.
    fn alone(options: RedisOptions) -> Self {
        let server = RedisServer::start();
        let setup = Self::on(&server, 0, options);
        Self { _server: Some(server), ..setup }
    }

    fn on(server: &RedisServer, database: u32, options: RedisOptions) -> Self {
        let proxy = Proxy::to(server.port());
        let raw = RawClient::connect(&server.url(database));
        let store = open(&format!("{}/{database}", proxy.url()), options).unwrap();
        Self { _server: None, proxy, raw, store }
    }

    /// How many times something was sent to the server during `run`.
    fn round_trips<T>(&self, run: impl FnOnce() -> T) -> (usize, T) {
        let before = self.proxy.requests();
        let outcome = run();
        (self.proxy.requests() - before, outcome)
    }

    /// Asserts that the connection watches no key: a write to another key succeeds.
    fn assert_clean(&self, after: &str) {
        self.raw.set("t:x", "9");
        let mut batch = WriteBatch::new();
        batch.put("unrelated", after).unwrap().delete("gone").unwrap();
        self.store.write(&batch).unwrap();
        assert_eq!(self.store.get::<String>("unrelated").unwrap().as_deref(), Some(after));
        self.store.transaction(|tx| tx.put("unrelated", 1)).unwrap();
        assert_eq!(self.store.get::<i64>("unrelated").unwrap(), Some(1), "{after}");
    }
}

fn options_with_one_connection() -> RedisOptions {
    options().pool_size(1)
}

type Run = fn(&mut Transaction<'_>) -> Result<()>;

#[test]
fn only_first_reads_and_the_commit_are_round_trips() {
    let setup = Setup::new(options_with_one_connection());
    setup.store.put("a", 1).unwrap();
    setup.store.put("b", 2).unwrap();
    let (trips, sum) = setup.round_trips(|| {
        setup.store.transaction(|tx| {
            let sum = tx.get::<i64>("a")?.unwrap() + tx.get::<i64>("b")?.unwrap();
            tx.put("a", sum)?;
            tx.put("b", sum)?;
            Ok(sum)
        })
    });
    assert_eq!((trips, sum.unwrap()), (3, 3));
    let runs: [(usize, &str, Run); 8] = [
        (0, "nothing", |_| Ok(())),
        (1, "blind writes", |tx| tx.put("a", 1).and_then(|()| tx.put("c", 2))),
        (2, "a read", |tx| tx.get::<i64>("a").map(drop)),
        (2, "reads of a key that was read before", |tx| {
            tx.get::<i64>("a")?;
            tx.ttl("a")?;
            tx.contains("a").map(drop)
        }),
        (2, "reads of an absent key that was read before", |tx| {
            tx.get::<i64>("none")?;
            tx.map_len("none")?;
            tx.push_back("none", 1).map(drop)
        }),
        (2, "a counter", |tx| tx.incr("a", 1).map(drop)),
        (2, "a push", |tx| tx.push_back("queue", 1).map(drop)),
        (3, "a pop", |tx| tx.pop_front::<i64>("queue").map(drop)),
    ];
    for (expected, what, run) in runs {
        let (trips, outcome) = setup.round_trips(|| setup.store.transaction(run));
        outcome.unwrap();
        assert_eq!(trips, expected, "{what}");
    }
    assert_eq!(setup.raw.kind("t:none"), "list");
}

#[test]
fn a_transaction_reads_again_after_a_change() {
    let setup = Setup::new(options_with_one_connection());
    setup.raw.set("t:a", "1");
    let runs = Cell::new(0);
    let seen = setup.store.transaction(|tx| {
        runs.set(runs.get() + 1);
        let seen: i64 = tx.get("a")?.unwrap();
        if runs.get() == 1 {
            setup.raw.set("t:a", "5");
        }
        tx.put("b", seen)?;
        Ok(seen)
    });
    assert_eq!((seen.unwrap(), runs.get()), (5, 2));
    assert_eq!(setup.store.get::<i64>("b").unwrap(), Some(5));
    // Reading only the existence or the time to live also adds the key to the read set.
    let runs = Cell::new(0);
    setup.raw.run::<_, ()>("SET", &["t:old", "1", "PX", "200000"]);
    let left = setup.store.transaction(|tx| {
        runs.set(runs.get() + 1);
        let there = tx.contains("new")?;
        let left = tx.ttl("old")?;
        match runs.get() {
            1 => setup.raw.set("t:new", "1"),
            2 => setup.raw.run::<_, ()>("PERSIST", &["t:old"]),
            _ => assert!(there),
        }
        Ok(left)
    });
    assert_eq!((left.unwrap(), runs.get()), (Some(Ttl::Never), 3));
}

#[test]
fn a_transaction_reads_again_after_an_expiry() {
    let setup = Setup::new(options_with_one_connection());
    setup.raw.run::<_, ()>("SET", &["t:a", "1", "PX", "100000"]);
    let runs = Cell::new(0);
    let found = setup.store.transaction(|tx| {
        runs.set(runs.get() + 1);
        let found: Option<i64> = tx.get("a")?;
        if runs.get() == 1 {
            setup.raw.advance(HOUR);
        }
        tx.put("b", 1)?;
        Ok(found)
    });
    assert_eq!((found.unwrap(), runs.get()), (None, 2));
}

#[test]
fn an_endless_conflict_is_an_error_that_names_a_key() {
    let setup = Setup::new(options_with_one_connection());
    let outcome = run_within(LIMIT, || {
        setup.store.transaction(|tx| {
            tx.get::<i64>("a")?;
            setup.raw.run::<_, i64>("INCR", &["t:a"]);
            tx.put("b", 1)
        })
    });
    assert_error!(outcome, Error::Conflict { key, .. } if key == "a");
    assert_eq!(setup.store.get::<i64>("b").unwrap(), None);
    setup.assert_clean("conflicts");
}

#[test]
fn a_time_to_live_is_kept_set_and_removed() {
    let setup = Setup::new(options_with_one_connection());
    let left = |key: &str| -> i64 { setup.raw.run("PTTL", &[format!("t:{key}")]) };
    for key in ["kept", "set", "off", "moved", "map", "queue"] {
        match key {
            "map" => setup.raw.run::<_, ()>("HSET", &["t:map", "f", "1"]),
            "queue" => setup.raw.run::<_, ()>("RPUSH", &["t:queue", "1", "2", "3"]),
            _ => setup.raw.set(&format!("t:{key}"), "1"),
        }
        setup.raw.run::<_, ()>("PEXPIRE", &[&format!("t:{key}"), "100000"]);
    }
    setup
        .store
        .transaction(|tx| {
            assert!(matches!(tx.ttl("kept")?, Some(Ttl::In(left)) if left <= Duration::from_secs(100)));
            tx.incr("kept", 1)?;
            tx.incr("kept", 1)?;
            tx.put_with_ttl("set", 2, HOUR)?;
            tx.incr("set", 1)?;
            tx.persist("off")?;
            tx.update("off", 2)?;
            tx.expire("moved", HOUR)?;
            tx.modify("moved", |found: Option<i64>| found.map(|found| found + 1))?;
            tx.map_put("map", "g", 2)?;
            tx.pop_front::<i64>("queue")?;
            tx.push_front("queue", 0)?;
            tx.pop_back::<i64>("queue")?;
            tx.incr_with_ttl("born", 1, HOUR)?;
            tx.push_back("bare", 1)?;
            Ok(())
        })
        .unwrap();
    for (key, least, most) in [
        ("kept", 50_000, 100_000),
        ("set", 3_500_000, 3_600_000),
        ("off", -1, -1),
        ("moved", 3_500_000, 3_600_000),
        ("map", 50_000, 100_000),
        ("queue", 50_000, 100_000),
        ("born", 3_500_000, 3_600_000),
        ("bare", -1, -1),
    ] {
        assert!((least..=most).contains(&left(key)), "{key}: {}", left(key));
    }
    assert_eq!(setup.raw.get("t:kept").unwrap(), b"3");
    assert_eq!(setup.raw.run::<_, Vec<i64>>("LRANGE", &["t:queue", "0", "-1"]), [0, 2]);
}

#[test]
fn another_kind_is_an_error_and_changes_nothing() {
    let setup = Setup::new(options_with_one_connection());
    setup.raw.run::<_, ()>("SADD", &["t:set", "1"]);
    setup.raw.run::<_, ()>("HSET", &["t:map", "f", "1"]);
    let (trips, outcome) = setup.round_trips(|| {
        setup.store.transaction(|tx| {
            tx.put("a", 1)?;
            let error = assert_error!(tx.get::<i64>("map"), Error::WrongType { .. });
            assert!(error.to_string().ends_with("expected a value, found a map"), "{error}");
            // By now the kind is known.
            assert_error!(tx.push_back("map", 1), Error::WrongType { .. });
            assert!(tx.contains("set")?);
            assert_error!(tx.map_len("set"), Error::WrongType { found: None, .. });
            tx.map_incr("map", "f", 1)
        })
    });
    assert_eq!((outcome.unwrap(), setup.raw.get("t:a").unwrap()), (2, b"1".to_vec()));
    assert_eq!(trips, 2 + 1 + 2 + 1, "the map with its kind, the set, the field and the length, the commit");
    assert_error!(setup.store.transaction(|tx| tx.pop_front::<i64>("map")), Error::WrongType { .. });
    setup.assert_clean("another kind");
}

#[test]
fn every_outcome_leaves_the_connection_clean() {
    let setup = Setup::new(options_with_one_connection());
    let read = |tx: &mut Transaction<'_>| tx.get::<i64>("x").map(drop);
    setup.store.transaction(|tx| read(tx).and_then(|()| tx.put("y", 1))).unwrap();
    setup.assert_clean("a commit");
    setup.store.transaction(read).unwrap();
    setup.assert_clean("a look");
    let aborted: Result<()> = setup.store.transaction(|tx| read(tx).and(Err(Error::abort("no"))));
    assert_error!(aborted, Error::Aborted(_));
    setup.assert_clean("an abort");
    let failed = setup.store.transaction(|tx| read(tx).and_then(|()| tx.put("", 1)));
    assert_error!(failed, Error::InvalidKey { .. });
    setup.assert_clean("an error");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        setup.store.transaction(|tx| -> Result<()> {
            read(tx)?;
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    setup.assert_clean("a panic");
}

#[test]
fn an_error_counts_only_if_the_read_set_is_unchanged() {
    let setup = Setup::new(options_with_one_connection());
    setup.raw.set("t:stock", "0");
    let runs = Cell::new(0);
    let outcome = setup.store.transaction(|tx| {
        runs.set(runs.get() + 1);
        let stock: i64 = tx.get("stock")?.unwrap();
        if runs.get() == 1 {
            setup.raw.set("t:stock", "5");
        }
        if stock == 0 { Err(Error::abort("sold out")) } else { Ok(stock) }
    });
    assert_eq!((outcome.unwrap(), runs.get()), (5, 2));
}

#[test]
fn the_closure_may_use_the_store_itself_on_a_pool_of_one() {
    let setup = Setup::new(options_with_one_connection());
    let outcome = run_within(LIMIT, || {
        setup.store.transaction(|tx| {
            tx.get::<i64>("a")?;
            setup.store.incr("inner", 1)?;
            setup.store.transaction(|inner| {
                inner.get::<i64>("inner")?;
                setup.store.push_back("queue", 1)?;
                inner.incr("inner", 1)
            })?;
            assert_eq!(setup.store.pop_front_wait::<i64>("queue", HOUR)?, Some(1));
            tx.put("a", 1)?;
            setup.store.get::<i64>("inner")
        })
    });
    assert_eq!(outcome.unwrap(), Some(2));
    assert_eq!(setup.store.get::<i64>("a").unwrap(), Some(1));
    setup.assert_clean("a nested use");
}

#[test]
fn a_connection_killed_before_the_commit_changes_nothing() {
    let setup = Setup::alone(options_with_one_connection().max_retries(0));
    let kill = || setup.raw.run::<_, i64>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    setup.raw.set("t:a", "1");
    let outcome = setup.store.transaction(|tx| {
        tx.get::<i64>("a")?;
        assert!(kill() > 0);
        tx.put("a", 2)?;
        tx.put("b", 2)
    });
    assert_error!(outcome, Error::Unavailable { .. });
    assert_eq!((setup.raw.get("t:a").unwrap(), setup.raw.get("t:b")), (b"1".to_vec(), None));
    // A failing read returns its error to the closure, and nothing is changed.
    let outcome = setup.store.transaction(|tx| {
        tx.get::<i64>("a")?;
        kill();
        let error = tx.get::<i64>("b").unwrap_err();
        assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
        assert_error!(tx.get::<i64>("a2"), Error::Unavailable { .. });
        tx.put("c", 1)
    });
    assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
    assert_eq!(setup.raw.get("t:c"), None);
    setup.assert_clean("a kill");
}

#[test]
fn a_commit_that_is_cut_is_applied_fully_or_not_at_all() {
    let setup = Setup::new(options_with_one_connection().max_retries(0));
    for way in [Way::Request, Way::Answer] {
        let mut whole = false;
        for bytes in 0.. {
            setup.store.put("a", 0).unwrap();
            setup.store.put("b", 0).unwrap();
            let outcome = setup.store.transaction(|tx| {
                let a: i64 = tx.get("a")?.unwrap();
                setup.proxy.cut(way, bytes);
                tx.put("a", a + 1)?;
                tx.put("b", a + 1)
            });
            let cut = setup.proxy.cancel_cut();
            let seen = (setup.raw.get("t:a").unwrap(), setup.raw.get("t:b").unwrap());
            assert_eq!(seen.0, seen.1, "{way:?} {bytes}");
            match (cut, outcome) {
                (true, Err(Error::Unavailable { maybe_applied: true, .. })) => {
                    assert!(way == Way::Answer || !whole, "only the complete request is applied");
                    whole |= seen.0 == b"1";
                }
                // The whole reply arrived, and perhaps nothing after it.
                (_, Ok(())) => break,
                (cut, outcome) => panic!("{way:?} {bytes}: {cut} {outcome:?}"),
            }
        }
        assert!(whole, "{way:?}");
    }
    wait_for("the store has a connection again", || setup.store.put("a", 0).is_ok());
    setup.assert_clean("cuts");
}

#[test]
fn a_dead_or_frozen_server_is_an_error_in_time() {
    let setup = Setup::new(options_with_one_connection());
    setup.store.put("a", 1).unwrap();
    let run = || setup.store.transaction(|tx| tx.incr("a", 1));
    setup.proxy.set(Mode::Hold);
    assert_error!(run_within(LIMIT, run), Error::Unavailable { maybe_applied: false, .. });
    setup.proxy.set(Mode::Pass);
    crate::support::redis_stores::wait_until_connected(&setup.store);
    assert_eq!(run().unwrap(), 2);
    let frozen = run_within(LIMIT, || {
        setup.store.transaction(|tx| {
            tx.get::<i64>("a")?;
            setup.proxy.set(Mode::Hold);
            tx.put("a", 9)
        })
    });
    assert_error!(frozen, Error::Unavailable { maybe_applied: true, .. });
    assert_error!(run_within(LIMIT, run), Error::Unavailable { maybe_applied: false, .. });
    setup.proxy.set(Mode::Pass);
    let mut known = 0;
    wait_for("the server answers again", || run().map(|number| known = number).is_ok());
    // The frozen write was applied first, or never.
    assert!([3, 10].contains(&known), "{known}");
    setup.assert_clean("a frozen server");
}

/// Runs the same random transactions on the server and in memory.
#[test]
fn transactions_have_the_same_effect_as_in_memory() {
    let setup = Setup::new(options_with_one_connection());
    let memory = StateStore::memory();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let start = random.u64(..);
        let run = |store: &StateStore| {
            store.transaction(|tx| {
                let mut random = fastrand::Rng::with_seed(start);
                let mut seen = Vec::new();
                for _ in 0..random.usize(1..12) {
                    seen.push(step(tx, &mut random));
                }
                if random.u8(..8) == 0 { Err(Error::abort(format!("{seen:?}"))) } else { Ok(seen) }
            })
        };
        let (here, there) = (run(&memory), run(&setup.store));
        assert_eq!(format!("{here:?}"), format!("{there:?}"), "round {round}");
        for key in ["a", "b", "c"] {
            let look = |store: &StateStore| {
                let value = store.get::<i64>(key).map_err(|error| error.to_string());
                (value, store.map_entries::<i64>(key).ok(), store.queue_range::<i64>(key, ..).ok())
            };
            assert_eq!(look(&memory), look(&setup.store), "{key} after round {round}");
        }
    }
    setup.assert_clean("many transactions");
}

fn text<T: std::fmt::Debug>(said: Result<T>) -> Result<String> {
    said.map(|said| format!("{said:?}"))
}

/// One random step and its result, as text for the comparison.
fn step(tx: &mut Transaction<'_>, random: &mut fastrand::Rng) -> String {
    let key = ["a", "b", "c"][random.usize(..3)];
    let field = ["f", "g", ""][random.usize(..3)];
    let n = random.i64(-3..10);
    let told = |said: Result<String>| said.unwrap_or_else(|error| error.to_string());
    told(match random.u8(..22) {
        0 => text(tx.put(key, n)),
        1 => text(tx.get::<i64>(key)),
        2 | 3 => text(tx.delete(key)),
        4 => text(tx.incr(key, n)),
        5 => text(tx.map_put(key, field, n)),
        6 => text(tx.map_put_many(key, [("f", n), ("h", n)])),
        7 => text(tx.map_delete(key, field)),
        8 => text(tx.map_get::<i64>(key, field)),
        9 => text(tx.map_entries::<i64>(key)),
        10 => text(tx.map_len(key)),
        11 => text(tx.map_incr(key, field, n)),
        12 => text(tx.push_back(key, n)),
        13 => text(tx.push_front(key, n)),
        14 => text(tx.push_back_many(key, [n, n + 1, n + 2])),
        15 => text(tx.pop_front::<i64>(key)),
        16 => text(tx.pop_back::<i64>(key)),
        17 => text(tx.queue_range::<i64>(key, 1..4)),
        18 => text(tx.queue_trim(key, random.u64(..4))),
        19 => text(tx.contains(key)),
        20 => text(tx.set_if_not_exists(key, n, None)),
        _ => text(tx.modify(key, |found: Option<i64>| found.filter(|found| *found > 3))),
    })
}

/// Each of these transactions holds a connection and needs another one.
#[test]
fn transactions_that_use_the_store_do_not_deadlock() {
    let setup = Setup::new(RedisOptions::default().pool_size(2));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let store = &setup.store;
            scope.spawn(move || {
                for n in 0..20 {
                    let key = format!("own:{thread}");
                    let done = store.transaction(|tx| {
                        let seen = tx.get::<i64>(&key)?.unwrap_or(0);
                        store.incr("runs", 1)?;
                        store.transaction(|inner| inner.incr("sum", 1))?;
                        tx.put(&key, seen + 1)?;
                        Ok(seen)
                    });
                    assert_eq!(done.unwrap(), n);
                }
            });
        }
    });
    let (runs, sum): (Option<i64>, Option<i64>) =
        (setup.store.get("runs").unwrap(), setup.store.get("sum").unwrap());
    assert_eq!((runs, sum), (Some(120), Some(120)));
}
