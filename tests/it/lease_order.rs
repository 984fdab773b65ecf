//! Leases that have run out, in numbers.

use std::sync::Arc;
use std::time::Duration;

use millpond::{ManualClock, StateConfig, StateStore};

#[cfg(feature = "redis")]
use crate::support::shared_server::SharedServer;

const MANY: u32 = 9000;

/// A thousand leases at most came back at a time, and those of the next thousand came to lie in front of
/// them: what was taken late was handed out early.
fn what_ran_out_comes_back_in_the_order_in_which_it_was_taken(store: &StateStore, wait: impl FnOnce()) {
    store.push_back_many("q", 0..MANY).unwrap();
    for number in 0..MANY {
        // Those that were taken last run out first.
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
    what_ran_out_comes_back_in_the_order_in_which_it_was_taken(&store, wait);
}

#[cfg(feature = "redis")]
#[test]
fn expired_leases_come_back_in_order_on_redis() {
    const EARLIER: &str = "for _, lease in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
                           redis.call('ZINCRBY', KEYS[1], -1e11, lease) end";
    let server = SharedServer::new();
    let wait = || server.raw.run::<_, ()>("EVAL", &[EARLIER, "1", "p:q:__millpond:leases"]);
    what_ran_out_comes_back_in_the_order_in_which_it_was_taken(&server.store("p"), wait);
    assert_eq!(server.raw.run::<_, i64>("ZCARD", &["p:q:__millpond:leases"]), 1);
    assert_eq!(server.raw.run::<_, i64>("HLEN", &["p:q:__millpond:leased"]), 1);
}
