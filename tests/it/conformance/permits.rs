//! Permits: a number of holders at a time, each for a limited time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{Error, LockLoss, Permits, StateStore};

use super::concurrency::run_in_threads;
use super::{MINUTE, PATIENCE, SHORT};
use crate::support::backends::Context;

super::promises_that_need_the_server![
    as_many_permits_are_held_as_there_are,
    a_dropped_guard_gives_its_permit_back,
    a_permit_comes_back_when_its_time_is_over,
    a_permit_is_held_across_a_reopening,
    tokens_of_permits_grow,
    permits_are_no_keys_and_no_locks,
    holders_are_counted_by_their_own_number,
    a_number_of_permits_has_limits,
    a_wait_for_a_permit_ends_when_one_comes_back,
    many_threads_never_hold_more_permits_than_there_are,
];

fn permits(store: &StateStore, n: u32) -> Permits {
    store.permits("p", n, MINUTE)
}

fn as_many_permits_are_held_as_there_are(cx: &Context) {
    let store = cx.store();
    let permits = permits(&store, 3);
    let mut held: Vec<_> = (0..3).map(|_| permits.try_acquire().unwrap().expect("a free permit")).collect();
    assert!(permits.try_acquire().unwrap().is_none());
    assert_error!(permits.acquire(Duration::ZERO), Error::Busy { .. });
    for guard in &held {
        assert!(guard.is_held().unwrap());
        guard.extend(MINUTE).unwrap();
    }
    held.remove(1).release().unwrap();
    held.push(permits.acquire(Duration::ZERO).unwrap());
    assert!(permits.clone().try_acquire().unwrap().is_none());
    let shown = format!("{permits:?} {:?}", held[0]);
    assert!(shown.contains("Permits { name: \"p\", most: 3") && shown.contains("name: \"p\""), "{shown}");
}

fn a_dropped_guard_gives_its_permit_back(cx: &Context) {
    let store = cx.store();
    let permits = permits(&store, 1);
    for _ in 0..3 {
        let guard = permits.try_acquire().unwrap().expect("a free permit");
        thread::spawn(move || drop(guard)).join().unwrap();
    }
    assert!(permits.try_acquire().unwrap().is_some());
}

fn a_permit_comes_back_when_its_time_is_over(cx: &Context) {
    let store = cx.store();
    let short = store.permits("p", 2, SHORT);
    let late = short.try_acquire().unwrap().expect("a free permit");
    let kept = short.try_acquire().unwrap().expect("a free permit");
    kept.extend(MINUTE).unwrap();
    cx.wait_or_advance(SHORT);
    let next = permits(&store, 2).try_acquire().unwrap().expect("the time of one is over");
    assert!(permits(&store, 2).try_acquire().unwrap().is_none());
    assert!(!late.is_held().unwrap() && next.is_held().unwrap() && kept.is_held().unwrap());
    let error = assert_error!(late.release(), Error::LockLost { how: LockLoss::TakenByAnother, .. });
    assert!(error.to_string().contains("\"p\""), "{error}");
    assert!(next.is_held().unwrap());
}

fn a_permit_is_held_across_a_reopening(cx: &Context) {
    if cx.in_memory() {
        return;
    }
    let store = cx.store();
    let guard = store.permits("p", 1, 10 * SHORT).try_acquire().unwrap().expect("a free permit");
    store.close().unwrap();
    drop((guard, store));
    cx.reopen();
    let store = cx.store();
    let permits = store.permits("p", 1, MINUTE);
    assert!(permits.try_acquire().unwrap().is_none());
    cx.wait_or_advance(10 * SHORT);
    assert!(permits.try_acquire().unwrap().is_some());
}

fn tokens_of_permits_grow(cx: &Context) {
    let store = cx.store();
    let mut last = 0;
    for _ in 0..3 {
        let guards = [
            store.permits("p", 2, MINUTE).try_acquire().unwrap().expect("a free permit"),
            store.permits("p", 2, MINUTE).try_acquire().unwrap().expect("a free permit"),
            store.try_lock("p", MINUTE).unwrap().expect("a free lock"),
        ];
        for guard in guards {
            assert!(guard.token() > last, "{} after {last}", guard.token());
            last = guard.token();
        }
    }
}

fn permits_are_no_keys_and_no_locks(cx: &Context) {
    let store = cx.store();
    let guard = permits(&store, 1).try_acquire().unwrap().expect("a free permit");
    assert!(store.is_empty().unwrap());
    store.put("p", 1).unwrap();
    assert_eq!(store.clear().unwrap(), 1);
    assert!(store.try_lock("p", MINUTE).unwrap().is_some());
    assert!(store.namespace("n").permits("p", 1, MINUTE).try_acquire().unwrap().is_some());
    assert!(guard.is_held().unwrap() && permits(&store, 1).try_acquire().unwrap().is_none());
    guard.release().unwrap();
    assert!(store.is_empty().unwrap(), "a permit leaves nothing behind");
}

fn holders_are_counted_by_their_own_number(cx: &Context) {
    let store = cx.store();
    let first = permits(&store, 1).try_acquire().unwrap().expect("a free permit");
    assert!(permits(&store, 1).try_acquire().unwrap().is_none());
    let second = permits(&store, 2).try_acquire().unwrap().expect("a second permit");
    assert!(permits(&store, 2).try_acquire().unwrap().is_none());
    drop(first);
    assert!(permits(&store, 1).try_acquire().unwrap().is_some());
    second.release().unwrap();
}

fn a_number_of_permits_has_limits(cx: &Context) {
    let store = cx.store();
    assert!(permits(&store, 0).try_acquire().unwrap().is_none());
    assert_error!(permits(&store, 0).acquire(SHORT), Error::Busy { waited, .. } if *waited == SHORT);
    let most: Vec<_> = (0..3).map(|_| permits(&store, 1000).try_acquire().unwrap()).collect();
    assert!(most.iter().all(Option::is_some));
    assert_error!(permits(&store, 1001).try_acquire(), Error::Unsupported { .. });
    assert_error!(permits(&store, u32::MAX).acquire(MINUTE), Error::Unsupported { .. });
    assert_error!(store.permits("p", 1, Duration::ZERO).try_acquire(), Error::InvalidTtl { .. });
    assert_error!(store.permits("", 1, MINUTE).try_acquire(), Error::InvalidKey { .. });
    let longest = store.permits("p".repeat(512), 1000, MINUTE);
    assert!(longest.try_acquire().unwrap().is_some());
}

fn a_wait_for_a_permit_ends_when_one_comes_back(cx: &Context) {
    let store = cx.store();
    let permits = permits(&store, 2);
    let held = [permits.try_acquire().unwrap(), permits.try_acquire().unwrap()];
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| permits.acquire(PATIENCE).unwrap()));
        drop(held);
        let guards = waiting.map(|thread| thread.join().expect("no thread panics"));
        assert!(permits.try_acquire().unwrap().is_none());
        drop(guards);
    });
    let short = store.permits("p", 1, SHORT);
    let _late = short.acquire(PATIENCE).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| short.acquire(PATIENCE).unwrap().token());
        cx.wait_or_advance(SHORT);
        assert!(waiting.join().expect("no thread panics") > 0);
    });
}

fn many_threads_never_hold_more_permits_than_there_are(cx: &Context) {
    let store = cx.store();
    let permits = permits(&store, 3);
    let (holders, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    run_in_threads(|_| {
        for _ in 0..5 {
            let guard = permits.acquire(PATIENCE).unwrap();
            most.fetch_max(holders.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            holders.fetch_sub(1, Ordering::SeqCst);
            guard.release().unwrap();
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
}
