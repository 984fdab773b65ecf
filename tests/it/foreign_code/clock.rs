//! A clock of the program that uses the store which asks it for the time.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use millpond::{Clock, FileOptions, OpenOptions, StateBackend, StateConfig, StateStore, SyncPolicy};

use super::{in_time, unless_inside, use_store};

/// Uses the store whenever it is asked.
#[derive(Default)]
pub(super) struct UsesStore {
    pub(super) store: OnceLock<StateStore>,
}

impl Clock for UsesStore {
    fn now(&self) -> SystemTime {
        if let Some(store) = self.store.get() {
            unless_inside(|| use_store(store));
        }
        SystemTime::now()
    }
}

/// Opens a store with such a clock.
pub(super) fn open(config: StateConfig) -> StateStore {
    let clock = Arc::new(UsesStore::default());
    let store = OpenOptions::new().clock(clock.clone()).with_config(config).unwrap();
    assert!(clock.store.set(store.clone()).is_ok());
    store
}

/// Does everything for which a store asks for the time, in several threads.
pub(super) fn use_in_threads(store: &StateStore) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for number in 0..2 {
                    use_store(store);
                    let key = format!("own {thread} {number}");
                    let _ = store.put_with_ttl(&key, number, Duration::from_millis(1));
                    let _ = store.expire(&key, Duration::from_millis(2));
                    let _ = (store.ttl(&key), store.len(), store.count("own"));
                    let _ = store.incr_with_ttl("counter", 1, Duration::from_millis(1));
                    let _ = store.push_back("queue", number);
                    let _ = store.lease::<i64>("queue", Duration::from_millis(1));
                    let _ = store.pop_front_wait::<i64>("queue", Duration::from_millis(1));
                    let _ = store.lock("lock", Duration::from_millis(1), Duration::from_millis(2));
                    let _ = store.get_or_insert_with_ttl_of(&key);
                }
            });
        }
    });
}

trait GetOrInsert {
    fn get_or_insert_with_ttl_of(&self, key: &str) -> millpond::Result<i64>;
}

impl GetOrInsert for StateStore {
    /// Computes a value with the store itself.
    fn get_or_insert_with_ttl_of(&self, key: &str) -> millpond::Result<i64> {
        self.value::<i64>(key).get_or_insert_with(|| self.incr("computed", 1).unwrap_or_default())
    }
}

#[test]
fn a_clock_may_use_the_memory_store_that_asks_it() {
    in_time("a store in memory", || {
        let store = open(StateConfig::default());
        use_in_threads(&store);
        store.close().unwrap();
    });
}

#[test]
fn a_clock_may_use_the_file_store_that_asks_it() {
    for sync in [SyncPolicy::Always, SyncPolicy::Every(Duration::from_millis(1)), SyncPolicy::Never] {
        in_time("a store in files", move || {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().to_path_buf();
            let options = FileOptions::default().sync(sync).compact_min_bytes(4096).compact_ratio(0.5);
            let config =
                || StateConfig::default().backend(StateBackend::file(path.clone())).file(options.clone());
            let store = open(config());
            use_in_threads(&store);
            store.close().unwrap();
            let store = open(config());
            use_in_threads(&store);
            drop(store);
        });
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_clock_may_use_the_redis_store_that_asks_it_during_an_outage() {
    use crate::support::proxied_server::ProxiedServer;
    use crate::support::proxy::Mode;
    use crate::support::redis_stores::{config, durable, memory, notice_disconnect, wait_until_connected};
    for is_durable in [false, true] {
        in_time("a store with a fallback", move || {
            let dir = tempfile::tempdir().unwrap();
            let options = if is_durable { durable(dir.path()) } else { memory() };
            let server = ProxiedServer::new();
            let store = open(config(&server.proxy.url(), options.exclusive(true)));
            use_store(&store);
            server.proxy.set(Mode::Down);
            notice_disconnect(&store);
            use_in_threads(&store);
            server.proxy.set(Mode::Pass);
            std::thread::scope(|scope| {
                scope.spawn(|| use_in_threads(&store));
                wait_until_connected(&store);
            });
            store.close().unwrap();
        });
    }
}
