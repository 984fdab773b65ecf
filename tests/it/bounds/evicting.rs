//! Which entries are evicted, which stay, and what is reported.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, Event, Kind};

use super::{bytes, evicting, open};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn of_a_few_entries_the_least_recently_used_one_goes() {
    let store = open(evicting().max_entries(3));
    for key in ["a", "b", "c"] {
        store.put(key, 1).unwrap();
    }
    assert_eq!(store.get("a").unwrap(), Some(1));
    store.put("d", 1).unwrap();
    assert_eq!(store.keys("").unwrap(), ["a", "c", "d"]);
    store.put("c", 2).unwrap();
    // These do not use the entry.
    assert!(store.contains("a").unwrap() && store.ttl("a").unwrap().is_some());
    assert_eq!(store.keys("a").unwrap(), ["a"]);
    store.push_back("e", 1).unwrap();
    assert_eq!(store.keys("").unwrap(), ["c", "d", "e"]);
    assert_eq!(store.stats().entries.evicted, 2);
    assert_eq!(store.stats().entries.expired, 0);
}

#[test]
fn entries_in_use_survive_many_others() {
    let store = open(evicting().max_entries(1000));
    let hot: Vec<String> = (0..50).map(|n| format!("hot:{n}")).collect();
    store.batch_put(hot.iter().map(|key| (key, 1))).unwrap();
    for n in 0..20_000 {
        store.put(format!("cold:{n}"), n).unwrap();
        assert_eq!(store.get(&hot[n % 50]).unwrap(), Some(1), "after {n} others");
    }
    assert_eq!(store.len().unwrap(), 1000);
    assert_eq!(store.stats().entries.evicted, 19_050);
    let newest = (19_500..20_000).filter(|n| store.contains(format!("cold:{n}")).unwrap()).count();
    assert!(newest > 400, "{newest} of the 500 newest are left");
}

#[test]
fn a_map_or_a_queue_goes_as_a_whole() {
    let store = open(evicting().max_bytes(16 << 10));
    store.map_put_many("m", (0..100).map(|n| (format!("f{n}"), n))).unwrap();
    store.push_back_many("q", 0..100).unwrap();
    let mut written = 0;
    while store.contains("m").unwrap() || store.contains("q").unwrap() {
        store.put(format!("k{written}"), "x".repeat(500)).unwrap();
        written += 1;
        assert!(bytes(&store) <= 16 << 10);
    }
    for key in ["m", "q"] {
        assert!(!store.contains(key).unwrap(), "{key}");
    }
    assert_eq!((store.map_len("m").unwrap(), store.queue_len("q").unwrap()), (0, 0));
    assert_eq!(store.push_back("q", 7).unwrap(), 1);
}

#[test]
fn what_cannot_fit_is_refused_and_evicts_nothing() {
    let store = open(evicting().max_bytes(4096));
    for n in 0..10 {
        store.put(format!("k{n}"), n).unwrap();
    }
    store.map_put("m", "f", "x".repeat(1000)).unwrap();
    assert_error!(store.put("huge", "x".repeat(5000)), Error::Full { option: "max_bytes", .. });
    assert_error!(store.map_put("m", "g", "x".repeat(3200)), Error::Full { .. });
    assert_error!(
        store.transaction(|tx| {
            tx.put("k1", "x".repeat(2000))?;
            tx.put("k2", "x".repeat(2000))
        }),
        Error::Full { .. }
    );
    assert_eq!((store.len().unwrap(), store.stats().entries.evicted), (11, 0));
    // A write never evicts the entry that it changes.
    store.map_put("m", "g", "x".repeat(2500)).unwrap();
    assert_eq!((store.map_len("m").unwrap(), store.kind("m").unwrap()), (2, Some(Kind::Map)));
}

#[test]
fn leased_values_and_locks_stay() {
    let store = open(evicting().max_bytes(8 << 10));
    store.push_back_many("jobs", ["one", "two"]).unwrap();
    let leased = store.lease::<String>("jobs", MINUTE).unwrap().unwrap();
    store.push_after("later", "three", MINUTE).unwrap();
    let guard = store.lock("report", MINUTE, Duration::ZERO).unwrap();
    for n in 0..1000 {
        store.put(format!("k{n}"), "x".repeat(200)).unwrap();
        assert!(bytes(&store) <= 8 << 10);
    }
    assert!(store.stats().entries.evicted > 900);
    assert_eq!(store.queue_len("jobs").unwrap(), 1, "the queue stays while a value of it is leased");
    assert!(leased.ack().unwrap() && guard.is_held().unwrap());
    guard.release().unwrap();
    for n in 0..1000 {
        store.put(format!("k{n}"), "x".repeat(200)).unwrap();
    }
    assert_eq!(store.queue_len("jobs").unwrap(), 0, "then it goes like any other entry");
}

#[test]
fn evictions_are_reported_at_once_and_then_once_a_second() {
    let store = open(evicting().max_entries(10));
    let events = Arc::new(Mutex::new(Vec::new()));
    let (seen, handle) = (Arc::clone(&events), store.clone());
    let listening = store.on_event(move |event| {
        let Event::Evicted { entries, bytes, .. } = event else { panic!("{event:?}") };
        assert!(*bytes >= *entries && event.to_string().contains("evicted"), "{event}");
        // A listener may use the store.
        assert!(handle.len().unwrap() <= 10);
        seen.lock().unwrap().push(*entries);
    });
    for n in 0..10 {
        store.put(format!("k{n}"), n).unwrap();
    }
    assert!(events.lock().unwrap().is_empty(), "nothing was evicted");
    let begun = Instant::now();
    store.put("first", 1).unwrap();
    assert_eq!(*events.lock().unwrap(), [1]);
    let mut written = 0;
    while events.lock().unwrap().len() < 2 {
        store.put(format!("more:{written}"), 1).unwrap();
        written += 1;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(events.lock().unwrap()[1], written, "the second event tells of all that were evicted since");
    assert_eq!(store.stats().entries.evicted, written + 1);
    listening.stop();
    assert_eq!(Arc::strong_count(&events), 1, "a stopped listener is dropped");
}

/// A value that was pushed reaches one waiting thread, or was evicted with its queue: nothing hangs, and nothing comes
/// twice.
#[test]
fn waiting_threads_get_what_is_pushed_to_a_full_store() {
    let store = open(evicting().max_entries(20));
    let (popped, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(value) = store.pop_front_wait::<u64>("q", Duration::from_secs(20)).unwrap() {
                    if value == 0 {
                        return;
                    }
                    popped.fetch_add(1, Ordering::Relaxed);
                    sum.fetch_add(value, Ordering::Relaxed);
                }
                panic!("a value never came");
            });
        }
        for n in 1..=500 {
            store.push_back("q", n).unwrap();
            store.put(format!("k{n}"), n).unwrap();
        }
        for _ in 0..4 {
            store.push_back("q", 0).unwrap();
        }
    });
    // The queue is always the entry that was used last, or one of the last.
    assert_eq!((popped.into_inner(), sum.into_inner()), (500, 500 * 501 / 2));
}
