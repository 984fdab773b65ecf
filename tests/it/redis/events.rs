//! `process_once` on a server: what it costs, and replies that are lost, late or never come.

use std::cell::Cell;

use millpond::{Error, OnUnknownKey, RedisOptions, Result, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxied_server::{ProxiedServer, exactly_once};
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{durable, memory, options, patient, pending, wait_until_connected};

/// Counts an event; before the commit of the first run, `fault` happens.
fn count(store: &StateStore, id: &str, fault: impl Fn()) -> (u32, Result<Option<i64>>) {
    let runs = Cell::new(0);
    let outcome = store.process_once(id, HOUR, |tx| {
        let counted = tx.incr("count", 1)?;
        runs.set(runs.get() + 1);
        if runs.get() == 1 {
            fault();
        }
        Ok(counted)
    });
    (runs.get(), outcome)
}

fn counted(server: &ProxiedServer) -> i64 {
    server.raw.run("GET", &["t:count"])
}

#[test]
fn an_event_costs_at_most_three_round_trips() {
    let server = ProxiedServer::new();
    let store = server.store(patient(options()).pool_size(1));
    store.put("warm", 1).unwrap();
    let trips = |run: &dyn Fn()| {
        let before = server.proxy.requests();
        run();
        server.proxy.requests() - before
    };
    let put = || _ = store.process_once("a", HOUR, |tx| tx.put("k", 1)).unwrap();
    let increment = || _ = store.process_once("b", HOUR, |tx| tx.incr("n", 1)).unwrap();
    let upsert =
        || _ = store.process_once("c", HOUR, |tx| tx.upsert("v", || 0, |v: &mut i32| *v += 1)).unwrap();
    assert_eq!([trips(&put), trips(&increment), trips(&upsert)], [2, 3, 3]);
    assert_eq!([trips(&put), trips(&increment), trips(&upsert)], [2; 3], "they were processed before");
    let at: String = server.raw.run("GET", &["t:__millpond:receipt:a"]);
    assert!(at.starts_with('"') && at.ends_with('"') && at.len() > 32, "{at}");
    let left: i64 = server.raw.run("PTTL", &["t:__millpond:receipt:a"]);
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

#[test]
fn the_lost_reply_of_an_event_that_was_processed_is_recovered() {
    for options in [options(), memory(), exactly_once(), memory().exclusive(true), options().max_retries(0)] {
        let server = ProxiedServer::new();
        let store = server.store(options);
        // The first call of `exactly_once` makes its cache.
        store.transaction(|tx| tx.put("warm", 1)).unwrap();
        let (runs, outcome) = count(&store, "e", || server.proxy.cut(Way::Answer, 0));
        assert_eq!((runs, outcome.unwrap()), (1, Some(1)));
        assert!(server.proxy.is_cut());
        assert_eq!(count(&store, "e", || ()).1.unwrap(), None);
        assert_eq!(counted(&server), 1);
    }
}

#[test]
fn an_event_whose_commit_is_lost_was_not_processed() {
    for options in [options(), memory(), exactly_once()] {
        let server = ProxiedServer::new();
        let store = server.store(options);
        let (_, outcome) = count(&store, "e", || server.proxy.cut(Way::Request, 0));
        // Either it was processed again at once, or the error says that it can be tried again.
        if !matches!(outcome, Ok(Some(1))) {
            assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
            assert_eq!(count(&store, "e", || ()).1.unwrap(), Some(1));
        }
        assert_eq!(counted(&server), 1);
    }
}

#[test]
fn a_commit_that_arrives_late_is_not_applied_as_well() {
    for options in [options(), memory(), exactly_once()] {
        let server = ProxiedServer::new();
        let store = server.store(options);
        let (_, outcome) = count(&store, "e", || server.proxy.hold_old());
        server.proxy.release_old();
        // The time may be over when it is known that the commit was not applied, and never will be.
        if !matches!(outcome, Ok(Some(1))) {
            assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
            assert_eq!(count(&store, "e", || ()).1.unwrap(), Some(1));
        }
        assert_eq!(count(&store, "other", || ()).1.unwrap(), Some(2));
        assert_eq!(counted(&server), 2);
    }
}

#[test]
fn an_event_may_be_tried_again_after_the_server_stayed_away() {
    let dir = tempfile::tempdir().unwrap();
    let absent = OnUnknownKey::Absent;
    let cases: [RedisOptions; 4] = [
        options(),
        memory(),
        memory().exclusive(true).on_unknown_key(absent),
        durable(dir.path()).exclusive(true).on_unknown_key(absent),
    ];
    for options in cases {
        for way in [Way::Answer, Way::Request] {
            let server = ProxiedServer::new();
            let store = server.store(options.clone());
            store.put("count", 5).unwrap();
            let (_, outcome) = count(&store, "e", || server.proxy.cut_and_set(way, 0, Mode::Down));
            let lost = assert_error!(outcome, Error::Unavailable { .. });
            assert!(lost.maybe_applied() || way == Way::Request, "{lost:?}");
            // In doubt, the event must not be processed without the server.
            let (runs, outcome) = count(&store, "e", || ());
            assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
            assert_eq!(runs, 0);
            server.proxy.set(Mode::Pass);
            wait_until_connected(&store);
            let again = count(&store, "e", || ()).1.unwrap();
            assert_eq!(again, if way == Way::Answer { None } else { Some(6) });
            assert_eq!(counted(&server), 6);
            store.close().unwrap();
        }
    }
}

#[test]
fn events_are_processed_during_an_outage_by_an_exclusive_store() {
    let dir = tempfile::tempdir().unwrap();
    for options in [memory(), durable(dir.path())] {
        let server = ProxiedServer::new();
        let store = server.store(options.exclusive(true).on_unknown_key(OnUnknownKey::Absent));
        assert_eq!(count(&store, "before", || ()).1.unwrap(), Some(1));
        server.proxy.set(Mode::Down);
        assert_eq!(store.process_once("during", HOUR, |tx| tx.incr("count", 1)).unwrap(), Some(2));
        assert_eq!(count(&store, "during", || ()).1.unwrap(), None);
        assert_eq!(count(&store, "before", || ()).1.unwrap(), None, "its receipt is known");
        assert_eq!(pending(&store), Some(1), "the receipt and the counter are one group");
        server.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_eq!(counted(&server), 2);
        for id in ["before", "during"] {
            assert_eq!(count(&store, id, || ()).1.unwrap(), None);
        }
        assert_eq!(store.stats().outages.conflicts, 0);
        store.close().unwrap();
    }
}

#[test]
fn a_queue_in_files_holds_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let server = ProxiedServer::new();
    let options = || durable(dir.path()).exclusive(true).on_unknown_key(OnUnknownKey::Absent);
    let store = server.store(options());
    store.put("count", 0).unwrap();
    server.proxy.set(Mode::Down);
    let orders = store.namespace("orders");
    assert_eq!(orders.process_once("1", HOUR, |tx| tx.incr("count", 1)).unwrap(), Some(1));
    // The program ends while the server is away.
    store.close().unwrap();
    drop((store, orders));
    let store = server.store(options());
    let orders = store.namespace("orders");
    assert_eq!(orders.process_once("1", HOUR, |tx| tx.incr("count", 1)).unwrap(), None);
    server.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(orders.process_once("1", HOUR, |tx| tx.incr("count", 1)).unwrap(), None);
    assert_eq!(server.raw.run::<_, i64>("GET", &["t:orders:count"]), 1);
    assert_eq!(store.clear().unwrap(), 2);
    assert_eq!(orders.process_once("1", HOUR, |tx| tx.incr("count", 1)).unwrap(), Some(1));
    store.close().unwrap();
}
