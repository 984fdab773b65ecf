//! `attempts` and `extend`: how often a value was handed out, and leases that are made longer or shorter.

use std::time::Duration;

use millpond::{Error, Leased, StateStore};

use super::leases::{filled, left, take};
use super::{MINUTE, SHORT};
use crate::support::backends::Context;

super::promises_that_need_the_server![
    attempts_count_how_often_a_value_was_handed_out,
    attempts_survive_the_end_of_the_program,
    attempts_belong_to_one_value,
    attempts_begin_again_for_a_value_that_left_the_queue,
    an_extended_lease_ends_later,
    a_lease_can_be_extended_to_end_sooner,
    extend_fails_after_the_value_came_back,
    extend_refuses_a_lease_of_zero_length,
    an_extended_lease_outlives_the_store,
    extended_leases_keep_their_order,
];

fn attempts_count_how_often_a_value_was_handed_out(cx: &Context) {
    let store = filled(cx, 0..2);
    let first = take(&store, MINUTE);
    assert_eq!((*first.value(), first.attempts()), (0, 1));
    assert!(first.nack().unwrap());
    let second = take(&store, SHORT);
    assert_eq!((*second.value(), second.attempts(), first.attempts()), (0, 2, 1));
    cx.wait_or_advance(SHORT);
    let third = take(&store, MINUTE);
    assert_eq!((*third.value(), third.attempts()), (0, 3));
    let mut taken = third;
    for attempts in 4..30 {
        assert!(taken.nack().unwrap());
        taken = store.lease_wait("q", MINUTE, SHORT).unwrap().expect("a value");
        assert_eq!((*taken.value(), taken.attempts()), (0, attempts));
    }
    assert!(taken.ack().unwrap());
    store.push_front("q", 0).unwrap();
    assert_eq!(take(&store, MINUTE).attempts(), 1, "it was pushed again");
    let untouched = take(&store, MINUTE);
    assert_eq!((*untouched.value(), untouched.attempts()), (1, 1));
}

fn attempts_survive_the_end_of_the_program(cx: &Context) {
    let store = filled(cx, 0..3);
    let (returned, held) = (take(&store, MINUTE), take(&store, 4 * SHORT));
    assert!(returned.nack().unwrap());
    drop((returned, held, store));
    cx.reopen();
    let store = cx.store();
    let returned = take(&store, MINUTE);
    assert_eq!((*returned.value(), returned.attempts()), (0, 2));
    cx.wait_or_advance(4 * SHORT);
    let held = take(&store, MINUTE);
    assert_eq!((*held.value(), held.attempts()), (1, 2));
    let new = take(&store, MINUTE);
    assert_eq!((*new.value(), new.attempts()), (2, 1));
}

fn attempts_belong_to_one_value(cx: &Context) {
    let store = filled(cx, 0..5);
    let taken: Vec<Leased<i64>> = (0..3).map(|_| take(&store, MINUTE)).collect();
    assert!(taken[1].nack().unwrap());
    let second = take(&store, MINUTE);
    assert_eq!((*second.value(), second.attempts()), (1, 2));
    // They come back in another order than they were leased in; one is pushed in front of them, and one behind.
    assert!(taken[0].nack().unwrap() && second.nack().unwrap() && taken[2].nack().unwrap());
    store.push_front("q", 9).unwrap();
    store.push_back("q", 8).unwrap();
    let order: Vec<_> = (0..7).map(|_| take(&store, MINUTE)).collect();
    let counted: Vec<_> = order.iter().map(|taken| (*taken.value(), taken.attempts())).collect();
    assert_eq!(counted, [(9, 1), (2, 2), (1, 3), (0, 2), (3, 1), (4, 1), (8, 1)]);
}

