//! Exports and imports: all of a namespace as one stream, and back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millpond::{Bytes, Error, ExportOptions, Import, Imported, StateStore, Ttl};

use super::{MINUTE, SHORT};
use crate::support::backends::Context;

super::promises_that_need_the_server![
    an_import_brings_back_everything,
    an_import_replaces_all_of_a_namespace_and_nothing_else,
    an_export_of_an_import_is_the_same,
    a_merge_leaves_other_keys,
    a_merge_can_keep_what_is_there,
    what_has_expired_stays_out,
    times_to_live_are_kept_to_the_millisecond,
    values_under_lease_are_first_in_their_queue,
    delayed_values_stay_delayed,
    leases_end_with_an_import_and_locks_do_not,
    an_import_wakes_those_who_wait,
    a_large_map_and_a_large_queue_come_in_parts,
    receipts_go_with_their_namespace,
    an_empty_export_empties_the_namespace,
    a_copy_is_an_export_and_an_import,
    a_closed_store_exports_nothing,
    an_export_is_from_one_instant,
];

pub(super) fn export(store: &StateStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    let exported = store.export(&mut bytes, &ExportOptions::new()).unwrap();
    assert_eq!(exported.bytes, bytes.len() as u64);
    bytes
}

/// The lines between the first, which has the time of the export, and the last, which has the checksum of it.
fn lines(export: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(export).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    lines[1..lines.len() - 1].to_vec()
}

/// Entries of every kind.
fn fill(store: &StateStore) {
    store.put("value", [1, 2, 3]).unwrap();
    store.put("näme \"quoted\"", "text\nof two lines").unwrap();
    store.put_bytes("bytes", b"\x00\xff").unwrap();
    store.put_with_ttl("short-lived", 7, MINUTE).unwrap();
    store.incr("counter", 5).unwrap();
    store.map_put_many("map", [("b", 2), ("a", 1)]).unwrap();
    store.map_put("map", "raw", Bytes::from(b"\xfe")).unwrap();
    store.push_back_many("queue", [1, 2, 3]).unwrap();
}

