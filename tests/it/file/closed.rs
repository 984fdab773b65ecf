//! The note of how far the journal reached when the store was closed: a loss of whole lines at the end of a closed
//! journal is noticed, whatever the `sync` policy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond::{Error, FileStore, SyncPolicy};

use crate::support::files::{all, crashed_copy, files, journal, open, open_read_only, restore, snapshot};

const POLICIES: [SyncPolicy; 3] =
    [SyncPolicy::Always, SyncPolicy::Every(Duration::from_secs(3600)), SyncPolicy::Never];

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a store that was closed, and its entries.
fn closed_store(sync: SyncPolicy) -> (Files, BTreeMap<String, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..2 {
        let store = open(dir.path(), sync).unwrap();
        for n in 0..6 {
            store.put(format!("k{n}"), (run, "x".repeat(20))).unwrap();
        }
        store.delete("k3").unwrap();
        store.close().unwrap();
    }
    let entries = all(&open(dir.path(), sync).unwrap());
    let store = open(dir.path(), sync).unwrap();
    store.close().unwrap();
    (files(dir.path()), entries)
}

fn note(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}

/// Files as they were, but the journal has another length.
fn with_journal_of(files: &Files, len: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), files);
    let file = fs::OpenOptions::new().write(true).open(journal(dir.path(), 1)).unwrap();
    file.set_len(len as u64).unwrap();
    dir
}

