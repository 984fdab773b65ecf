//! The bytes of the files. The directories in `tests/fixtures` are read as they were meant, and the current
//! code writes the same bytes. If a test here fails, the format has changed, and needs a new version.

mod histories;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millpond::{FileStore, ManualClock, OpenOptions, StateStore, SyncPolicy, Ttl};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::files::{config, files, line, open_read_only, restore};
use histories::Files;

/// A key, its data as text, and the second at which it expires.
type Held<'t> = (&'t str, &'t str, Option<u64>);

const FIXTURES: [(&str, &[Held<'static>]); 6] = [
    ("closed", &CLOSED),
    ("killed", &KILLED),
    ("filled", &FILLED),
    ("never", &FILLED),
    ("compacting", &COMPACTING),
    ("compacted", &COMPACTED),
];

/// The checksums of all fixture files, as they were first committed.
const FILES: [(&str, u32); 9] = [
    ("closed/journal-1.jsonl", 0x2d35_e466),
    ("compacted/journal-2.jsonl", 0x9ec8_4a61),
    ("compacted/snapshot-2.jsonl", 0x0cd6_75d1),
    ("compacting/journal-1.jsonl", 0xedb0_3679),
    ("compacting/journal-2.jsonl", 0x58db_2deb),
    ("compacting/snapshot-2.jsonl", 0x0cd6_75d1),
    ("filled/journal-1.jsonl", 0xf36a_151f),
    ("killed/journal-1.jsonl", 0x60d5_123a),
    ("never/journal-1.jsonl", 0xce59_363b),
];

const CLOSED: [Held<'static>; 27] = [
    ("batch 1", "1", None),
    ("batch 2", "2", Some(29_704_067_207)),
    ("bytes", "bytes \\x00\\xff{\\n", None),
    ("counter", "-1", None),
    ("expires later", "1", Some(29_704_067_202)),
    ("float", "2.5", None),
    ("hits", "1", Some(29_704_067_202)),
    ("in a transaction", "4", None),
    ("inner:a", "1", None),
    ("json in lines", "{\n  \"a\": 1\n}", None),
    (r#"key "in\quotes"#, "1", None),
    ("long", "1", Some(29_704_067_201)),
    ("long bytes", "bytes \\xfe", Some(29_704_067_201)),
    ("many 3", "3", Some(29_704_067_207)),
    ("map", r#"map {"":null,"b":42,"c \"":2,"length":4}"#, None),
    ("map in lines", r#"map {"a":[]}"#, Some(29_704_067_203)),
    ("no bytes", "", None),
    ("object", "{\"a\":[1,null,true],\"b\":\"\\\"quoted\\\"\\n\"}", None),
    ("once", "1", Some(29_704_067_202)),
    ("other counter", "2", None),
    ("queue", r#"queue [3,4,5,"last"]"#, None),
    ("stays", "7", None),
    ("text", r#""compared""#, None),
    ("touched", "1", Some(29_704_067_202)),
    ("trimmed", "queue [2]", None),
    ("work", r#"queue ["b","d"]"#, None),
    ("ключ", "2", None),
];

const KILLED: [Held<'static>; 3] =
    [("b", "2", Some(29_704_067_200)), ("map", r#"map {"a":1}"#, None), ("queue", "queue [2,3]", None)];

const FILLED: [Held<'static>; 4] = [
    ("b", "2", Some(29_704_067_200)),
    ("last", r#""it may be torn""#, None),
    ("map", r#"map {"a":1}"#, None),
    ("queue", "queue [2,3]", None),
];

const COMPACTING: [Held<'static>; 9] = [
    ("b", "2", Some(29_704_067_200)),
    ("behind", "1", None),
    ("last", r#""it may be torn""#, None),
    ("map", r#"map {"":null,"a":1,"b":42,"c \"":2}"#, None),
    ("map in lines", r#"map {"a":[]}"#, Some(29_704_067_202)),
    ("not short", r#"602 bytes: "yyy"#, None),
    ("queue", "queue [2,3,4,5]", None),
    ("trimmed", "queue [2]", None),
    ("work", r#"queue ["b","d"]"#, None),
];

const COMPACTED: [Held<'static>; 15] = [
    ("b", "2", Some(29_704_067_200)),
    ("batch 1", "1", None),
    ("batch 2", "2", Some(29_704_067_207)),
    ("behind", "1", None),
    ("counter", "1", None),
    ("in a transaction", "4", None),
    ("last", r#""it may be torn""#, None),
    ("many 3", "3", Some(29_704_067_207)),
    ("map", r#"map {"":null,"a":1,"b":42,"c \"":2,"length":4}"#, None),
    ("map in lines", r#"map {"a":[]}"#, Some(29_704_067_202)),
    ("not short", r#"602 bytes: "yyy"#, None),
    ("other counter", "2", None),
    ("queue", r#"queue [3,4,5,"last"]"#, None),
    ("trimmed", "queue [2]", None),
    ("work", r#"queue ["b","d"]"#, None),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn fixture(name: &str) -> Files {
    files(&root().join(name))
}

/// A copy, with a clock at the first second of 2025: entries with a time to live of an hour are expired.
fn copy(name: &str) -> (TempDir, Arc<ManualClock>) {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &fixture(name));
    (dir, Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_735_689_600))))
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> StateStore {
    OpenOptions::new().clock(clock.clone()).with_config(config(dir, SyncPolicy::Always)).unwrap()
}

/// The data under a key, as text.
fn show(store: &StateStore, key: &str) -> String {
    if let Ok(Some(bytes)) = store.get_bytes(key) {
        return match std::str::from_utf8(&bytes) {
            Ok(text) if text.len() > 100 => format!("{} bytes: {}", text.len(), &text[..4]),
            Ok(text) => text.to_owned(),
            Err(_) => format!("bytes {}", bytes.escape_ascii()),
        };
    }
    match (store.map_entries::<Value>(key), store.queue_range::<Value>(key, ..)) {
        (Ok(map), _) => format!("map {}", serde_json::to_string(&map).unwrap()),
        (_, queue) => format!("queue {}", serde_json::to_string(&queue.unwrap()).unwrap()),
    }
}

/// Asserts that a store holds these entries and no others. An entry must expire at its second, or about then
/// if the system clock runs on during the test.
#[track_caller]
fn assert_holds(store: &StateStore, expected: &[Held<'_>], now: SystemTime, slack: u64, name: &str) {
    let keys: Vec<String> = store.keys("").unwrap();
    let expected_keys: Vec<&str> = expected.iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, expected_keys, "{name}");
    for (key, text, until) in expected {
        assert_eq!(show(store, key), *text, "{name}: {key}");
        match (store.ttl(key).unwrap().unwrap(), until) {
            (Ttl::Never, None) => {}
            (Ttl::In(left), Some(until)) => {
                let found = (now + left).duration_since(UNIX_EPOCH).unwrap().as_secs();
                assert!(found.abs_diff(*until) <= slack, "{name}: {key} expires at {found}");
            }
            (found, _) => panic!("{name}: {key}: {found:?} instead of {until:?}"),
        }
    }
}

#[test]
fn the_fixtures_have_their_original_checksums() {
    let mut found = BTreeMap::new();
    for directory in fs::read_dir(root()).unwrap().map(|item| item.unwrap()) {
        if directory.path().is_dir() {
            let name = directory.file_name().into_string().unwrap();
            let sums = files(&directory.path());
            found.extend(sums.iter().map(|(file, bytes)| (format!("{name}/{file}"), crc32fast::hash(bytes))));
        }
    }
    assert_eq!(found, FILES.map(|(name, sum)| (name.to_owned(), sum)).into());
}

#[test]
fn every_fixture_holds_its_data_and_accepts_writes() {
    for (name, expected) in FIXTURES {
        let (dir, clock) = copy(name);
        let now = millpond::Clock::now(&*clock);
        let store = open(dir.path(), &clock);
        assert_holds(&store, expected, now, 0, name);
        store.put("new", 1).unwrap();
        store.push_back("new queue", 1).unwrap();
        drop(store);
        let store = open(dir.path(), &clock);
        assert_eq!(store.get("new").unwrap(), Some(1), "{name}");
        assert!(store.delete("new").unwrap() && store.delete("new queue").unwrap());
        assert_holds(&store, expected, now, 0, name);
    }
}

#[test]
fn every_fixture_can_be_read_and_needs_no_repair() {
    for (name, expected) in FIXTURES {
        let (dir, _) = copy(name);
        let now = SystemTime::now();
        assert_holds(&open_read_only(dir.path()).unwrap(), expected, now, 60, name);
        let repair = FileStore::repair(dir.path()).unwrap();
        assert_eq!((repair.backup, repair.lost, repair.incomplete), (None, vec![], vec![]), "{name}");
        let mut left = files(dir.path());
        left.remove("LOCK");
        assert!(left == fixture(name), "{name}");
    }
}

/// The leases and locks, which are stored separately from the keys.
#[test]
fn leases_and_locks_of_the_fixtures_continue() {
    for name in ["closed", "compacting", "compacted"] {
        let (dir, clock) = copy(name);
        let store = open(dir.path(), &clock);
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert!(store.try_lock("held", hour).unwrap().is_none(), "{name}");
        let token = store.try_lock("gate", hour).unwrap().unwrap().token();
        assert!(token > 1_704_067_205_000_002, "{name}: {token}");
        // It was taken when the fixture was made, and its lease has run out.
        let works: Vec<String> = std::iter::from_fn(|| store.lease::<String>("work", second).unwrap())
            .map(|work| {
                assert!(work.ack().unwrap());
                work.into_inner()
            })
            .collect();
        assert_eq!(works, ["c", "b", "d"], "{name}");
    }
}

#[test]
fn the_current_code_writes_the_bytes_of_the_fixtures() {
    let [compacting, compacted] = histories::compacting_and_compacted();
    for (name, now) in [
        ("closed", histories::closed()),
        ("killed", histories::killed()),
        ("filled", histories::filled()),
        ("never", histories::never()),
        ("compacting", compacting),
        ("compacted", compacted),
    ] {
        let then = fixture(name);
        assert!(now.keys().eq(then.keys()), "{name}: {:?} instead of {:?}", now.keys(), then.keys());
        for (file, bytes) in &then {
            // The lines are compared one by one, so that a failure shows the difference.
            let (now, then) = (comparable(&now[file]), comparable(bytes));
            for (now, then) in now.iter().zip(&then) {
                assert_eq!(now, then, "{name}/{file}");
            }
            assert_eq!(now.len(), then.len(), "{name}/{file}");
        }
    }
}

/// Returns the lines of a file. The fixtures are older than the field that counts how often a value was returned to its
/// queue, so that field is left out, and so are the checksums over it.
fn comparable(bytes: &[u8]) -> Vec<String> {
    let comparable = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        match line.split_once(",\"sum\":") {
            Some((before, _)) => before[15..].to_owned(),
            None if line.contains("\"work\"") => line[15..].replace(",\"n\":1}", "}"),
            None => line.into_owned(),
        }
    };
    bytes.split(|byte| *byte == b'\n').map(comparable).collect()
}

/// Every field that a line can have occurs somewhere in the fixtures.
#[test]
fn the_fixtures_contain_every_kind_of_line_and_fact() {
    let texts: Vec<String> = FIXTURES
        .iter()
        .flat_map(|(name, _)| fixture(name).into_values())
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect();
    let all = texts.concat();
    for field in [
        "millpond\":\"journal",
        "millpond\":\"snapshot",
        "version",
        "n",
        "s",
        "d",
        "t",
        "sync\":\"always",
        "sync\":\"never",
        "closed",
        "end",
        "sum",
        "w",
        "k",
        "v",
        "b",
        "j",
        "x",
        "e",
        "r",
        "m",
        "f",
        "fr",
        "at",
        "q",
        "i",
        "lo",
        "hi",
    ] {
        assert!(all.contains(&format!("\"{field}\"")), "{field}");
    }
    // This line is signed by the tests themselves.
    let first = texts[0].lines().next().unwrap();
    assert_eq!(line(first[15..].strip_suffix('}').unwrap()), format!("{first}\n"));
}
