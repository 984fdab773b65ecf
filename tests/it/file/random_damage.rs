//! Random damage to the files of the File variant: opening, reading and repairing return an error or data
//! that a line of the files contains, and never panic. With `MILLPOND_TEST_SECONDS` each test runs for so
//! long on each of two directories; `MILLPOND_SEED` repeats one case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millpond::{Error, FileStore, StateStore, SyncPolicy};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::corrupt::{compacted_files, compacted_files_of_all_kinds, corrupt, readable_content};
use crate::support::files::{files, open, open_read_only, restore};
use crate::support::seeds::seeds;

type Files = BTreeMap<String, Vec<u8>>;

/// Two directories with a snapshot and a journal: one of values, one of maps, queues and leases.
fn intact_directories() -> [Files; 2] {
    [compacted_files().1, compacted_files_of_all_kinds()].map(|mut whole| {
        whole.remove("LOCK");
        whole
    })
}

/// Damages one of the two files, up to three times.
fn corrupt_one(whole: &Files, seed: u64) -> Files {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut given = whole.clone();
    let name = if seed.is_multiple_of(2) { "journal-2.jsonl" } else { "snapshot-2.jsonl" };
    for _ in 0..=seed % 3 {
        let bytes = given.get_mut(name).unwrap();
        if !bytes.is_empty() {
            *bytes = corrupt(bytes, &mut random);
        }
    }
    given
}

/// Changes an entry slightly, as far as its kind allows.
fn change(store: &StateStore, key: &str) {
    match (store.map_len(key), store.queue_len(key)) {
        (Ok(fields), _) => {
            assert!(store.map_put(key, "new", 1).unwrap() || fields > 0);
            assert!(store.map_delete(key, "new").unwrap());
        }
        (_, Ok(length)) => {
            assert_eq!(store.push_back(key, 1).unwrap(), length + 1);
            assert_eq!(store.push_front(key, 2).unwrap(), length + 2);
            assert_eq!(store.pop_front::<u8>(key).unwrap(), Some(2));
            store.queue_trim(key, 2).unwrap();
        }
        _ => store.put(key, 1).unwrap(),
    }
}

#[track_caller]
fn assert_opens_or_refuses(dir: &Path, given: &Files, seed: u64) -> bool {
    restore(dir, given);
    match open(dir, SyncPolicy::Never) {
        Ok(store) => {
            assert_said(&store, &collect_statements(given), seed);
            for key in readable_content(&store).into_keys() {
                change(&store, &key);
            }
            store.incr("counter", 1).unwrap();
            let before = readable_content(&store);
            drop(store);
            let store =
                open(dir, SyncPolicy::Never).unwrap_or_else(|error| panic!("MILLPOND_SEED={seed}: {error}"));
            assert_eq!(readable_content(&store), before, "MILLPOND_SEED={seed}");
            true
        }
        Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => {
            let mut found = files(dir);
            found.retain(|name, _| given.contains_key(name));
            assert!(found == *given, "MILLPOND_SEED={seed}: a refused file was changed");
            false
        }
        Err(error) => panic!("MILLPOND_SEED={seed}: {error:?}"),
    }
}

#[test]
fn damaged_files_are_refused_or_read_and_never_cause_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    for whole in intact_directories() {
        let (mut all, mut opened) = (0, 0);
        for seed in seeds(0, 2000) {
            all += 1;
            opened += u32::from(assert_opens_or_refuses(dir.path(), &corrupt_one(&whole, seed), seed));
        }
        let enough = all / 100..all / 2;
        assert!(
            all < 100 || enough.contains(&opened),
            "{opened} of {all} were opened: the damage is too weak or too strong"
        );
    }
}

/// A statement of a line about a key: its value, the value of a field, or a value of a queue.
type Statement = (String, Place, Option<String>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Value,
    Field(String),
    Queue,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    w: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Fact<'a> {
    k: String,
    #[serde(borrow, alias = "f")]
    m: Option<Vec<&'a RawValue>>,
    #[serde(borrow, alias = "i")]
    q: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Name {
    f: String,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default, deserialize_with = "deserialize_present")]
    v: Option<&'a RawValue>,
    b: Option<String>,
    j: Option<String>,
}

