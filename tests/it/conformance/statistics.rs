//! Statistics: what each operation counts as is the same on every backend.

use std::time::Duration;

use millpond::stats::{ErrorCounts, Latency};
use millpond::{Error, Result, StateStore, Stats, WriteBatch};

use super::MINUTE;
use crate::support::backends::{Backend, Context};
use crate::support::exposition::Exposition;

promises![
    writes_count_as_puts,
    reads_of_one_value_count_as_gets,
    additions_count_as_increments,
    a_batch_counts_once,
    a_transaction_counts_once,
    questions_and_expiry_count_as_others,
    removals_count_as_deletes,
    a_failed_operation_is_counted_and_so_is_its_error,
    clones_and_namespaces_count_together,
    hits_and_misses_are_counted_for_each_key,
    what_is_refused_before_is_not_counted,
    entries_that_expired_are_counted_once_they_are_removed,
    latency_is_measured_where_disk_or_network_is_touched,
    the_difference_of_two_snapshots_is_what_happened_between,
    prometheus_reads_what_the_snapshot_holds,
];

/// Memory takes no locks during an outage.
mod of_locks {
    use super::locks_are_counted;

    crate::conformance::promises_that_need_the_server![locks_are_counted];
}

/// What was counted while `history` ran.
fn counted(store: &StateStore, history: impl FnOnce(&StateStore) -> Result<()>) -> Stats {
    let before = store.stats();
    history(store).unwrap();
    store.stats() - before
}

/// Gets, puts, deletes, increments, batches, transactions, others.
fn operations(stats: &Stats) -> [u64; 7] {
    let o = stats.operations;
    [o.gets, o.puts, o.deletes, o.increments, o.batches, o.transactions, o.other]
}

/// Makes some of each kind.
fn fill(store: &StateStore) -> Result<()> {
    store.batch_put([("a", 6), ("b", 1), ("n", 0)])?;
    store.put_bytes("c", b"x")?;
    store.map_put_many("m", [("f", 1), ("g", 2)])?;
    store.push_back_many("q", [2, 1, 3, 4, 5]).map(drop)
}

/// Checks what a history counts as, and that it counts no error.
fn assert_counted(
    store: &StateStore,
    expected: [u64; 7],
    history: impl FnOnce(&StateStore) -> Result<()>,
) -> Stats {
    let stats = counted(store, history);
    assert_eq!(operations(&stats), expected);
    assert_eq!(stats.total_operations(), expected.iter().sum::<u64>());
    assert_eq!((stats.errors, stats.error_rate()), (ErrorCounts::default(), 0.0));
    stats
}

fn writes_count_as_puts(cx: &Context) {
    let store = cx.store();
    assert_counted(&store, [0, 18, 0, 0, 0, 0, 0], |store| {
        store.put("a", 1)?;
        store.put_with_ttl("b", 1, MINUTE)?;
        store.put_bytes("c", b"x")?;
        store.put_bytes_with_ttl("d", b"x", MINUTE)?;
        assert!(store.update("a", 2)? && !store.update("absent", 2)?);
        assert!(!store.set_if_not_exists("a", 3, None)?);
        assert!(store.compare_and_set("a", Some(&2), &3)? && !store.compare_and_set("a", Some(&2), &3)?);
        store.modify("a", |found: Option<i64>| found.map(|n| n + 1))?;
        store.modify("absent", |_: Option<i64>| None)?;
        store.upsert("a", || 0, |n: &mut i64| *n += 1)?;
        store.get_and_put::<i64>("a", 6)?;
        store.map_put("m", "f", 1)?;
        store.map_put_many("m", [("f", 1), ("g", 2)])?;
        store.push_back("q", 1)?;
        store.push_front("q", 2)?;
        store.push_back_many("q", [3, 4, 5])?;
        Ok(())
    });
}

fn reads_of_one_value_count_as_gets(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    let gets = assert_counted(&store, [7, 0, 0, 0, 0, 0, 0], |store| {
        assert_eq!((store.get("a")?, store.get::<i64>("absent")?), (Some(6), None));
        assert!(store.get_bytes("c")?.is_some() && store.get_and_touch::<i64>("b", MINUTE)?.is_some());
        assert_eq!((store.map_get("m", "f")?, store.map_get::<i64>("m", "absent")?), (Some(1), None));
        assert!(store.map_contains("m", "g")?);
        Ok(())
    });
    assert_eq!((gets.hits, gets.misses), (5, 2));
}