fn check_filled(store: &StateStore) {
    assert_eq!(store.get::<Vec<i32>>("value").unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(store.get::<String>("näme \"quoted\"").unwrap().unwrap(), "text\nof two lines");
    assert_eq!(store.get_bytes("bytes").unwrap().unwrap(), b"\x00\xff");
    assert_eq!(store.get::<i32>("short-lived").unwrap(), Some(7));
    assert!(matches!(store.ttl("short-lived").unwrap(), Some(Ttl::In(left)) if left <= MINUTE));
    assert_eq!(store.incr("counter", 1).unwrap(), 6);
    store.decr("counter", 1).unwrap();
    assert_eq!(store.map_len("map").unwrap(), 3);
    assert_eq!(store.map_get::<i32>("map", "b").unwrap(), Some(2));
    assert_eq!(store.map_get::<Bytes>("map", "raw").unwrap().unwrap(), b"\xfe"[..]);
    assert_eq!(store.queue_range::<i32>("queue", ..).unwrap(), [1, 2, 3]);
    assert_eq!(store.count("").unwrap(), 7);
}

fn an_import_brings_back_everything(cx: &Context) {
    let store = cx.store();
    fill(&store);
    let saved = export(&store);
    assert_eq!(lines(&saved).len(), 7);
    store.put("value", 0).unwrap();
    store.put("later", 1).unwrap();
    store.map_delete("map", "a").unwrap();
    store.delete("queue").unwrap();
    drop(store);
    let store = cx.store();
    let imported = store.import(&saved[..], Import::Replace).unwrap();
    assert_eq!((imported.entries, imported.skipped, imported.removed), (7, 0, 7));
    check_filled(&store);
    drop(store);
    check_filled(&cx.store());
}

fn an_import_replaces_all_of_a_namespace_and_nothing_else(cx: &Context) {
    let store = cx.store();
    let inner = store.namespace("orders");
    store.put("order", 1).unwrap();
    store.put("orders", 2).unwrap();
    store.put("orders2:a", 3).unwrap();
    fill(&inner);
    inner.namespace("deep").put("k", 4).unwrap();
    let saved = export(&inner);
    assert!(lines(&saved).contains(&r#"{"k":"deep:k","v":4}"#) || cx.case().default_ttl.is_some());
    inner.put("later", 5).unwrap();
    inner.namespace("deep").put("k", 6).unwrap();
    let imported = inner.import(&saved[..], Import::Replace).unwrap();
    assert_eq!((imported.entries, imported.removed), (8, 9));
    assert_eq!(inner.namespace("deep").get::<i32>("k").unwrap(), Some(4));
    assert!(!inner.contains("later").unwrap());
    inner.namespace("deep").clear().unwrap();
    check_filled(&inner);
    for (key, value) in [("order", 1), ("orders", 2), ("orders2:a", 3)] {
        assert_eq!(store.get::<i32>(key).unwrap(), Some(value), "{key}");
    }
    let other = store.namespace("other");
    other.import(&saved[..], Import::Replace).unwrap();
    assert_eq!(other.namespace("deep").get::<i32>("k").unwrap(), Some(4));
}

fn an_export_of_an_import_is_the_same(cx: &Context) {
    let store = cx.store();
    fill(&store);
    let saved = export(&store);
    for mode in [Import::Replace, Import::Merge, Import::KeepExisting] {
        store.import(&saved[..], mode).unwrap();
        assert_eq!(lines(&export(&store)), lines(&saved));
    }
    store.clear().unwrap();
    for mode in [Import::KeepExisting, Import::Merge] {
        store.import(&saved[..], mode).unwrap();
        assert_eq!(lines(&export(&store)), lines(&saved));
    }
    let memory = cx.memory();
    memory.import(&saved[..], Import::Replace).unwrap();
    assert_eq!(lines(&export(&memory)).len(), 7);
    check_filled(&memory);
}

fn counts(imported: &Imported) -> (u64, u64, u64) {
    (imported.entries, imported.skipped, imported.removed)
}

fn a_merge_leaves_other_keys(cx: &Context) {
    let store = cx.store();
    fill(&store);
    let saved = export(&store);
    store.put("later", 1).unwrap();
    store.push_back("value2", 1).unwrap();
    store.delete("value").unwrap();
    store.push_back("value", 1).unwrap();
    store.push_back("queue", 4).unwrap();
    let imported = store.import(&saved[..], Import::Merge).unwrap();
    assert_eq!(counts(&imported), (7, 0, 0));
    assert_eq!(store.batch_delete(["later", "value2"]).unwrap(), 2);
    check_filled(&store);
}

fn a_merge_can_keep_what_is_there(cx: &Context) {
    let store = cx.store();
    fill(&store);
    let saved = export(&store);
    store.clear().unwrap();
    store.put("value", 1).unwrap();
    store.push_back("map", 1).unwrap();
    // All values of this queue are under lease.
    store.push_back("queue", 9).unwrap();
    let leased = store.lease::<i32>("queue", MINUTE).unwrap().unwrap();
    let imported = store.import(&saved[..], Import::KeepExisting).unwrap();
    assert_eq!(counts(&imported), (4, 3, 0));
    assert_eq!(store.get::<i32>("value").unwrap(), Some(1));
    assert_eq!(store.queue_len("map").unwrap(), 1);
    assert_eq!(store.queue_len("queue").unwrap(), 0);
    assert!(leased.ack().unwrap());
    let imported = store.import(&saved[..], Import::KeepExisting).unwrap();
    assert_eq!(counts(&imported), (1, 6, 0));
    assert_eq!(store.queue_range::<i32>("queue", ..).unwrap(), [1, 2, 3]);
}

fn what_has_expired_stays_out(cx: &Context) {
    let store = cx.store();
    store.put_with_ttl("gone", 1, SHORT).unwrap();
    store.put_with_ttl("stays", 2, 10 * MINUTE).unwrap();
    let saved = export(&store);
    assert_eq!(lines(&saved).len(), 2);
    cx.wait_or_advance(SHORT);
    assert_eq!(lines(&export(&store)).len(), 1);
    store.put("gone", 3).unwrap();
    let imported = store.import(&saved[..], Import::KeepExisting).unwrap();
    assert_eq!(counts(&imported), (0, 2, 0));
    assert_eq!(store.get::<i32>("gone").unwrap(), Some(3));
    let imported = store.import(&saved[..], Import::Replace).unwrap();
    assert_eq!(counts(&imported), (1, 1, 2));
    assert_eq!(store.keys("").unwrap(), ["stays"]);
    store.put("gone", 3).unwrap();
    let imported = store.import(&saved[..], Import::Merge).unwrap();
    assert_eq!(counts(&imported), (1, 1, 0));
    assert_eq!(store.keys("").unwrap(), ["stays"]);
}

fn times_to_live_are_kept_to_the_millisecond(cx: &Context) {
    let store = cx.store();
    store.put_with_ttl("k", 1, MINUTE).unwrap();
    store.push_back("q", 1).unwrap();
    store.expire("q", 2 * MINUTE).unwrap();
    let saved = export(&store);
    store.persist("k").unwrap();
    store.persist("q").unwrap();
    store.import(&saved[..], Import::Replace).unwrap();
    assert_eq!(lines(&export(&store)), lines(&saved));
    store.persist("k").unwrap();
    store.import(&saved[..], Import::Merge).unwrap();
    assert_eq!(lines(&export(&store)), lines(&saved));
    if cx.clock_is_manual() {
        assert_eq!(store.ttl("k").unwrap(), Some(Ttl::In(MINUTE)));
        cx.advance(Duration::from_millis(59_999));
        assert!(store.contains("k").unwrap());
        cx.advance(Duration::from_millis(1));
        assert!(!store.contains("k").unwrap());
    }
}

fn lease(store: &StateStore, queue: &str) -> i32 {
    store.lease::<i32>(queue, MINUTE).unwrap().unwrap().into_inner()
}

fn values_under_lease_are_first_in_their_queue(cx: &Context) {
    let store = cx.store();
    store.push_back_many("q", [1, 2, 3, 4]).unwrap();
    let first = store.lease::<i32>("q", 2 * MINUTE).unwrap().unwrap();
    let second = store.lease::<i32>("q", MINUTE).unwrap().unwrap();
    // The lease that was made first ends last.
    assert!(second.extend(3 * MINUTE).unwrap());
    assert!(first.extend(4 * MINUTE).unwrap());
    store.push_back("all-leased", 7).unwrap();
    let third = store.lease::<i32>("all-leased", MINUTE).unwrap().unwrap();
    let saved = export(&store);
    let memory = cx.memory();
    assert_eq!(memory.import(&saved[..], Import::Replace).unwrap().entries, 2);
    for store in [&store, &memory] {
        store.import(&saved[..], Import::Replace).unwrap();
        assert_eq!(store.queue_range::<i32>("q", ..).unwrap(), [1, 2, 3, 4]);
        assert_eq!(store.queue_range::<i32>("all-leased", ..).unwrap(), [7]);
        for (value, attempts) in [(1, 2), (2, 2), (3, 1)] {
            let leased = store.lease::<i32>("q", MINUTE).unwrap().unwrap();
            assert_eq!((*leased.value(), leased.attempts()), (value, attempts));
        }
    }
    for leased in [first, second, third] {
        assert!(!leased.ack().unwrap());
    }
}

fn delayed_values_stay_delayed(cx: &Context) {
    let store = cx.store();
    store.push_after("q", 2, 2 * SHORT).unwrap();
    store.push_after("q", 1, SHORT).unwrap();
    store.push_after("far", 9, 60 * MINUTE).unwrap();
    store.push_back("far", 8).unwrap();
    let saved = export(&store);
    assert_eq!(lines(&saved).len(), 3);
    assert_eq!(counts(&store.import(&saved[..], Import::Replace).unwrap()), (2, 0, 1));
    assert_eq!(lines(&export(&store)), lines(&saved));
    assert_eq!(counts(&store.import(&saved[..], Import::KeepExisting).unwrap()), (0, 2, 0));
    assert_eq!(counts(&store.import(&saved[..], Import::Merge).unwrap()), (2, 0, 0));
    cx.wait_or_advance(2 * SHORT);
    for value in [1, 2] {
        assert_eq!(lease(&store, "q"), value);
    }
    assert!(store.lease::<i32>("q", MINUTE).unwrap().is_none());
    assert_eq!(lease(&store, "far"), 8);
    assert!(store.lease::<i32>("far", MINUTE).unwrap().is_none());
}

fn leases_end_with_an_import_and_locks_do_not(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    let saved = export(&store);
    let leased = store.lease::<i32>("q", MINUTE).unwrap().unwrap();
    let lock = store.try_lock("l", MINUTE).unwrap().unwrap();
    let token = lock.token();
    store.import(&saved[..], Import::Replace).unwrap();
    assert!(!leased.ack().unwrap());
    assert_eq!(store.queue_range::<i32>("q", ..).unwrap(), [1]);
    assert!(store.try_lock("l", MINUTE).unwrap().is_none());
    lock.release().unwrap();
    assert!(store.try_lock("l", MINUTE).unwrap().unwrap().token() > token);
}

fn an_import_wakes_those_who_wait(cx: &Context) {
    let store = cx.store();
    store.push_back("q", 1).unwrap();
    let saved = export(&store);
    store.delete("q").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.pop_front_wait::<i32>("q", super::PATIENCE).unwrap());
        store.import(&saved[..], Import::Replace).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(1));
    });
}

