//! The histories that the fixtures of the format were made of. They must not change: a different history
//! needs a new fixture beside the old one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millpond::{ManualClock, OpenOptions, StateConfig, StateStore, SyncPolicy, WriteBatch};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::files::{config, files, journal, snapshot};
use crate::support::wait_until;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

const SECOND: Duration = Duration::from_secs(1);

/// A time to live that is over when a fixture is opened, and one that lasts for centuries.
const SHORT: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(28_000_000_000);

/// How many zeros at the end of a preallocated journal are kept.
const ZEROS: usize = 300;

/// A store that begins at the first second of 2024 and is too small to be compacted.
fn begin(dir: &Path, sync: SyncPolicy) -> (StateStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (OpenOptions::new().clock(clock.clone()).with_config(roomy(dir, sync)).unwrap(), clock)
}

fn roomy(dir: &Path, sync: SyncPolicy) -> StateConfig {
    let config = config(dir, sync);
    let options = config.file.clone().compact_min_bytes(1 << 20);
    config.file(options)
}

/// The current files, without zeros at their ends and without files that are not part of the format.
fn written(dir: &Path) -> Files {
    let mut files = files(dir);
    files.remove("LOCK");
    for bytes in files.values_mut() {
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    }
    files
}

/// Every kind of line and of fact, in a store that was closed twice.
pub(super) fn closed() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = begin(dir.path(), SyncPolicy::Always);
    values(&store, &clock);
    store.close().unwrap();
    drop(store);
    let store =
        OpenOptions::new().clock(clock.clone()).with_config(roomy(dir.path(), SyncPolicy::Always)).unwrap();
    kinds(&store, &clock);
    together(&store, &clock);
    store.close().unwrap();
    written(dir.path())
}

fn values(store: &StateStore, clock: &ManualClock) {
    store.put("text", "ключ").unwrap();
    store.put("object", json!({"a": [1, null, true], "b": "\"quoted\"\n"})).unwrap();
    clock.advance(SECOND);
    store.put("null", Value::Null).unwrap();
    store.put("float", 0.1).unwrap();
    store.put("key \"in\\quotes", 1).unwrap();
    store.put("ключ", 2).unwrap();
    store.put_bytes("bytes", b"\0\xff{\n").unwrap();
    store.put_bytes("no bytes", b"").unwrap();
    let broken = RawValue::from_string("{\n  \"a\": 1\n}".to_owned()).unwrap();
    store.put("json in lines", broken).unwrap();
    store.put_with_ttl("short", 1, SHORT).unwrap();
    store.put_with_ttl("long", 1, LONG).unwrap();
    store.put_bytes_with_ttl("long bytes", b"\xfe", LONG).unwrap();
    clock.advance(SECOND);
    store.put("expires later", 1).unwrap();
    assert!(store.expire("expires later", LONG).unwrap());
    store.put_with_ttl("stays", 1, SHORT).unwrap();
    assert!(store.persist("stays").unwrap());
    store.put_with_ttl("touched", 1, SHORT).unwrap();
    assert_eq!(store.get_and_touch("touched", LONG).unwrap(), Some(1));
    assert!(store.set_if_not_exists("once", 1, Some(LONG)).unwrap());
    assert!(!store.set_if_not_exists("once", 2, None).unwrap());
    assert!(store.compare_and_set("text", Some("ключ"), "compared").unwrap());
    assert!(store.update("float", 2.5).unwrap());
    assert_eq!(store.get_and_put::<i32>("stays", 7).unwrap(), Some(1));
    store.put("deleted", 1).unwrap();
    assert!(store.delete("deleted").unwrap());
    store.put("handed out", 1).unwrap();
    assert_eq!(store.get_and_delete::<i32>("handed out").unwrap(), Some(1));
    assert_eq!(store.incr("counter", 5).unwrap(), 5);
    assert_eq!(store.decr("counter", 7).unwrap(), -2);
    assert_eq!(store.incr_with_ttl("hits", 1, LONG).unwrap(), 1);
    store.namespace("inner").put("a", 1).unwrap();
    store.put("gone:1", 1).unwrap();
    assert_eq!(store.delete_prefix("gone:").unwrap(), 1);
    store.flush().unwrap();
}