fn additions_count_as_increments(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    assert_counted(&store, [0, 0, 0, 4, 0, 0, 0], |store| {
        store.incr("n", 5)?;
        store.decr("n", 2)?;
        store.incr_with_ttl("other", 1, MINUTE)?;
        store.map_incr("m", "f", 1).map(drop)
    });
}

fn a_batch_counts_once(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    assert_counted(&store, [0, 0, 0, 0, 6, 0, 0], |store| {
        store.batch_put((0..3000).map(|n| (format!("batch:{n}"), n)))?;
        store.batch_put_with_ttl([("b", 1)], MINUTE)?;
        assert_eq!(store.batch_get::<i64>(["a", "absent"])?.len(), 2);
        store.batch_incr([("n", 1), ("o", 1)])?;
        assert_eq!(store.batch_delete(["o", "absent"])?, 1);
        let mut batch = WriteBatch::new();
        batch.put("p", 1)?.delete("p")?;
        store.write(&batch)
    });
}

fn a_transaction_counts_once(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    assert_counted(&store, [0, 0, 0, 0, 0, 3, 0], |store| {
        store.transaction(|tx| {
            tx.incr("n", 1)?;
            tx.get::<i64>("a").map(drop)
        })?;
        assert!(store.transaction(|_| Err::<(), _>(Error::abort("enough"))).is_err());
        store.try_transaction(|tx| tx.put("a", 1))
    });
}

fn questions_and_expiry_count_as_others(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    assert_counted(&store, [0, 0, 0, 0, 0, 0, 15], |store| {
        assert!(store.contains("a")? && store.ttl("a")?.is_some() && store.kind("a")?.is_some());
        assert!(store.expire("a", MINUTE)? && store.persist("a")?);
        assert_eq!((store.map_len("m")?, store.map_keys("m")?.len()), (2, 2));
        assert_eq!((store.map_entries::<i64>("m")?.len(), store.queue_len("q")?), (2, 5));
        assert_eq!(store.map_get_many::<i64>("m", ["f", "absent"])?.len(), 2);
        assert_eq!(store.queue_range::<i64>("q", ..)?.len(), 5);
        assert_eq!((store.keys("m")?.len(), store.count("m")?), (1, 1));
        assert_eq!((store.is_empty()?, store.len()?), (false, 6));
        Ok(())
    });
}

fn removals_count_as_deletes(cx: &Context) {
    let store = cx.store();
    fill(&store).unwrap();
    assert_counted(&store, [0, 0, 10, 0, 0, 0, 0], |store| {
        assert!(store.delete("a")? && !store.delete("a")?);
        store.get_and_delete::<i64>("b")?;
        store.map_delete("m", "f")?;
        store.pop_front::<i64>("q")?;
        store.pop_back::<i64>("q")?;
        store.pop_front_wait::<i64>("q", Duration::ZERO)?;
        store.queue_trim("q", 1)?;
        store.delete_prefix("batch:")?;
        store.clear().map(drop)
    });
}

fn a_failed_operation_is_counted_and_so_is_its_error(cx: &Context) {
    let store = cx.store();
    store.put("name", "anna").unwrap();
    store.push_back("q", 1).unwrap();
    let stats = counted(&store, |store| {
        assert_error!(store.get::<i64>("q"), Error::WrongType { .. });
        assert_error!(store.map_put("q", "f", 1), Error::WrongType { .. });
        assert_error!(store.pop_front::<i64>("name"), Error::WrongType { .. });
        assert_error!(store.incr("name", 1), Error::NotAnInteger { .. });
        assert_error!(store.incr("q", 1), Error::WrongType { .. });
        assert_error!(store.batch_incr([("name", 1)]), Error::NotAnInteger { .. });
        Ok(())
    });
    assert_eq!(operations(&stats), [1, 1, 1, 2, 1, 0, 0]);
    let errors = stats.errors;
    assert_eq!((errors.unavailable, errors.denied, errors.wrong_type), (0, 0, 4));
    assert_eq!((errors.conflict, errors.other, stats.error_rate()), (0, 2, 1.0));
    assert_eq!((stats.hits, stats.misses), (0, 0));
}

