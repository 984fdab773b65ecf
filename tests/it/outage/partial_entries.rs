//! What reads return during an outage for a key that this process has written, and of which it knows nothing else.

use std::fmt::Debug;
use std::time::Duration;

use millpond::{Error, OnUnknownKey, RedisOptions, Result, StateStore};

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, memory, notice_disconnect, open, wait_until_connected};

const HOUR: Duration = Duration::from_secs(3600);

struct Setup {
    _server: RedisServer,
    proxy: Proxy,
    raw: RawClient,
    store: StateStore,
}

impl Setup {
    /// A store that has read nothing and has lost its connection to a server that holds a value, a map and a queue.
    fn away(options: RedisOptions) -> Self {
        let server = RedisServer::start();
        let raw = RawClient::connect(&server.url(0));
        for key in ["t:visits", "t:limited", "t:kept", "t:read"] {
            raw.set(key, "1000");
        }
        raw.run::<_, ()>("HSET", &["t:map", "a", "1", "n", "1000"]);
        raw.run::<_, ()>("RPUSH", &["t:queue", "1", "2"]);
        let proxy = Proxy::to(server.port());
        let store = open(&proxy.url(), options).unwrap();
        store.get::<i64>("read").unwrap();
        proxy.set(Mode::Down);
        notice_disconnect(&store);
        Self { _server: server, proxy, raw, store }
    }

    /// Changes each key by operations that are served without knowing what it holds.
    fn change_all(&self) {
        let store = &self.store;
        assert_eq!(store.incr("visits", 1).unwrap(), 1, "an estimate");
        assert!(!store.expire("limited", HOUR).unwrap(), "an estimate");
        store.persist("kept").unwrap();
        store.update("kept", 5).unwrap();
        store.map_put("map", "b", 2).unwrap();
        store.map_incr("map", "n", 1).unwrap();
        store.map_delete("map", "gone").unwrap();
        assert_eq!(store.push_back("queue", 3).unwrap(), 1, "an estimate");
        store.queue_trim("queue", 5).unwrap();
    }

    fn back(&self) {
        self.proxy.set(Mode::Pass);
        wait_until_connected(&self.store);
    }
}