fn a_large_map_and_a_large_queue_come_in_parts(cx: &Context) {
    let store = cx.store();
    let text = "x".repeat(1000);
    store.map_put_many("map", (0..300).map(|n| (format!("{n:03}"), &text))).unwrap();
    store.push_back_many("queue", (0..300).map(|n| (n, &text))).unwrap();
    store.put("single", &text).unwrap();
    let saved = export(&store);
    let longest = lines(&saved).iter().map(|line| line.len()).max().unwrap();
    assert!(longest < 70_000, "{longest}");
    assert!(lines(&saved).len() > 10);
    store.clear().unwrap();
    assert_eq!(store.import(&saved[..], Import::Replace).unwrap().entries, 3);
    assert_eq!(store.map_len("map").unwrap(), 300);
    let queue = store.queue_range::<(u32, String)>("queue", ..).unwrap();
    assert!(queue.iter().enumerate().all(|(at, (n, _))| at == *n as usize));
    assert_eq!(lines(&export(&store)), lines(&saved));
    store.import(&saved[..], Import::Merge).unwrap();
    assert_eq!(lines(&export(&store)), lines(&saved));
}

fn receipts_go_with_their_namespace(cx: &Context) {
    let store = cx.store();
    let orders = store.namespace("orders");
    let count = |id: &str| orders.process_once(id, MINUTE, |tx| tx.incr("n", 1)).unwrap();
    assert_eq!(count("1"), Some(1));
    let saved = export(&orders);
    assert_eq!(lines(&saved).len(), 2);
    assert_eq!(count("2"), Some(2));
    orders.import(&saved[..], Import::Replace).unwrap();
    assert_eq!(count("1"), None);
    assert_eq!(count("2"), Some(2));
    let other = store.namespace("other");
    other.import(&saved[..], Import::Merge).unwrap();
    assert_eq!(other.process_once("1", MINUTE, |tx| tx.incr("n", 1)).unwrap(), None);
}

