//! Typed handles for single keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::handle::{Counter, Map, Queue, Value};
use millpond::{Error, Ttl};

use super::concurrency::run_in_threads;
use super::{MINUTE, PATIENCE};
use crate::support::backends::Context;

promises![
    a_value_handle_does_what_the_store_does,
    a_counter_handle_does_what_the_store_does,
    a_map_handle_does_what_the_store_does,
    a_queue_handle_does_what_the_store_does,
    every_handle_has_a_time_to_live,
    handles_are_shared_cloned_and_sent,
    handles_use_the_namespace_of_their_store,
    a_handle_for_an_invalid_key_fails_when_it_is_used,
    a_handle_on_another_kind_returns_an_error,
    a_missing_value_is_computed_once_and_then_read,
    a_missing_value_is_computed_once_by_many_threads,
    after_a_panic_the_next_caller_computes_the_value,
];

/// Promises that need a connected server, or that end when the server disconnects.
mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![a_queue_handle_takes_and_waits,];
}

fn a_value_handle_does_what_the_store_does(cx: &Context) {
    let value: Value<String> = cx.store().value("k");
    let text = |text: &str| text.to_owned();
    assert_eq!(value.get().unwrap(), None);
    assert!(!value.contains().unwrap());
    assert!(!value.update(text("x")).unwrap());
    value.put(text("a")).unwrap();
    assert_eq!(value.get().unwrap(), Some(text("a")));
    assert!(value.contains().unwrap());
    assert!(value.update(text("b")).unwrap());
    assert!(!value.set_if_not_exists(text("x"), None).unwrap());
    assert!(!value.compare_and_set(Some(&text("x")), text("c")).unwrap());
    assert!(value.compare_and_set(Some(&text("b")), text("c")).unwrap());
    assert_eq!(value.get_and_put(text("d")).unwrap(), Some(text("c")));
    let longer = value.modify(|found| found.map(|found| found + "!"));
    assert_eq!(longer.unwrap(), Some(text("d!")));
    assert_eq!(value.get_and_delete().unwrap(), Some(text("d!")));
    assert!(!value.delete().unwrap());
    assert!(value.compare_and_set(None, text("e")).unwrap());
    assert!(value.delete().unwrap());
    assert!(value.set_if_not_exists(text("f"), Some(MINUTE)).unwrap());
    assert!(cx.is_ttl(value.ttl().unwrap(), Some(Ttl::In(MINUTE))));
    value.put_with_ttl(text("g"), 2 * MINUTE).unwrap();
    assert!(cx.is_ttl(value.ttl().unwrap(), Some(Ttl::In(2 * MINUTE))));
    assert_eq!(value.get_or_insert_with_ttl(MINUTE, || unreachable!()).unwrap(), text("g"));
    assert!(cx.is_ttl(value.ttl().unwrap(), Some(Ttl::In(2 * MINUTE))), "a value that is there keeps it");
    assert_eq!(value.get_and_put_with_ttl(text("h"), MINUTE).unwrap(), Some(text("g")));
    assert!(cx.is_ttl(value.ttl().unwrap(), Some(Ttl::In(MINUTE))));
    assert!(value.delete().unwrap());
    assert_eq!(value.get_or_insert_with_ttl(2 * MINUTE, || text("g")).unwrap(), text("g"));
    assert!(cx.is_ttl(value.ttl().unwrap(), Some(Ttl::In(2 * MINUTE))));
    drop(value);
    assert_eq!(cx.store().get::<String>("k").unwrap(), Some(text("g")));
}

fn a_counter_handle_does_what_the_store_does(cx: &Context) {
    let counter: Counter = cx.store().counter("k");
    assert_eq!(counter.get().unwrap(), None);
    assert_eq!(counter.incr(5).unwrap(), 5);
    assert_eq!(counter.decr(2).unwrap(), 3);
    assert_eq!(counter.get().unwrap(), Some(3));
    assert!(counter.delete().unwrap());
    assert!(!counter.delete().unwrap());
    assert_eq!(counter.incr_with_ttl(1, MINUTE).unwrap(), 1);
    assert!(cx.is_ttl(counter.ttl().unwrap(), Some(Ttl::In(MINUTE))));
    assert_error!(counter.incr(i64::MAX), Error::Overflow { .. });
    drop(counter);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
}

