//! `lease`: values of a queue that are leased for a time.

use std::time::Duration;

use millpond::{Bytes, Error, Leased, StateStore, WriteBatch};

use super::concurrency::run_in_threads;
use super::{MINUTE, SHORT};
use crate::support::backends::Context;

super::promises_that_need_the_server![
    a_taken_value_is_leased_to_one_consumer_only,
    done_removes_a_value_for_good,
    back_puts_a_value_in_front_again,
    a_value_comes_back_when_its_lease_runs_out,
    dropping_a_taken_value_does_not_end_its_lease,
    values_come_back_in_the_order_in_which_they_were_taken,
    leases_of_different_lengths_run_out_each_at_its_time,
    done_fails_after_the_value_came_back,
    done_and_back_work_until_an_expired_lease_is_collected,
    done_and_back_take_effect_once,
    only_a_take_returns_values_to_the_queue,
    leases_are_neither_listed_nor_counted,
    taking_the_last_value_leaves_no_queue,
    writes_to_the_key_of_a_queue_leave_its_leases_alone,
    a_value_comes_back_only_to_the_queue_of_its_key,
    clear_drops_leases,
    delete_prefix_drops_the_leases_of_the_queues_it_names,
    a_value_that_cannot_decode_stays_taken_and_comes_back,
    a_value_that_cannot_decode_can_be_ended_or_given_back,
    a_lease_of_zero_length_is_refused,
    a_leased_value_may_be_bytes,
    a_taken_value_can_be_kept,
    a_taken_value_belongs_to_its_namespace,
    each_value_is_taken_by_one_of_many_threads,
    a_lease_outlives_the_store,
    a_prefix_longer_than_the_key_of_a_queue_keeps_its_leases,
    the_longest_key_may_be_a_queue_with_leases,
    a_thousand_leases_come_back_in_their_order,
];

pub(super) fn take(store: &StateStore, lease: Duration) -> Leased<i64> {
    store.lease("q", lease).expect("a store").expect("a value")
}

pub(super) fn left(store: &StateStore) -> Vec<i64> {
    store.queue_range("q", ..).unwrap()
}

pub(super) fn filled(cx: &Context, values: impl IntoIterator<Item = i64>) -> StateStore {
    let store = cx.store();
    store.push_back_many("q", values).unwrap();
    store
}

fn a_taken_value_is_leased_to_one_consumer_only(cx: &Context) {
    let store = filled(cx, 0..2);
    let first = take(&store, MINUTE);
    assert_eq!(*first.value(), 0);
    assert_eq!(store.queue_len("q").unwrap(), 1);
    let second = take(&store.clone(), MINUTE);
    assert_eq!(*second.value(), 1);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    assert_eq!(store.pop_front::<i64>("q").unwrap(), None);
    assert!(store.lease::<i64>("absent", MINUTE).unwrap().is_none());
}

fn done_removes_a_value_for_good(cx: &Context) {
    let store = filled(cx, 0..2);
    assert!(take(&store, SHORT).ack().unwrap());
    cx.wait_or_advance(SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 1);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
}

fn back_puts_a_value_in_front_again(cx: &Context) {
    let store = filled(cx, 0..3);
    let (first, second) = (take(&store, MINUTE), take(&store, MINUTE));
    assert!(first.nack().unwrap());
    assert_eq!(left(&store), [0, 2]);
    assert!(second.nack().unwrap());
    assert_eq!(left(&store), [1, 0, 2], "also after earlier calls of `back`");
    assert_eq!(*take(&store, MINUTE).value(), 1);
}

fn a_value_comes_back_when_its_lease_runs_out(cx: &Context) {
    let store = filled(cx, 0..2);
    let forgotten = take(&store, SHORT);
    cx.wait_or_advance(SHORT);
    let again = take(&store, MINUTE);
    assert_eq!((*forgotten.value(), *again.value()), (0, 0));
    assert_eq!(left(&store), [1]);
    assert!(again.ack().unwrap());
}

fn dropping_a_taken_value_does_not_end_its_lease(cx: &Context) {
    let store = filled(cx, 0..1);
    drop(take(&store, MINUTE));
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    store.push_back("q", 1).unwrap();
    drop(take(&store, SHORT));
    cx.wait_or_advance(SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 1);
}