type Removal = (&'static str, fn(&StateStore));

fn attempts_begin_again_for_a_value_that_left_the_queue(cx: &Context) {
    let removals: [Removal; 4] = [
        ("pop", |store| assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(0))),
        ("trim", |store| assert_eq!(store.queue_trim("q", 1).unwrap(), 1)),
        ("delete", |store| {
            assert!(store.delete("q").unwrap());
            store.push_back("q", 1).unwrap();
        }),
        ("transaction", |store| {
            store.transaction(|tx| tx.pop_front::<i64>("q")).unwrap();
        }),
    ];
    for (name, remove) in removals {
        let store = filled(cx, 0..2);
        assert!(take(&store, MINUTE).nack().unwrap());
        assert!(take(&store, MINUTE).nack().unwrap());
        remove(&store);
        let other = take(&store, MINUTE);
        assert_eq!((*other.value(), other.attempts()), (1, 1), "{name}");
        store.push_back("q", 0).unwrap();
        assert_eq!(take(&store, MINUTE).attempts(), 1, "{name}");
    }
    let store = filled(cx, [7, 7]);
    assert!(take(&store, MINUTE).nack().unwrap());
    assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(7));
    assert_eq!(take(&store, MINUTE).attempts(), 1, "another value with the same bytes");
    drop(store);
    let store = filled(cx, [7]);
    assert!(take(&store, MINUTE).nack().unwrap());
    assert_eq!(store.clear().unwrap(), 1);
    store.push_back("q", 7).unwrap();
    assert_eq!(take(&store, MINUTE).attempts(), 1);
}

fn an_extended_lease_ends_later(cx: &Context) {
    let store = filled(cx, 0..2);
    let taken = take(&store, SHORT);
    assert!(taken.extend(MINUTE).unwrap());
    cx.wait_or_advance(SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 1);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    assert!(taken.extend(SHORT).unwrap() && taken.extend(2 * MINUTE).unwrap(), "as often as one likes");
    assert!(taken.ack().unwrap());
    assert!(!taken.ack().unwrap() && !taken.extend(MINUTE).unwrap());
    cx.advance(3 * MINUTE);
    assert!(left(&store).is_empty());
}

fn a_lease_can_be_extended_to_end_sooner(cx: &Context) {
    let store = filled(cx, 0..1);
    let taken = take(&store, MINUTE);
    assert!(taken.extend(SHORT).unwrap());
    cx.wait_or_advance(SHORT);
    let again = take(&store, MINUTE);
    assert_eq!((*again.value(), again.attempts()), (0, 2));
    assert!(!taken.ack().unwrap() && again.extend(SHORT).unwrap());
    assert!(again.nack().unwrap(), "an extended lease can be given back");
    let third = take(&store, MINUTE);
    assert_eq!(third.attempts(), 3, "an extension is no attempt");
    assert!(third.ack().unwrap());
}

fn extend_fails_after_the_value_came_back(cx: &Context) {
    let store = filled(cx, 0..2);
    let late = take(&store, SHORT);
    cx.wait_or_advance(SHORT);
    assert!(late.extend(SHORT).unwrap(), "until an expired lease is collected");
    cx.wait_or_advance(SHORT);
    let now = take(&store, MINUTE);
    assert!(!late.extend(MINUTE).unwrap());
    assert!(now.nack().unwrap());
    assert!(!late.extend(MINUTE).unwrap() && !now.extend(MINUTE).unwrap());
    assert_eq!(left(&store), [0, 1]);
    let dropped = take(&store, MINUTE);
    store.clear().unwrap();
    assert!(!dropped.extend(MINUTE).unwrap());
}

fn extend_refuses_a_lease_of_zero_length(cx: &Context) {
    let store = filled(cx, 0..1);
    let taken = take(&store, MINUTE);
    for lease in [Duration::ZERO, Duration::MAX] {
        assert_error!(taken.extend(lease), Error::InvalidTtl { ttl, .. } if *ttl == lease);
    }
    assert!(taken.ack().unwrap());
}

fn an_extended_lease_outlives_the_store(cx: &Context) {
    let store = filled(cx, 0..2);
    let taken = take(&store, SHORT);
    assert!(taken.extend(MINUTE).unwrap() && taken.extend(4 * SHORT).unwrap());
    drop((taken, store));
    cx.reopen();
    let store = cx.store();
    assert_eq!(left(&store), [1]);
    cx.wait_or_advance(4 * SHORT);
    let again = take(&store, MINUTE);
    assert_eq!((*again.value(), again.attempts()), (0, 2));
}

fn extended_leases_keep_their_order(cx: &Context) {
    let store = filled(cx, 0..4);
    let taken: Vec<Leased<i64>> = (0..3).map(|_| take(&store, MINUTE)).collect();
    for place in [2, 0, 1] {
        assert!(taken[place].extend(2 * SHORT).unwrap());
    }
    cx.wait_or_advance(2 * SHORT);
    let order: Vec<i64> = (0..4).map(|_| *take(&store, MINUTE).value()).collect();
    assert_eq!(order, [0, 1, 2, 3]);
}
