//! Locks: one holder at a time, for a limited time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, LockGuard, LockLoss, StateStore};

use super::concurrency::run_in_threads;
use super::waiting::GRAIN;
use super::{MINUTE, PATIENCE, SHORT};
use crate::support::backends::Context;
use crate::support::wait_until;

super::promises_that_need_the_server![
    a_lock_has_one_holder,
    dropping_the_guard_releases_the_lock,
    a_lock_expires,
    an_extended_lock_lasts_and_a_shortened_one_ends,
    a_late_guard_reports_that_its_lock_expired,
    a_late_guard_reports_that_another_holder_has_the_lock,
    a_guard_that_lost_its_lock_does_not_release_it,
    tokens_grow_across_release_and_locks,
    tokens_grow_across_expiry_clear_and_reopening,
    a_dead_holder_blocks_others_only_until_its_lock_expires,
    locks_are_not_keys,
    clear_keeps_locks,
    locks_belong_to_namespaces,
    a_lock_of_zero_length_is_refused,
    one_of_many_threads_gets_the_lock,
    two_threads_never_hold_a_lock_at_the_same_time,
    a_wait_ends_when_the_lock_is_released,
    a_wait_ends_when_the_lock_expires,
    a_wait_for_a_lock_ends_after_its_timeout,
    waiters_get_the_lock_in_their_order_and_are_not_overtaken,
    closing_the_store_ends_the_wait_for_a_lock,
    the_longest_key_may_be_a_lock,
];

fn lock(store: &StateStore, ttl: Duration) -> LockGuard {
    store.try_lock("l", ttl).expect("a store").expect("the lock is free")
}

fn is_free(store: &StateStore) -> bool {
    store.try_lock("l", MINUTE).unwrap().is_some()
}

fn a_lock_has_one_holder(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    assert!(guard.is_held().unwrap());
    assert!(store.try_lock("l", MINUTE).unwrap().is_none(), "the holder does not get it twice");
    assert!(store.clone().try_lock("l", MINUTE).unwrap().is_none());
    assert_error!(store.lock("l", MINUTE, Duration::ZERO), Error::Busy { .. });
    assert!(store.try_lock("other", MINUTE).unwrap().is_some());
    guard.release().unwrap();
    assert!(is_free(&store));
    let shown = format!("{:?}", lock(&store, MINUTE));
    assert!(shown.contains("\"l\""), "{shown}");
}

fn dropping_the_guard_releases_the_lock(cx: &Context) {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    shared(&guard);
    thread::spawn(move || drop(guard)).join().unwrap();
    assert!(is_free(&store));
    let panicked = {
        let store = store.clone();
        thread::spawn(move || {
            let _guard = lock(&store, MINUTE);
            panic!("under the lock");
        })
    };
    panicked.join().unwrap_err();
    assert!(is_free(&store));
}

fn a_lock_expires(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, SHORT);
    cx.wait_or_advance(SHORT);
    assert!(!guard.is_held().unwrap());
    assert!(is_free(&store));
}

fn an_extended_lock_lasts_and_a_shortened_one_ends(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, 5 * SHORT);
    guard.extend(MINUTE).unwrap();
    cx.wait_or_advance(5 * SHORT);
    assert!(guard.is_held().unwrap());
    assert!(!is_free(&store));
    guard.extend(SHORT).unwrap();
    cx.wait_or_advance(SHORT);
    assert!(!guard.is_held().unwrap());
    assert!(is_free(&store));
}

#[track_caller]
fn assert_lost(outcome: millpond::Result<()>, expected: LockLoss) {
    let error = assert_error!(outcome, Error::LockLost { .. });
    assert!(!error.is_transient());
    let Error::LockLost { name, how, .. } = error else { unreachable!() };
    assert_eq!((name.as_str(), how), ("l", expected));
}

fn a_late_guard_reports_that_its_lock_expired(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, SHORT);
    cx.wait_or_advance(SHORT);
    assert_lost(guard.extend(MINUTE), LockLoss::Expired);
    assert!(!guard.is_held().unwrap(), "extending did not acquire the lock again");
    assert_lost(guard.release(), LockLoss::Expired);
    let guard = lock(&store, SHORT);
    cx.wait_or_advance(SHORT);
    lock(&store, MINUTE).release().unwrap();
    assert_lost(guard.extend(MINUTE), LockLoss::Expired);
    assert_lost(guard.release(), LockLoss::Expired);
    assert!(is_free(&store));
}

fn a_late_guard_reports_that_another_holder_has_the_lock(cx: &Context) {
    let store = cx.store();
    let late = lock(&store, SHORT);
    cx.wait_or_advance(SHORT);
    let holder = lock(&store, MINUTE);
    assert_lost(late.extend(MINUTE), LockLoss::TakenByAnother);
    assert!(!late.is_held().unwrap());
    assert_lost(late.release(), LockLoss::TakenByAnother);
    assert!(holder.is_held().unwrap());
    holder.extend(MINUTE).unwrap();
    holder.release().unwrap();
}