fn clones_and_namespaces_count_together(cx: &Context) {
    let store = cx.store();
    let stats = counted(&store, |store| {
        let (clone, orders) = (store.clone(), store.namespace("orders"));
        clone.put("a", 1)?;
        orders.put("b", 1)?;
        orders.namespace("new").counter("c").incr(1)?;
        orders.value::<i64>("b").get()?;
        assert_eq!(orders.stats().operations, clone.statistics().operations);
        Ok(())
    });
    assert_eq!(operations(&stats), [1, 2, 0, 1, 0, 0, 0]);
}

fn hits_and_misses_are_counted_for_each_key(cx: &Context) {
    let store = cx.store();
    let stats = counted(&store, |store| {
        store.batch_put((0..1500).map(|n| (n.to_string(), n)))?;
        let found: Vec<Option<i64>> = store.batch_get((0..3000).map(|n| n.to_string()))?;
        assert_eq!(found.iter().flatten().count(), 1500);
        store.get::<i64>("0")?;
        store.get::<i64>("absent").map(drop)
    });
    assert_eq!((stats.hits, stats.misses, stats.hit_rate()), (1501, 1501, 0.5));
    assert_eq!((stats.operations.gets, stats.operations.batches), (2, 2));
}

fn what_is_refused_before_is_not_counted(cx: &Context) {
    let store = cx.store();
    let stats = counted(&store, |store| {
        assert_error!(store.get::<i64>(""), Error::InvalidKey { .. });
        assert_error!(store.put("k", f64::NAN), Error::Encode { .. });
        assert_error!(store.put_with_ttl("k", 1, Duration::ZERO), Error::InvalidTtl { .. });
        assert_error!(store.count("\n"), Error::InvalidKey { .. });
        Ok(())
    });
    assert_eq!(stats.total_operations(), 0);
    // A value of another type than was asked for is the program's own mistake: the read was a hit.
    store.put("name", "anna").unwrap();
    let stats = counted(&store, |store| {
        assert_error!(store.get::<i64>("name"), Error::Decode { .. });
        Ok(())
    });
    assert_eq!((stats.operations.gets, stats.hits, stats.error_rate()), (1, 1, 0.0));
}

fn entries_that_expired_are_counted_once_they_are_removed(cx: &Context) {
    let store = cx.store();
    store.batch_put_with_ttl((0..50).map(|n| (format!("expiring:{n}"), n)), MINUTE).unwrap();
    store.batch_put((0..10).map(|n| (format!("staying:{n}"), n))).unwrap();
    let expected = |total, expired| if cx.counts_entries() { (total, expired) } else { (0, 0) };
    let entries = || (store.stats().entries.total, store.stats().entries.expired);
    assert_eq!(entries(), expected(60, 0));
    cx.advance(2 * MINUTE);
    assert_eq!(entries(), expected(10, 0), "expired entries are absent at once");
    // Each part of the table removes its expired entries after some writes to it.
    for round in 0..20 {
        store.batch_put((0..1000).map(|n| (format!("staying:{n}"), n + round))).unwrap();
    }
    assert_eq!(entries(), expected(1000, 50));
}

