//! Values that are pushed with a delay, and values that go to another queue after too many attempts.

use std::time::Duration;

use millpond::handle::Queue;
use millpond::{Error, StateStore};

use super::{MINUTE, PATIENCE, SHORT};
use crate::support::backends::Context;

super::promises_that_need_the_server![
    a_delayed_value_is_not_seen_before_it_is_due,
    delayed_values_are_due_in_their_order,
    a_value_that_is_due_comes_behind_those_that_wait,
    a_delayed_value_survives_the_end_of_the_program,
    a_thousand_delayed_values_enter_the_queue_at_a_time,
    clear_drops_delayed_values_and_a_deletion_does_not,
    a_push_with_a_delay_refuses_what_a_push_refuses,
    a_wait_ends_when_a_delayed_value_is_due,
    a_value_goes_to_the_dead_letters_after_its_attempts,
    dead_letters_keep_their_bytes_and_their_attempts,
    values_behind_dead_letters_are_handed_out_at_once,
    a_queue_for_dead_letters_must_be_another_queue,
];

fn lease(store: &StateStore) -> Option<i64> {
    store.lease::<i64>("q", MINUTE).unwrap().map(|leased| {
        assert_eq!(leased.attempts(), 1);
        assert!(leased.ack().unwrap());
        leased.into_inner()
    })
}

fn a_delayed_value_is_not_seen_before_it_is_due(cx: &Context) {
    let store = cx.store();
    store.push_after("q", 1, SHORT).unwrap();
    assert_eq!(store.pop_front::<i64>("q").unwrap(), None);
    assert_eq!(store.queue_len("q").unwrap(), 0);
    assert!(store.is_empty().unwrap());
    if cx.clock_is_manual() {
        assert_eq!(lease(&store), None);
    }
    cx.wait_or_advance(SHORT);
    assert_eq!(lease(&store), Some(1));
    assert_eq!(lease(&store), None);
    store.push_after("q", 2, Duration::ZERO).unwrap();
    cx.wait_or_advance(Duration::from_millis(1));
    assert_eq!(lease(&store), Some(2));
    assert!(store.is_empty().unwrap());
}

fn delayed_values_are_due_in_their_order(cx: &Context) {
    let store = cx.store();
    for (value, delay) in [(3, 3 * SHORT), (1, SHORT), (2, SHORT), (5, 4 * SHORT), (4, 3 * SHORT)] {
        store.push_after("q", value, delay).unwrap();
    }
    cx.wait_or_advance(2 * SHORT);
    assert_eq!(lease(&store), Some(1));
    cx.wait_or_advance(2 * SHORT);
    cx.wait_or_advance(SHORT);
    assert_eq!([(); 4].map(|()| lease(&store)), [Some(2), Some(3), Some(4), Some(5)]);
}

fn a_value_that_is_due_comes_behind_those_that_wait(cx: &Context) {
    let store = cx.store();
    store.push_after("q", 2, SHORT).unwrap();
    store.push_back("q", 1).unwrap();
    cx.wait_or_advance(SHORT);
    let first = store.lease::<i64>("q", MINUTE).unwrap().expect("a value");
    assert_eq!((*first.value(), store.queue_len("q").unwrap()), (1, 1));
    store.push_back("q", 3).unwrap();
    assert!(first.nack().unwrap());
    let again = store.lease::<i64>("q", MINUTE).unwrap().expect("a value");
    assert_eq!((*again.value(), again.attempts()), (1, 2));
    assert_eq!([(); 2].map(|()| lease(&store)), [Some(2), Some(3)]);
}

fn a_delayed_value_survives_the_end_of_the_program(cx: &Context) {
    cx.store().push_after("q", 1, 2 * SHORT).unwrap();
    cx.reopen();
    cx.wait_or_advance(2 * SHORT);
    let leased = cx.store().lease::<i64>("q", MINUTE).unwrap().expect("a value");
    assert_eq!((*leased.value(), leased.attempts()), (1, 1));
    drop(leased);
    cx.reopen();
    assert!(cx.store().lease::<i64>("q", MINUTE).unwrap().is_none());
}

fn a_thousand_delayed_values_enter_the_queue_at_a_time(cx: &Context) {
    let store = cx.store();
    for value in 0..1100 {
        store.push_after("q", value, Duration::ZERO).unwrap();
    }
    cx.wait_or_advance(Duration::from_millis(1));
    assert_eq!(lease(&store), Some(0));
    assert_eq!(store.queue_len("q").unwrap(), 999);
    assert_eq!(lease(&store), Some(1));
    assert_eq!(store.queue_len("q").unwrap(), 1098);
    assert!(store.queue_range::<i64>("q", ..).unwrap().into_iter().eq(2..1100));
}

fn clear_drops_delayed_values_and_a_deletion_does_not(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    store.push_after("q", 2, SHORT).unwrap();
    store.namespace("n").push_after("q", 3, SHORT).unwrap();
    assert!(store.delete("q").unwrap());
    assert_eq!(store.namespace("n").clear().unwrap(), 0);
    cx.wait_or_advance(SHORT);
    assert_eq!(lease(&store), Some(2));
    assert_eq!(lease(&store.namespace("n")), None);
    store.push_after("q", 4, SHORT).unwrap();
    store.clear().unwrap();
    cx.wait_or_advance(SHORT);
    assert_eq!(lease(&store), None);
}

