//! Large numbers of leases that have run out: in which order their values come back, and how many at a time.

use std::sync::Arc;
use std::time::Duration;

use millpond::{ManualClock, OpenOptions, StateConfig, StateStore};

#[cfg(feature = "redis")]
use crate::support::shared_server::SharedServer;

/// As many as come back at a time.
const BATCH: u64 = 1000;

const MINUTE: Duration = Duration::from_secs(60);

fn take(store: &StateStore) -> Option<u64> {
    store.lease::<u64>("q", MINUTE).unwrap().map(|taken| *taken.value())
}

/// All values of one batch come back in the order in which they were taken, whatever the order in which their leases
/// ran out.
fn assert_values_come_back_in_order(store: &StateStore, wait: impl FnOnce()) {
    store.push_back_many("q", 0..BATCH).unwrap();
    for number in 0..BATCH {
        // The values that were taken last have the leases that run out first.
        let lease = Duration::from_secs(3600 + BATCH - number);
        assert_eq!(store.lease::<u64>("q", lease).unwrap().map(|taken| *taken.value()), Some(number));
    }
    store.push_back("q", BATCH).unwrap();
    wait();
    assert_eq!(take(store), Some(0));
    assert_eq!(store.queue_range::<u64>("q", ..).unwrap(), (1..=BATCH).collect::<Vec<_>>());
}

fn on_memory() -> (StateStore, impl FnOnce()) {
    let clock = Arc::new(ManualClock::default());
    let store = OpenOptions::new().clock(clock.clone()).with_config(StateConfig::default()).unwrap();
    (store, move || clock.advance(Duration::from_secs(100_000)))
}

#[test]
fn expired_leases_come_back_in_order_on_memory() {
    let (store, wait) = on_memory();
    assert_values_come_back_in_order(&store, wait);
}

#[test]
fn many_expired_leases_come_back_a_thousand_at_a_time_on_memory() {
    const MANY: u64 = 9_000;
    let (store, wait) = on_memory();
    store.push_back_many("q", 0..=MANY).unwrap();
    for number in 0..MANY {
        assert_eq!(take(&store), Some(number));
    }
    wait();
    for number in 0..=MANY {
        assert_eq!(take(&store), Some(number), "the values come back in order");
        let len = store.queue_len("q").unwrap();
        assert!(len <= 1 + (number + 1) * (BATCH - 1), "{len} values came back after {} calls", number + 1);
    }
    assert_eq!(take(&store), None);
}

#[cfg(feature = "redis")]
#[test]
fn expired_leases_come_back_in_order_on_redis() {
    const EARLIER: &str = "for _, lease in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
                           redis.call('ZINCRBY', KEYS[1], -1e11, lease) end";
    let server = SharedServer::new();
    let wait = || server.raw.run::<_, ()>("EVAL", &[EARLIER, "1", "p:q:__millpond:leases"]);
    assert_values_come_back_in_order(&server.store("p"), wait);
    assert_eq!(server.raw.run::<_, i64>("ZCARD", &["p:q:__millpond:leases"]), 1);
    assert_eq!(server.raw.run::<_, i64>("HLEN", &["p:q:__millpond:leased"]), 1);
}

/// Workers that took 40,000 values have died. A script that gave all of them back kept the server from everybody else.
#[cfg(feature = "redis")]
#[test]
fn many_expired_leases_come_back_a_thousand_at_a_time_on_redis() {
    const MANY: u64 = 40_000;
    const EXPIRED: &str = "for n = 0, ARGV[1] - 1 do redis.call('HSET', KEYS[2], 1000000 + n, n) \
                           redis.call('ZADD', KEYS[1], 1000000 + n, 1000000 + n) end \
                           redis.call('RPUSH', KEYS[3], ARGV[1])";
    let server = SharedServer::new();
    let (leases, values) = ("p:q:__millpond:leases", "p:q:__millpond:leased");
    server.raw.run::<_, ()>("EVAL", &[EXPIRED, "3", leases, values, "p:q", &MANY.to_string()]);
    let store = server.store("p");
    assert_eq!(take(&store), Some(0));
    assert_eq!(store.queue_len("q").unwrap(), BATCH);
    assert_eq!(server.raw.run::<_, u64>("HLEN", &[values]), MANY - BATCH + 1);
    for number in 1..200 {
        assert_eq!(take(&store), Some(number));
    }
    // The program may also pop: it gets what has come back.
    assert_eq!(store.queue_len("q").unwrap(), MANY + 1 - 200);
    assert_eq!(store.queue_range::<u64>("q", ..).unwrap(), (200..=MANY).collect::<Vec<_>>());
    assert_eq!(server.raw.run::<_, u64>("ZCARD", &[leases]), 200);
}