fn a_guard_that_lost_its_lock_does_not_release_it(cx: &Context) {
    let store = cx.store();
    let late = lock(&store, SHORT);
    cx.wait_or_advance(SHORT);
    let holder = lock(&store, MINUTE);
    drop(late);
    assert!(holder.is_held().unwrap());
    assert!(!is_free(&store));
    holder.release().unwrap();
}

fn tokens_grow_across_release_and_locks(cx: &Context) {
    let store = cx.store();
    let mut last = 0;
    for name in ["l", "l", "other", "l", "n:l", "other"] {
        let guard = store.try_lock(name, MINUTE).unwrap().expect("the lock is free");
        assert!(guard.token() > last, "{name}: {} after {last}", guard.token());
        last = guard.token();
        assert!(last < 1 << 53, "a token fits into a double without rounding");
        guard.extend(MINUTE).unwrap();
        assert_eq!(guard.token(), last, "extending keeps the token");
        guard.release().unwrap();
    }
    let waited = store.lock("l", MINUTE, PATIENCE).unwrap();
    assert!(waited.token() > last);
}

fn tokens_grow_across_expiry_clear_and_reopening(cx: &Context) {
    let mut last = 0;
    let mut grows = |store: &StateStore, ttl: Duration| {
        let guard = lock(store, ttl);
        assert!(guard.token() > last, "{} after {last}", guard.token());
        last = guard.token();
        guard
    };
    let store = cx.store();
    let expired = grows(&store, SHORT);
    cx.wait_or_advance(SHORT);
    drop(grows(&store, MINUTE));
    drop(expired);
    store.put("k", 1).unwrap();
    store.clear().unwrap();
    store.delete_prefix("").unwrap();
    drop(grows(&store, MINUTE));
    drop(store);
    cx.reopen();
    let store = cx.store();
    drop(grows(&store, MINUTE));
}

/// Ends the store without releasing the lock, like a program that is killed.
fn close_without_releasing(cx: &Context, store: StateStore, guard: LockGuard) {
    if cx.in_memory() {
        std::mem::forget(guard);
        return;
    }
    store.close().unwrap();
    drop((guard, store));
    cx.reopen();
}

fn a_dead_holder_blocks_others_only_until_its_lock_expires(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, 10 * SHORT);
    let token = guard.token();
    close_without_releasing(cx, store, guard);
    let store = cx.store();
    assert!(!is_free(&store));
    cx.wait_or_advance(10 * SHORT);
    assert!(lock(&store, MINUTE).token() > token);
}

fn locks_are_not_keys(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    assert!(store.is_empty().unwrap());
    assert_eq!(store.len().unwrap(), 0);
    assert_eq!(store.keys("").unwrap(), [""; 0]);
    assert_eq!(store.count("l").unwrap(), 0);
    assert!(store.scan("").next().is_none());
    assert!(!store.contains("l").unwrap());
    store.push_back("l", 1).unwrap();
    assert!(!is_free(&store), "a key of the same name is unrelated");
    assert!(store.delete("l").unwrap());
    assert!(guard.is_held().unwrap());
    guard.release().unwrap();
    assert!(store.is_empty().unwrap(), "a lock leaves nothing behind");
}

fn clear_keeps_locks(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    let inner = store.namespace("n").try_lock("l", MINUTE).unwrap().expect("the lock is free");
    store.put("l", 1).unwrap();
    assert_eq!(store.clear().unwrap(), 1);
    assert_eq!(store.delete_prefix("l").unwrap(), 0);
    assert_eq!(store.namespace("n").clear().unwrap(), 0);
    assert!(guard.is_held().unwrap() && inner.is_held().unwrap());
    assert!(!is_free(&store));
    inner.release().unwrap();
    guard.release().unwrap();
}

fn locks_belong_to_namespaces(cx: &Context) {
    let store = cx.store();
    let namespace = store.namespace("n");
    let guard = namespace.try_lock("l", SHORT).unwrap().expect("the lock is free");
    assert!(is_free(&store));
    assert!(store.try_lock("n:l", MINUTE).unwrap().is_none());
    drop(namespace);
    cx.wait_or_advance(SHORT);
    let error = assert_error!(guard.extend(MINUTE), Error::LockLost { .. });
    assert!(error.to_string().contains("\"n:l\""), "{error}");
}

fn a_lock_of_zero_length_is_refused(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    for ttl in [Duration::ZERO, Duration::MAX] {
        assert_error!(store.try_lock("new", ttl), Error::InvalidTtl { .. });
        assert_error!(store.lock("new", ttl, MINUTE), Error::InvalidTtl { .. });
        assert_error!(guard.extend(ttl), Error::InvalidTtl { ttl: told, .. } if *told == ttl);
    }
    assert!(guard.is_held().unwrap());
    assert!(store.try_lock("new", MINUTE).unwrap().is_some());
}

