//! `Transaction::ack`: a lease ends together with the writes of a transaction.

use std::collections::BTreeMap;
use std::thread;

use millpond::{Error, Leased, Result, StateStore, Transaction};

use super::concurrency::run_in_threads;
use super::leases::{filled, left, take};
use super::{MINUTE, SHORT};
use crate::support::backends::Context;

promises![
    a_result_is_stored_and_its_lease_ends_in_one_step,
    a_lease_goes_on_if_the_transaction_is_not_committed,
    an_ended_lease_does_not_end_again_in_a_transaction,
    an_expired_lease_ends_in_a_transaction_until_its_value_is_returned,
    a_lease_ends_once_in_a_transaction,
    any_leases_of_a_queue_end_in_a_transaction,
    an_extended_lease_ends_in_a_transaction,
    a_value_that_cannot_decode_is_ended_in_a_transaction,
    a_transaction_ends_leases_of_every_namespace,
    a_transaction_refuses_a_lease_of_another_store,
    a_transaction_runs_again_if_a_lease_is_lost_before_its_commit,
    a_transaction_runs_again_if_a_lease_is_extended_before_its_commit,
    a_value_is_pushed_to_its_own_queue_as_its_lease_ends,
    one_of_many_threads_ends_a_lease_in_a_transaction,
    two_consumers_of_a_value_never_both_store_a_result,
];

/// Stores a result and ends the lease, or gives up.
fn finish(tx: &mut Transaction<'_>, job: &Leased<i64>) -> Result<()> {
    tx.incr(format!("done:{}", job.value()), 1)?;
    if !tx.ack(job)? {
        return Err(Error::abort("the lease has ended"));
    }
    Ok(())
}

#[track_caller]
fn assert_refused(store: &StateStore, job: &Leased<i64>) {
    assert_error!(store.transaction(|tx| finish(tx, job)), Error::Aborted(_));
    assert_eq!(store.get::<i64>(format!("done:{}", job.value())).unwrap(), None);
}

fn a_result_is_stored_and_its_lease_ends_in_one_step(cx: &Context) {
    let store = filled(cx, 0..2);
    let job = take(&store, SHORT);
    store.transaction(|tx| finish(tx, &job)).unwrap();
    assert_eq!(store.get::<i64>("done:0").unwrap(), Some(1));
    assert!(!job.ack().unwrap() && !job.nack().unwrap() && !job.extend(MINUTE).unwrap());
    cx.wait_or_advance(SHORT);
    drop((job, store));
    cx.reopen();
    let store = cx.store();
    assert_eq!(store.get::<i64>("done:0").unwrap(), Some(1));
    assert_eq!(*take(&store, MINUTE).value(), 1, "the first value is gone for good");
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
}

fn a_lease_goes_on_if_the_transaction_is_not_committed(cx: &Context) {
    let store = filled(cx, 0..1);
    let job = take(&store, MINUTE);
    let aborted = store.transaction(|tx| {
        finish(tx, &job)?;
        Err::<(), _>(Error::abort("on second thoughts"))
    });
    assert_error!(aborted, Error::Aborted(_));
    assert_eq!(store.get::<i64>("done:0").unwrap(), None);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none(), "it is still leased");
    store.transaction(|tx| finish(tx, &job)).unwrap();
    assert_eq!(store.get::<i64>("done:0").unwrap(), Some(1));
}

fn an_ended_lease_does_not_end_again_in_a_transaction(cx: &Context) {
    let store = filled(cx, 0..4);
    let [acked, returned, committed] = [(); 3].map(|()| take(&store, MINUTE));
    assert!(acked.ack().unwrap());
    assert_refused(&store, &acked);
    assert!(returned.nack().unwrap());
    assert_refused(&store, &returned);
    let again = take(&store, MINUTE);
    assert_eq!(again.value(), returned.value());
    assert_refused(&store, &returned);
    assert!(store.transaction(|tx| tx.ack(&committed)).unwrap());
    assert_refused(&store, &committed);
    assert!(again.ack().unwrap());
    assert_eq!(left(&store), [3]);
}

fn an_expired_lease_ends_in_a_transaction_until_its_value_is_returned(cx: &Context) {
    let store = filled(cx, 0..2);
    let (first, second) = (take(&store, SHORT), take(&store, SHORT));
    cx.wait_or_advance(SHORT);
    store.transaction(|tx| finish(tx, &first)).unwrap();
    let new = take(&store, MINUTE);
    assert_eq!((*second.value(), *new.value()), (1, 1));
    assert_refused(&store, &second);
    store.transaction(|tx| finish(tx, &new)).unwrap();
    assert_eq!(store.get::<i64>("done:1").unwrap(), Some(1));
}