fn values_come_back_in_the_order_in_which_they_were_taken(cx: &Context) {
    let store = filled(cx, 0..6);
    let taken: Vec<Leased<i64>> = (0..4).map(|_| take(&store, 4 * SHORT)).collect();
    assert!(taken.iter().map(|taken| *taken.value()).eq(0..4));
    assert!(taken[1].ack().unwrap());
    cx.wait_or_advance(4 * SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 0);
    assert_eq!(left(&store), [2, 3, 4, 5]);
    store.push_front("q", 9).unwrap();
    let order: Vec<i64> = (0..5).map(|_| *take(&store, MINUTE).value()).collect();
    assert_eq!(order, [9, 2, 3, 4, 5]);
}

fn leases_of_different_lengths_run_out_each_at_its_time(cx: &Context) {
    let store = filled(cx, 0..4);
    let (long, longer, short) = (take(&store, 4 * SHORT), take(&store, MINUTE), take(&store, 2 * SHORT));
    cx.wait_or_advance(4 * SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 0, "it was taken first, although its lease ran out later");
    assert_eq!(left(&store), [2, 3]);
    assert!(!long.ack().unwrap() && !short.ack().unwrap());
    assert!(longer.ack().unwrap());
}

fn done_fails_after_the_value_came_back(cx: &Context) {
    let store = filled(cx, 0..1);
    let late = take(&store, SHORT);
    cx.wait_or_advance(SHORT);
    let now = take(&store, MINUTE);
    assert!(!late.ack().unwrap());
    assert!(!late.nack().unwrap());
    assert!(left(&store).is_empty(), "only its new consumer has it");
    assert!(now.nack().unwrap());
    assert!(!late.ack().unwrap(), "also not while it is in the queue");
    assert_eq!(left(&store), [0]);
}

fn done_and_back_work_until_an_expired_lease_is_collected(cx: &Context) {
    let store = filled(cx, 0..3);
    let (done, back) = (take(&store, SHORT), take(&store, 2 * SHORT));
    cx.wait_or_advance(2 * SHORT);
    assert!(done.ack().unwrap());
    assert!(back.nack().unwrap());
    assert_eq!(left(&store), [1, 2]);
    assert_eq!(*take(&store, MINUTE).value(), 1);
}

fn done_and_back_take_effect_once(cx: &Context) {
    let store = filled(cx, 0..2);
    let first = take(&store, MINUTE);
    assert!(first.ack().unwrap());
    assert!(!first.ack().unwrap());
    assert!(!first.nack().unwrap());
    assert_eq!(left(&store), [1]);
    let second = take(&store, MINUTE);
    assert!(second.nack().unwrap());
    assert!(!second.nack().unwrap());
    assert!(!second.ack().unwrap());
    assert_eq!(left(&store), [1]);
}

fn only_a_take_returns_values_to_the_queue(cx: &Context) {
    let store = filled(cx, 0..2);
    drop(take(&store, SHORT));
    cx.wait_or_advance(SHORT);
    assert_eq!(store.queue_len("q").unwrap(), 1);
    assert_eq!(left(&store), [1]);
    assert_eq!(store.pop_front::<i64>("q").unwrap(), Some(1));
    assert_eq!(store.pop_back::<i64>("q").unwrap(), None);
    assert!(!store.contains("q").unwrap());
    assert_eq!(*take(&store, MINUTE).value(), 0);
}

fn leases_are_neither_listed_nor_counted(cx: &Context) {
    let store = filled(cx, 0..3);
    let _taken = [take(&store, MINUTE), take(&store, MINUTE)];
    assert_eq!(store.keys("").unwrap(), ["q"]);
    assert_eq!(store.scan("").map(Result::unwrap).collect::<Vec<_>>(), ["q"]);
    assert_eq!(store.len().unwrap(), 1);
    assert_eq!(store.count("q").unwrap(), 1);
    store.pop_front::<i64>("q").unwrap();
    assert!(store.is_empty().unwrap());
    assert_eq!(store.keys("").unwrap(), [""; 0]);
    assert_eq!(store.clear().unwrap(), 0);
}