fn a_map_handle_does_what_the_store_does(cx: &Context) {
    let map: Map<i64> = cx.store().map("k");
    assert!(map.is_empty().unwrap());
    assert!(map.put("a", 1).unwrap());
    assert!(!map.put("a", 2).unwrap());
    assert_eq!(map.put_many([("b", 3), ("c", 4)]).unwrap(), 2);
    assert_eq!(map.get("a").unwrap(), Some(2));
    assert_eq!(map.get_many(["c", "x"]).unwrap(), [Some(4), None]);
    assert!(map.contains("b").unwrap());
    assert!(map.delete("b").unwrap());
    assert_eq!(map.keys().unwrap(), ["a", "c"]);
    assert_eq!(map.len().unwrap(), 2);
    assert_eq!(map.incr("a", 5).unwrap(), 7);
    assert_eq!(map.entries().unwrap(), BTreeMap::from([("a".to_owned(), 7), ("c".to_owned(), 4)]));
    assert!(!map.is_empty().unwrap());
    assert!(map.clear().unwrap());
    assert!(!map.clear().unwrap());
    drop(map);
    assert!(!cx.store().contains("k").unwrap());
}

fn a_queue_handle_does_what_the_store_does(cx: &Context) {
    let queue: Queue<i64> = cx.store().queue("k");
    assert!(queue.is_empty().unwrap());
    assert_eq!(queue.push_back(1).unwrap(), 1);
    assert_eq!(queue.push_front(0).unwrap(), 2);
    assert_eq!(queue.push_back_many([2, 3, 4]).unwrap(), 5);
    assert_eq!(queue.range(1..3).unwrap(), [1, 2]);
    assert_eq!(queue.trim(4).unwrap(), 1);
    assert_eq!(queue.pop_front().unwrap(), Some(1));
    assert_eq!(queue.pop_back().unwrap(), Some(4));
    assert_eq!(queue.len().unwrap(), 2);
    assert!(!queue.is_empty().unwrap());
    assert!(queue.clear().unwrap());
    assert!(!queue.clear().unwrap());
    drop(queue);
    assert!(!cx.store().contains("k").unwrap());
}

fn a_queue_handle_takes_and_waits(cx: &Context) {
    let queue: Queue<i64> = cx.store().queue("k");
    assert_eq!(queue.pop_front_wait(Duration::ZERO).unwrap(), None);
    assert!(queue.lease(MINUTE).unwrap().is_none());
    assert!(queue.lease_wait(MINUTE, Duration::ZERO).unwrap().is_none());
    queue.push_back_many([1, 2, 3]).unwrap();
    assert_eq!(queue.pop_front_wait(PATIENCE).unwrap(), Some(1));
    let taken = queue.lease(MINUTE).unwrap().expect("a value");
    assert_eq!(*taken.value(), 2);
    assert!(taken.nack().unwrap());
    let taken = queue.lease_wait(MINUTE, PATIENCE).unwrap().expect("a value");
    assert_eq!(*taken.value(), 2);
    assert!(taken.ack().unwrap());
    assert_eq!(queue.range(..).unwrap(), [3]);
}

fn every_handle_has_a_time_to_live(cx: &Context) {
    let store = cx.store();
    let (value, counter) = (store.value::<i64>("value"), store.counter("counter"));
    let (map, queue) = (store.map::<i64>("map"), store.queue::<i64>("queue"));
    assert_eq!(value.ttl().unwrap().or(counter.ttl().unwrap()), None);
    assert_eq!(map.ttl().unwrap().or(queue.ttl().unwrap()), None);
    assert!(!map.expire(MINUTE).unwrap() && !queue.persist().unwrap());
    value.put(1).unwrap();
    counter.incr(1).unwrap();
    map.put("f", 1).unwrap();
    queue.push_back(1).unwrap();
    for done in [value.expire(MINUTE), counter.expire(MINUTE), map.expire(MINUTE), queue.expire(MINUTE)] {
        assert!(done.unwrap());
    }
    for told in [value.ttl(), counter.ttl(), map.ttl(), queue.ttl()] {
        assert!(cx.is_ttl(told.unwrap(), Some(Ttl::In(MINUTE))));
    }
    for done in [value.persist(), counter.persist(), map.persist(), queue.persist()] {
        assert!(done.unwrap());
    }
    for told in [value.ttl(), counter.ttl(), map.ttl(), queue.ttl()] {
        assert_eq!(told.unwrap(), Some(Ttl::Never));
    }
}

fn handles_are_shared_cloned_and_sent(cx: &Context) {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug + 'static>(handle: &T) -> T {
        handle.clone()
    }
    let store = cx.store();
    let value = shared(&store.value::<i64>("value"));
    let counter = shared(&store.counter("counter"));
    let map = shared(&store.map::<i64>("map"));
    let queue = shared(&store.queue::<i64>("queue"));
    let shown = format!("{value:?} {counter:?} {map:?} {queue:?}");
    assert!(["value", "counter", "map", "queue"].iter().all(|key| shown.contains(key)), "{shown}");
    drop(store);
    thread::spawn(move || {
        value.put(1).unwrap();
        counter.incr(2).unwrap();
        map.put("f", 3).unwrap();
        queue.push_back(4).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(cx.store().batch_get::<i64>(["value", "counter"]).unwrap(), [Some(1), Some(2)]);
    assert_eq!(cx.store().map_get::<i64>("map", "f").unwrap(), Some(3));
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [4]);
}

