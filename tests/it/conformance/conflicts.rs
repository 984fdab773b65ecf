//! Transactions that conflict with other writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, Result, StateStore, Transaction, WriteBatch};

use super::concurrency::run_in_threads;
use super::{MINUTE, PATIENCE};
use crate::support::Ending;
use crate::support::backends::Context;

promises![
    a_transaction_runs_again_if_its_read_set_changed,
    a_transaction_runs_again_if_a_read_key_came_or_went,
    a_transaction_runs_again_if_its_read_set_expired,
    the_writes_of_a_run_with_a_conflict_are_discarded,
    a_transaction_gives_up_if_conflicts_never_stop,
    an_error_is_returned_only_if_the_read_set_is_unchanged,
    writes_outside_the_read_set_are_no_conflict,
    transactions_nest_without_waiting_for_each_other,
    a_panic_in_a_transaction_writes_nothing,
    increments_of_many_transactions_add_up,
    transfers_never_change_the_sum,
    a_queue_is_moved_into_another_once,
    a_reader_never_sees_half_of_a_transaction,
    a_transaction_never_sees_half_of_a_write_batch,
    a_transaction_sees_one_moment_or_runs_again,
];

/// Promises that need a connected server, or that end when the server disconnects.
mod with_the_server {
    use super::*;

    crate::conformance::promises_that_need_the_server![
        the_closure_of_a_transaction_may_use_the_store,
        a_transaction_on_a_closed_store_writes_nothing,
    ];
}

type Read = (&'static str, fn(&mut Transaction<'_>) -> Result<i64>);

/// Every way to learn that the key `k` holds a three in some form, with a write that makes it four.
const ON_A_VALUE: [Read; 11] = [
    ("get", |tx| Ok(tx.get("k")?.unwrap_or(0))),
    ("get_bytes", |tx| Ok(tx.get_bytes("k")?.map_or(0, |bytes| i64::from(bytes[0] - b'0')))),
    ("compare_and_set", |tx| Ok(if tx.compare_and_set("k", Some(&3), &3)? { 3 } else { 4 })),
    ("get_and_put", |tx| Ok(tx.get_and_put("k", 0)?.unwrap_or(0))),
    ("get_and_delete", |tx| Ok(tx.get_and_delete("k")?.unwrap_or(0))),
    ("get_and_touch", |tx| Ok(tx.get_and_touch("k", MINUTE)?.unwrap_or(0))),
    ("incr", |tx| tx.incr("k", 0)),
    ("decr", |tx| tx.decr("k", 0)),
    ("incr_with_ttl", |tx| Ok(tx.incr_with_ttl("k", 1, MINUTE)? - 1)),
    ("modify", |tx| {
        let mut seen = 0;
        tx.modify("k", |found: Option<i64>| {
            seen = found.unwrap_or(0);
            found
        })?;
        Ok(seen)
    }),
    ("get after a write of another key", |tx| {
        tx.put("other", 1)?;
        Ok(tx.get("k")?.unwrap_or(0))
    }),
];

const ON_A_MAP: [Read; 8] = [
    ("map_get", |tx| Ok(tx.map_get("k", "f")?.unwrap_or(0))),
    ("map_get_many", |tx| Ok(tx.map_get_many::<i64>("k", ["x", "f"])?[1].unwrap_or(0))),
    ("map_incr", |tx| tx.map_incr("k", "f", 0)),
    ("map_entries", |tx| Ok(tx.map_entries::<i64>("k")?["f"])),
    ("map_len", |tx| Ok(i64::try_from(tx.map_len("k")?).unwrap_or(0))),
    ("map_keys", |tx| Ok(i64::try_from(tx.map_keys("k")?.len()).unwrap_or(0))),
    ("map_contains", |tx| Ok(if tx.map_contains("k", "d")? { 4 } else { 3 })),
    ("map_put", |tx| Ok(if tx.map_put("k", "d", 9)? { 3 } else { 4 })),
];

const ON_A_QUEUE: [Read; 7] = [
    ("queue_len", |tx| Ok(i64::try_from(tx.queue_len("k")?).unwrap_or(0))),
    ("queue_range", |tx| Ok(i64::try_from(tx.queue_range::<i64>("k", ..)?.len()).unwrap_or(0))),
    ("pop_back", |tx| Ok(tx.pop_back("k")?.unwrap_or(0))),
    ("pop_front", |tx| Ok(tx.pop_front::<i64>("k")?.unwrap_or(0) + 3)),
    ("push_back", |tx| Ok(i64::try_from(tx.push_back("k", 9)?).unwrap_or(0) - 1)),
    ("push_front", |tx| Ok(i64::try_from(tx.push_front("k", 9)?).unwrap_or(0) - 1)),
    ("queue_trim", |tx| Ok(i64::try_from(tx.queue_trim("k", 0)?).unwrap_or(0))),
];