fn latency_is_measured_where_disk_or_network_is_touched(cx: &Context) {
    let store = cx.store();
    // The first write may have more to do: to send a script, or to create the reply cache.
    store.put("warm", 1).unwrap();
    let stats = counted(&store, |store| {
        for n in 0..20 {
            store.put("k", n)?;
            store.get::<i64>("k")?;
        }
        Ok(())
    });
    let latency = stats.latency;
    let counts = [latency.read.count, latency.write.count, latency.sync.count];
    let measured = match cx.case().backend {
        Backend::Memory => [0, 0, 0],
        // One thread alone: each write waits for a sync of its own.
        Backend::File | Backend::FileReopened => [0, 20, 20],
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce => [20, 20, 0],
        // Memory serves.
        #[cfg(feature = "redis")]
        Backend::Away => [0, 0, 0],
    };
    assert_eq!(counts, measured);
    for Latency { count, mean, p50, p95, p99, p999, max, .. } in [latency.read, latency.write, latency.sync] {
        assert!(p50 <= p95 && p95 <= p99 && p99 <= p999 && p999 <= max, "{p50:?} to {max:?}");
        assert_eq!(mean.is_zero(), count == 0);
    }
    let is_counted = |bytes: u64, is_expected: bool| (bytes > 0) == is_expected;
    assert!(is_counted(stats.bytes_written, counts[1] > 0), "{}", stats.bytes_written);
    assert!(is_counted(stats.bytes_read, counts[0] > 0), "{}", stats.bytes_read);
    assert_eq!((stats.retries, stats.redirects), (0, 0));
}

fn the_difference_of_two_snapshots_is_what_happened_between(cx: &Context) {
    let store = cx.store();
    store.put("a", 1).unwrap();
    let first = store.stats();
    assert_eq!(operations(&(&store.stats() - &first)), [0; 7]);
    store.get::<i64>("a").unwrap();
    let between = store.stats() - first.clone();
    assert_eq!((operations(&between), between.hits), ([1, 0, 0, 0, 0, 0, 0], 1));
    assert_eq!(between.entries.total, store.stats().entries.total, "what is so now stays");
    assert_eq!(first.operations.gets, 0, "a snapshot does not change");
}

fn prometheus_reads_what_the_snapshot_holds(cx: &Context) {
    let cx = cx.open_another(|config| config.name("a \"name\" with \\ in it"));
    let store = cx.store();
    fill(&store).unwrap();
    store.get::<i64>("a").unwrap();
    assert!(store.incr("m", 1).is_err());
    let stats = store.stats();
    let read = Exposition::parse(&stats.to_prometheus()).unwrap();
    let one = |operation, outcome| {
        read.value("millpond_operations_total", &[("operation", operation), ("outcome", outcome)])
    };
    assert_eq!((one("get", "ok"), one("increment", "ok"), one("increment", "error")), (1.0, 0.0, 1.0));
    assert_eq!((one("batch", "ok"), one("put", "ok"), one("put", "error")), (1.0, 3.0, 0.0));
    let wrong_type = read.value("millpond_errors_total", &[("kind", "wrong_type")]);
    assert_eq!((wrong_type, read.value("millpond_hits_total", &[])), (1.0, 1.0));
    let count = |operation| read.value("millpond_operation_seconds_count", &[("operation", operation)]);
    assert_eq!(count("write").to_string(), stats.latency.write.count.to_string());
    assert_eq!(read.value("millpond_entries", &[]).to_string(), stats.entries.total.to_string());
    let backend = match cx.case().backend {
        Backend::Memory => "memory",
        Backend::File | Backend::FileReopened => "file",
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce | Backend::Away => "redis",
    };
    for name in read.names() {
        for sample in &read.family(name).samples {
            assert_eq!(sample.labels["store"], "a \"name\" with \\ in it", "{sample:?}");
            assert_eq!(sample.labels["backend"], backend, "{sample:?}");
        }
    }
}

fn locks_are_counted(cx: &Context) {
    let store = cx.store();
    let stats = counted(&store, |store| {
        let guard = store.lock("l", MINUTE, Duration::ZERO)?;
        assert_eq!(store.stats().locks.held, 1);
        assert!(store.try_lock("l", MINUTE)?.is_none());
        assert_error!(store.lock("l", MINUTE, Duration::ZERO), Error::Busy { .. });
        guard.release()?;
        assert_eq!(store.stats().locks.held, 0);
        store.with_lock("l", MINUTE, Duration::ZERO, |_| ())?;
        let short = store.try_lock("l", super::SHORT)?.expect("a free lock");
        cx.wait_or_advance(super::SHORT);
        assert_error!(short.extend(MINUTE), Error::LockLost { .. });
        assert_error!(short.release(), Error::LockLost { .. });
        Ok(())
    });
    let locks = stats.locks;
    assert_eq!((locks.acquired, locks.refused, locks.lost, locks.held), (3, 2, 1, 0));
}
