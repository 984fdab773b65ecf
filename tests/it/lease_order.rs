//! Large numbers of leases that have run out.

use std::sync::Arc;
use std::time::Duration;

use millpond::{ManualClock, StateConfig, StateStore};

#[cfg(feature = "redis")]
use crate::support::shared_server::SharedServer;

const MANY: u32 = 9000;

/// Values once came back at most a thousand at a time, and those of the next thousand were put in front of
/// them: a value that was taken late was returned early.
fn assert_values_come_back_in_order(store: &StateStore, wait: impl FnOnce()) {
    store.push_back_many("q", 0..MANY).unwrap();
    for number in 0..MANY {
        // The values that were taken last have the leases that run out first.
        let lease = Duration::from_secs(3600 + u64::from(MANY - number));
        assert_eq!(store.take::<u32>("q", lease).unwrap().map(|taken| *taken), Some(number));
    }
    store.push_back("q", MANY).unwrap();
    wait();
    assert_eq!(store.take::<u32>("q", Duration::from_secs(60)).unwrap().map(|taken| *taken), Some(0));
    assert_eq!(store.queue_range::<u32>("q", ..).unwrap(), (1..=MANY).collect::<Vec<_>>());
}

#[test]
fn expired_leases_come_back_in_order_on_memory() {
    let clock = Arc::new(ManualClock::default());
    let store = StateStore::with_clock(StateConfig::default(), clock.clone()).unwrap();
    let wait = || clock.advance(Duration::from_secs(100_000));
    assert_values_come_back_in_order(&store, wait);
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
