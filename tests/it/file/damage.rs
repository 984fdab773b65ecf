//! Damaged files of the File variant: a torn tail is cut off, any other damage is refused and left unchanged,
//! and a damaged file never causes a wrong value or a panic.

use std::collections::BTreeMap;
use std::fs;
#[cfg(target_os = "linux")]
use std::io::{Seek as _, SeekFrom, Write as _};

use millpond::{Error, SyncPolicy};

#[cfg(target_os = "linux")]
use crate::support::child_process::{self, Process};
use crate::support::corrupt::{compacted_files, readable_content};
use crate::support::files::{all, crashed_copy, files, journal, line, open, restore, snapshot};

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_before_the_next_append() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", "ключ").unwrap();
    let whole = fs::read(dir.path().join("journal-1.jsonl")).unwrap().len();
    store.put("b", "ключ").unwrap();
    let copy = crashed_copy(dir.path());
    let bytes = fs::read(copy.path().join("journal-1.jsonl")).unwrap();
    for cut in whole..=bytes.len() {
        for nul in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut torn = bytes[..cut].to_vec();
            if nul {
                torn.resize(bytes.len() + 512, 0);
            }
            fs::write(dir.path().join("journal-1.jsonl"), torn).unwrap();
            let store = open(dir.path(), SyncPolicy::Always).unwrap();
            assert_eq!(store.get::<String>("a").unwrap().as_deref(), Some("ключ"));
            assert_eq!(store.contains("b").unwrap(), cut == bytes.len(), "cut at {cut}");
            store.put("c", 1).unwrap();
            drop(store);
            let store = open(dir.path(), SyncPolicy::Always).unwrap();
            assert_eq!(store.get::<i64>("c").unwrap(), Some(1));
        }
    }
}

/// It is refused, or the tail is cut off.
#[test]
fn a_flipped_bit_never_leads_to_a_wrong_value() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..5 {
        store.put(format!("k{n}"), n).unwrap();
    }
    let copy = crashed_copy(dir.path());
    let bytes = fs::read(copy.path().join("journal-1.jsonl")).unwrap();
    let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for at in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal-1.jsonl");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        match open(dir.path(), SyncPolicy::Always) {
            Err(Error::Corrupt { path: named, offset, .. }) => {
                assert!(at < last_line, "byte {at} is in the tail");
                assert_eq!(named, path);
                assert!(offset <= at as u64);
                assert_eq!(fs::read(&path).unwrap(), flipped, "a refused journal was changed");
            }
            Ok(store) => {
                assert!(at >= last_line, "damage at {at} was not noticed");
                assert_eq!(store.len().unwrap(), 4);
            }
            Err(other) => panic!("{other}"),
        }
    }
    store.close().unwrap();
    let bytes = fs::read(dir.path().join("journal-1.jsonl")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal-1.jsonl"), [&bytes[..], b"x"].concat()).unwrap();
    assert!(matches!(open(dir.path(), SyncPolicy::Always), Err(Error::Corrupt { .. })));
}

/// Here no later line confirms that these lines were synced. A torn end is cut off.
#[test]
fn damage_before_intact_lines_is_refused_even_without_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    for n in 0..3 {
        store.put(format!("k{n}"), n).unwrap();
    }
    let copy = crashed_copy(dir.path());
    let path = copy.path().join("journal-1.jsonl");
    let bytes = fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&path, flipped).unwrap();
    assert!(matches!(open(copy.path(), SyncPolicy::Never), Err(Error::Corrupt { .. })));
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(open(copy.path(), SyncPolicy::Never).unwrap().len().unwrap(), 2);
}

/// They never cause a panic.
#[test]
fn arbitrary_bytes_as_a_journal_are_an_error() {
    let mut seed = 1_u64;
    for round in 1..200_usize {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..round * 7)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(seed >> 56).unwrap()
            })
            .collect();
        fs::write(dir.path().join("journal-1.jsonl"), bytes).unwrap();
        assert!(matches!(open(dir.path(), SyncPolicy::Always), Err(Error::Corrupt { .. })));
    }
}

/// No crash leaves so many zeros: a header is shorter, and reaches the disk before any line after it.
#[test]
fn a_small_journal_of_zeros_is_not_taken_for_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    store.close().unwrap();
    let path = dir.path().join("journal-1.jsonl");
    let zeros = vec![0; fs::read(&path).unwrap().len()];
    fs::write(&path, &zeros).unwrap();
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
    assert_eq!(fs::read(&path).unwrap(), zeros);
}