fn a_lease_ends_once_in_a_transaction(cx: &Context) {
    let store = filled(cx, 0..2);
    let (job, other) = (take(&store, MINUTE), take(&store, MINUTE));
    let ended = store.transaction(|tx| Ok([tx.ack(&job)?, tx.ack(&job)?, tx.ack(&other)?, tx.ack(&other)?]));
    assert_eq!(ended.unwrap(), [true, false, true, false]);
    assert!(!store.transaction(|tx| tx.ack(&job)).unwrap());
}

fn any_leases_of_a_queue_end_in_a_transaction(cx: &Context) {
    for ended in 0..8 {
        let store = filled(cx, 0..3);
        let jobs = [(); 3].map(|()| take(&store, MINUTE));
        assert!(jobs[1].extend(2 * MINUTE).unwrap());
        let is_ended = |job: &Leased<i64>| ended & (1 << job.value()) != 0;
        let done = store.transaction(|tx| {
            for job in jobs.iter().filter(|job| is_ended(job)) {
                finish(tx, job)?;
            }
            Ok(())
        });
        done.unwrap();
        for job in &jobs {
            let count = store.get::<i64>(format!("done:{}", job.value())).unwrap();
            assert_eq!(count, is_ended(job).then_some(1), "{ended} {job:?}");
            assert_eq!(job.nack().unwrap(), !is_ended(job), "{ended} {job:?}");
        }
        drop(jobs);
        store.clear().unwrap();
    }
}

fn an_extended_lease_ends_in_a_transaction(cx: &Context) {
    let store = filled(cx, 0..1);
    let job = take(&store, SHORT);
    assert!(job.extend(MINUTE).unwrap());
    cx.wait_or_advance(SHORT);
    assert!(store.lease::<i64>("q", MINUTE).unwrap().is_none());
    store.transaction(|tx| finish(tx, &job)).unwrap();
    assert!(!job.ack().unwrap());
}

fn a_value_that_cannot_decode_is_ended_in_a_transaction(cx: &Context) {
    let store = cx.store();
    store.push_back("q", "text").unwrap();
    let error = assert_error!(store.lease::<i64>("q", MINUTE), Error::Decode { .. });
    let bytes = store.undecoded(&error).expect("a leased value");
    let done = store.transaction(|tx| {
        tx.put_bytes("reject", bytes.value())?;
        tx.ack(&bytes)
    });
    assert!(done.unwrap());
    assert_eq!(store.get::<String>("reject").unwrap().as_deref(), Some("text"));
    assert!(!bytes.nack().unwrap());
}

fn a_transaction_ends_leases_of_every_namespace(cx: &Context) {
    let store = cx.store();
    let inner = store.namespace("a").namespace("b");
    for queue in [&store, &inner, &store.namespace("c")] {
        queue.push_back("q", 7).unwrap();
    }
    let jobs = [&store, &inner, &store.namespace("c")].map(|queue| take(queue, MINUTE));
    let done = inner.clone().transaction(|tx| {
        assert!(tx.ack(&jobs[0])?);
        assert!(tx.namespace("x").ack(&jobs[1])?);
        assert!(!tx.ack(&jobs[1])?, "all handles on one transaction see the same");
        tx.put("result", 1)
    });
    done.unwrap();
    assert_eq!(store.get::<i64>("a:b:result").unwrap(), Some(1));
    assert_eq!(jobs.map(|job| job.nack().unwrap()), [false, false, true]);
}

fn a_transaction_refuses_a_lease_of_another_store(cx: &Context) {
    let store = filled(cx, 0..1);
    let another = cx.open_another(|config| config);
    let foreign = filled(&another, 0..1);
    let (own, other) = (take(&store, MINUTE), take(&foreign, MINUTE));
    let refused = store.transaction(|tx| {
        tx.put("result", 1)?;
        tx.ack(&other)
    });
    let error = assert_error!(refused, Error::Unsupported { .. });
    assert!(error.to_string().contains("another store"), "{error}");
    assert!(store.get::<i64>("result").unwrap().is_none());
    let kept = store.transaction(|tx| {
        assert_error!(tx.ack(&other), Error::Unsupported { .. });
        tx.put("result", 1)?;
        tx.ack(&own)
    });
    assert!(kept.unwrap(), "the closure may go on");
    assert!(other.ack().unwrap());
}

