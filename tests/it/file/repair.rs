//! `FileStore::repair`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millpond::{Error, FileStore, Repair, StateStore, SyncPolicy};

use crate::support::corrupt::compacted_files;
use crate::support::files::{all, crashed_copy, files, journal, line, open, restore, snapshot};

fn repair_and_open(dir: &Path) -> (Repair, StateStore) {
    let repair = FileStore::repair(dir).unwrap();
    let store = open(dir, SyncPolicy::Always).unwrap();
    assert_eq!(repair.entries, store.len().unwrap());
    // After the repair the store accepts writes.
    store.put("behind", 1).unwrap();
    store.close().unwrap();
    let store = open(dir, SyncPolicy::Always).unwrap();
    assert_eq!(store.get::<i32>("behind").unwrap(), Some(1));
    store.delete("behind").unwrap();
    (repair, store)
}

/// The files of the store itself, without those that a repair added.
fn files_of_store(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    items
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect()
}

/// The damaged files are kept.
#[test]
fn a_flipped_byte_of_a_journal_costs_only_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..6 {
        store.put(format!("k{n}"), n).unwrap();
    }
    store.close().unwrap();
    let bytes = fs::read(journal(dir.path(), 1)).unwrap();
    let line_of = |at: usize| bytes[..at].split(|byte| *byte == b'\n').count() as u64;
    for at in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(journal(dir.path(), 1), &flipped).unwrap();
        let before = files_of_store(dir.path());
        if open(dir.path(), SyncPolicy::Always).is_ok() {
            // Damage to the last line may be the result of a crash, and is not refused.
            assert!(line_of(at) >= 8, "damage at {at} was not noticed");
            continue;
        }
        assert_eq!(files_of_store(dir.path()).get("journal-1.jsonl"), before.get("journal-1.jsonl"));
        let (repair, store) = repair_and_open(dir.path());
        let copy = repair.backup.clone().expect("a file is damaged");
        assert_eq!(files_of_store(&copy), before, "the copy at {at}");
        assert!(!repair.lost.is_empty(), "{at}");
        let first = &repair.lost[0];
        assert_eq!((&first.path, first.line), (&journal(dir.path(), 1), line_of(at)), "{at}");
        assert!(first.bytes > 0 && !first.reason.is_empty());
        let found = all(&store);
        for n in 0..6 {
            let (key, is_hit) = (format!("k{n}"), line_of(at) == n + 2);
            // A damaged line break affects two lines, but the second is found again.
            assert!(found.contains_key(&key) || is_hit, "{key} is lost at {at}: {repair:?}");
            assert!(found.get(&key).is_none_or(|value| *value == n.to_string().into_bytes()));
        }
    }
}

#[test]
fn intact_files_are_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    assert_error!(FileStore::repair(dir.path()), Error::Locked { .. });
    // A torn tail is not damage.
    let copy = crashed_copy(dir.path());
    let path = journal(copy.path(), 1);
    let torn = [&fs::read(&path).unwrap()[..], b"{\"c\":\"0000"].concat();
    fs::write(&path, torn).unwrap();
    fs::write(copy.path().join("LOCK"), "").unwrap();
    let before = files(copy.path());
    let repair = FileStore::repair(copy.path()).unwrap();
    assert_eq!((repair.backup, repair.entries), (None, 1));
    assert!(repair.lost.is_empty() && repair.incomplete.is_empty());
    assert_eq!(files(copy.path()), before);
    let missing = dir.path().join("missing");
    assert_error!(FileStore::repair(&missing), Error::Io { .. });
    assert!(!missing.exists());
}

