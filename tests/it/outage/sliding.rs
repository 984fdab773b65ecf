//! Reads that renew a time to live, during an outage: the value is read locally, and the renewal is queued.

use std::time::Duration;

use millpond::{Error, OnUnknownKey, RedisOptions, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{
    config, durable, memory, notice_disconnect, pending, wait_until_connected,
};

fn open(server: &ProxiedServer, options: RedisOptions) -> StateStore {
    let config = config(&server.proxy.url(), options).default_ttl(HOUR);
    StateStore::with_config(config).unwrap()
}

fn ttl(server: &ProxiedServer, key: &str) -> i64 {
    server.raw.run("PTTL", &[key])
}

fn assert_an_hour(left: i64) {
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

#[test]
fn renewals_of_an_outage_reach_the_server() {
    let dir = tempfile::tempdir().unwrap();
    for options in [memory(), durable(dir.path()), memory().exactly_once(true)] {
        let server = ProxiedServer::new();
        let store = open(&server, options);
        let sliding = store.sliding().unwrap();
        for key in ["a", "persisted", "long", "gone"] {
            store.put(key, 1).unwrap();
        }
        server.proxy.set(Mode::Down);
        notice_disconnect(&store);
        // Another client changes the times to live meanwhile.
        server.raw.run::<_, i64>("PEXPIRE", &["t:a", "60000"]);
        server.raw.run::<_, i64>("PERSIST", &["t:persisted"]);
        server.raw.run::<_, i64>("PEXPIRE", &["t:long", "7200000"]);
        server.raw.run::<_, i64>("DEL", &["t:gone"]);
        for key in ["a", "a", "persisted", "long", "gone"] {
            assert_eq!(sliding.get(key).unwrap(), Some(1));
        }
        assert_error!(sliding.get::<i64>("unknown"), Error::Unavailable { maybe_applied: false, .. });
        assert_eq!(pending(&store), Some(4), "two reads of one key are one renewal, and an error is none");
        server.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_an_hour(ttl(&server, "t:a"));
        assert_eq!(ttl(&server, "t:persisted"), -1, "it has no time to live on the server, and gets none");
        assert!(ttl(&server, "t:long") > 7_000_000, "a read never shortens a life");
        assert_eq!(ttl(&server, "t:gone"), -2, "a renewal brings nothing back");
        assert!(store.take_rejected().is_empty() && store.take_conflicts().is_empty());
        store.close().unwrap();
    }
}

#[test]
fn a_renewal_counts_from_the_read_and_not_from_the_replay() {
    let server = ProxiedServer::new();
    let config = config(&server.proxy.url(), memory()).default_ttl(Duration::from_secs(100));
    let store = StateStore::with_config(config).unwrap();
    store.put("k", 1).unwrap();
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    server.raw.run::<_, i64>("PEXPIRE", &["t:k", "50000"]);
    assert_eq!(store.sliding().unwrap().get("k").unwrap(), Some(1));
    std::thread::sleep(Duration::from_millis(300));
    server.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    let left = ttl(&server, "t:k");
    assert!((50_001..=99_700).contains(&left), "{left}");
}

#[test]
fn an_absent_key_is_read_and_nothing_is_queued() {
    let server = ProxiedServer::new();
    let store = open(&server, memory().on_unknown_key(OnUnknownKey::Absent));
    let sliding = store.sliding().unwrap();
    store.put("k", 1).unwrap();
    store.delete("k").unwrap();
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    for key in ["k", "unknown"] {
        assert_eq!(sliding.get::<i64>(key).unwrap(), None);
    }
    assert_eq!(pending(&store), Some(0));
    assert_error!(sliding.without_fallback().get::<i64>("k"), Error::Unavailable { .. });
}

#[test]
fn a_queue_in_files_holds_renewals() {
    let dir = tempfile::tempdir().unwrap();
    let server = ProxiedServer::new();
    let store = open(&server, durable(dir.path()));
    store.put("k", 1).unwrap();
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert_eq!(store.sliding().unwrap().get("k").unwrap(), Some(1));
    server.raw.run::<_, i64>("PEXPIRE", &["t:k", "60000"]);
    store.close().unwrap();
    drop(store);
    server.proxy.set(Mode::Pass);
    let store = open(&server, durable(dir.path()));
    wait_until_connected(&store);
    assert_an_hour(ttl(&server, "t:k"));
    store.close().unwrap();
}

#[test]
fn a_read_whose_reply_is_lost_is_repeated() {
    for exactly_once in [false, true] {
        let server = ProxiedServer::new();
        let store = open(&server, memory().max_retries(2).exactly_once(exactly_once));
        let sliding = store.sliding().unwrap();
        store.put("k", 1).unwrap();
        for at in [0, 1, 3] {
            server.raw.run::<_, i64>("PEXPIRE", &["t:k", "60000"]);
            assert_eq!(sliding.get("warm").unwrap(), None::<i64>);
            server.proxy.cut(Way::Answer, at);
            assert_eq!(sliding.get("k").unwrap(), Some(1), "cut at {at}");
            assert!(server.proxy.is_cut());
            assert_an_hour(ttl(&server, "t:k"));
        }
        assert_eq!(store.stats().outages.outages, 0);
    }
}