type Loss = (&'static str, fn(&Context, &StateStore, &Leased<i64>));

fn a_transaction_runs_again_if_a_lease_is_lost_before_its_commit(cx: &Context) {
    let losses: [Loss; 3] = [
        ("ack", |_, _, job| assert!(job.ack().unwrap())),
        ("nack", |_, _, job| assert!(job.nack().unwrap())),
        ("another consumer", |cx, store, job| {
            cx.wait_or_advance(SHORT);
            assert_eq!(take(store, MINUTE).value(), job.value());
        }),
    ];
    for loss in losses {
        assert_runs_again(cx, loss);
    }
}

#[track_caller]
fn assert_runs_again(cx: &Context, (name, lose): Loss) {
    for keeps_another in [false, true] {
        let store = filled(cx, 0..2);
        let job = take(&store, SHORT);
        let other = keeps_another.then(|| take(&store, MINUTE));
        let mut seen = Vec::new();
        let outcome = store.transaction(|tx| {
            tx.put("result", 1)?;
            seen.push(tx.ack(&job)?);
            if seen.len() == 1 {
                lose(cx, &store, &job);
            }
            if seen.ends_with(&[true]) { Ok(()) } else { Err(Error::abort("the lease is lost")) }
        });
        assert_error!(outcome, Error::Aborted(_));
        assert_eq!(seen, [true, false], "{name}");
        assert_eq!(store.get::<i64>("result").unwrap(), None, "{name}");
        store.clear().unwrap();
        drop((job, other));
    }
}

mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        a_transaction_runs_again_if_leases_are_cleared_before_its_commit
    ];

    fn a_transaction_runs_again_if_leases_are_cleared_before_its_commit(cx: &Context) {
        assert_runs_again(cx, ("clear", |_, store, _| _ = store.clear().unwrap()));
    }
}

fn a_transaction_runs_again_if_a_lease_is_extended_before_its_commit(cx: &Context) {
    let store = filled(cx, 0..1);
    let job = take(&store, MINUTE);
    let mut runs = 0;
    let done = store.transaction(|tx| {
        runs += 1;
        finish(tx, &job)?;
        if runs == 1 {
            assert!(job.extend(2 * MINUTE).unwrap());
        }
        Ok(())
    });
    done.unwrap();
    assert_eq!((runs, store.get::<i64>("done:0").unwrap()), (2, Some(1)));
    assert!(!job.ack().unwrap());
}

fn a_value_is_pushed_to_its_own_queue_as_its_lease_ends(cx: &Context) {
    let store = filled(cx, 0..2);
    let job = take(&store, MINUTE);
    let done = store.transaction(|tx| {
        tx.push_back("q", job.value() + 7)?;
        assert_eq!(tx.queue_len("q")?, 2, "a leased value is not in the queue");
        finish(tx, &job)
    });
    done.unwrap();
    assert_eq!(left(&store), [1, 7]);
}

fn one_of_many_threads_ends_a_lease_in_a_transaction(cx: &Context) {
    let store = filled(cx, 0..1);
    let job = take(&store, MINUTE);
    let ended = run_in_threads(|_| match store.transaction(|tx| finish(tx, &job)) {
        Ok(()) => 1,
        Err(Error::Aborted(_)) => 0,
        Err(error) => panic!("{error:?}"),
    });
    assert_eq!(ended.into_iter().sum::<i64>(), 1);
    assert_eq!(store.get::<i64>("done:0").unwrap(), Some(1));
}

fn two_consumers_of_a_value_never_both_store_a_result(cx: &Context) {
    const JOBS: i64 = 24;
    let store = filled(cx, 0..JOBS);
    run_in_threads(|thread| {
        let (store, mut is_slow) = (store.clone(), thread % 2 == 0);
        while let Some(job) = store.lease::<i64>("q", SHORT).unwrap() {
            if is_slow {
                // Another consumer gets the value too.
                cx.wait_or_advance(SHORT);
            }
            is_slow = !is_slow;
            match store.transaction(|tx| finish(tx, &job)) {
                Ok(()) | Err(Error::Aborted(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
            thread::yield_now();
        }
    });
    // The last consumers may have left values behind whose leases had not expired.
    cx.wait_or_advance(SHORT);
    while let Some(job) = store.lease::<i64>("q", MINUTE).unwrap() {
        store.transaction(|tx| finish(tx, &job)).unwrap();
    }
    let done: BTreeMap<String, i64> = store.entries("done:").map(Result::unwrap).collect();
    assert_eq!(done, (0..JOBS).map(|job| (format!("done:{job}"), 1)).collect());
}
