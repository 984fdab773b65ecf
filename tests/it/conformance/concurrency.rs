//! Many threads that use one store.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use millpond::{Error, WriteBatch};

use super::MINUTE;
use crate::support::Ending;
use crate::support::backends::Context;

pub(super) const THREADS: i64 = 8;
const THREAD_COUNT: usize = 8;
const EACH: i64 = 50;

promises![
    increments_of_many_threads_add_up,
    only_one_thread_sets_an_absent_key,
    only_one_thread_takes_a_value,
    no_modification_of_many_threads_is_lost,
    no_exchange_of_many_threads_is_lost,
    a_reader_never_sees_half_of_a_write_batch,
    a_counter_that_threads_race_to_create_has_its_ttl,
    a_scan_during_writes_misses_no_entry_that_stays,
    a_scan_during_writes_of_any_kind_misses_no_entry_that_stays,
    fields_counted_by_many_threads_add_up,
    each_value_is_pushed_and_popped_once_by_many_threads,
    a_map_is_written_and_read_atomically,
    values_that_are_pushed_together_stay_together,
    a_map_or_queue_that_threads_race_to_create_has_its_ttl,
];

pub(super) fn run_in_threads<R: Send>(run: impl Fn(i64) -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(THREAD_COUNT);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (run, barrier) = (&run, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    run(thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

fn increments_of_many_threads_add_up(cx: &Context) {
    let store = cx.store();
    run_in_threads(|thread| {
        let store = store.clone();
        for _ in 0..EACH {
            store.incr("k", thread + 1).unwrap();
            store.batch_incr([("k", 1), ("other", -1)]).unwrap();
        }
    });
    let expected = EACH * (THREADS * (THREADS + 1) / 2 + THREADS);
    assert_eq!(store.get::<i64>("k").unwrap(), Some(expected));
    assert_eq!(store.get::<i64>("other").unwrap(), Some(-EACH * THREADS));
}

fn only_one_thread_sets_an_absent_key(cx: &Context) {
    let store = cx.store();
    for round in 0..10 {
        let key = format!("k:{round}");
        let won = run_in_threads(|thread| match thread % 2 {
            0 => store.set_if_not_exists(&key, thread, None).unwrap(),
            _ => store.compare_and_set(&key, None::<&i64>, &thread).unwrap(),
        });
        let winners: Vec<i64> =
            (0..THREADS).zip(won).filter_map(|(thread, won)| won.then_some(thread)).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(store.get::<i64>(&key).unwrap(), Some(winners[0]));
    }
}

fn only_one_thread_takes_a_value(cx: &Context) {
    let store = cx.store();
    for round in 0..10 {
        store.put("k", round).unwrap();
        let taken = run_in_threads(|_| store.get_and_delete::<i64>("k").unwrap());
        assert_eq!(taken.into_iter().flatten().collect::<Vec<_>>(), [round]);
    }
}

fn no_modification_of_many_threads_is_lost(cx: &Context) {
    let store = cx.store();
    run_in_threads(|thread| {
        for number in 0..EACH {
            store
                .modify("k", |found: Option<Vec<i64>>| {
                    let mut list = found.unwrap_or_default();
                    list.push(thread * EACH + number);
                    Some(list)
                })
                .unwrap();
        }
    });
    let mut list = store.get::<Vec<i64>>("k").unwrap().unwrap();
    list.sort_unstable();
    assert!(list.into_iter().eq(0..THREADS * EACH));
}

fn no_exchange_of_many_threads_is_lost(cx: &Context) {
    let store = cx.store();
    store.put("k", -1).unwrap();
    let mut seen: Vec<i64> = run_in_threads(|thread| {
        let swap = |number| store.get_and_put::<i64>("k", thread * EACH + number).unwrap().unwrap();
        (0..EACH).map(swap).collect::<Vec<_>>()
    })
    .concat();
    seen.push(store.get::<i64>("k").unwrap().unwrap());
    seen.sort_unstable();
    assert!(seen.into_iter().eq(-1..THREADS * EACH), "each value was returned once");
}

fn a_reader_never_sees_half_of_a_write_batch(cx: &Context) {
    let store = cx.store();
    let done = AtomicBool::new(false);
    let write = |number: i64| {
        let mut batch = WriteBatch::new();
        batch.put("a", number).unwrap().put("middle", number).unwrap().put("b", number).unwrap();
        store.write(&batch).unwrap();
    };
    write(0);
    thread::scope(|scope| {
        let ending = Ending(&done);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Acquire) || rounds == 0 {
                        // The value that is read first is never newer than the one that is read later.
                        let a = store.get::<i64>("a").unwrap().unwrap();
                        let b = store.get::<i64>("b").unwrap().unwrap();
                        assert!(a <= b, "a is {a}, and b still {b}");
                        let b = store.get::<i64>("b").unwrap().unwrap();
                        let a = store.get::<i64>("a").unwrap().unwrap();
                        assert!(b <= a, "b is {b}, and a still {a}");
                        rounds += 1;
                    }
                })
            })
            .collect();
        (1..200).for_each(write);
        drop(ending);
        for reader in readers {
            reader.join().expect("the reader saw no half of a write");
        }
    });
}