/// One byte of a snapshot is damaged, and the files that it replaced no longer exist.
#[test]
fn repair_keeps_intact_lines_of_a_snapshot_and_later_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    let value = |n: u64| format!("{n}{}", "x".repeat(900));
    for n in 0.. {
        store.put(format!("k{:03}", n % 200), value(n)).unwrap();
        if n > 400 && files_of_store(dir.path()).keys().any(|name| name.starts_with("snapshot")) {
            break;
        }
    }
    store.put("behind it", 1).unwrap();
    store.close().unwrap();
    let whole = all(&open(dir.path(), SyncPolicy::Always).unwrap());
    let mut there = files(dir.path());
    let name = there.keys().find(|name| name.starts_with("snapshot")).unwrap().clone();
    let bytes = there.get_mut(&name).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    restore(dir.path(), &there);
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
    let (repair, store) = repair_and_open(dir.path());
    let found = all(&store);
    assert!(found.len() > 100 && found.contains_key("behind it"), "{} of {}", found.len(), whole.len());
    for (key, value) in &found {
        assert_eq!(value, &whole[key], "{key}");
    }
    assert!(repair.lost.iter().any(|loss| loss.path.ends_with(&name) && loss.bytes > 1000), "{repair:?}");
    // The copy of the second damage does not overwrite the copy of the first.
    drop(store);
    let name = files_of(dir.path(), "snapshot");
    let mut bytes = fs::read(dir.path().join(&name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(dir.path().join(&name), bytes).unwrap();
    let (again, _) = repair_and_open(dir.path());
    assert_eq!(again.backup, Some(dir.path().join("damaged-2")));
}

fn files_of(dir: &Path, kind: &str) -> String {
    files_of_store(dir).into_keys().rev().find(|name| name.starts_with(kind)).unwrap()
}

#[test]
fn a_queue_with_a_gap_is_closed_up_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let header = line(
        ",\"millpond\":\"journal\",\"version\":1,\"n\":1,\"s\":0,\"d\":0,\"t\":1760000000000,\"sync\":\"always\"",
    );
    let commit = |n: u32, fact: &str| line(&format!(",\"s\":{n},\"d\":{},\"w\":[{fact}]", n - 1));
    let text = [
        header,
        commit(1, r#"{"k":"q","at":0,"q":[{"v":1},{"v":2}]}"#),
        commit(2, r#"{"k":"m","m":[{"f":"a","v":1}]}"#),
        commit(3, r#"{"k":"q","at":2,"i":[{"v":3}]}"#).replace("\"v\":3", "\"v\":9"),
        commit(4, r#"{"k":"q","at":3,"i":[{"v":4},{"v":5}]}"#),
        commit(5, r#"{"k":"v","v":7}"#),
    ];
    fs::write(journal(dir.path(), 1), text.concat()).unwrap();
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { line: 4, .. });
    let (repair, store) = repair_and_open(dir.path());
    assert_eq!(repair.incomplete, ["q"]);
    assert_eq!(store.queue_range::<i32>("q", ..).unwrap(), [1, 2, 4, 5]);
    assert_eq!(store.map_get::<i32>("m", "a").unwrap(), Some(1));
    assert_eq!(store.get::<i32>("v").unwrap(), Some(7));
}

/// The line that created a map and a queue is damaged: nothing that was added later is lost.
#[test]
fn a_map_and_queue_keep_later_additions_if_their_start_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..5 {
        store.push_back("q", n).unwrap();
        store.map_put("m", n.to_string(), n).unwrap();
    }
    store.close().unwrap();
    let mut bytes = fs::read(journal(dir.path(), 1)).unwrap();
    for (at, _) in String::from_utf8(bytes.clone()).unwrap().match_indices('\n').take(2) {
        bytes[at + 20] ^= 1;
    }
    fs::write(journal(dir.path(), 1), bytes).unwrap();
    let (repair, store) = repair_and_open(dir.path());
    assert_eq!(repair.incomplete, ["m", "q"]);
    assert_eq!(store.queue_range::<i32>("q", ..).unwrap(), [1, 2, 3, 4]);
    assert_eq!(store.map_len("m").unwrap(), 4);
}

/// The interrupted repair left the snapshot that it was writing.
#[test]
fn an_interrupted_repair_is_repeated_and_reports_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..5 {
        store.put(format!("k{n}"), n).unwrap();
    }
    store.close().unwrap();
    let mut bytes = fs::read(journal(dir.path(), 1)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(journal(dir.path(), 1), bytes).unwrap();
    fs::write(dir.path().join("snapshot-2.jsonl.tmp"), "half a line").unwrap();
    let (repair, _) = repair_and_open(dir.path());
    assert_eq!((repair.entries, repair.lost.len()), (4, 1));
    assert!(files_of_store(dir.path()).keys().all(|name| !name.contains("tmp")));
}

#[test]
fn a_missing_journal_is_reported_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0.. {
        store.put("k9", (n, "x".repeat(100))).unwrap();
        if snapshot(dir.path(), 2).exists() {
            break;
        }
    }
    store.put("kept", 1).unwrap();
    store.close().unwrap();
    let whole = all(&open(dir.path(), SyncPolicy::Always).unwrap());
    // Everything that was written after the snapshot is gone.
    let number = files_of(dir.path(), "journal");
    fs::remove_file(dir.path().join(&number)).unwrap();
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
    let (repair, store) = repair_and_open(dir.path());
    assert!(repair.lost.iter().any(|loss| loss.path.ends_with(&number) && loss.reason.contains("missing")));
    assert!(all(&store).keys().all(|key| whole.contains_key(key)));
    assert!(store.contains("k9").unwrap());
}

/// In this case no line of the files is damaged. If `lost` were empty, a user would believe that nothing was
/// lost.
#[test]
fn lines_missing_at_the_end_are_reported_as_lost() {
    let name = "journal-2.jsonl";
    let of_another =
        line(",\"millpond\":\"journal\",\"version\":1,\"n\":3,\"s\":7,\"d\":7,\"sync\":\"always\"");
    for left in [Vec::new(), of_another.into_bytes()] {
        let dir = tempfile::tempdir().unwrap();
        let mut whole = compacted_files().1;
        let bytes = whole.get_mut(name).unwrap();
        *bytes = left;
        restore(dir.path(), &whole);
        assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
        let (repair, store) = repair_and_open(dir.path());
        assert!(
            matches!(&repair.lost[..], [loss] if loss.path.ends_with(name) && loss.line == 1),
            "{repair:?}"
        );
        assert!(store.contains("k9").unwrap());
    }
}

#[test]
fn a_later_version_of_the_format_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        line(",\"millpond\":\"journal\",\"version\":2,\"n\":1,\"s\":0,\"d\":0,\"t\":1,\"sync\":\"always\"");
    fs::write(journal(dir.path(), 1), format!("{text}rubbish\n")).unwrap();
    fs::write(dir.path().join("LOCK"), "").unwrap();
    let before = files(dir.path());
    assert_error!(FileStore::repair(dir.path()), Error::Unsupported { .. });
    assert_eq!(files(dir.path()), before);
}

/// A store's time never goes back. An entry that had expired at the time of the newest line is therefore gone, although
/// the system clock has not reached its deadline.
#[test]
fn a_repair_does_not_count_entries_that_had_expired_by_the_newest_line() {
    let dir = tempfile::tempdir().unwrap();
    let year_9999 = 253_402_300_000_000_u64;
    let lines = [
        line(&format!(
            ",\"millpond\":\"journal\",\"version\":1,\"n\":1,\"s\":0,\"d\":0,\"t\":{year_9999},\"sync\":\"always\""
        )),
        line(",\"s\":1,\"d\":0,\"w\":[{\"k\":\"kept\",\"v\":1}]"),
        line(",\"s\":2,\"d\":0,\"w\":[{\"k\":\"expired\",\"v\":1,\"x\":250000000000000}]"),
        "damaged\n".to_owned(),
        line(",\"s\":4,\"d\":3,\"w\":[{\"k\":\"after\",\"v\":1}]"),
    ];
    fs::write(journal(dir.path(), 1), lines.concat()).unwrap();
    let (repair, store) = repair_and_open(dir.path());
    assert!(repair.backup.is_some(), "{repair:?}");
    assert_eq!((repair.entries, store.keys("").unwrap()), (2, vec!["after".to_owned(), "kept".to_owned()]));
    drop(store);
    assert_eq!(FileStore::repair(dir.path()).unwrap().entries, 2, "files that are not damaged");
}