/// Asserts that a transaction that reads three runs again if that changes to four before its commit.
fn interfere(store: &StateStore, (name, read): Read, prepare: fn(&StateStore), disturb: fn(&StateStore)) {
    store.clear().unwrap();
    prepare(store);
    let mut seen = Vec::new();
    let done = store.transaction(|tx| {
        seen.push(read(tx)?);
        if seen.len() == 1 {
            disturb(store);
        }
        tx.put("seen", seen.len())
    });
    done.unwrap();
    assert_eq!(seen, [3, 4], "{name}");
    assert_eq!(store.get::<i64>("seen").unwrap(), Some(2), "{name}");
}

fn a_transaction_runs_again_if_its_read_set_changed(cx: &Context) {
    let store = cx.store();
    for read in ON_A_VALUE {
        interfere(&store, read, |s| s.put("k", 3).unwrap(), |s| _ = s.incr("k", 1).unwrap());
        interfere(&store, read, |s| s.put("k", 3).unwrap(), |s| s.put("k", 4).unwrap());
    }
    let map = |s: &StateStore| _ = s.map_put_many("k", [("f", 3), ("a", 1), ("b", 2)]).unwrap();
    for read in ON_A_MAP {
        interfere(&store, read, map, |s| _ = s.map_put_many("k", [("d", 4), ("f", 4)]).unwrap());
    }
    for read in ON_A_QUEUE {
        let disturb: fn(&StateStore) = match read.0 {
            "pop_front" => |s| _ = s.push_front("k", 1).unwrap(),
            _ => |s| _ = s.push_back("k", 4).unwrap(),
        };
        interfere(&store, read, |s| _ = s.push_back_many("k", [0, 1, 3]).unwrap(), disturb);
    }
}

/// The same holds if the key changed its kind.
fn a_transaction_runs_again_if_a_read_key_came_or_went(cx: &Context) {
    let contains: Read = ("contains", |tx| Ok(if tx.contains("k")? { 4 } else { 3 }));
    let gone: Read = ("contains", |tx| Ok(if tx.contains("k")? { 3 } else { 4 }));
    let kind: Read = ("get", |tx| match tx.get::<i64>("k") {
        Ok(_) => Ok(3),
        Err(Error::WrongType { .. }) => Ok(4),
        Err(error) => Err(error),
    });
    let store = cx.store();
    interfere(&store, contains, |_| (), |s| s.put("k", 1).unwrap());
    interfere(&store, contains, |_| (), |s| _ = s.push_back("k", 1).unwrap());
    interfere(&store, gone, |s| s.put("k", 1).unwrap(), |s| assert!(s.delete("k").unwrap()));
    interfere(&store, gone, |s| _ = s.push_back("k", 1).unwrap(), |s| _ = s.pop_back::<i64>("k").unwrap());
    interfere(&store, gone, |s| _ = s.map_put("k", "f", 1).unwrap(), |s| assert_eq!(s.clear().unwrap(), 1));
    interfere(&store, kind, |_| (), |s| _ = s.map_put("k", "f", 1).unwrap());
    interfere(
        &store,
        kind,
        |s| s.put("k", 1).unwrap(),
        |s| {
            s.delete("k").unwrap();
            s.push_back("k", 1).unwrap();
        },
    );
    let born: Read = ("set_if_not_exists", |tx| Ok(if tx.set_if_not_exists("k", 1, None)? { 3 } else { 4 }));
    interfere(&store, born, |_| (), |s| _ = s.map_incr("k", "f", 1).unwrap());
    let updated: Read = ("update", |tx| Ok(if tx.update("k", 1)? { 3 } else { 4 }));
    interfere(&store, updated, |s| s.put("k", 1).unwrap(), |s| assert!(s.delete("k").unwrap()));
    let deleted: Read = ("delete", |tx| Ok(if tx.delete("k")? { 3 } else { 4 }));
    interfere(&store, deleted, |s| s.put("k", 1).unwrap(), |s| assert!(s.delete("k").unwrap()));
}