fn a_counter_that_threads_race_to_create_has_its_ttl(cx: &Context) {
    let store = cx.store();
    for round in 0..10 {
        run_in_threads(|_| store.incr_with_ttl(format!("k:{round}"), 1, MINUTE).unwrap());
        assert_eq!(store.get::<i64>(&format!("k:{round}")).unwrap(), Some(THREADS));
    }
    drop(store);
    for round in 0..10 {
        cx.assert_ttl(&format!("k:{round}"), MINUTE);
    }
}

fn a_scan_during_writes_misses_no_entry_that_stays(cx: &Context) {
    let store = cx.store();
    store.batch_put((0..1500).map(|n| (format!("stays:{n}"), n))).unwrap();
    let listed = run_in_threads(|thread| match thread {
        0 | 1 => {
            let all = store.keys("").unwrap();
            assert!(all.is_sorted(), "sorted");
            let mut once = all.clone();
            once.dedup();
            assert_eq!(once.len(), all.len(), "each once");
            all.iter().filter(|key| key.starts_with("stays:")).count()
        }
        2 => {
            let mut seen: Vec<String> = store.scan("stays:").map(Result::unwrap).collect();
            seen.sort();
            seen.dedup();
            seen.len()
        }
        _ => {
            for number in 0..EACH {
                store.put(format!("passes:{thread}:{number}"), number).unwrap();
                store.delete(format!("passes:{thread}:{number}")).unwrap();
            }
            match store.get::<i64>("stays:1") {
                Ok(Some(1)) => 1500,
                Ok(other) => panic!("{other:?}"),
                Err(Error::Unavailable { .. }) => panic!("the store serves"),
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(listed, [1500; THREAD_COUNT]);
}

fn a_scan_during_writes_of_any_kind_misses_no_entry_that_stays(cx: &Context) {
    let store = cx.store();
    store
        .transaction(|tx| {
            for number in 0..400 {
                tx.map_put(format!("stays:map:{number}"), "f", number)?;
                tx.push_back(format!("stays:queue:{number}"), number)?;
                tx.put(format!("stays:value:{number}"), number)?;
            }
            Ok(())
        })
        .unwrap();
    run_in_threads(|thread| match thread {
        0 | 1 => {
            assert_eq!(store.keys("stays:").unwrap().len(), 1200);
            assert_eq!(store.count("stays:queue:").unwrap(), 400);
        }
        2 => {
            let values: BTreeMap<String, i64> = store.entries("stays:").map(Result::unwrap).collect();
            assert_eq!(values.len(), 400, "`entries` skips maps and queues");
        }
        3 => {
            for number in 0..400 {
                let key = format!("stays:map:{number}");
                assert!(!store.map_put(&key, "f", number + 1).unwrap());
                assert!(store.map_put(&key, "g", number).unwrap());
                assert!(store.map_delete(&key, "f").unwrap());
            }
        }
        _ => {
            for number in 0..EACH {
                let key = format!("passes:{thread}:{number}");
                store.push_back(&key, number).unwrap();
                assert_eq!(store.pop_front::<i64>(&key).unwrap(), Some(number));
                store.map_incr(&key, "f", 1).unwrap();
                store.transaction(|tx| tx.map_delete(&key, "f").and(tx.push_back(&key, 1))).unwrap();
                assert!(store.delete(&key).unwrap());
            }
        }
    });
    assert_eq!(store.len().unwrap(), 1200);
}

fn fields_counted_by_many_threads_add_up(cx: &Context) {
    let store = cx.store();
    run_in_threads(|thread| {
        for _ in 0..EACH {
            store.map_incr("k", "all", 1).unwrap();
            store.map_incr("k", thread.to_string(), 2).unwrap();
        }
    });
    let counted = store.map_entries::<i64>("k").unwrap();
    assert_eq!(counted["all"], EACH * THREADS);
    assert!((0..THREADS).all(|thread| counted[&thread.to_string()] == 2 * EACH), "{counted:?}");
}

fn each_value_is_pushed_and_popped_once_by_many_threads(cx: &Context) {
    let store = cx.store();
    let mut got = run_in_threads(|thread| {
        let mut got = Vec::new();
        for number in 0..EACH {
            let number = thread * EACH + number;
            match number % 3 {
                0 => store.push_front("q", number).unwrap(),
                1 => store.push_back("q", number).unwrap(),
                _ => store.push_back_many("q", [number]).unwrap(),
            };
            if thread % 2 == 0 {
                got.extend(store.pop_front::<i64>("q").unwrap());
                got.extend(store.pop_back::<i64>("q").unwrap());
            }
        }
        got
    })
    .concat();
    got.extend(store.queue_range::<i64>("q", ..).unwrap());
    got.sort_unstable();
    assert!(got.into_iter().eq(0..THREADS * EACH));
}

fn a_map_is_written_and_read_atomically(cx: &Context) {
    let store = cx.store();
    let write = |number: i64| {
        let fields = ["a", "b", "c"].map(|field| (field, number));
        store.map_put_many("k", fields).unwrap();
    };
    write(0);
    run_in_threads(|thread| match thread {
        0 | 1 => (1..EACH).for_each(|number| write(number * 2 + thread)),
        2 | 3 => {
            for _ in 0..EACH {
                let read = store.map_get_many::<i64>("k", ["a", "c"]).unwrap();
                assert!(read[0].is_some() && read[0] == read[1], "{read:?}");
            }
        }
        _ => {
            for _ in 0..EACH {
                let read = store.map_entries::<i64>("k").unwrap();
                assert!(read.len() == 3 && read.values().all(|number| *number == read["a"]), "{read:?}");
            }
        }
    });
}

fn values_that_are_pushed_together_stay_together(cx: &Context) {
    let store = cx.store();
    run_in_threads(|thread| {
        for _ in 0..10 {
            store.push_back_many("q", [thread; 5]).unwrap();
            let length = store.queue_len("q").unwrap();
            assert_eq!(length % 5, 0, "never only some of them");
        }
    });
    let all = store.queue_range::<i64>("q", ..).unwrap();
    assert_eq!(all.len(), 400);
    assert!(all.chunks(5).all(|values| values.iter().all(|value| *value == values[0])), "{all:?}");
}

fn a_map_or_queue_that_threads_race_to_create_has_its_ttl(cx: &Context) {
    let store = cx.store();
    let keys = |kind: &'static str| (0..10).map(move |round| format!("{kind}:{round}"));
    for (map, queue) in keys("map").zip(keys("queue")) {
        run_in_threads(|thread| {
            store.map_put(&map, thread.to_string(), 1).unwrap();
            store.push_back(&queue, thread).unwrap();
        });
        assert_eq!(store.map_len(&map).unwrap() + store.queue_len(&queue).unwrap(), 16);
    }
    drop(store);
    for key in keys("map").chain(keys("queue")) {
        cx.assert_default_ttl(&key);
    }
}
