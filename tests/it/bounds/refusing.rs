//! Writes for which there is no room are refused, and change nothing.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Error, Import, ManualClock, MemoryOptions, OpenOptions, StateConfig, StateStore, WriteBatch};

use super::{bytes, evicting, open, refusing};

const MINUTE: Duration = Duration::from_secs(60);

type Write = fn(&StateStore) -> millpond::Result<()>;

/// Writes that create the key `new`.
const CREATING: &[(&str, Write)] = &[
    ("put", |s| s.put("new", 1)),
    ("put_with_ttl", |s| s.put_with_ttl("new", 1, MINUTE)),
    ("put_bytes", |s| s.put_bytes("new", b"1")),
    ("set_if_not_exists", |s| s.set_if_not_exists("new", 1, None).map(drop)),
    ("get_and_put", |s| s.get_and_put::<i64>("new", 1).map(drop)),
    ("compare_and_set", |s| s.compare_and_set("new", None, &1).map(drop)),
    ("modify", |s| s.modify("new", |_: Option<i64>| Some(1)).map(drop)),
    ("upsert", |s| s.upsert("new", || 1, |n: &mut i64| *n += 1).map(drop)),
    ("incr", |s| s.incr("new", 1).map(drop)),
    ("incr_with_ttl", |s| s.incr_with_ttl("new", 1, MINUTE).map(drop)),
    ("batch_incr", |s| s.batch_incr([("new", 1)]).map(drop)),
    ("batch_put", |s| s.batch_put([("new", 1)])),
    ("batch_set_if_not_exists", |s| s.batch_set_if_not_exists([("new", 1)], None).map(drop)),
    ("map_put", |s| s.map_put("new", "f", 1).map(drop)),
    ("map_incr", |s| s.map_incr("new", "f", 1).map(drop)),
    ("push_back", |s| s.push_back("new", 1).map(drop)),
    ("push_front", |s| s.push_front("new", 1).map(drop)),
    ("push_back_many", |s| s.push_back_many("new", [1, 2]).map(drop)),
    ("a window", |s| s.window("new", MINUTE).add(1).map(drop)),
    ("rate_limit", |s| s.rate_limit("new", 1, MINUTE).map(drop)),
    ("write", |s| {
        let mut batch = WriteBatch::new();
        batch.put("a", 7)?.put("new", 1)?;
        s.write(&batch)
    }),
    ("transaction", |s| {
        s.transaction(|tx| {
            tx.put("a", 7)?;
            tx.push_back("new", 1).map(drop)
        })
    }),
    ("process_once", |s| s.process_once("event", MINUTE, |tx| tx.put("new", 1)).map(drop)),
];

#[test]
fn a_write_beyond_max_entries_is_refused_and_changes_nothing() {
    for (name, write) in CREATING {
        let store = refusing(2);
        store.put_with_ttl("a", 1, MINUTE).unwrap();
        store.put("b", 2).unwrap();
        let before = bytes(&store);
        let error = assert_error!(write(&store), Error::Full { option: "max_entries", limit: 2, .. });
        assert!(error.is_full() && error.is_transient() && !error.maybe_applied(), "{name}");
        assert!(error.to_string().contains("max_entries (2)"), "{error}");
        assert_eq!((store.keys("").unwrap(), bytes(&store)), (vec!["a".to_owned(), "b".to_owned()], before));
        assert_eq!(store.batch_get::<i64>(["a", "b"]).unwrap(), [Some(1), Some(2)], "{name}");
        assert!(store.delete("b").unwrap());
        write(&store).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(store.contains("new").unwrap(), "{name}");
        assert_eq!(store.stats().entries.evicted, 0);
    }
}

#[test]
fn a_full_store_does_what_needs_no_room() {
    let store = refusing(3);
    store.put("a", 1).unwrap();
    store.map_put("m", "f", 1).unwrap();
    store.push_back_many("q", [1, 2, 3]).unwrap();
    store.put("a", 2).unwrap();
    assert!(
        store.update("a", 3).unwrap() && store.expire("a", MINUTE).unwrap() && store.persist("a").unwrap()
    );
    assert_eq!(store.incr("a", 1).unwrap(), 4);
    assert!(store.map_put("m", "g", 1).unwrap(), "a field is no entry");
    assert_eq!(store.push_back("q", 4).unwrap(), 4);
    assert_eq!(store.pop_front("q").unwrap(), Some(1));
    let leased = store.lease::<i64>("q", MINUTE).unwrap().unwrap();
    assert!(leased.nack().unwrap());
    assert!(store.lease::<i64>("q", MINUTE).unwrap().unwrap().ack().unwrap());
    store.lock("l", MINUTE, Duration::ZERO).unwrap().release().unwrap();
    assert_eq!(store.get_and_delete("a").unwrap(), Some(4));
    store.put("b", 1).unwrap();
    assert_eq!(store.clear().unwrap(), 3);
    assert_eq!(bytes(&refusing(1)), 0);
}