fn an_empty_export_empties_the_namespace(cx: &Context) {
    let store = cx.store();
    let saved = export(&store);
    assert_eq!(lines(&saved), [""; 0]);
    fill(&store);
    assert_eq!(counts(&store.import(&saved[..], Import::Merge).unwrap()), (0, 0, 0));
    assert_eq!(store.count("").unwrap(), 7);
    assert_eq!(counts(&store.import(&saved[..], Import::Replace).unwrap()), (0, 0, 7));
    assert!(store.is_empty().unwrap());
}

fn a_copy_is_an_export_and_an_import(cx: &Context) {
    let store = cx.store();
    let (old, new) = (store.namespace("old"), store.namespace("new"));
    fill(&old);
    new.put("later", 1).unwrap();
    assert_eq!(counts(&old.copy_to(&new, Import::Replace).unwrap()), (7, 0, 1));
    check_filled(&new);
    assert_eq!(counts(&old.copy_to(&new, Import::KeepExisting).unwrap()), (0, 7, 0));
    let memory = cx.memory();
    assert_eq!(counts(&old.copy_to(&memory, Import::Merge).unwrap()), (7, 0, 0));
    check_filled(&memory);
    store.clear().unwrap();
    assert_eq!(counts(&memory.copy_to(&store, Import::Replace).unwrap()), (7, 0, 0));
    check_filled(&store);
}

fn a_closed_store_exports_nothing(cx: &Context) {
    let cx = cx.open_another(|config| config);
    let store = cx.store();
    let saved = export(&store);
    store.close().unwrap();
    assert!(matches!(store.export(Vec::new(), &ExportOptions::new()), Err(Error::Unavailable { .. })));
    assert!(matches!(store.import(&saved[..], Import::Merge), Err(Error::Unavailable { .. })));
    let other = StateStore::memory();
    assert!(matches!(store.copy_to(&other, Import::Merge), Err(Error::Unavailable { .. })));
    assert!(matches!(other.copy_to(&store, Import::Merge), Err(Error::Unavailable { .. })));
}

/// Eight threads move amounts between accounts, and raise a total with each. Every export must balance.
fn an_export_is_from_one_instant(cx: &Context) {
    const ACCOUNTS: u32 = 200;
    let store = cx.store();
    store.batch_put((0..ACCOUNTS).map(|n| (format!("account:{n}"), 100_i64))).unwrap();
    store.put("moves", 0).unwrap();
    store.push_back("log", 0).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                while !done.load(Ordering::Relaxed) {
                    let (from, to) = (random.u32(..ACCOUNTS), random.u32(..ACCOUNTS));
                    let moved = store.transaction(|tx| {
                        tx.incr(format!("account:{from}"), -1)?;
                        tx.incr(format!("account:{to}"), 1)?;
                        let moves = tx.incr("moves", 1)?;
                        tx.push_back("log", moves)
                    });
                    assert!(matches!(moved, Ok(_) | Err(Error::Conflict { .. })), "{moved:?}");
                }
            });
        }
        for round in 0..20 {
            let saved = export(&store);
            let copy = cx.memory();
            copy.import(&saved[..], Import::Replace).unwrap();
            let balances = copy.entries::<i64>("account:").map(|entry| entry.unwrap().1);
            let sum: i64 = balances.sum();
            assert_eq!(sum, 100 * i64::from(ACCOUNTS), "round {round}");
            let (moves, log) = (copy.get::<u64>("moves").unwrap().unwrap(), copy.queue_len("log").unwrap());
            assert_eq!(moves + 1, log, "round {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
}
