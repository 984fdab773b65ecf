//! Which operations are served, queued, estimated or refused during an outage.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Clock, Error, ManualClock, OnUnknownKey, OpenOptions, RedisOptions, Result, StateStore, SystemClock, Ttl,
    WriteBatch,
};

use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    config, memory, open, pending, run_within, wait_for, wait_until_connected,
};

const HOUR: Duration = Duration::from_secs(3600);

struct Setup {
    _server: RedisServer,
    proxy: Proxy,
    raw: RawClient,
    store: StateStore,
}

impl Setup {
    /// A store that knows the key `v`, and has lost its connection to the server.
    fn away(options: RedisOptions) -> Self {
        Self::away_with_clock(options, Arc::new(SystemClock))
    }

    fn away_with_clock(options: RedisOptions, clock: Arc<dyn Clock>) -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let raw = RawClient::connect(&server.url(0));
        let store = OpenOptions::new().clock(clock).with_config(config(&proxy.url(), options)).unwrap();
        store.put("v", 1).unwrap();
        store.push_back("q", 1).unwrap();
        raw.set("t:unseen", "7");
        proxy.set(Mode::Down);
        assert!(store.without_fallback().get::<i32>("unseen").is_err());
        Self { _server: server, proxy, raw, store }
    }

    fn back(&self) {
        self.proxy.set(Mode::Pass);
        wait_until_connected(&self.store);
    }
}

#[track_caller]
fn assert_refused<T: Debug>(outcome: Result<T>) {
    assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
}

