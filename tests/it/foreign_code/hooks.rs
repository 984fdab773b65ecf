//! Listeners, closures, iterators, and implementations of serde's traits that use the store which calls them.

use std::cell::RefCell;
use std::time::Duration;

use millpond::{StateStore, WriteBatch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{in_time, unless_inside, use_store};

thread_local! {
    static STORE: RefCell<Option<StateStore>> = const { RefCell::new(None) };
}

fn use_store_of_thread() {
    if let Some(store) = STORE.with_borrow(Clone::clone) {
        unless_inside(|| use_store(&store));
    }
}

/// Uses the store while it is encoded, decoded and dropped.
#[derive(Debug, PartialEq, Clone)]
struct Nosy(i64);

impl Serialize for Nosy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use_store_of_thread();
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nosy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use_store_of_thread();
        i64::deserialize(deserializer).map(Self)
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        use_store_of_thread();
    }
}

/// Passes values and closures that use the store to every operation that takes one.
fn use_with_nosy_values(store: &StateStore) {
    STORE.set(Some(store.clone()));
    let nosy = || Nosy(1);
    for _ in 0..3 {
        let _ = store.put("k", nosy());
        let _ = store.get::<Nosy>("k");
        let _ = store.update("k", nosy());
        let _ = store.set_if_not_exists("k", nosy(), None);
        let _ = store.compare_and_set("k", Some(&nosy()), &nosy());
        let _ = store.get_and_put::<Nosy>("k", nosy());
        let _ = store.get_and_delete::<Nosy>("k");
        let _ = store.modify("k", |found: Option<Nosy>| {
            use_store_of_thread();
            found.or_else(|| Some(nosy()))
        });
        let _ = store.value::<Nosy>("new").get_or_insert_with(|| {
            use_store_of_thread();
            nosy()
        });
        let _ = store.delete("new");
        let pairs = ["a", "b"].map(|key| (key, nosy()));
        let _ = store.batch_put(pairs.into_iter().inspect(|_| use_store_of_thread()));
        let _ = store.batch_get::<Nosy>(["a", "b"].into_iter().inspect(|_| use_store_of_thread()));
        let _ = store.batch_incr([("n", 1)].into_iter().inspect(|_| use_store_of_thread()));
        let _ = store.batch_delete(["a"].into_iter().inspect(|_| use_store_of_thread()));
        let _ = store.map_put("m", "f", nosy());
        let _ = store.map_get::<Nosy>("m", "f");
        let _ = store.map_entries::<Nosy>("m");
        let _ = store.push_back("q", nosy());
        let _ = store.push_back_many("q", [nosy(), nosy()].into_iter().inspect(|_| use_store_of_thread()));
        let _ = store.queue_range::<Nosy>("q", ..);
        let _ = store.pop_front::<Nosy>("q");
        let _ = store.pop_front_wait::<Nosy>("q", Duration::from_millis(1));
        let _ = store.lease::<Nosy>("q", Duration::from_secs(1)).map(|taken| taken.map(|taken| taken.ack()));
        let mut batch = WriteBatch::new();
        let _ = batch.put("w", nosy());
        let _ = store.write(&batch);
        let _ = store.transaction(|tx| {
            use_store_of_thread();
            let found = tx.get::<Nosy>("t")?;
            use_store_of_thread();
            tx.put("t", found.unwrap_or_else(nosy))?;
            tx.push_back("q", nosy()).map(|_| nosy())
        });
        for entry in store.entries::<Nosy>("") {
            let _ = entry;
            use_store_of_thread();
        }
        for key in store.scan("") {
            let _ = key;
            use_store_of_thread();
        }
    }
    STORE.set(None);
}

#[test]
fn values_and_closures_may_use_the_local_store_to_which_they_are_passed() {
    in_time("a store in memory", || use_with_nosy_values(&StateStore::memory()));
    for sync in ["always", "1ms", "never"] {
        in_time("a store in files", move || {
            let dir = tempfile::tempdir().unwrap();
            let url = format!("file:{}?sync={sync}", dir.path().display());
            use_with_nosy_values(&StateStore::open(&url).unwrap());
        });
    }
}

/// Two threads that compute two values, each with the help of the other value.
#[test]
fn values_that_are_computed_by_each_other_are_not_waited_for_in_a_circle() {
    in_time("two computations", || {
        let store = StateStore::memory();
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for (own, other) in [("a", "b"), ("b", "a")] {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    store.value::<i64>(own).get_or_insert_with(|| {
                        barrier.wait();
                        store.value::<i64>(other).get_or_insert_with(|| 1).unwrap() + 1
                    })
                });
            }
        });
        assert!(store.contains("a").unwrap() && store.contains("b").unwrap());
    });
}

#[cfg(feature = "redis")]
mod with_redis {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::support::proxied_server::ProxiedServer;
    use crate::support::proxy::Mode;
    use crate::support::redis_stores::{memory, notice_disconnect, wait_for, wait_until_connected};

    #[test]
    fn values_and_closures_may_use_the_redis_store_to_which_they_are_passed() {
        in_time("a store on Redis", || {
            let server = ProxiedServer::new();
            // A closure that runs while a connection is in use must not wait for the only one.
            let store = server.store(memory().exclusive(true).pool_size(1));
            use_with_nosy_values(&store);
            server.proxy.set(Mode::Down);
            notice_disconnect(&store);
            thread::scope(|scope| {
                scope.spawn(|| use_with_nosy_values(&store));
                use_with_nosy_values(&store);
                server.proxy.set(Mode::Pass);
                use_with_nosy_values(&store);
            });
            wait_until_connected(&store);
        });
    }

    #[test]
    fn a_listener_may_use_the_store_and_close_it() {
        in_time("a listener", || {
            let server = ProxiedServer::new();
            let store = server.store(memory());
            let (heard, listening) = (Arc::new(AtomicU64::new(0)), store.clone());
            let count = heard.clone();
            store.on_event(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                unless_inside(|| use_store(&listening));
            });
            for outage in 1..=3 {
                server.proxy.set(Mode::Down);
                notice_disconnect(&store);
                store.push_back("list", 1).unwrap();
                server.proxy.set(Mode::Pass);
                wait_until_connected(&store);
                wait_for("both events are delivered", || heard.load(Ordering::SeqCst) == 2 * outage);
            }
            let closing = store.clone();
            store.on_event(move |_| closing.close().unwrap());
            server.proxy.set(Mode::Down);
            // The store is closed by the thread that notices the outage.
            wait_for("the store is closed", || store.put("k", 1).is_err());
            assert!(store.put("k", 1).is_err());
        });
    }
}
