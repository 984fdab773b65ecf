//! Waiting for a value of a queue.

use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, Leased, StateStore};

use super::concurrency::{THREADS, run_in_threads};
use super::{MINUTE, PATIENCE, SHORT};
use crate::support::backends::Context;

promises![
    a_wait_on_a_queue_with_values_pops_the_first_at_once,
    a_wait_ends_with_nothing_after_its_timeout,
    a_wait_of_zero_length_is_a_plain_pop,
    a_push_of_any_kind_ends_a_wait,
    a_transaction_that_pushes_ends_a_wait,
    two_threads_pass_a_value_back_and_forth,
    many_waiting_threads_get_each_value_once,
    a_wait_that_cannot_decode_removes_and_carries_the_value,
    more_threads_may_wait_than_there_are_connections,
];

/// Promises that need a connected server, or that end when the server disconnects.
mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        a_wait_to_take_ends_with_nothing_after_its_timeout,
        a_push_ends_a_wait_to_take,
        a_wait_to_take_sees_a_lease_run_out,
        back_ends_a_wait,
        a_wait_tolerates_another_kind_that_comes_and_goes,
        closing_the_store_ends_every_wait,
    ];
}

/// A wait may be shorter than asked by this much: timers are no more exact than that.
pub(super) const GRAIN: Duration = Duration::from_millis(2);

/// Runs `act` while another thread waits for a value of the queue `q`, and returns the value. That thread may
/// begin to wait before or after `act`: the outcome must be the same, and must come long before the wait
/// times out.
fn pop_during(store: &StateStore, act: impl FnOnce(&StateStore)) -> Option<i64> {
    let begun = Instant::now();
    let got = thread::scope(|scope| {
        let waiting = scope.spawn(|| store.pop_front_wait::<i64>("q", PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(10));
        act(store);
        waiting.join().expect("no thread panics")
    });
    assert!(begun.elapsed() < PATIENCE / 2, "the waiting thread was not woken: {:?}", begun.elapsed());
    got
}

fn a_wait_on_a_queue_with_values_pops_the_first_at_once(cx: &Context) {
    cx.store().push_back_many("q", [1, 2]).unwrap();
    cx.store().expire("q", MINUTE).unwrap();
    let begun = Instant::now();
    assert_eq!(cx.store().pop_front_wait::<i64>("q", PATIENCE).unwrap(), Some(1));
    cx.assert_ttl("q", MINUTE);
    assert_eq!(cx.store().pop_front_wait::<i64>("q", Duration::MAX).unwrap(), Some(2));
    assert!(begun.elapsed() < PATIENCE);
    assert!(!cx.store().contains("q").unwrap());
    assert_eq!(cx.store().namespace("n").push_back("q", 3).unwrap(), 1);
    assert_eq!(cx.store().pop_front_wait::<i64>("n:q", PATIENCE).unwrap(), Some(3));
}

fn a_wait_ends_with_nothing_after_its_timeout(cx: &Context) {
    for timeout in [Duration::from_nanos(1), Duration::from_millis(1), Duration::from_millis(30)] {
        let store = cx.store();
        let begun = Instant::now();
        assert_eq!(store.pop_front_wait::<i64>("q", timeout).unwrap(), None);
        assert!(begun.elapsed() + GRAIN >= timeout, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < PATIENCE);
    }
    cx.store().push_back("q", 1).unwrap();
    assert_eq!(cx.store().queue_len("q").unwrap(), 1, "no thread waits any more");
}

fn a_wait_of_zero_length_is_a_plain_pop(cx: &Context) {
    let begun = Instant::now();
    assert_eq!(cx.store().pop_front_wait::<i64>("q", Duration::ZERO).unwrap(), None);
    cx.store().push_back("q", 1).unwrap();
    assert_eq!(cx.store().pop_front_wait::<i64>("q", Duration::ZERO).unwrap(), Some(1));
    assert!(begun.elapsed() < PATIENCE);
}

fn a_push_of_any_kind_ends_a_wait(cx: &Context) {
    let store = cx.store();
    assert_eq!(pop_during(&store, |s| _ = s.push_back("q", 1).unwrap()), Some(1));
    assert_eq!(pop_during(&store, |s| _ = s.push_front("q", 2).unwrap()), Some(2));
    assert_eq!(pop_during(&store, |s| _ = s.push_back_many("q", [3, 4]).unwrap()), Some(3));
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [4]);
}

fn a_transaction_that_pushes_ends_a_wait(cx: &Context) {
    let got = pop_during(&cx.store(), |store| {
        let pushed = store.transaction(|tx| {
            tx.push_back("q", 1)?;
            tx.push_front("q", 2)?;
            tx.put("k", 1)
        });
        pushed.unwrap();
    });
    assert_eq!(got, Some(2), "the wait never sees half of the transaction");
    assert_eq!(cx.store().queue_range::<i64>("q", ..).unwrap(), [1]);
}

fn two_threads_pass_a_value_back_and_forth(cx: &Context) {
    let store = cx.store();
    let play = |from: &str, to: &str| {
        for _ in 0..30 {
            let ball = store
                .pop_front_wait::<i64>(from, PATIENCE)
                .unwrap()
                .expect("the other thread returns the value");
            store.push_back(to, ball + 1).unwrap();
        }
    };
    store.push_back("ping", 0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| play("ping", "pong"));
        scope.spawn(|| play("pong", "ping"));
    });
    assert_eq!(store.pop_front::<i64>("ping").unwrap(), Some(60));
}