fn a_transaction_runs_again_if_its_read_set_expired(cx: &Context) {
    let store = cx.store();
    store.put_with_ttl("k", 1, MINUTE).unwrap();
    let mut seen = Vec::new();
    let done = store.transaction(|tx| {
        seen.push(tx.get::<i64>("k")?);
        if seen.len() == 1 {
            cx.advance(MINUTE);
        }
        tx.put("out", 1)
    });
    done.unwrap();
    assert_eq!(seen, [Some(1), None]);
}

fn the_writes_of_a_run_with_a_conflict_are_discarded(cx: &Context) {
    let store = cx.store();
    store.push_back_many("q", [1, 2]).unwrap();
    let mut runs = 0;
    let done = store.transaction(|tx| {
        runs += 1;
        let first = tx.pop_front::<i64>("q")?;
        tx.put(format!("run:{runs}"), first)?;
        tx.push_back("log", runs)?;
        if runs < 3 {
            store.push_front("q", runs * 10).unwrap();
        }
        Ok(first)
    });
    assert_eq!(done.unwrap(), Some(20));
    assert_eq!(store.keys("").unwrap(), ["log", "q", "run:3"]);
    assert_eq!(store.queue_range::<i64>("log", ..).unwrap(), [3]);
    assert_eq!(store.queue_range::<i64>("q", ..).unwrap(), [10, 1, 2]);
}

fn a_transaction_gives_up_if_conflicts_never_stop(cx: &Context) {
    let cx = &cx.open_another(|config| {
        let redis = config.redis.clone().timeout(Duration::from_millis(500));
        config.redis(redis)
    });
    let store = cx.store();
    let begun = Instant::now();
    let mut runs = 0;
    let outcome = store.namespace("n").transaction(|tx| {
        runs += 1;
        tx.put("out", runs)?;
        tx.incr("k", 1)?;
        store.incr("n:k", 1).unwrap();
        Ok(())
    });
    let error = assert_error!(outcome, Error::Conflict { .. });
    assert!(error.is_transient());
    let Error::Conflict { key, .. } = error else { unreachable!() };
    assert!(["n:out", "n:k"].contains(&key.as_str()), "{key:?}");
    assert!(runs > 1 && begun.elapsed() < PATIENCE, "{runs} runs in {:?}", begun.elapsed());
    assert!(!store.contains("n:out").unwrap());
    assert_eq!(store.get::<i64>("n:k").unwrap(), Some(runs), "the transaction wrote nothing");
    assert_eq!(store.transaction(|tx| tx.incr("n:k", 1)).unwrap(), runs + 1, "the next has no conflict");
}

fn an_error_is_returned_only_if_the_read_set_is_unchanged(cx: &Context) {
    let store = cx.store();
    let mut runs = 0;
    let withdraw = |tx: &mut Transaction<'_>| {
        runs += 1;
        let balance: i64 = tx.get("balance")?.unwrap_or(0);
        if runs == 1 {
            store.put("balance", 100).unwrap();
        }
        if balance < 30 {
            return Err(Error::abort("not enough money"));
        }
        tx.put("balance", balance - 30)
    };
    store.transaction(withdraw).unwrap();
    assert_eq!(runs, 2);
    assert_eq!(store.get::<i64>("balance").unwrap(), Some(70));
    // An error of an operation is treated in the same way.
    store.put("k", "text").unwrap();
    let mut runs = 0;
    let counted = store.transaction(|tx| {
        runs += 1;
        let counted = tx.incr("k", 1);
        if runs == 1 {
            store.put("k", 5).unwrap();
        }
        counted
    });
    assert_eq!((counted.unwrap(), runs), (6, 2));
}

fn writes_outside_the_read_set_are_no_conflict(cx: &Context) {
    let store = cx.store();
    store.put("read", 1).unwrap();
    let mut runs = 0;
    let done = store.transaction(|tx| {
        runs += 1;
        let read: i64 = tx.get("read")?.unwrap_or(0);
        store.incr("beside", 1).unwrap();
        tx.put("out", read)
    });
    done.unwrap();
    assert_eq!(runs, 1);
    assert_eq!(store.get::<i64>("beside").unwrap(), Some(1), "a write by the store is not rolled back");
}

