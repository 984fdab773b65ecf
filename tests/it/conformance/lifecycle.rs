//! Handles, closing, and the status of a store.

use millpond::{Error, Result, StateStore, Status, WriteBatch};

use super::keys::{ON_A_KEY, ON_A_PREFIX};
use crate::support::backends::{Backend, Context};
use crate::support::chain;

promises![
    clones_and_namespaces_share_one_store,
    a_store_is_shared_between_threads,
    closing_twice_does_nothing,
    a_panic_in_the_callers_code_leaves_the_store_usable,
    debug_shows_the_namespace_and_no_values,
];

/// Promises that need a connected server, or that end when the server disconnects.
mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        a_working_store_is_connected,
        a_running_scan_ends_with_an_error_after_close,
        after_close_every_operation_returns_unavailable,
    ];
}

type OnAStore = (&'static str, fn(&StateStore) -> Result<()>);

fn clones_and_namespaces_share_one_store(cx: &Context) {
    let store = cx.store();
    let (clone, inner) = (store.clone(), store.namespace("n"));
    clone.put("n:k", 1).unwrap();
    assert_eq!(inner.get::<i64>("k").unwrap(), Some(1));
    inner.clone().put("k", 2).unwrap();
    assert_eq!(store.get::<i64>("n:k").unwrap(), Some(2));
    drop(store);
    assert_eq!(clone.get::<i64>("n:k").unwrap(), Some(2), "a clone outlives the first handle");
}

fn a_store_is_shared_between_threads(cx: &Context) {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let store = cx.store();
    shared(&store);
    let written = {
        let store = store.clone();
        std::thread::spawn(move || store.put("k", 1))
    };
    written.join().unwrap().unwrap();
    assert_eq!(store.get::<i64>("k").unwrap(), Some(1));
}

/// This holds for every handle.
fn after_close_every_operation_returns_unavailable(cx: &Context) {
    let store = cx.store();
    store.put("k", 1).unwrap();
    let handles = [store.clone(), store.namespace("n"), store.clone().namespace("")];
    store.close().unwrap();
    let mut batch = WriteBatch::new();
    batch.put("k", 2).unwrap();
    let refused = |name: &str, outcome: Result<()>| {
        let error = assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
        assert!(chain(&error).concat().contains("closed"), "{name}: {error:?}");
    };
    for store in handles.iter().chain([&store]) {
        for (name, operation) in ON_A_KEY {
            refused(name, operation(store, "k"));
        }
        for (name, operation) in ON_A_PREFIX {
            refused(name, operation(store, "k"));
        }
        let others: [OnAStore; 5] = [
            ("len", |s| s.len().map(drop)),
            ("is_empty", |s| s.is_empty().map(drop)),
            ("clear", |s| s.clear().map(drop)),
            ("flush", StateStore::flush),
            ("empty write", |s| s.write(&WriteBatch::new())),
        ];
        for (name, operation) in others {
            refused(name, operation(store));
        }
        refused("write", store.write(&batch));
    }
    drop((store, handles));
}

fn closing_twice_does_nothing(cx: &Context) {
    let store = cx.store();
    let clone = store.clone();
    store.close().unwrap();
    store.close().unwrap();
    clone.close().unwrap();
}

fn a_running_scan_ends_with_an_error_after_close(cx: &Context) {
    cx.store().batch_put((0..2500).map(|n| (n.to_string(), n))).unwrap();
    let store = cx.store();
    let mut scan = store.scan("");
    let mut entries = store.entries::<i64>("");
    assert!(scan.next().unwrap().is_ok());
    assert!(entries.next().unwrap().is_ok());
    store.close().unwrap();
    let last = scan.by_ref().last().unwrap();
    assert_error!(last, Error::Unavailable { .. });
    assert!(scan.next().is_none());
    let last = entries.by_ref().last().unwrap();
    assert_error!(last, Error::Unavailable { .. });
    assert!(entries.next().is_none());
}

fn a_working_store_is_connected(cx: &Context) {
    let expected = |status: &Status| match cx.case().backend {
        Backend::Memory | Backend::File | Backend::FileReopened => *status == Status::Connected,
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce => *status == Status::Connected,
        #[cfg(feature = "redis")]
        Backend::Away => matches!(status, Status::Disconnected { pending: 0, .. }),
    };
    assert!(expected(&cx.store().status()));
    cx.store().put("k", 1).unwrap();
    assert!(expected(&cx.store().status()));
}

fn a_panic_in_the_callers_code_leaves_the_store_usable(cx: &Context) {
    struct Panics;
    impl serde::Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("in an encoder")
        }
    }
    let store = cx.store();
    store.put("k", 1).unwrap();
    let closures: [fn(&StateStore); 3] = [
        |store| drop(store.modify::<i64>("k", |_| panic!("in a closure"))),
        |store| drop(store.put("k", Panics)),
        |store| {
            let keys = (0..10).map(|n| if n < 5 { "k" } else { panic!("in an iterator") });
            drop(store.batch_put(keys.map(|key| (key, 7))));
        },
    ];
    for closure in closures {
        let store = store.clone();
        std::thread::spawn(move || closure(&store)).join().unwrap_err();
    }
    assert_eq!(store.get::<i64>("k").unwrap(), Some(1));
    assert_eq!(store.incr("k", 1).unwrap(), 2);
    store.put("new", "text").unwrap();
    assert_eq!(store.keys("").unwrap(), ["k", "new"]);
    assert_eq!(store.clear().unwrap(), 2);
}

fn debug_shows_the_namespace_and_no_values(cx: &Context) {
    cx.store().namespace("orders").put("k", "the value").unwrap();
    let shown = format!("{:?}", cx.store().namespace("orders"));
    assert!(shown.contains("orders"), "{shown}");
    assert!(!shown.contains("the value"), "{shown}");
    let shown = format!("{:?} {:?}", cx.store().scan("pre"), cx.store().entries::<i64>("pre"));
    assert!(shown.contains("pre"), "{shown}");
}