#[test]
fn max_bytes_refuses_growth_alone() {
    let store = open(MemoryOptions::default().max_bytes(4096));
    let text = |len: usize| "x".repeat(len);
    store.put("a", text(1500)).unwrap();
    store.put("b", text(1500)).unwrap();
    let before = bytes(&store);
    for error in [
        store.put("c", text(1500)).unwrap_err(),
        store.put("a", text(2600)).unwrap_err(),
        store.push_after("q", text(1500), MINUTE).unwrap_err(),
        store.put("huge", text(5000)).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Full { option: "max_bytes", limit: 4096, .. }), "{error}");
    }
    assert_eq!(bytes(&store), before);
    store.put("a", text(1500)).unwrap();
    store.put("a", text(10)).unwrap();
    store.put("b", text(2500)).unwrap();
    assert!(bytes(&store) <= 4096);
}

#[test]
fn a_transaction_counts_by_what_it_leaves() {
    let store = open(MemoryOptions::default().max_bytes(2048).max_entries(2));
    store.put("a", "x".repeat(1500)).unwrap();
    store.push_back("q", 1).unwrap();
    store
        .transaction(|tx| {
            tx.put("b", 1)?;
            tx.put("b", "x".repeat(1500))?;
            tx.delete("a").map(drop)
        })
        .unwrap();
    assert_eq!(store.keys("").unwrap(), ["b", "q"]);
    let mut batch = WriteBatch::new();
    batch.put("c", 1).unwrap().put("c", 2).unwrap().delete("c").unwrap().put("b", 3).unwrap();
    store.write(&batch).unwrap();
    assert_eq!(store.get("b").unwrap(), Some(3));
    let too_much = store.transaction(|tx| {
        tx.delete("q")?;
        tx.put("c", 1)?;
        tx.put("d", 1)
    });
    assert_error!(too_much, Error::Full { .. });
    assert_eq!(store.keys("").unwrap(), ["b", "q"]);
}

#[test]
fn a_batch_says_how_far_it_came() {
    let store = refusing(10);
    let error = store.batch_put((0..20).map(|n| (format!("k{n:02}"), n))).unwrap_err();
    let Error::Partial { done: 10, source, .. } = error else { panic!("{error:?}") };
    assert!(source.is_full());
    assert_eq!(store.len().unwrap(), 10);
}

#[test]
fn expired_entries_make_room() {
    for options in [MemoryOptions::default(), evicting()] {
        let clock = Arc::new(ManualClock::default());
        let config = StateConfig::default().memory(options.max_entries(100));
        let store = OpenOptions::new().clock(clock.clone()).with_config(config).unwrap();
        store.put("stays", 1).unwrap();
        store.batch_put_with_ttl((0..99).map(|n| (format!("short:{n}"), n)), MINUTE).unwrap();
        clock.advance(MINUTE);
        store.batch_put((0..99).map(|n| (format!("new:{n}"), n))).unwrap();
        let stats = store.stats().entries;
        assert_eq!((stats.total, stats.expired, stats.evicted), (100, 99, 0));
        assert!(store.contains("stays").unwrap());
    }
}

/// Otherwise a full queue could not be worked off.
#[test]
fn values_of_a_full_store_can_be_leased_and_returned() {
    let store = open(MemoryOptions::default().max_bytes(8 << 10));
    let mut pushed = 0;
    while store.push_back("q", pushed).is_ok() {
        pushed += 1;
    }
    let most = bytes(&store);
    let mut leased = Vec::new();
    while let Some(value) = store.lease::<u64>("q", MINUTE).unwrap() {
        leased.push(value);
    }
    assert_eq!(leased.len() as u64, pushed);
    let beyond = bytes(&store).saturating_sub(most) / pushed;
    assert!(beyond <= 64, "a lease takes {beyond} bytes beside its value");
    for value in leased {
        assert!(value.nack().unwrap());
    }
    assert_eq!(store.queue_len("q").unwrap(), pushed);
    assert_error!(store.push_back("q", 0), Error::Full { .. });
    assert!(store.lease::<u64>("q", MINUTE).unwrap().unwrap().ack().unwrap());
}

#[test]
fn an_import_obeys_the_bounds() {
    let source = StateStore::memory();
    source.batch_put((0..20).map(|n| (format!("k{n:02}"), n))).unwrap();
    let store = refusing(15);
    store.put("own", 1).unwrap();
    assert_error!(source.copy_to(&store, Import::Replace), Error::Full { option: "max_entries", .. });
    assert_eq!(store.keys("").unwrap(), ["own"]);
    assert_error!(source.copy_to(&store, Import::Merge), Error::Partial { done: 14, .. });
    assert_eq!(store.len().unwrap(), 15);
    for key in source.keys("").unwrap().iter().skip(15) {
        source.delete(key).unwrap();
    }
    // What is replaced makes room for what replaces it.
    assert_eq!(source.copy_to(&store, Import::Replace).unwrap().entries, 15);
    assert!(!store.contains("own").unwrap());

    let store = open(evicting().max_entries(15));
    store.batch_put((0..15).map(|n| (format!("old{n}"), n))).unwrap();
    let imported = source.copy_to(&store.namespace("new"), Import::Replace).unwrap();
    assert_eq!((imported.entries, store.len().unwrap()), (15, 15));
    assert_eq!(store.count("new:").unwrap(), 15);
    store.batch_put((0..5).map(|n| (format!("old{n}"), n))).unwrap();
    assert_eq!(source.copy_to(&store.namespace("new"), Import::Merge).unwrap().entries, 15);
    assert_eq!(store.len().unwrap(), 15);
}