/// Values that look like the beginning of a line are between it and the intact line that confirms it.
#[test]
fn a_line_with_a_damaged_line_break_is_found_after_any_value() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    store.put("b", vec![std::collections::BTreeMap::from([("c", "x")]); 200]).unwrap();
    store.put("z", 1).unwrap();
    let copy = crashed_copy(dir.path());
    let path = copy.path().join("journal-1.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    bytes[end] = b'x';
    fs::write(&path, &bytes).unwrap();
    assert_error!(open(copy.path(), SyncPolicy::Always), Error::Corrupt { line: 3, .. });
}

#[test]
fn a_missing_file_of_the_chain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    store.close().unwrap();
    fs::rename(dir.path().join("journal-1.jsonl"), dir.path().join("journal-2.jsonl")).unwrap();
    let missing = dir.path().join("journal-1.jsonl");
    assert!(
        matches!(open(dir.path(), SyncPolicy::Always), Err(Error::Corrupt { path, .. }) if path == missing)
    );
}

#[track_caller]
fn assert_refused_and_untouched(files_there: &BTreeMap<String, Vec<u8>>, named: &str) {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), files_there);
    fs::write(dir.path().join("LOCK"), "").unwrap();
    let before = files(dir.path());
    for _ in 0..2 {
        let named = dir.path().join(named);
        assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { path, .. } if *path == named);
        assert_eq!(files(dir.path()), before);
    }
}

#[test]
fn a_refused_opening_leaves_every_file_unchanged() {
    let (_, whole) = compacted_files();
    for (name, at) in [("journal-2.jsonl", 2), ("journal-2.jsonl", 3), ("snapshot-2.jsonl", 2)] {
        let mut damaged = whole.clone();
        let bytes = damaged.get_mut(name).unwrap();
        let middle = bytes.len() / at;
        bytes[middle] ^= 1;
        damaged.insert("snapshot-3.jsonl.tmp".into(), b"left".to_vec());
        damaged.insert("snapshot-1.jsonl".into(), b"older".to_vec());
        damaged.insert("notes.txt".into(), b"not ours".to_vec());
        assert_refused_and_untouched(&damaged, name);
    }
}

#[test]
fn the_error_for_a_missing_file_of_the_chain_names_it() {
    let (_, whole) = compacted_files();
    let mut missing = whole.clone();
    missing.remove("journal-2.jsonl").unwrap();
    assert_refused_and_untouched(&missing, "journal-2.jsonl");

    // Without the snapshot the journal begins in the middle.
    let mut missing = whole.clone();
    missing.remove("snapshot-2.jsonl").unwrap();
    assert_refused_and_untouched(&missing, "journal-1.jsonl");

    // A later journal shows that there was one in between.
    let mut missing = whole;
    let later = missing["journal-2.jsonl"].clone();
    missing.insert("journal-4.jsonl".into(), later);
    assert_refused_and_untouched(&missing, "journal-3.jsonl");
}

#[test]
fn an_empty_journal_after_a_snapshot_is_refused() {
    let (_, mut whole) = compacted_files();
    whole.insert("journal-2.jsonl".into(), Vec::new());
    assert_refused_and_untouched(&whole, "journal-2.jsonl");
}

#[test]
fn the_file_of_another_store_is_refused() {
    let (_, whole) = compacted_files();
    let stranger = tempfile::tempdir().unwrap();
    open(stranger.path(), SyncPolicy::Always).unwrap().put("strange", 1).unwrap();
    let strange = fs::read(journal(stranger.path(), 1)).unwrap();
    for name in ["journal-2.jsonl", "journal-3.jsonl", "snapshot-2.jsonl"] {
        let mut mixed = whole.clone();
        mixed.insert(name.into(), strange.clone());
        assert_refused_and_untouched(&mixed, name);
    }
    for name in ["journal-2.jsonl", "snapshot-2.jsonl"] {
        let mut mixed = whole.clone();
        mixed.insert(name.into(), b"date,amount\n2024-01-01,12\n".to_vec());
        assert_refused_and_untouched(&mixed, name);
    }
}

