//! Directories to damage, and random damage to their bytes or to their meaning.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::{StateStore, SyncPolicy, Ttl};
use serde_json::Value;

use super::files::{crashed_copy, files, line, open, snapshot};

/// The directory of a store after a compaction: a snapshot, and the journal after it. The first map has the
/// files that the compaction replaced.
pub(crate) fn compacted_files() -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..4 {
        store.put(format!("k{n}"), n).unwrap();
    }
    let before = files(crashed_copy(dir.path()).path());
    for n in 0.. {
        store.put("k9", (n, "x".repeat(100))).unwrap();
        if snapshot(dir.path(), 2).exists() {
            break;
        }
    }
    store.put("behind", 1).unwrap();
    store.close().unwrap();
    let after = files(dir.path());
    assert!(!after.contains_key("journal-1.jsonl"), "the compaction has ended");
    (before, after)
}

/// Like [`compacted_files`], with maps, queues and leases.
pub(crate) fn compacted_files_of_all_kinds() -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    let second = Duration::from_secs(1_000_000);
    let lives = |n: u32| {
        store.push_back_many("queue", 0..4).unwrap();
        store.pop_front::<u8>("queue").unwrap();
        store.push_front("queue", "front").unwrap();
        store.pop_back::<Value>("queue").unwrap();
        let _ = store.lease::<Value>("queue", second).unwrap().unwrap();
        store.map_put_many("map", [("a", n), ("", n)]).unwrap();
        store.map_put("map", "b", n).unwrap();
        store.map_delete("map", "a").unwrap();
        store.expire("map", second).unwrap();
        store.queue_trim("queue", 5).unwrap();
    };
    for n in 0.. {
        lives(n);
        if snapshot(dir.path(), 2).exists() {
            break;
        }
    }
    lives(7);
    store.close().unwrap();
    let after = files(dir.path());
    assert!(!after.contains_key("journal-1.jsonl"), "the compaction has ended");
    after
}

/// Changes bytes, or whole lines with a new checksum, so that the checksum does not hide the damage from the
/// parser.
pub(crate) fn corrupt(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.usize(..lines.len());
    let other = lines[random.usize(..lines.len())].clone();
    match random.u8(..12) {
        0 => return (0..random.usize(1..2000)).map(|_| random.u8(..)).collect(),
        1 => lines.insert(at, other),
        2 => drop(lines.remove(at)),
        3 => lines.truncate(at),
        4 => lines[at].truncate(random.usize(..other.len())),
        5 => {
            let byte = random.usize(..lines[at].len());
            lines[at][byte] = random.u8(..);
        }
        6 => {
            // Like a block that was not written, or that was written twice.
            let text = &mut lines[at];
            let (from, to) = (random.usize(..text.len()), random.usize(..=text.len()));
            text[from.min(to)..to].fill(0);
        }
        7 => {
            let from = random.usize(..other.len());
            let before = random.usize(..=lines[at].len());
            lines[at].splice(before..before, other[from..].iter().copied());
        }
        _ => lines[at] = change_and_sign(&lines[at], random),
    }
    lines.concat()
}

fn change_and_sign(text: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    const WORDS: [&str; 26] = [
        "0",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "1e999",
        "null",
        "\"\"",
        "[]",
        "{}",
        "[[",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"s\"",
        "true",
        "253402300800000",
        "-9223372036854775808",
        "9223372036854775807",
        "4611686018427387000",
        "3",
        "\"at\"",
        "\"lo\"",
        "\"hi\"",
        "\"q\"",
        "\"f\"",
        "\"fr\"",
        ",\"closed\":true",
    ];
    let text = String::from_utf8_lossy(text);
    let fields = text.trim_end_matches("}\n").get(15..).unwrap_or_default();
    // Between the punctuation of JSON there are names and values: replaces one of them by another.
    let ends: Vec<usize> = fields.match_indices([',', ':', '}', ']', '[', '{']).map(|(at, _)| at).collect();
    let Some(from) = random.choice(&ends).copied() else { return line("").into_bytes() };
    let to = ends.iter().copied().find(|end| *end > from).unwrap_or(fields.len());
    let word = WORDS[random.usize(..WORDS.len())];
    line(&format!("{}{word}{}", &fields[..=from], &fields[to..])).into_bytes()
}

/// Everything that can be read. A line with a valid checksum may contain keys that no operation accepts.
pub(crate) fn readable_content(store: &StateStore) -> BTreeMap<String, String> {
    let read = |key: &str| -> Option<String> {
        let stays = store.ttl(key).ok()? == Some(Ttl::Never);
        let value = store.get_bytes(key).ok();
        // And not all values are JSON.
        let map = store.map_keys(key).ok();
        let fields = map.iter().flatten().map(|field| format!("{:?}", store.map_get::<Value>(key, field)));
        let queue = format!("{:?}", store.queue_range::<Value>(key, ..));
        Some(format!("{stays} {value:?} {map:?} {:?} {queue}", fields.collect::<Vec<_>>()))
    };
    store.keys("").unwrap().into_iter().filter_map(|key| read(&key).map(|found| (key, found))).collect()
}