fn a_push_with_a_delay_refuses_what_a_push_refuses(cx: &Context) {
    let store = cx.store();
    store.put("q", 1).unwrap();
    assert_error!(store.push_after("q", 1, SHORT), Error::WrongType { .. });
    assert_error!(store.push_after("", 1, SHORT), Error::InvalidKey { .. });
    assert_error!(store.push_after("new", 1, Duration::MAX), Error::InvalidTtl { .. });
    assert_error!(store.push_after("new", f64::NAN, SHORT), Error::Encode { .. });
    assert_eq!(store.get::<i64>("q").unwrap(), Some(1));
    assert!(store.delete("q").unwrap());
    cx.wait_or_advance(SHORT);
    assert_eq!((lease(&store), lease(&store.namespace("new"))), (None, None));
}

fn a_wait_ends_when_a_delayed_value_is_due(cx: &Context) {
    let store = cx.store();
    let queue: Queue<i64> = store.queue("q");
    queue.push_after(1, SHORT).unwrap();
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| queue.lease_wait(MINUTE, PATIENCE).unwrap().map(|leased| *leased.value()));
        cx.wait_or_advance(SHORT);
        assert_eq!(waiting.join().expect("no thread panics"), Some(1));
    });
}

fn a_value_goes_to_the_dead_letters_after_its_attempts(cx: &Context) {
    let store = cx.store();
    let queue: Queue<i64> = store.queue("q").dead_letter_after(2, "dead");
    queue.push_back_many([1, 2]).unwrap();
    let first = queue.lease(MINUTE).unwrap().expect("a value");
    assert!(first.nack().unwrap());
    let second = queue.clone().lease(SHORT).unwrap().expect("a value");
    assert_eq!((*second.value(), second.attempts()), (1, 2));
    assert_eq!(store.queue_len("dead").unwrap(), 0);
    cx.wait_or_advance(SHORT);
    let next = queue.lease_wait(MINUTE, PATIENCE).unwrap().expect("a value");
    assert_eq!((*next.value(), next.attempts()), (2, 1));
    assert_eq!(store.queue_range::<i64>("dead", ..).unwrap(), [1]);
    assert!(!second.ack().unwrap(), "its lease has expired");
    assert!(next.ack().unwrap());
    assert!(queue.lease(MINUTE).unwrap().is_none());
    assert!(queue.is_empty().unwrap());
    drop((second, next, queue, store));
    cx.assert_default_ttl("dead");
}

fn dead_letters_keep_their_bytes_and_their_attempts(cx: &Context) {
    let store = cx.store();
    store.push_back("q", "no number").unwrap();
    store.push_back("q", "no number either").unwrap();
    let queue: Queue<i64> = store.queue("q").dead_letter_after(1, "dead");
    for _ in 0..2 {
        let error = queue.lease(MINUTE).unwrap_err();
        assert!(store.undecoded(&error).expect("a lease").nack().unwrap());
    }
    assert!(queue.lease(MINUTE).unwrap().is_none());
    assert_eq!(store.queue_range::<String>("dead", ..).unwrap(), ["no number either", "no number"]);
    for (text, attempts) in [("no number either", 2), ("no number", 2)] {
        let leased = store.lease::<String>("dead", MINUTE).unwrap().expect("a dead letter");
        assert_eq!((leased.value().as_str(), leased.attempts()), (text, attempts));
    }
}

fn values_behind_dead_letters_are_handed_out_at_once(cx: &Context) {
    let store = cx.store();
    let queue: Queue<i64> = store.queue("q");
    queue.push_back_many((0..50).collect::<Vec<_>>()).unwrap();
    let failed: Vec<_> = (0..40).map(|_| queue.lease(MINUTE).unwrap().expect("a value")).collect();
    for leased in failed.iter().rev() {
        assert!(leased.nack().unwrap());
    }
    drop(failed);
    let strict = queue.clone().dead_letter_after(1, "dead");
    assert_eq!(strict.lease(MINUTE).unwrap().map(|leased| *leased.value()), Some(40));
    assert!(store.queue_range::<i64>("dead", ..).unwrap().into_iter().eq((0..40).rev()));
    assert_eq!(queue.len().unwrap(), 9);
    let none = queue.dead_letter_after(0, "dead");
    assert!(none.lease(MINUTE).unwrap().is_none(), "no value may be handed out");
    assert_eq!(store.queue_len("dead").unwrap(), 49);
}

fn a_queue_for_dead_letters_must_be_another_queue(cx: &Context) {
    let store = cx.store();
    let queue = || store.queue::<i64>("q");
    queue().push_back(1).unwrap();
    assert_error!(queue().dead_letter_after(1, "q").lease(MINUTE), Error::InvalidKey { .. });
    assert_error!(queue().dead_letter_after(1, "").lease_wait(MINUTE, SHORT), Error::InvalidKey { .. });
    store.put("value", 1).unwrap();
    assert_error!(queue().dead_letter_after(0, "value").lease(MINUTE), Error::WrongType { .. });
    assert_eq!(queue().range(..).unwrap(), [1]);
    assert_eq!(store.get::<i64>("value").unwrap(), Some(1));
}