fn many_waiting_threads_get_each_value_once(cx: &Context) {
    const END: i64 = -1;
    let store = cx.store();
    let begun = Instant::now();
    let mut got = run_in_threads(|thread| {
        let mut got = Vec::new();
        if thread == 0 {
            for number in (0..200).step_by(2) {
                store.push_back("q", number).unwrap();
                store.push_back_many("q", [number + 1]).unwrap();
            }
            store.push_back_many("q", (1..THREADS).map(|_| END)).unwrap();
            return got;
        }
        loop {
            match store.pop_front_wait::<i64>("q", PATIENCE).unwrap() {
                Some(END) => return got,
                Some(number) => got.push(number),
                None => panic!("no value came within {PATIENCE:?}"),
            }
        }
    })
    .concat();
    assert!(begun.elapsed() < PATIENCE, "not every thread was woken: {:?}", begun.elapsed());
    got.sort_unstable();
    assert!(got.into_iter().eq(0..200));
    assert!(!store.contains("q").unwrap());
}

fn a_wait_that_cannot_decode_removes_and_carries_the_value(cx: &Context) {
    cx.store().push_back("q", "text").unwrap();
    let error = assert_error!(cx.store().pop_front_wait::<i64>("q", PATIENCE), Error::Decode { .. });
    let Error::Decode { raw, .. } = error else { unreachable!() };
    assert_eq!(raw, br#""text""#[..]);
    assert!(!cx.store().contains("q").unwrap());
}

fn closing_the_store_ends_every_wait(cx: &Context) {
    let store = cx.store();
    let ended = run_in_threads(|thread| {
        match thread {
            0 => {
                thread::sleep(Duration::from_millis(30));
                return store.close();
            }
            1..3 => drop(store.lease_wait::<i64>("q", MINUTE, PATIENCE)?),
            3 => drop(store.namespace("n").pop_front_wait::<i64>("q", PATIENCE)?),
            _ => drop(store.pop_front_wait::<i64>("q", PATIENCE)?),
        }
        Ok(())
    });
    let mut ended = ended.into_iter();
    ended.next().expect("the thread that closes the store").unwrap();
    for waited in ended {
        let error = assert_error!(waited, Error::Unavailable { .. });
        assert!(!error.is_transient(), "{error:?}");
    }
}

fn a_push_ends_a_wait_to_take(cx: &Context) {
    let store = cx.store();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lease_wait::<i64>("q", MINUTE, PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(10));
        store.push_back("q", 1).unwrap();
        let taken = waiting.join().expect("no thread panics").expect("a value");
        assert_eq!(*taken.value(), 1);
        assert!(taken.ack().unwrap());
    });
    store.push_back("q", 2).unwrap();
    let taken = store.lease_wait::<i64>("q", MINUTE, Duration::MAX).unwrap();
    assert_eq!(taken.map(Leased::into_inner), Some(2), "a value in the queue is taken at once");
}

fn a_wait_to_take_sees_a_lease_run_out(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    let forgotten = store.lease::<i64>("q", SHORT).unwrap().expect("a value");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lease_wait::<i64>("q", MINUTE, PATIENCE).unwrap());
        cx.wait_or_advance(SHORT);
        let taken = waiting.join().expect("no thread panics").expect("the value comes back");
        assert_eq!(*taken.value(), 1);
        assert!(!forgotten.ack().unwrap(), "another consumer has it");
        assert!(taken.ack().unwrap());
    });
}

fn a_wait_to_take_ends_with_nothing_after_its_timeout(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(30)] {
        let begun = Instant::now();
        assert!(store.lease_wait::<i64>("q", MINUTE, timeout).unwrap().is_none());
        assert!(begun.elapsed() >= timeout && begun.elapsed() < PATIENCE);
    }
    assert!(taken.unwrap().ack().unwrap());
}

fn back_ends_a_wait(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().expect("a value");
    assert_eq!(pop_during(&store, |_| assert!(taken.nack().unwrap())), Some(1));
    store.push_back("q", 2).unwrap();
    let taken = store.lease::<i64>("q", MINUTE).unwrap().expect("a value");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lease_wait::<i64>("q", MINUTE, PATIENCE).unwrap());
        assert!(taken.nack().unwrap());
        assert_eq!(waiting.join().expect("no thread panics").map(Leased::into_inner), Some(2));
    });
}

fn more_threads_may_wait_than_there_are_connections(cx: &Context) {
    let cx = &cx.open_another(|config| {
        let redis = config.redis.clone().wait_connections(2);
        config.redis(redis)
    });
    let store = cx.store();
    let mut got = run_in_threads(|thread| {
        if thread == 0 {
            thread::sleep(Duration::from_millis(20));
            store.push_back_many("q", 1..THREADS).unwrap();
            return 0;
        }
        store.pop_front_wait::<i64>("q", PATIENCE).unwrap().expect("there are enough for all")
    });
    got.sort_unstable();
    assert!(got.into_iter().eq(0..THREADS));
}

fn a_wait_tolerates_another_kind_that_comes_and_goes(cx: &Context) {
    let store = cx.store();
    store.put("q", "a value").unwrap();
    assert_error!(store.pop_front_wait::<i64>("q", PATIENCE), Error::WrongType { key, .. } if key == "q");
    assert_error!(store.lease_wait::<i64>("q", MINUTE, PATIENCE), Error::WrongType { .. });
    assert!(store.delete("q").unwrap());
    assert_eq!(pop_during(&store, |s| _ = s.push_back("q", 1).unwrap()), Some(1));
}