/// A read, and whether its outcome is that nothing is known.
type Read = (&'static str, fn(&StateStore) -> Result<String>);

fn text<T: Debug>(outcome: Result<T>) -> Result<String> {
    outcome.map(|value| format!("{value:?}"))
}

/// Reads of an entry of which only a part is known, and what they return where the rest counts as absent.
const READS: [(Read, &str); 26] = [
    (("get", |store| text(store.get::<i64>("visits"))), "Some(1)"),
    (
        ("get_bytes", |store| text(store.get_bytes("visits").map(|found| found.map(|bytes| bytes.len())))),
        "Some(1)",
    ),
    (("batch_get", |store| text(store.batch_get::<i64>(["read", "visits"]))), "[Some(1000), Some(1)]"),
    (("contains", |store| text(store.contains("visits"))), "true"),
    (("ttl", |store| text(store.ttl("visits"))), "Some(Never)"),
    (("get_and_touch", |store| text(store.get_and_touch::<i64>("visits", HOUR))), "Some(1)"),
    (("a handle", |store| text(store.counter("visits").get())), "Some(1)"),
    (("ttl after expire", |store| text(store.ttl("limited"))), "None"),
    (("contains after expire", |store| text(store.contains("limited"))), "false"),
    (("get after expire", |store| text(store.get::<i64>("limited"))), "None"),
    (("ttl after persist and update", |store| text(store.ttl("kept"))), "None"),
    (("contains after persist and update", |store| text(store.contains("kept"))), "false"),
    (("get after persist and update", |store| text(store.get::<i64>("kept"))), "None"),
    (("another field", |store| text(store.map_get::<i64>("map", "a"))), "None"),
    (("a field that was incremented", |store| text(store.map_get::<i64>("map", "n"))), "Some(1)"),
    (("several fields", |store| text(store.map_get_many::<i64>("map", ["b", "a"]))), "[Some(2), None]"),
    (("map_contains of another field", |store| text(store.map_contains("map", "a"))), "false"),
    (("map_len", |store| text(store.map_len("map"))), "2"),
    (("map_entries", |store| text(store.map_entries::<i64>("map"))), r#"{"b": 2, "n": 1}"#),
    (("map_keys", |store| text(store.map_keys("map"))), r#"["b", "n"]"#),
    (("ttl of a map", |store| text(store.ttl("map"))), "Some(Never)"),
    (("queue_len", |store| text(store.queue_len("queue"))), "1"),
    (("queue_range", |store| text(store.queue_range::<i64>("queue", ..))), "[3]"),
    (("contains of a queue", |store| text(store.contains("queue"))), "true"),
    (("a handle on a map", |store| text(store.map::<i64>("map").len())), "2"),
    (("a handle on a queue", |store| text(store.queue::<i64>("queue").len())), "1"),
];

/// Operations that decide on what the entry holds.
const DECISIONS: [Read; 9] = [
    ("compare_and_set", |store| text(store.compare_and_set("visits", Some(&1), &2))),
    ("set_if_not_exists", |store| text(store.set_if_not_exists("limited", 1, None))),
    ("modify", |store| text(store.modify("visits", |found: Option<i64>| found))),
    ("get_and_put", |store| text(store.get_and_put::<i64>("visits", 2))),
    ("get_and_delete", |store| text(store.get_and_delete::<i64>("visits"))),
    ("pop_front", |store| text(store.pop_front::<i64>("queue"))),
    ("take", |store| text(store.lease::<i64>("queue", HOUR).map(|taken| taken.is_some()))),
    ("a transaction that reads", |store| text(store.transaction(|tx| tx.get::<i64>("visits")))),
    ("a transaction that reads a field", |store| text(store.transaction(|tx| tx.map_get::<i64>("map", "a")))),
];

#[test]
fn an_estimate_is_not_told_as_a_value_by_any_read() {
    for exclusive in [false, true] {
        for unknown in [OnUnknownKey::AbsentUntilConnected, OnUnknownKey::Error] {
            let setup = Setup::away(memory().exclusive(exclusive).on_unknown_key(unknown));
            let store = &setup.store;
            setup.change_all();
            let decisions = DECISIONS.into_iter().filter(|_| exclusive);
            for (name, read) in READS.into_iter().map(|(read, _)| read).chain(decisions) {
                let case = format!("{name}, exclusive {exclusive}, unknown {unknown:?}");
                match read(store) {
                    Err(Error::Unavailable { maybe_applied: false, .. }) => {}
                    told => panic!("{case}: {told:?}"),
                }
            }
            // These fields are as this process has made them.
            assert_eq!(store.map_get::<i64>("map", "b").unwrap(), Some(2));
            assert_eq!(store.map_get::<i64>("map", "gone").unwrap(), None);
            setup.back();
            assert_eq!(store.get::<i64>("visits").unwrap(), Some(1001));
            assert_eq!(store.get::<i64>("kept").unwrap(), Some(5));
            assert_eq!(store.map_get::<i64>("map", "n").unwrap(), Some(1001));
            assert_eq!(store.queue_range::<i64>("queue", ..).unwrap(), [1, 2, 3]);
        }
    }
}

#[test]
fn where_an_unknown_key_counts_as_absent_its_estimate_is_its_value() {
    for exclusive in [false, true] {
        let setup = Setup::away(memory().exclusive(exclusive).on_unknown_key(OnUnknownKey::Absent));
        setup.change_all();
        for ((name, read), expected) in READS {
            assert_eq!(read(&setup.store).unwrap(), expected, "{name}, exclusive {exclusive}");
        }
        setup.back();
        assert_eq!(setup.store.get::<i64>("visits").unwrap(), Some(1001));
    }
}

#[test]
fn before_the_first_connection_an_estimate_is_a_value() {
    let store = open("redis://127.0.0.1:1", memory()).unwrap();
    store.incr("visits", 1).unwrap();
    store.push_back("queue", 3).unwrap();
    assert_eq!(store.get::<i64>("visits").unwrap(), Some(1));
    assert_eq!(store.queue_range::<i64>("queue", ..).unwrap(), [3]);
}

#[test]
fn what_replaces_an_entry_makes_all_of_it_known() {
    let setup = Setup::away(memory().exclusive(true));
    let store = &setup.store;
    setup.change_all();
    store.put("visits", 7).unwrap();
    assert_eq!(store.incr("visits", 1).unwrap(), 8);
    assert_eq!(store.get::<i64>("visits").unwrap(), Some(8));
    assert!(store.compare_and_set("visits", Some(&8), &9).unwrap());
    store.batch_delete(["map", "limited"]).unwrap();
    store.map_incr("map", "n", 1).unwrap();
    assert_eq!((store.map_len("map").unwrap(), store.map_get::<i64>("map", "n").unwrap()), (1, Some(1)));
    assert_eq!(store.get::<i64>("limited").unwrap(), None);
    store.delete("queue").unwrap();
    store.push_back("queue", 4).unwrap();
    assert_eq!(store.pop_front::<i64>("queue").unwrap(), Some(4));
    // The value was read while the server was connected.
    assert_eq!(store.incr("read", 1).unwrap(), 1001);
    assert_eq!(store.get::<i64>("read").unwrap(), Some(1001));
    setup.back();
    assert_eq!(setup.raw.get("t:visits").as_deref(), Some(&b"9"[..]));
}

#[test]
fn listings_name_a_key_of_which_a_part_is_known_and_leave_its_value_out() {
    let setup = Setup::away(memory());
    let store = &setup.store;
    setup.change_all();
    assert_eq!(store.keys("").unwrap(), ["map", "queue", "read", "visits"]);
    let mut scanned = store.scan("").collect::<Result<Vec<_>>>().unwrap();
    scanned.sort();
    assert_eq!(scanned, ["map", "queue", "read", "visits"]);
    assert_eq!((store.count("").unwrap(), store.len().unwrap()), (4, 4));
    let entries = store.entries::<i64>("").collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(entries, [("read".to_owned(), 1000)]);
}

/// On the server there is room for it.
#[test]
fn a_counter_whose_value_is_not_known_is_not_said_to_overflow() {
    let setup = Setup::away(memory());
    let store = &setup.store;
    setup.raw.set("t:low", "-10");
    setup.raw.run::<_, ()>("HSET", &["t:lows", "n", "-10"]);
    store.incr("low", i64::MAX).unwrap();
    assert_error!(store.incr("low", 1), Error::Unavailable { maybe_applied: false, .. });
    store.map_incr("lows", "n", i64::MAX).unwrap();
    assert_error!(store.map_incr("lows", "n", 1), Error::Unavailable { maybe_applied: false, .. });
    store.put("known", i64::MAX).unwrap();
    assert_error!(store.incr("known", 1), Error::Overflow { .. });
    setup.back();
    assert_eq!(store.get::<i64>("low").unwrap(), Some(i64::MAX - 10));
}

#[test]
fn a_program_that_was_started_again_tells_no_estimate_once_it_was_connected() {
    let setup = Setup::away(memory());
    let dir = tempfile::tempdir().unwrap();
    let first = open(&setup.proxy.url(), durable(dir.path()).on_unknown_key(OnUnknownKey::Error)).unwrap();
    first.incr("visits", 1).unwrap();
    first.put("mine", 1).unwrap();
    first.close().unwrap();
    let second = open(&setup.proxy.url(), durable(dir.path()).on_unknown_key(OnUnknownKey::Error)).unwrap();
    assert_error!(second.get::<i64>("visits"), Error::Unavailable { .. });
    assert_eq!(second.get::<i64>("mine").unwrap(), Some(1));
}