/// `null` is a value too.
fn deserialize_present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The text form of a value: not every text in a line is JSON that can be parsed.
fn show(value: Option<Value>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// The value of a fact, a field or an item, if it has one.
fn part(text: &RawValue) -> Option<(Option<String>,)> {
    let part: Part<'_> = serde_json::from_str(text.get()).ok()?;
    let bytes = match (part.v, part.b.or(part.j)) {
        (Some(json), _) => json.get().as_bytes().to_vec(),
        (None, Some(text)) => BASE64.decode(text).ok()?,
        (None, None) => return None,
    };
    Some((show(serde_json::from_slice(&bytes).ok()),))
}

/// All statements of intact lines, including lines that follow the remains of another on the same line.
fn collect_statements(given: &Files) -> BTreeSet<Statement> {
    let mut found = BTreeSet::new();
    for bytes in given.values() {
        for at in memchr::memmem::find_iter(bytes, b"{\"c\":\"") {
            let text = bytes[at..].split(|byte| *byte == b'\n').next().unwrap_or_default();
            let crc = text.get(6..14).and_then(|digits| std::str::from_utf8(digits).ok());
            let is_whole = crc.is_some_and(|crc| crc == format!("{:08x}", crc32fast::hash(&text[14..])));
            let line = is_whole.then(|| serde_json::from_slice::<Line<'_>>(text).ok()).flatten();
            line.iter().flat_map(|line| &line.w).for_each(|fact| collect_from_fact(fact, &mut found));
        }
    }
    found
}

fn collect_from_fact(text: &RawValue, found: &mut BTreeSet<Statement>) {
    let Ok(fact) = serde_json::from_str::<Fact<'_>>(text.get()) else { return };
    // If a fact has a field named `f`, that is a list, and the fact has no value of its own.
    found.extend(part(text).map(|(value,)| (fact.k.clone(), Place::Value, value)));
    for field in fact.m.iter().flatten() {
        if let (Ok(Name { f }), Some((value,))) = (serde_json::from_str(field.get()), part(field)) {
            found.insert((fact.k.clone(), Place::Field(f), value));
        }
    }
    let items = fact.q.iter().flatten().filter_map(|item| part(item));
    found.extend(items.map(|(value,)| (fact.k.clone(), Place::Queue, value)));
}

/// Asserts that every value of a store occurs in some line. Keys that no operation accepts are skipped.
fn assert_said(store: &StateStore, said: &BTreeSet<Statement>, seed: u64) {
    for key in store.keys("").unwrap() {
        let mut held = Vec::new();
        if store.get_bytes(&key).is_ok() {
            held.push((key.clone(), Place::Value, show(store.get(&key).ok().flatten())));
        }
        for field in store.map_keys(&key).unwrap_or_default() {
            let value = show(store.map_get(&key, &field).ok().flatten());
            held.push((key.clone(), Place::Field(field), value));
        }
        // If one value of a queue cannot be read, none can.
        for value in store.queue_range::<Value>(&key, ..).unwrap_or_default() {
            held.push((key.clone(), Place::Queue, show(Some(value))));
        }
        for one in held {
            assert!(said.contains(&one), "MILLPOND_SEED={seed}: no line contains {one:?}");
        }
    }
}

fn assert_repair_is_complete(given: &Files, seed: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), given);
    let failed = |error: Error| -> ! { panic!("MILLPOND_SEED={seed}: {error:?}") };
    let repair = match FileStore::repair(dir.path()) {
        Ok(repair) => repair,
        // A later version, with a valid checksum.
        Err(Error::Unsupported { .. }) => return false,
        Err(error) => failed(error),
    };
    let was_damaged = repair.backup.is_some();
    assert_eq!(was_damaged, !repair.lost.is_empty(), "MILLPOND_SEED={seed}: {repair:?}");
    if let Some(copy) = &repair.backup {
        assert!(files(copy) == *given, "MILLPOND_SEED={seed}: the copy differs from the original");
        let second = FileStore::repair(dir.path()).unwrap_or_else(|error| failed(error));
        assert!(second.backup.is_none() && second.lost.is_empty(), "MILLPOND_SEED={seed}: {second:?}");
        fs::remove_dir_all(copy).unwrap();
    }
    let store = open(dir.path(), SyncPolicy::Never).unwrap_or_else(|error| failed(error));
    assert_eq!(store.len().unwrap(), repair.entries, "MILLPOND_SEED={seed}");
    assert_said(&store, &collect_statements(given), seed);
    was_damaged
}

/// Every value in it occurs in some line of the damaged files.
#[test]
fn a_repair_of_damaged_files_leaves_a_store_that_opens() {
    for whole in intact_directories() {
        let (mut all, mut repaired) = (0, 0);
        for seed in seeds(0, 300) {
            all += 1;
            repaired += u32::from(assert_repair_is_complete(&corrupt_one(&whole, seed), seed));
        }
        assert!(all == 1 || (all / 3..all).contains(&repaired), "{repaired} of {all} were damaged");
    }
}

/// Damage with a valid checksum made a line that names the empty key. A repair counted its entry and did not write it.
#[test]
fn a_repair_refuses_an_entry_under_the_empty_key() {
    for whole in intact_directories() {
        assert_repair_is_complete(&corrupt_one(&whole, 1023), 1023);
    }
}

/// A reader waits a while for damage to disappear, because a writer may be writing that line.
/// It changes nothing.
#[test]
fn a_reader_of_damaged_files_gets_the_same_as_an_owner() {
    for whole in intact_directories() {
        thread::scope(|scope| {
            let whole = &whole;
            for first in 0..8 {
                scope.spawn(move || {
                    seeds(first * 1000, 12).for_each(|seed| assert_reading_equals_opening(whole, seed));
                });
            }
        });
    }
}

fn assert_reading_equals_opening(whole: &Files, seed: u64) {
    let given = corrupt_one(whole, seed);
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &given);
    let looked = open_read_only(dir.path()).map(|store| readable_content(&store));
    assert!(files(dir.path()) == given, "MILLPOND_SEED={seed}: reading changed a file");
    let opened = open(dir.path(), SyncPolicy::Never).map(|store| readable_content(&store));
    match (looked, opened) {
        (Ok(looked), Ok(opened)) => assert_eq!(looked, opened, "MILLPOND_SEED={seed}"),
        (Err(looked), Err(opened)) => {
            assert_eq!(looked.to_string(), opened.to_string(), "MILLPOND_SEED={seed}");
        }
        (looked, opened) => panic!("MILLPOND_SEED={seed}: {looked:?} against {opened:?}"),
    }
}
