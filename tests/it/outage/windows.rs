//! Sliding windows during an outage: additions are queued, and count for the moment at which they were made.

use std::thread;
use std::time::{Duration, SystemTime};

use millpond::{Error, OnUnknownKey, RedisOptions};

use crate::support::backends::HOUR;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::Mode;
use crate::support::redis_stores::{durable, memory, notice_disconnect, pending, wait_until_connected};

#[test]
fn additions_of_an_outage_count_for_the_time_of_the_event() {
    let dir = tempfile::tempdir().unwrap();
    for options in [memory(), durable(dir.path()), memory().exactly_once(true)] {
        let server = ProxiedServer::new();
        let store = server.store(options);
        let window = store.window("w", HOUR);
        assert_eq!(window.add(1).unwrap(), 1);
        let short = store.window("short", Duration::from_millis(300));
        server.proxy.set(Mode::Down);
        notice_disconnect(&store);
        assert_eq!(window.add(10).unwrap(), 10, "an estimate, from what is known here");
        assert_eq!(window.add_at(SystemTime::now() - HOUR / 2, 100).unwrap(), 110);
        assert_eq!(short.add(5).unwrap(), 5);
        assert_error!(window.sum(), Error::Unavailable { .. });
        assert_error!(store.rate_limit("w", 9, HOUR), Error::Unavailable { maybe_applied: false, .. });
        // Another client counts meanwhile.
        server.raw.run::<_, ()>("HSET", &["t:other", "f", "1"]);
        assert_eq!(pending(&store), Some(3));
        thread::sleep(Duration::from_millis(320));
        server.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_eq!(window.sum().unwrap(), 111);
        assert_eq!(short.sum().unwrap(), 0, "it was made too long ago");
        let left: i64 = server.raw.run("PTTL", &["t:w"]);
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        assert!(store.take_rejected().is_empty());
        store.close().unwrap();
    }
}

#[test]
fn an_exclusive_store_decides_on_limits_during_an_outage() {
    let server = ProxiedServer::new();
    let options: RedisOptions = memory().exclusive(true).on_unknown_key(OnUnknownKey::Absent);
    let store = server.store(options);
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    for allowed in [true, true, false, false] {
        assert_eq!(store.rate_limit("calls", 2, HOUR).unwrap().allowed, allowed);
    }
    assert_eq!(pending(&store), Some(2), "a refused call changes nothing");
    server.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(store.window("calls", HOUR).sum().unwrap(), 2);
    assert!(!store.rate_limit("calls", 2, HOUR).unwrap().allowed);
}

#[test]
fn a_queue_in_files_holds_additions() {
    let dir = tempfile::tempdir().unwrap();
    let server = ProxiedServer::new();
    let store = server.store(durable(dir.path()));
    store.put("warm", 1).unwrap();
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.window("w", HOUR).add(7).unwrap();
    store.window("w", HOUR).add_at(SystemTime::now() - HOUR / 2, 1).unwrap();
    store.close().unwrap();
    drop(store);
    server.proxy.set(Mode::Pass);
    let store = server.store(durable(dir.path()));
    wait_until_connected(&store);
    assert_eq!(store.window("w", HOUR).sum().unwrap(), 8);
    store.close().unwrap();
}