fn handles_use_the_namespace_of_their_store(cx: &Context) {
    let namespace = cx.store().namespace("n");
    namespace.value::<i64>("value").put(1).unwrap();
    namespace.counter("counter").incr(1).unwrap();
    namespace.map::<i64>("map").put("f", 1).unwrap();
    namespace.queue::<i64>("queue").push_back(1).unwrap();
    assert_eq!(namespace.value::<i64>("value").get_or_insert_with(|| 2).unwrap(), 1);
    drop(namespace);
    assert_eq!(cx.store().keys("").unwrap(), ["n:counter", "n:map", "n:queue", "n:value"]);
}

fn a_handle_for_an_invalid_key_fails_when_it_is_used(cx: &Context) {
    let store = cx.store();
    for key in ["", "a\nb", "__millpond:x"] {
        assert_error!(store.value::<i64>(key).get(), Error::InvalidKey { .. });
        assert_error!(store.value::<i64>(key).get_or_insert_with(|| 1), Error::InvalidKey { .. });
        assert_error!(store.counter(key).incr(1), Error::InvalidKey { .. });
        assert_error!(store.map::<i64>(key).is_empty(), Error::InvalidKey { .. });
        assert_error!(store.queue::<i64>(key).push_back(1), Error::InvalidKey { .. });
    }
    assert!(store.is_empty().unwrap());
}

fn a_handle_on_another_kind_returns_an_error(cx: &Context) {
    let store = cx.store();
    store.push_back("k", 1).unwrap();
    assert_error!(store.value::<i64>("k").get(), Error::WrongType { .. });
    assert_error!(store.value::<i64>("k").get_or_insert_with(|| 1), Error::WrongType { .. });
    assert_error!(store.counter("k").get(), Error::WrongType { .. });
    assert_error!(store.map::<i64>("k").len(), Error::WrongType { .. });
    assert_eq!(store.queue::<i64>("k").len().unwrap(), 1);
    store.put("k", "text").unwrap();
    assert_error!(store.value::<i64>("k").get(), Error::Decode { .. });
    assert_error!(store.value::<i64>("k").get_or_insert_with(|| 1), Error::Decode { .. });
    assert_error!(store.queue::<i64>("k").is_empty(), Error::WrongType { .. });
}

fn a_missing_value_is_computed_once_and_then_read(cx: &Context) {
    let store = cx.store();
    let value: Value<Option<String>> = store.value("k");
    assert_eq!(value.get_or_insert_with(|| Some("made".into())).unwrap().as_deref(), Some("made"));
    let never = || unreachable!("the value exists");
    assert_eq!(value.get_or_insert_with(never).unwrap().as_deref(), Some("made"));
    value.put(&None).unwrap();
    assert_eq!(value.get_or_insert_with(never).unwrap(), None, "a null is a value");
    value.delete().unwrap();
    let nested = store.value::<i64>("other");
    let made = value.get_or_insert_with(|| Some(nested.get_or_insert_with(|| 5).unwrap().to_string()));
    assert_eq!(made.unwrap().as_deref(), Some("5"), "the closure may use the store");
    drop((store, value, nested));
    cx.assert_default_ttl("k");
    cx.assert_default_ttl("other");
    cx.store().delete("k").unwrap();
    let broken = cx.store().value::<f64>("k").get_or_insert_with(|| f64::NAN);
    assert_error!(broken, Error::Encode { .. });
    assert!(!cx.store().contains("k").unwrap());
}

fn a_missing_value_is_computed_once_by_many_threads(cx: &Context) {
    let store = cx.store();
    for round in 0..5 {
        let (key, computed) = (format!("k:{round}"), AtomicUsize::new(0));
        let got = run_in_threads(|thread| {
            let value: Value<i64> = store.clone().value(&key);
            let compute = || {
                computed.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
                thread
            };
            value.get_or_insert_with(compute).unwrap()
        });
        assert_eq!(computed.into_inner(), 1, "once");
        assert!(got.iter().all(|number| *number == got[0]), "{got:?}");
        assert_eq!(store.get::<i64>(&key).unwrap(), Some(got[0]));
    }
}

fn after_a_panic_the_next_caller_computes_the_value(cx: &Context) {
    let store = cx.store();
    let value: Value<i64> = store.value("k");
    let panics = value.clone();
    thread::spawn(move || panics.get_or_insert_with(|| panic!("in a closure"))).join().unwrap_err();
    assert!(!store.contains("k").unwrap());
    assert_eq!(value.get_or_insert_with(|| 3).unwrap(), 3);
}