fn taking_the_last_value_leaves_no_queue(cx: &Context) {
    let store = filled(cx, 0..1);
    store.expire("q", MINUTE).unwrap();
    let taken = take(&store, MINUTE);
    assert!(!store.contains("q").unwrap());
    assert_eq!(store.ttl("q").unwrap(), None);
    assert!(taken.nack().unwrap());
    drop((taken, store));
    cx.assert_default_ttl("q");
    let store = cx.store();
    store.expire("q", MINUTE).unwrap();
    store.push_back("q", 1).unwrap();
    let taken = take(&store, MINUTE);
    assert!(taken.nack().unwrap());
    drop((taken, store));
    cx.assert_ttl("q", MINUTE);
}

type Write = (&'static str, fn(&StateStore));

fn writes_to_the_key_of_a_queue_leave_its_leases_alone(cx: &Context) {
    let writes: [Write; 6] = [
        ("delete", |s| assert!(s.delete("q").unwrap())),
        ("batch_delete", |s| assert_eq!(s.batch_delete(["q"]).unwrap(), 1)),
        ("pop", |s| assert_eq!(s.pop_front::<i64>("q").unwrap(), Some(1))),
        ("trim", |s| assert_eq!(s.queue_trim("q", 0).unwrap(), 1)),
        ("write", |s| {
            let mut batch = WriteBatch::new();
            s.write(batch.put("q", 1).unwrap().delete("q").unwrap()).unwrap();
        }),
        ("put", |s| {
            s.put("q", 1).unwrap();
            s.delete("q").unwrap();
        }),
    ];
    for (name, write) in writes {
        let store = filled(cx, 0..2);
        let taken = take(&store, MINUTE);
        write(&store);
        assert!(!store.contains("q").unwrap(), "{name}");
        assert!(taken.nack().unwrap(), "{name}");
        assert_eq!(left(&store), [0], "{name}");
        store.delete("q").unwrap();
    }
    let store = filled(cx, 0..2);
    store.expire("q", MINUTE).unwrap();
    let taken = take(&store, 2 * MINUTE);
    cx.advance(MINUTE);
    assert!(!store.contains("q").unwrap());
    assert!(taken.nack().unwrap(), "an expired queue too");
    assert_eq!(left(&store), [0]);
}

fn a_value_comes_back_only_to_the_queue_of_its_key(cx: &Context) {
    let store = filled(cx, 0..1);
    let taken = take(&store, SHORT);
    store.put("q", "a value").unwrap();
    assert_error!(taken.nack(), Error::WrongType { key, .. } if key == "q");
    cx.wait_or_advance(SHORT);
    assert_error!(store.lease::<i64>("q", MINUTE), Error::WrongType { .. });
    assert_error!(taken.nack(), Error::WrongType { .. });
    assert_eq!(store.get::<String>("q").unwrap().as_deref(), Some("a value"));
    store.delete("q").unwrap();
    assert_eq!(*take(&store, MINUTE).value(), 0, "the value was not lost");
    store.put("q", "a value").unwrap();
    assert!(!taken.ack().unwrap());
}

fn clear_drops_leases(cx: &Context) {
    let store = filled(cx, 0..3);
    let (lasting, short) = (take(&store, MINUTE), take(&store, SHORT));
    assert_eq!(store.clear().unwrap(), 1);
    assert!(!lasting.ack().unwrap());
    assert!(!lasting.nack().unwrap());
    cx.wait_or_advance(SHORT);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    assert!(!short.nack().unwrap());
    assert!(store.is_empty().unwrap());
    // Also if there is no queue left to clear.
    let store = filled(cx, 0..1);
    let taken = take(&store, MINUTE);
    assert_eq!(store.clear().unwrap(), 0);
    assert!(!taken.nack().unwrap());
}

fn delete_prefix_drops_the_leases_of_the_queues_it_names(cx: &Context) {
    let store = cx.store();
    let taken = ["jobs", "jobs:1", "n:jobs", "job", "j"].map(|queue| {
        store.push_back_many(queue, [1, 2]).unwrap();
        store.lease::<i64>(queue, MINUTE).unwrap().expect("a value")
    });
    assert_eq!(store.delete_prefix("jobs").unwrap(), 2);
    assert_eq!(store.namespace("n").clear().unwrap(), 1);
    let held = taken.map(|taken| taken.ack().unwrap());
    assert_eq!(held, [false, false, false, true, true]);
}

fn a_value_that_cannot_decode_stays_taken_and_comes_back(cx: &Context) {
    let store = cx.store();
    store.push_back("n:q", "text").unwrap();
    let error = assert_error!(store.namespace("n").lease::<i64>("q", SHORT), Error::Decode { .. });
    let Error::Decode { key, raw, .. } = error else { unreachable!() };
    assert_eq!((key.as_str(), raw.as_ref()), ("n:q", &br#""text""#[..]));
    assert_eq!(store.queue_len("n:q").unwrap(), 0);
    cx.wait_or_advance(SHORT);
    let taken = store.lease::<String>("n:q", MINUTE).unwrap().expect("the value came back");
    assert_eq!(*taken.value(), "text");
    assert!(taken.ack().unwrap());
}

fn a_value_that_cannot_decode_can_be_ended_or_given_back(cx: &Context) {
    let store = cx.store().namespace("n");
    store.push_back_many("q", ["first", "second"]).unwrap();
    let take = || store.lease_wait::<i64>("q", MINUTE, SHORT).unwrap_err();
    let undecoded = |error: &Error| {
        let bytes = store.undecoded(error).expect("a value that is no number");
        (String::from_utf8_lossy(bytes.value()).into_owned(), bytes)
    };
    let (text, taken) = undecoded(&take());
    assert_eq!(text, "\"first\"");
    assert!(taken.nack().unwrap(), "the value is at the front of its queue again");
    assert!(!taken.nack().unwrap() && !taken.ack().unwrap());
    assert_eq!(store.queue_range::<String>("q", ..).unwrap(), ["first", "second"]);
    let error = store.queue::<i64>("q").lease(MINUTE).unwrap_err();
    let (text, taken) = undecoded(&error);
    assert_eq!(text, "\"first\"");
    assert!(taken.ack().unwrap(), "the value is gone");
    assert!(!taken.ack().unwrap());
    let (text, taken) = undecoded(&take());
    assert_eq!(text, "\"second\"");
    assert!(taken.ack().unwrap());
    cx.wait_or_advance(SHORT);
    assert!(store.lease::<String>("q", MINUTE).unwrap().is_none(), "the queue no longer begins with them");
    // Other errors have no lease.
    store.push_back("q", "text").unwrap();
    assert!(store.undecoded(&store.pop_front::<i64>("q").unwrap_err()).is_none());
    assert!(store.undecoded(&store.lease::<i64>("q", Duration::ZERO).unwrap_err()).is_none());
}

fn a_leased_value_may_be_bytes(cx: &Context) {
    for bytes in [&b""[..], b"null", b"\xff\0\n", b"\"aGk=\""].map(Bytes::from) {
        let store = cx.store();
        store.push_back("q", &bytes).unwrap();
        let leased = store.lease::<Bytes>("q", MINUTE).unwrap().unwrap();
        assert_eq!(*leased.value(), bytes);
        assert!(leased.nack().unwrap());
        let leased = store.lease::<Bytes>("q", MINUTE).unwrap().unwrap();
        assert_eq!((leased.value(), leased.attempts()), (&bytes, 2));
        assert!(leased.ack().unwrap());
    }
}

fn a_lease_of_zero_length_is_refused(cx: &Context) {
    let store = filled(cx, 0..1);
    for lease in [Duration::ZERO, Duration::MAX] {
        assert_error!(store.lease::<i64>("q", lease), Error::InvalidTtl { ttl, .. } if *ttl == lease);
        assert_error!(store.lease_wait::<i64>("q", lease, Duration::ZERO), Error::InvalidTtl { .. });
    }
    assert_eq!(left(&store), [0]);
    let year = Duration::from_secs(31_557_600);
    assert!(take(&store, 1000 * year).ack().unwrap());
}

fn a_taken_value_can_be_kept(cx: &Context) {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let store = cx.store();
    store.push_back("q", "text").unwrap();
    let taken = store.lease::<String>("q", MINUTE).unwrap().expect("a value");
    shared(&taken);
    assert_eq!(taken.value().len(), 4);
    let shown = format!("{taken:?}");
    assert!(shown.contains("text") && shown.contains('q'), "{shown}");
    assert_eq!(taken.into_inner(), "text");
    assert!(store.lease::<String>("q", MINUTE).unwrap().is_none(), "that does not end the lease");
}

fn a_taken_value_belongs_to_its_namespace(cx: &Context) {
    let store = cx.store();
    let namespace = store.namespace("n");
    namespace.push_back_many("q", [1, 2]).unwrap();
    let taken = namespace.lease::<i64>("q", MINUTE).unwrap().expect("a value");
    drop(namespace);
    assert!(taken.nack().unwrap());
    assert_eq!(store.queue_range::<i64>("n:q", ..).unwrap(), [1, 2]);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    let taken = store.lease::<i64>("n:q", MINUTE).unwrap().expect("a value");
    assert_eq!(store.keys("").unwrap(), ["n:q"]);
    assert!(taken.ack().unwrap());
}

fn each_value_is_taken_by_one_of_many_threads(cx: &Context) {
    let store = filled(cx, 0..200);
    let mut done = run_in_threads(|_| {
        let mut done = Vec::new();
        while let Some(taken) = store.lease::<i64>("q", MINUTE).unwrap() {
            if *taken.value() % 7 == 3 && fastrand::bool() {
                assert!(taken.nack().unwrap());
            } else {
                assert!(taken.ack().unwrap());
                done.push(taken.into_inner());
            }
        }
        done
    })
    .concat();
    // A thread that gave a value back may find the queue empty before that, and leave the value behind.
    done.extend(left(&store));
    done.sort_unstable();
    assert!(done.into_iter().eq(0..200));
}

fn a_lease_outlives_the_store(cx: &Context) {
    let store = filled(cx, 0..2);
    let taken = take(&store, 4 * SHORT);
    drop((taken, store));
    cx.reopen();
    let store = cx.store();
    assert_eq!(left(&store), [1]);
    cx.wait_or_advance(4 * SHORT);
    assert_eq!(*take(&store, MINUTE).value(), 0);
}

fn a_prefix_longer_than_the_key_of_a_queue_keeps_its_leases(cx: &Context) {
    let store = filled(cx, 0..2);
    store.put("q:1", 1).unwrap();
    let taken = take(&store, MINUTE);
    assert_eq!(store.delete_prefix("q:").unwrap(), 1);
    assert_eq!(store.delete_prefix("q:_").unwrap(), 0);
    assert_eq!(store.namespace("q").clear().unwrap(), 0);
    assert!(taken.nack().unwrap(), "the key of the queue does not have this prefix");
    assert_eq!(left(&store), [0, 1]);
}

fn the_longest_key_may_be_a_queue_with_leases(cx: &Context) {
    let longest = "q".repeat(512);
    let store = cx.store();
    store.push_back_many(&longest, 0..3).unwrap();
    let taken = [(); 2].map(|()| store.lease::<i64>(&longest, 4 * SHORT).unwrap().expect("a value"));
    assert!(taken[0].nack().unwrap());
    assert_eq!(store.len().unwrap(), 1);
    drop((taken, store));
    cx.reopen();
    let store = cx.store();
    assert_eq!(store.queue_range::<i64>(&longest, ..).unwrap(), [0, 2]);
    cx.wait_or_advance(4 * SHORT);
    assert_eq!(store.lease::<i64>(&longest, MINUTE).unwrap().map(Leased::into_inner), Some(1));
    assert_eq!(store.clear().unwrap(), 1);
}

fn a_thousand_leases_come_back_in_their_order(cx: &Context) {
    const MANY: i64 = 1200;
    // Long enough to take them all.
    let lease = 50 * SHORT;
    let store = filled(cx, 0..=MANY);
    for number in 0..MANY {
        assert_eq!(*take(&store, lease).value(), number);
    }
    cx.wait_or_advance(lease);
    for number in 0..=MANY {
        assert_eq!(*take(&store, MINUTE).value(), number);
    }
}