#[test]
fn a_closed_journal_that_was_cut_is_corrupt_or_has_lost_nothing() {
    for sync in POLICIES {
        let (closed, entries) = closed_store(sync);
        let whole = closed["journal-1.jsonl"].clone();
        let last_line = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        // Around the end, everywhere; before it, at some places, the ends of lines among them.
        let ends = (0..whole.len()).filter(|at| whole[*at] == b'\n').flat_map(|at| [at, at + 1]);
        let mut lens: Vec<usize> =
            ends.chain((0..whole.len()).step_by(97)).chain(last_line - 3..last_line + 5).collect();
        lens.retain(|len| *len < whole.len());
        lens.sort_unstable();
        lens.dedup();
        for len in lens {
            let dir = with_journal_of(&closed, len);
            let cut = files(dir.path());
            match open(dir.path(), sync) {
                Ok(store) => {
                    assert_eq!(all(&store), entries, "{sync}: cut at {len}");
                    assert!(len >= last_line, "{sync}: cut at {len} of {}", whole.len());
                }
                Err(Error::Corrupt { path, .. }) => {
                    assert_eq!(path, journal(dir.path(), 1));
                    assert_eq!(files(dir.path()), cut, "{sync}: cut at {len}");
                    if len % 5 == 0 {
                        assert_error!(open_read_only(dir.path()), Error::Corrupt { .. });
                    }
                }
                Err(error) => panic!("{sync}: cut at {len}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_repair_saves_what_is_left_of_a_closed_journal() {
    let (closed, _) = closed_store(SyncPolicy::Always);
    let whole = closed["journal-1.jsonl"].len();
    for len in [0, 10, whole / 2, whole * 3 / 4] {
        let dir = with_journal_of(&closed, len);
        let repair = FileStore::repair(dir.path()).unwrap();
        assert_eq!(repair.lost.len(), 1, "{repair:?}");
        assert!(repair.backup.is_some());
        let store = open(dir.path(), SyncPolicy::Always).unwrap();
        assert_eq!(all(&store).len() as u64, repair.entries);
        store.put("later", 1).unwrap();
        drop(store);
        assert_eq!(open(dir.path(), SyncPolicy::Never).unwrap().get("later").unwrap(), Some(1));
        // The next loss is noticed too.
        let number = if journal(dir.path(), 2).exists() { 2 } else { 1 };
        let file = fs::OpenOptions::new().write(true).open(journal(dir.path(), number)).unwrap();
        file.set_len(100).unwrap();
        assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
    }
}

/// The note is as old as the last closing.
#[test]
fn a_crash_after_the_next_opening_loses_nothing_from_before_the_closing() {
    for sync in POLICIES {
        let (closed, entries) = closed_store(sync);
        let dir = tempfile::tempdir().unwrap();
        restore(dir.path(), &closed);
        let store = open(dir.path(), sync).unwrap();
        store.put("later", "y".repeat(50)).unwrap();
        let crashed = files(crashed_copy(dir.path()).path());
        let (before, after) = (closed["journal-1.jsonl"].len(), crashed["journal-1.jsonl"].len());
        for len in (before..=after).step_by(7) {
            let dir = with_journal_of(&crashed, len);
            match open(dir.path(), sync) {
                Ok(store) => {
                    let mut found = all(&store);
                    found.remove("later");
                    assert_eq!(found, entries, "{sync}: cut at {len}");
                }
                // The lines of this policy were synced.
                Err(error) => {
                    assert!(
                        sync == SyncPolicy::Always && matches!(error, Error::Corrupt { .. }),
                        "{error:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_old_note_fits_a_store_that_was_compacted_since() {
    let (closed, _) = closed_store(SyncPolicy::Never);
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &closed);
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    for n in 0.. {
        store.put("k9", format!("{n:0200}")).unwrap();
        if snapshot(dir.path(), 2).exists() && !journal(dir.path(), 1).exists() {
            break;
        }
    }
    let copy = crashed_copy(dir.path());
    assert!(fs::read(note(copy.path())).unwrap().starts_with(&closed["LOCK"]));
    assert_eq!(all(&open(copy.path(), SyncPolicy::Never).unwrap()), all(&store));
}

#[test]
fn a_directory_without_a_note_or_with_a_part_of_one_opens() {
    let (closed, entries) = closed_store(SyncPolicy::Always);
    let whole = closed["LOCK"].len();
    for len in (0..whole).step_by(5) {
        let dir = with_journal_of(&closed, closed["journal-1.jsonl"].len());
        fs::write(note(dir.path()), &closed["LOCK"][..len]).unwrap();
        assert_eq!(all(&open(dir.path(), SyncPolicy::Always).unwrap()), entries);
        fs::write(note(dir.path()), vec![0; len]).unwrap();
        assert_eq!(all(&open(dir.path(), SyncPolicy::Always).unwrap()), entries);
    }
    let dir = with_journal_of(&closed, closed["journal-1.jsonl"].len());
    fs::remove_file(note(dir.path())).unwrap();
    assert_eq!(all(&open(dir.path(), SyncPolicy::Always).unwrap()), entries);
}

#[test]
fn a_directory_that_lost_its_only_journal_is_not_taken_for_a_new_one() {
    let (closed, _) = closed_store(SyncPolicy::Always);
    let dir = with_journal_of(&closed, 0);
    fs::remove_file(journal(dir.path(), 1)).unwrap();
    let before = files(dir.path());
    assert_error!(open(dir.path(), SyncPolicy::Always), Error::Corrupt { .. });
    assert_eq!(files(dir.path()), before);
    FileStore::repair(dir.path()).unwrap();
    assert!(open(dir.path(), SyncPolicy::Always).unwrap().is_empty().unwrap());
}

#[cfg(feature = "redis")]
#[test]
fn a_closed_replay_queue_that_was_cut_is_corrupt() {
    use millpond::StateStore;
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    let port = crate::support::ports::free_port();
    let limits = "timeout=300ms&connect_timeout=100ms";
    let url = format!("redis://127.0.0.1:{port}?key_prefix=t&{limits}&fallback=file:{}", queue.display());
    let store = StateStore::open(&url).unwrap();
    for n in 0..10 {
        store.put(format!("k{n}"), n).unwrap();
    }
    drop(store);
    let closed = files(&queue);
    let whole = closed["journal-1.jsonl"].len();
    for len in [200, whole / 2, whole * 3 / 4] {
        let file = fs::OpenOptions::new().write(true).open(journal(&queue, 1)).unwrap();
        file.set_len(len as u64).unwrap();
        assert_error!(StateStore::open(&url), Error::Corrupt { .. });
        restore(&queue, &closed);
    }
    let file = fs::OpenOptions::new().write(true).open(journal(&queue, 1)).unwrap();
    file.set_len((whole / 2) as u64).unwrap();
    FileStore::repair(&queue).unwrap();
    fs::remove_dir_all(queue.join("damaged-1")).unwrap();
    let store = StateStore::open(&url).unwrap();
    assert_eq!(store.get("k0").unwrap(), Some(0));
}