fn the_closure_of_a_transaction_may_use_the_store(cx: &Context) {
    let store = cx.store();
    store.put("price", 3).unwrap();
    let outcome = store.transaction(|tx| {
        let price: i64 = store.get("price").unwrap().unwrap_or(0);
        tx.put("total", price)?;
        assert_eq!(store.get::<i64>("total").unwrap(), None, "no other handle sees it before the commit");
        assert_eq!(store.keys("").unwrap(), ["price"]);
        let guard = store.try_lock("l", MINUTE).unwrap().expect("the lock is free");
        store.push_back("calls", 1).unwrap();
        let taken = store.lease::<i64>("calls", MINUTE).unwrap().expect("a value");
        assert!(taken.ack().unwrap());
        guard.release().unwrap();
        assert_eq!(store.modify("calls", |n: Option<i64>| Some(n.unwrap_or(0) + 1)).unwrap(), Some(1));
        assert!(store.delete("calls").unwrap());
        Ok(price)
    });
    assert_eq!(outcome.unwrap(), 3);
    assert_eq!(store.keys("").unwrap(), ["price", "total"]);
}

fn transactions_nest_without_waiting_for_each_other(cx: &Context) {
    let store = cx.store();
    let outcome = store.transaction(|outer| {
        outer.put("outer", 1)?;
        let inner = store.transaction(|inner| {
            assert!(!inner.contains("outer")?, "the two transactions are independent");
            inner.incr("inner", 1)
        })?;
        outer.incr("outer", inner)
    });
    assert_eq!(outcome.unwrap(), 2);
    assert_eq!(store.get::<i64>("inner").unwrap(), Some(1));
}

/// The store remains usable.
fn a_panic_in_a_transaction_writes_nothing(cx: &Context) {
    let store = cx.store();
    store.put("k", 1).unwrap();
    for _ in 0..20 {
        let store = store.clone();
        let panicked = thread::spawn(move || {
            let _ = store.transaction(|tx| {
                tx.incr("k", 1)?;
                tx.push_back("q", 1)?;
                assert!(!tx.contains("k")?, "in a closure");
                Ok(())
            });
        });
        panicked.join().unwrap_err();
    }
    assert_eq!(store.keys("").unwrap(), ["k"]);
    assert_eq!(store.transaction(|tx| tx.incr("k", 1)).unwrap(), 2);
    assert_eq!(store.push_back("q", 1).unwrap(), 1);
}

fn increments_of_many_transactions_add_up(cx: &Context) {
    let store = cx.store();
    run_in_threads(|thread| {
        for _ in 0..10 {
            let done = store.transaction(|tx| {
                let read: i64 = tx.get("k")?.unwrap_or(0);
                thread::yield_now();
                tx.put("k", read + 1)?;
                tx.map_incr("by thread", thread.to_string(), 1)?;
                tx.push_back("log", read).map(drop)
            });
            done.unwrap();
            store.incr("k", 1).unwrap();
        }
    });
    assert_eq!(store.get::<i64>("k").unwrap(), Some(160));
    let by_thread = store.map_entries::<i64>("by thread").unwrap();
    assert!(by_thread.len() == 8 && by_thread.values().all(|count| *count == 10), "{by_thread:?}");
    assert_eq!(store.queue_len("log").unwrap(), 80);
}

fn transfers_never_change_the_sum(cx: &Context) {
    const ACCOUNTS: [&str; 5] = ["a:0", "a:1", "a:2", "a:3", "a:4"];
    let store = cx.store();
    store.batch_put(ACCOUNTS.map(|account| (account, 100))).unwrap();
    let sum = |tx: &mut Transaction<'_>| {
        ACCOUNTS.iter().map(|account| Ok(tx.get::<i64>(account)?.unwrap_or(0))).sum::<Result<i64>>()
    };
    run_in_threads(|thread| {
        let mut random = fastrand::Rng::with_seed(thread.unsigned_abs());
        for _ in 0..15 {
            if thread < 4 {
                let (from, to) = (ACCOUNTS[random.usize(..5)], ACCOUNTS[random.usize(..5)]);
                let amount = random.i64(1..60);
                let moved = store.transaction(|tx| {
                    if tx.decr(from, amount)? < 0 {
                        return Err(Error::abort("not enough money"));
                    }
                    thread::yield_now();
                    tx.incr(to, amount)
                });
                assert!(matches!(moved, Ok(_) | Err(Error::Aborted(_))), "{moved:?}");
            } else {
                assert_eq!(store.transaction(sum).unwrap(), 500);
            }
        }
    });
    assert_eq!(store.transaction(sum).unwrap(), 500);
    let all = store.batch_get::<i64>(ACCOUNTS).unwrap();
    assert!(all.iter().all(|balance| balance.is_some_and(|balance| balance >= 0)), "{all:?}");
}