/// All others are served.
#[test]
fn operations_that_depend_on_other_clients_are_refused() {
    let setup = Setup::away(memory());
    let store = &setup.store;
    for key in ["v", "unseen"] {
        assert_refused(store.set_if_not_exists(key, 1, None));
        assert_refused(store.compare_and_set(key, Some(&1), &2));
        assert_refused(store.get_and_delete::<i32>(key));
        assert_refused(store.get_and_put::<i32>(key, 2));
        assert_refused(store.modify(key, |n: Option<i32>| n));
    }
    assert_refused(store.pop_front::<i32>("q"));
    assert_refused(store.pop_back::<i32>("q"));
    assert_refused(run_within(Duration::ZERO, || store.pop_front_wait::<i32>("q", HOUR)));
    assert_refused(store.lease::<i32>("q", HOUR));
    assert_refused(run_within(Duration::ZERO, || store.lease_wait::<i32>("q", HOUR, HOUR)));
    assert_refused(store.try_lock("l", HOUR));
    assert_refused(run_within(Duration::ZERO, || store.lock("l", HOUR, HOUR)));
    assert_refused(store.transaction(|transaction| transaction.get::<i32>("v")));
    assert_refused(store.clear());
    assert_refused(store.delete_prefix("v"));
    assert_eq!(pending(store), Some(0));

    store.put_with_ttl("p", 1, HOUR).unwrap();
    assert!(matches!(store.ttl("p").unwrap(), Some(Ttl::In(_))));
    assert!(store.persist("p").unwrap());
    assert!(store.expire("p", HOUR).unwrap());
    assert_eq!(store.get_and_touch::<i32>("p", HOUR).unwrap(), Some(1));
    assert!(store.update("v", 2).unwrap());
    assert_eq!((store.incr("v", 3).unwrap(), store.decr("v", 1).unwrap()), (5, 4));
    store.put("d", 1).unwrap();
    assert!(store.delete("d").unwrap());
    let mut batch = WriteBatch::new();
    batch.put("w", 1).unwrap().delete("d").unwrap();
    store.write(&batch).unwrap();
    assert_eq!(store.batch_delete(["w", "d"]).unwrap(), 1);
    assert_eq!(store.batch_delete(["m", "r"]).unwrap(), 0, "from now on all that they hold is known");
    assert!(store.map_put("m", "x", 1).unwrap());
    assert_eq!(store.map_incr("m", "n", 2).unwrap(), 2);
    assert!(store.map_delete("m", "x").unwrap());
    assert_eq!(store.map_entries::<i32>("m").unwrap(), BTreeMap::from([("n".to_owned(), 2)]));
    assert_eq!(store.push_back_many("r", [1, 2, 3]).unwrap(), 3);
    assert_eq!(store.queue_trim("r", 2).unwrap(), 1);
    assert_eq!(store.queue_range::<i32>("r", ..).unwrap(), [2, 3]);
    assert_eq!(store.keys("").unwrap(), ["m", "p", "r", "v"]);
    assert_eq!((store.count("").unwrap(), store.len().unwrap()), (4, 4));
    setup.back();
    assert_eq!(store.keys("").unwrap(), ["m", "p", "q", "r", "unseen", "v"]);
    assert_eq!(store.get::<i32>("v").unwrap(), Some(4));
    assert!(matches!(store.ttl("p").unwrap(), Some(Ttl::In(_))));
    assert_eq!(store.queue_range::<i32>("r", ..).unwrap(), [2, 3]);
    assert_eq!(store.map_entries::<i32>("m").unwrap(), BTreeMap::from([("n".to_owned(), 2)]));
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn an_unknown_key_is_absent_or_an_error_as_configured() {
    for unknown in [OnUnknownKey::AbsentUntilConnected, OnUnknownKey::Error] {
        let setup = Setup::away(memory().on_unknown_key(unknown));
        let store = &setup.store;
        assert_refused(store.get::<i32>("unseen"));
        assert_refused(store.contains("unseen"));
        assert_refused(store.ttl("unseen"));
        assert_refused(store.map_get::<i32>("unseen", "x"));
        assert_refused(store.queue_len("unseen"));
        assert_refused(store.get_and_touch::<i32>("unseen", HOUR));
        // These operations change the key, but do not make its value known.
        assert!(!store.update("unseen", 8).unwrap());
        assert!(!store.expire("unseen", HOUR).unwrap());
        assert_refused(store.get::<i32>("unseen"));
        setup.back();
        assert_eq!(store.get::<i32>("unseen").unwrap(), Some(8));
    }
    let setup = Setup::away(memory().on_unknown_key(OnUnknownKey::Absent));
    assert_eq!(setup.store.get::<i32>("unseen").unwrap(), None);
    assert_eq!(setup.store.ttl("unseen").unwrap(), None);
    setup.back();
    assert_eq!(setup.store.get::<i32>("unseen").unwrap(), Some(7));
}

#[test]
fn an_exclusive_store_is_served_on_every_key_that_it_knows() {
    let setup = Setup::away(memory().exclusive(true));
    let store = &setup.store;
    assert_refused(store.set_if_not_exists("unseen", 1, None));
    assert_refused(store.get_and_delete::<i32>("unseen"));
    assert!(!store.set_if_not_exists("v", 5, None).unwrap());
    assert_eq!(pending(store), Some(0), "no operation changed anything");
    assert!(store.compare_and_set("v", Some(&1), &2).unwrap());
    assert_eq!(store.get_and_put::<i32>("v", 3).unwrap(), Some(2));
    assert_eq!(store.modify("v", |n: Option<i32>| n.map(|n| n + 1)).unwrap(), Some(4));
    store.delete("made").unwrap();
    assert!(store.set_if_not_exists("made", 1, Some(HOUR)).unwrap());
    store.put("gone", 1).unwrap();
    assert_eq!(store.get_and_delete::<i32>("gone").unwrap(), Some(1));
    // On the server there is a 1 in front of it.
    store.push_back("q", 2).unwrap();
    assert_refused(store.pop_front::<i32>("q"));
    store.delete("new").unwrap();
    store.push_back_many("new", [1, 2]).unwrap();
    assert_eq!(store.pop_front::<i32>("new").unwrap(), Some(1));
    assert_refused(store.try_lock("l", HOUR));
    assert_refused(store.lease::<i32>("q", HOUR));
    // There may be keys that this process has never read.
    assert_refused(store.clear());
    setup.back();
    assert_eq!(store.get::<i32>("v").unwrap(), Some(4));
    assert!(matches!(store.ttl("made").unwrap(), Some(Ttl::In(_))));
    assert!(!store.contains("gone").unwrap());
    assert_eq!(store.queue_range::<i32>("q", ..).unwrap(), [1, 2]);
    assert_eq!(store.queue_range::<i32>("new", ..).unwrap(), [2]);
    assert_eq!((store.stats().outages.conflicts, store.stats().outages.rejected), (0, 0));
}

#[test]
fn times_to_live_run_on_while_operations_are_queued() {
    const SHORT: Duration = Duration::from_millis(200);
    let clock = Arc::<ManualClock>::default();
    let setup = Setup::away_with_clock(memory(), clock.clone());
    let store = &setup.store;
    setup.raw.set("t:put", "old");
    setup.raw.set("t:unseen2", "1");
    store.put_with_ttl("put", 1, SHORT).unwrap();
    store.put_with_ttl("long", 1, HOUR).unwrap();
    store.expire("unseen2", SHORT).unwrap();
    store.incr_with_ttl("window", 1, SHORT).unwrap();
    store.incr_with_ttl("later", 1, HOUR).unwrap();
    assert_eq!(store.get::<i32>("put").unwrap(), Some(1));
    clock.advance(SHORT);
    // The age of a queued operation is measured, and not read from the clock.
    std::thread::sleep(SHORT);
    assert_eq!(store.get::<i32>("put").unwrap(), None);
    assert_eq!(store.incr("window", 1).unwrap(), 1, "a new one");
    setup.back();
    assert!(!setup.raw.exists("t:put") && !setup.raw.exists("t:unseen2"));
    assert_eq!(setup.raw.get("t:window").as_deref(), Some(&b"1"[..]));
    for key in ["t:long", "t:later"] {
        let left: u64 = setup.raw.run("PTTL", &[key]);
        assert!(left <= 3_600_000 - 200, "{key}: {left}");
    }
}

/// Such a value was once kept for as long as the outage lasted.
#[test]
fn a_value_that_was_read_again_still_expires_in_time() {
    let server = RedisServer::start();
    let clock = Arc::<ManualClock>::default();
    let store =
        OpenOptions::new().clock(clock.clone()).with_config(config(&server.url(0), memory())).unwrap();
    store.put_with_ttl("session", 1, HOUR).unwrap();
    store.incr_with_ttl("window", 1, HOUR).unwrap();
    store.incr_with_ttl("window", 1, HOUR).unwrap();
    assert_eq!(store.get::<i32>("session").unwrap(), Some(1));
    server.pause();
    store.put("a", 1).unwrap();
    clock.advance(HOUR);
    assert_eq!(store.get::<i32>("session").unwrap(), None);
    assert!(!matches!(store.get::<i32>("window"), Ok(Some(_))));
    server.resume();
    wait_until_connected(&store);
}

/// The operations that were queued before are still replayed.
#[test]
fn after_too_long_an_outage_no_more_operations_are_queued() {
    const LONG: Duration = Duration::from_secs(1);
    let setup = Setup::away(memory().max_outage(LONG).exclusive(true));
    let store = &setup.store;
    store.put("a", 1).unwrap();
    store.incr("n", 1).unwrap();
    let waiting = pending(store);
    assert_eq!(waiting, Some(2));
    wait_for("the outage has lasted too long", || store.put("last", 1).is_err());
    let waiting = pending(store);
    assert_refused(store.put("b", 1));
    assert_refused(store.incr("n", 1));
    assert_refused(store.push_back("q", 2));
    assert_refused(store.write(WriteBatch::new().put("b", 1).unwrap()));
    assert_refused(store.compare_and_set("v", Some(&1), &2));
    assert_refused(store.transaction(|transaction| transaction.put("b", 1)));
    let cause = crate::support::chain(&store.put("b", 1).unwrap_err()).concat();
    assert!(cause.contains("max_outage"), "{cause}");
    assert_eq!((store.get::<i32>("a").unwrap(), store.get::<i32>("v").unwrap()), (Some(1), Some(1)));
    assert_eq!(pending(store), waiting, "no queued operation is dropped");
    setup.back();
    assert_eq!((store.get::<i32>("a").unwrap(), store.get::<i32>("n").unwrap()), (Some(1), Some(1)));
    assert!(!store.contains("b").unwrap());
    store.put("b", 1).unwrap();
    setup.proxy.set(Mode::Down);
    store.put("b", 2).unwrap();
    assert_eq!(pending(store), Some(1), "each outage has its own limit");
}

#[test]
fn a_full_replay_queue_refuses_and_drops_nothing() {
    for options in [memory().max_pending(100), memory().max_pending_bytes(80_000)] {
        let setup = Setup::away(options);
        let store = &setup.store;
        let mut taken = Vec::new();
        for n in 0..300 {
            match store.push_back(format!("k{n}"), n) {
                Ok(_) => taken.push(n),
                Err(error) => {
                    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
                }
            }
        }
        assert!((90..=130).contains(&taken.len()), "{}", taken.len());
        let full = taken.len() as u64;
        assert_eq!(pending(store), Some(full));
        assert_refused(store.put("more", 1));
        assert_error!(store.get::<i32>("more"), Error::Unavailable { .. });
        setup.back();
        for n in &taken {
            assert_eq!(store.queue_range::<i32>(&format!("k{n}"), ..).unwrap(), [*n]);
        }
        assert_eq!(store.stats().outages.replayed, full);
        store.put("more", 1).unwrap();
    }
}

/// A read does not return the deadline of a value. A value changed locally once never expired on the server.
#[test]
fn a_value_changed_in_an_outage_keeps_its_ttl_on_the_server() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for key in ["t:modified", "t:swapped"] {
        raw.run::<_, ()>("SET", &[key, "1", "PX", "3600000"]);
    }
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory().exclusive(true)).unwrap();
    assert_eq!(store.batch_get::<i32>(["modified", "swapped"]).unwrap(), [Some(1), Some(1)]);
    proxy.set(Mode::Down);
    for n in 2..5 {
        store.modify("modified", |_: Option<i32>| Some(n)).unwrap();
        assert!(store.compare_and_set("swapped", Some(&(n - 1)), &n).unwrap());
        store.get_and_touch::<i32>("swapped", HOUR).unwrap();
    }
    assert!(pending(&store) <= Some(7), "adjacent operations are merged");
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    for key in ["modified", "swapped"] {
        assert_eq!(store.get::<i32>(key).unwrap(), Some(4));
        assert!(matches!(store.ttl(key).unwrap(), Some(Ttl::In(_))), "{key}");
    }
}