fn kinds(store: &StateStore, clock: &ManualClock) {
    clock.advance(SECOND);
    store.map_put("map", "", Value::Null).unwrap();
    store.map_put_many("map", [("b", 1), ("c \"", 2), ("d", 3)]).unwrap();
    store.map_delete("map", "d").unwrap();
    assert_eq!(store.map_incr("map", "b", 41).unwrap(), 42);
    store.map_put("map in lines", "a", RawValue::from_string("[\n]".to_owned()).unwrap()).unwrap();
    store.expire("map in lines", LONG).unwrap();
    store.map_put("empty map", "a", 1).unwrap();
    store.map_delete("empty map", "a").unwrap();
    store.push_back_many("queue", 1..=5).unwrap();
    store.push_front("queue", "first").unwrap();
    store.push_front("queue", "before it").unwrap();
    store.push_back("queue", [6]).unwrap();
    assert_eq!(store.pop_front("queue").unwrap(), Some("before it".to_owned()));
    assert_eq!(store.pop_back("queue").unwrap(), Some([6]));
    store.queue_trim("queue", 4).unwrap();
    store.push_back("trimmed", 1).unwrap();
    store.push_back("trimmed", 2).unwrap();
    store.queue_trim("trimmed", 1).unwrap();
    store.push_back("empty queue", 1).unwrap();
    assert_eq!(store.pop_front("empty queue").unwrap(), Some(1));
    store.push_back_many("work", ["a", "b", "c", "d"]).unwrap();
    let [done, back, left] = [(); 3].map(|()| {
        clock.advance(SECOND);
        store.lease::<String>("work", 60 * SECOND).unwrap().unwrap()
    });
    assert!(done.ack().unwrap());
    assert!(back.nack().unwrap());
    assert_eq!(*left.value(), "c");
    let released = store.try_lock("gate", SHORT).unwrap().unwrap();
    released.extend(2 * SHORT).unwrap();
    released.release().unwrap();
    std::mem::forget(store.try_lock("held", LONG).unwrap().unwrap());
}

fn together(store: &StateStore, clock: &ManualClock) {
    clock.advance(SECOND);
    let mut batch = WriteBatch::new();
    batch.put("batch 1", 1).unwrap().put_with_ttl("batch 2", 2, LONG).unwrap().delete("no such key").unwrap();
    batch.put("batch 3", 3).unwrap().delete("null").unwrap();
    store.write(&batch).unwrap();
    store.batch_put([("many 1", 1), ("many 2", 2)]).unwrap();
    store.batch_put_with_ttl([("many 3", 3)], LONG).unwrap();
    store.batch_delete(["many 1", "batch 3"]).unwrap();
    store.batch_incr([("counter", 1), ("other counter", 2)]).unwrap();
    store
        .transaction(|tx| {
            let many = tx.queue_len("queue")?;
            tx.map_put("map", "length", many)?;
            tx.push_back("queue", "last")?;
            tx.pop_front::<Value>("queue")?;
            tx.put("in a transaction", many)?;
            tx.delete("many 2").map(drop)
        })
        .unwrap();
}

/// A few entries of each kind, in files that were not closed, like those of a killed process.
fn few(store: &StateStore, clock: &ManualClock) {
    store.put("a", 1).unwrap();
    store.put_with_ttl("b", 2, LONG).unwrap();
    clock.advance(SECOND);
    store.map_put("map", "a", 1).unwrap();
    store.push_back_many("queue", 1..=3).unwrap();
    store.pop_front::<i32>("queue").unwrap();
    store.delete("a").unwrap();
    store.put("last", "it may be torn").unwrap();
}

/// The last line is torn.
pub(super) fn killed() -> Files {
    let mut files = left_open(SyncPolicy::Always);
    for bytes in files.values_mut() {
        bytes.truncate(bytes.len() - 9);
    }
    files
}

/// The last line is complete, with zeros after it.
pub(super) fn filled() -> Files {
    let mut files = left_open(SyncPolicy::Always);
    for bytes in files.values_mut() {
        bytes.resize(bytes.len() + ZEROS, 0);
    }
    files
}

/// Nothing was synced.
pub(super) fn never() -> Files {
    left_open(SyncPolicy::Never)
}

fn left_open(sync: SyncPolicy) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let (store, clock) = begin(dir.path(), sync);
    few(&store, &clock);
    written(dir.path())
}

/// The last key that is written before a compaction.
const NOT_SHORT: &str = "not short";

/// The files between the renaming of a snapshot and the deletion of the files that it replaces, and the files
/// after the store continued and was closed.
pub(super) fn compacting_and_compacted() -> [Files; 2] {
    // Deleting a large entry starts a compaction. It depends on two threads whether the next line is written
    // before the new journal exists or into it; almost always it is before.
    let as_in_the_fixture = |[compacting, _]: &[Files; 2]| {
        let before = &compacting["journal-1.jsonl"];
        before.windows(NOT_SHORT.len()).any(|text| text == NOT_SHORT.as_bytes())
    };
    (0..100)
        .map(|_| compacted_once())
        .find(as_in_the_fixture)
        .expect("the line is written before the new journal exists")
}

fn compacted_once() -> [Files; 2] {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store =
        OpenOptions::new().clock(clock.clone()).with_config(config(dir.path(), SyncPolicy::Always)).unwrap();
    few(&store, &clock);
    kinds(&store, &clock);
    store.put("large", "x".repeat(5000)).unwrap();
    store.delete("large").unwrap();
    let aside = tempfile::tempdir().unwrap();
    // The journal is deleted only under its own name.
    fs::hard_link(journal(dir.path(), 1), journal(aside.path(), 1)).unwrap();
    store.put(NOT_SHORT, "y".repeat(600)).unwrap();
    wait_until("the store is compacted", 20 * SECOND, || {
        snapshot(dir.path(), 2).exists() && !journal(dir.path(), 1).exists()
    });
    clock.advance(SECOND);
    store.put("behind", 1).unwrap();
    let mut compacting = written(dir.path());
    compacting.extend(written(aside.path()));
    together(&store, &clock);
    store.close().unwrap();
    [compacting, written(dir.path())]
}