fn a_queue_is_moved_into_another_once(cx: &Context) {
    let store = cx.store();
    store.push_back_many("from", 0..60).unwrap();
    run_in_threads(|_| {
        let step = |tx: &mut Transaction<'_>| match tx.pop_front::<i64>("from")? {
            Some(number) => {
                thread::yield_now();
                tx.push_back("to", number).map(|_| true)
            }
            None => Ok(false),
        };
        while store.transaction(step).unwrap() {}
    });
    assert!(store.queue_range::<i64>("to", ..).unwrap().into_iter().eq(0..60), "the values keep their order");
    assert!(!store.contains("from").unwrap());
}

/// Runs the writer while two threads read continuously, and stops them after it.
fn write_during_reads(write: impl Fn(i64), read: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    write(0);
    thread::scope(|scope| {
        let ending = Ending(&done);
        let reader = || {
            read();
            while !done.load(Ordering::Acquire) {
                read();
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        (1..150).for_each(write);
        drop(ending);
        for reader in readers {
            reader.join().expect("the reader saw no half of a write");
        }
    });
}

fn a_reader_never_sees_half_of_a_transaction(cx: &Context) {
    let store = cx.store();
    let write = |number: i64| {
        let done = store.transaction(|tx| {
            tx.put("a", number)?;
            tx.map_put_many("middle", [("x", number), ("y", number)])?;
            tx.push_back("b", number)?;
            tx.queue_trim("b", 1).map(drop)
        });
        done.unwrap();
    };
    write_during_reads(write, || {
        // The value that is read first is never newer than the one that is read later.
        let a = store.get::<i64>("a").unwrap().unwrap();
        let middle = store.map_entries::<i64>("middle").unwrap();
        let b = store.queue_range::<i64>("b", ..).unwrap();
        assert_eq!((b.len(), middle["x"]), (1, middle["y"]));
        assert!(a <= middle["x"] && middle["x"] <= b[0], "{a} {middle:?} {b:?}");
        let middle = store.map_get::<i64>("middle", "x").unwrap().unwrap();
        assert!(b[0] <= middle, "{b:?} {middle:?}");
        let a = store.get::<i64>("a").unwrap().unwrap();
        assert!(middle <= a, "{middle} {a}");
    });
}

fn a_transaction_never_sees_half_of_a_write_batch(cx: &Context) {
    let store = cx.store();
    let write = |number: i64| {
        let mut batch = WriteBatch::new();
        batch.put("a", number).unwrap().put("b", number).unwrap();
        match number % 2 {
            0 => batch.put("even", number).unwrap(),
            _ => batch.delete("even").unwrap(),
        };
        store.write(&batch).unwrap();
    };
    write_during_reads(write, || {
        let seen = store.transaction(|tx| {
            let (a, even, b) = (tx.get::<i64>("a")?, tx.contains("even")?, tx.get::<i64>("b")?);
            Ok((a.unwrap_or(-1), even, b.unwrap_or(-2)))
        });
        let (a, even, b) = seen.unwrap();
        assert_eq!((a, a % 2 == 0), (b, even));
    });
}

fn a_transaction_on_a_closed_store_writes_nothing(cx: &Context) {
    let store = cx.store();
    store.put("k", 1).unwrap();
    let mut runs = 0;
    let outcome = store.transaction(|tx| {
        runs += 1;
        tx.incr("k", 1)?;
        store.close().unwrap();
        assert_error!(tx.get::<i64>("k"), Error::Unavailable { .. });
        Ok(())
    });
    assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
    assert_eq!(runs, 1);
    drop(store);
    if !cx.in_memory() {
        cx.reopen();
        assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    }
}

fn a_transaction_sees_one_moment_or_runs_again(cx: &Context) {
    let store = cx.store();
    store.batch_put([("a", 1), ("b", 1)]).unwrap();
    let mut seen = Vec::new();
    let outcome = store.transaction(|tx| {
        let a: Option<i64> = tx.get("a")?;
        if seen.is_empty() {
            store.batch_put([("a", 2), ("b", 2)]).unwrap();
        }
        let b: Option<i64> = tx.get("b")?;
        let again: Option<i64> = tx.get("a")?;
        assert_eq!(a, again, "a second read returns the same");
        seen.push((a, b));
        Ok((a, b))
    });
    assert_eq!(outcome.unwrap(), (Some(2), Some(2)), "values of different moments are not returned");
    assert_eq!(seen, [(Some(1), Some(2)), (Some(2), Some(2))]);
}