fn one_of_many_threads_gets_the_lock(cx: &Context) {
    let store = cx.store();
    for _ in 0..10 {
        let got = run_in_threads(|_| store.namespace("").try_lock("l", MINUTE).unwrap());
        let held: Vec<&LockGuard> = got.iter().flatten().collect();
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].is_held().unwrap());
    }
}

fn two_threads_never_hold_a_lock_at_the_same_time(cx: &Context) {
    let store = cx.store();
    let tokens = Mutex::new(Vec::new());
    run_in_threads(|_| {
        for _ in 0..5 {
            let guard = store.lock("l", MINUTE, PATIENCE).unwrap();
            let read: i64 = store.get("k").unwrap().unwrap_or(0);
            thread::yield_now();
            store.put("k", read + 1).unwrap();
            tokens.lock().expect("no thread panicked").push(guard.token());
            guard.release().unwrap();
        }
    });
    assert_eq!(store.get::<i64>("k").unwrap(), Some(40), "no increment was lost");
    let tokens = tokens.into_inner().expect("no thread panicked");
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

/// Runs `act` while another thread waits for the lock. That thread may begin to wait before or after `act`:
/// the outcome must be the same.
fn wait_for_lock_during(store: &StateStore, act: impl FnOnce()) -> LockGuard {
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock("l", MINUTE, PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(10));
        act();
        waiting.join().expect("no thread panics")
    })
}

fn a_wait_ends_when_the_lock_is_released(cx: &Context) {
    let store = cx.store();
    let first = lock(&store, MINUTE);
    let token = first.token();
    let second = wait_for_lock_during(&store, || first.release().unwrap());
    assert!(second.token() > token && second.is_held().unwrap());
    let third = wait_for_lock_during(&store, || drop(second));
    assert!(third.is_held().unwrap());
    drop(third);
    let free = store.lock("l", MINUTE, Duration::MAX).unwrap();
    assert!(free.is_held().unwrap(), "a free lock is acquired at once");
}

fn a_wait_ends_when_the_lock_expires(cx: &Context) {
    let store = cx.store();
    let late = lock(&store, SHORT);
    let holder = wait_for_lock_during(&store, || cx.wait_or_advance(SHORT));
    assert_lost(late.release(), LockLoss::TakenByAnother);
    assert!(holder.is_held().unwrap());
}

fn a_wait_for_a_lock_ends_after_its_timeout(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(60)] {
        let begun = Instant::now();
        assert_error!(store.lock("l", MINUTE, timeout), Error::Busy { waited, .. } if *waited == timeout);
        assert!(begun.elapsed() + GRAIN >= timeout && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }
    guard.release().unwrap();
    assert!(is_free(&store), "a waiter that gave up blocks no other");
}

fn waiters_get_the_lock_in_their_order_and_are_not_overtaken(cx: &Context) {
    /// Long enough for a thread to get from its last step before the call into the queue of waiters.
    const ARRIVAL: Duration = Duration::from_millis(100);
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    let served = Mutex::new(Vec::new());
    let come = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..3 {
            let (store, served, come) = (&store, &served, &come);
            scope.spawn(move || {
                come.fetch_add(1, Ordering::SeqCst);
                let guard = store.lock("l", MINUTE, PATIENCE).unwrap();
                served.lock().expect("no thread panicked").push(number);
                guard.release().unwrap();
            });
            wait_until("a thread comes", PATIENCE, || come.load(Ordering::SeqCst) > number);
            thread::sleep(ARRIVAL);
        }
        guard.release().unwrap();
        wait_until("the lock is free", PATIENCE, || is_free(&store));
        assert_eq!(*served.lock().expect("no thread panicked"), [0, 1, 2]);
    });
}

fn closing_the_store_ends_the_wait_for_a_lock(cx: &Context) {
    let store = cx.store();
    let guard = lock(&store, MINUTE);
    let token = guard.token();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock("l", MINUTE, PATIENCE));
        thread::sleep(Duration::from_millis(30));
        store.close().unwrap();
        assert_error!(waiting.join().expect("no thread panics"), Error::Unavailable { .. });
    });
    assert_eq!(guard.token(), token);
    assert_error!(guard.is_held(), Error::Unavailable { .. });
    assert_error!(guard.extend(MINUTE), Error::Unavailable { .. });
    assert_error!(guard.release(), Error::Unavailable { .. });
}

fn the_longest_key_may_be_a_lock(cx: &Context) {
    let longest = "l".repeat(512);
    let store = cx.store();
    let guard = store.try_lock(&longest, 10 * SHORT).unwrap().expect("the lock is free");
    let token = guard.token();
    assert_error!(store.lock(&longest, MINUTE, SHORT), Error::Busy { .. });
    close_without_releasing(cx, store, guard);
    let store = cx.store();
    assert!(store.try_lock(&longest, MINUTE).unwrap().is_none());
    cx.wait_or_advance(10 * SHORT);
    assert!(store.try_lock(&longest, MINUTE).unwrap().expect("the lock has expired").token() > token);
    assert_error!(store.try_lock("l".repeat(513), MINUTE), Error::InvalidKey { .. });
}