/// The state after a crash between renaming a snapshot and deleting the files that it replaces.
#[test]
fn a_damaged_snapshot_is_replaced_by_the_files_before_it() {
    let (before, mut files_there) = compacted_files();
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &files_there);
    let expected = all(&open(dir.path(), SyncPolicy::Always).unwrap());

    // The previous journal as it was at the rotation: everything that the snapshot holds, as lines.
    let replaced = tempfile::tempdir().unwrap();
    restore(replaced.path(), &before);
    let text = String::from_utf8(files_there["journal-2.jsonl"].clone()).unwrap();
    let number = |text: &str, name: &str| -> u64 {
        let rest = &text[text.find(name).unwrap() + name.len()..];
        rest[..rest.find(',').unwrap()].parse().unwrap()
    };
    let until = number(&text, "\"s\":");
    let mut old = String::from_utf8(before["journal-1.jsonl"].clone()).unwrap();
    let begun = number(old.lines().last().unwrap(), "\"s\":");
    for sequence in begun + 1..=until {
        let n = sequence - begun - 1;
        old += &line(&format!(
            ",\"s\":{sequence},\"d\":{},\"t\":1760000000000,\"w\":[{{\"k\":\"k9\",\"v\":[{n},\"x\"]}}]",
            sequence - 1
        ));
    }
    files_there.insert("journal-1.jsonl".into(), old.into_bytes());
    let bytes = files_there.get_mut("snapshot-2.jsonl").unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    restore(dir.path(), &files_there);
    for round in 0..3 {
        let store = open(dir.path(), SyncPolicy::Always).unwrap();
        let found = all(&store);
        assert_eq!(
            found.keys().filter(|key| *key != "new").collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        assert_eq!(found["behind"], expected["behind"]);
        store.put("new", round).unwrap();
    }
    assert!(snapshot(dir.path(), 2).exists(), "a damaged file is kept until an intact one replaces it");

    // Without the files that it replaces, a damaged snapshot is refused.
    fs::remove_file(journal(dir.path(), 1)).unwrap();
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
}

#[test]
fn a_line_that_leaves_a_map_or_queue_incomplete_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    store.push_back("queue", 1).unwrap();
    store.map_put("map", "field", 1).unwrap();
    let before = files(dir.path());
    let opened = |facts: &str| {
        let copy = tempfile::tempdir().unwrap();
        let mut files = before.clone();
        let text = line(&format!(",\"s\":3,\"d\":0,\"w\":[{facts}]"));
        files.get_mut("journal-1.jsonl").unwrap().extend_from_slice(text.as_bytes());
        restore(copy.path(), &files);
        open(copy.path(), SyncPolicy::Never).map(|store| readable_content(&store))
    };
    for facts in [
        r#"{"k":"queue","at":2,"i":[{"v":1}]}"#,
        r#"{"k":"queue","at":-9,"i":[{"v":1}]}"#,
        r#"{"k":"queue","lo":1}"#,
        r#"{"k":"queue","hi":0}"#,
        r#"{"k":"queue","at":4611686018427387905,"i":[{"v":1}]}"#,
        r#"{"k":"map","fr":"field"}"#,
        r#"{"k":"map","m":[]}"#,
    ] {
        assert_error!(opened(facts), Error::Corrupt { line: 4, .. });
    }
    let whole = opened("").unwrap();
    // An earlier line about an entry that was deleted or replaced since does not matter.
    for facts in [
        r#"{"k":"gone","at":2,"i":[{"v":1}]},{"k":"gone","f":[{"f":"","v":1}]},{"k":"gone","e":7}"#,
        r#"{"k":"map","at":2,"i":[{"v":1}]},{"k":"queue","fr":"field"}"#,
        r#"{"k":"queue","at":2,"i":[{"v":1}]},{"k":"queue","hi":2}"#,
        r#"{"k":"map","fr":"field"},{"k":"map","f":[{"f":"field","v":1}]}"#,
    ] {
        assert_eq!(opened(facts).unwrap(), whole, "{facts}");
    }
}

/// A power failure may leave a long, empty file: its length is on the disk, but its blocks are not.
#[cfg(target_os = "linux")]
#[test]
fn a_journal_with_a_gigabyte_of_zeros_needs_little_memory() {
    const TEST: &str = "file::damage::a_journal_with_a_gigabyte_of_zeros_needs_little_memory";
    if let Some((_, dir)) = child_process::job() {
        let opened = open(&dir, SyncPolicy::Always).map(|store| store.len().unwrap());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        child_process::report(&format!("{opened:?}"));
        return child_process::report(peak.trim().trim_end_matches(" kB"));
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    store.put("b", 2).unwrap();
    for behind in [None, Some(line(",\"s\":3,\"d\":0,\"w\":[{\"k\":\"c\",\"v\":3}]"))] {
        let copy = crashed_copy(dir.path());
        let mut file = fs::OpenOptions::new().write(true).open(journal(copy.path(), 1)).unwrap();
        file.set_len(1 << 30).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(behind.unwrap_or_default().as_bytes()).unwrap();
        let told = Process::start_test(TEST, "open", &copy.path().to_string_lossy()).read_all_reports();
        let [opened, peak] = &told[..] else { panic!("{told:?}") };
        assert_eq!(opened, "Ok(2)");
        let peak: u64 = peak.parse().unwrap();
        assert!(peak < 64 * 1024, "it took {peak} KiB");
    }
}
