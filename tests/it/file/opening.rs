//! Opening in the File variant: the data is found, foreign files are left alone, and a second opening gets an
//! error.

use std::fs;
use std::path::Path;
use std::time::Duration;

use millpond::{Error, SyncPolicy, WriteBatch};

use crate::support::files::{all, crashed_copy, files, journal, line, open, snapshot};

#[test]
fn written_data_is_found_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for sync in [SyncPolicy::Always, SyncPolicy::Every(Duration::from_millis(5)), SyncPolicy::Never] {
        let path = dir.path().join(sync.to_string()).join("deep");
        let store = open(&path, sync).unwrap();
        store.put("text", "a\nb").unwrap();
        store.put("gone", 1).unwrap();
        assert!(store.delete("gone").unwrap());
        store.put_bytes("raw", b"\x00\xff\n").unwrap();
        store.put("q\"\\ключ", Option::<u8>::None).unwrap();
        assert_eq!(store.incr("n", 41).unwrap(), 41);
        store.put_with_ttl("mortal", 1, Duration::from_secs(3600)).unwrap();
        let mut batch = WriteBatch::new();
        batch.put("b1", 1).unwrap().delete("text").unwrap().put("text", "new").unwrap();
        store.write(&batch).unwrap();
        let before = all(&store);
        for _ in 0..3 {
            store.flush().unwrap();
            let copy = crashed_copy(&path);
            assert_eq!(all(&open(copy.path(), sync).unwrap()), before);
        }
        store.close().unwrap();
        for _ in 0..3 {
            let store = open(&path, SyncPolicy::Always).unwrap();
            assert_eq!(all(&store), before);
            assert!(store.ttl("mortal").unwrap().is_some());
        }
    }
}

#[test]
fn foreign_files_stay_and_our_temporary_files_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["notes.txt", "journal-01.jsonl", "other.tmp", "snapshot-7.jsonl.tmp"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    store.put("a", 1).unwrap();
    for (name, stays) in [
        ("notes.txt", true),
        ("journal-01.jsonl", true),
        ("other.tmp", true),
        ("snapshot-7.jsonl.tmp", false),
    ] {
        assert_eq!(dir.path().join(name).exists(), stays, "{name}");
    }
}

/// So is a directory in place of a file.
#[test]
fn a_file_in_place_of_the_directory_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open(&file, SyncPolicy::Always), Err(Error::Io { path, .. }) if path == file));
    let journal = dir.path().join("journal-1.jsonl");
    fs::create_dir(&journal).unwrap();
    assert!(matches!(open(dir.path(), SyncPolicy::Always), Err(Error::Io { path, .. }) if path == journal));
}

#[test]
fn a_second_opening_is_refused_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    assert!(
        matches!(open(dir.path(), SyncPolicy::Always), Err(Error::Locked { path, .. }) if path == dir.path())
    );
    store.close().unwrap();
    open(dir.path(), SyncPolicy::Always).unwrap();
}

#[test]
fn the_error_of_a_second_opening_names_the_process_that_has_the_store_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    for _ in 0..2 {
        let store = open(dir.path(), SyncPolicy::Always).unwrap();
        let error = open(dir.path(), SyncPolicy::Always).unwrap_err();
        assert!(error.is_locked());
        if cfg!(unix) {
            let text = format!("the store at {path} is already open by this process");
            assert_eq!(error.to_string(), text);
            let mut lock = fs::read_to_string(dir.path().join("LOCK")).unwrap();
            let own = format!("{:<10}", std::process::id());
            lock = lock.replace(&own, &format!("{:<10}", 4711));
            fs::write(dir.path().join("LOCK"), lock).unwrap();
            let error = open(dir.path(), SyncPolicy::Always).unwrap_err();
            assert_eq!(error.to_string(), format!("the store at {path} is already open by process 4711"));
        }
        store.close().unwrap();
    }
}

/// The lock is not on a file that a compaction renames or deletes.
#[test]
fn a_second_opening_is_refused_also_after_a_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    let is_over = || !journal(dir.path(), 1).exists() && !journal(dir.path(), 2).exists();
    for n in 0.. {
        store.put(format!("k{}", n % 10), "x".repeat(500)).unwrap();
        assert_error!(open(dir.path(), SyncPolicy::Never), Error::Locked { .. });
        if is_over() {
            break;
        }
    }
}

#[test]
fn waiting_threads_share_syncs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    store.incr("hits", 1).unwrap();
                }
            });
        }
    });
    drop(store);
    assert_eq!(open(dir.path(), SyncPolicy::Always).unwrap().get::<i64>("hits").unwrap(), Some(400));
}

#[test]
fn the_error_names_a_directory_that_cannot_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.join("state"), file.join("deep").join("er")] {
        let error =
            assert_error!(open(&path, SyncPolicy::Always), Error::Io { path: named, .. } if *named == path);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

/// The files of a later version of this crate: a header with that version, and lines with fields that this
/// version does not know.
fn header_of_version_2(kind: &str, number: u64) -> String {
    line(&format!(
        ",\"millpond\":\"{kind}\",\"version\":2,\"n\":{number},\"s\":0,\"d\":0,\"t\":0,\"sync\":\"always\""
    )) + &line(",\"s\":1,\"d\":0,\"t\":0,\"zip\":\"...\"")
}

#[track_caller]
fn assert_unsupported_and_untouched(dir: &Path) {
    let before = files(dir);
    let error = assert_error!(open(dir, SyncPolicy::Always), Error::Unsupported { .. });
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    assert_eq!(files(dir), before);
}

#[test]
fn a_later_format_is_unsupported_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), SyncPolicy::Always).unwrap().put("a", 1).unwrap();
    let ours = files(dir.path());
    let behind_ours = [&ours["journal-1.jsonl"], &b"torn"[..]].concat();

    // The only journal is of that version; then the last journal; then only the snapshot, although an older
    // journal would suffice.
    for (theirs, number, ours) in [
        ("journal", 1, None),
        ("journal", 2, Some(&ours["journal-1.jsonl"])),
        ("journal", 2, Some(&behind_ours)),
        ("snapshot", 2, Some(&ours["journal-1.jsonl"])),
    ] {
        if let Some(ours) = ours {
            fs::write(journal(dir.path(), 1), ours).unwrap();
        }
        for name in [journal(dir.path(), 2), snapshot(dir.path(), 2)] {
            // It may not exist.
            let _ = fs::remove_file(name);
        }
        fs::write(dir.path().join(format!("{theirs}-{number}.jsonl")), header_of_version_2(theirs, number))
            .unwrap();
        if theirs == "snapshot" {
            fs::write(journal(dir.path(), 2), header_of_version_2("journal", 2)).unwrap();
        }
        if ours == Some(&behind_ours) {
            // Both files are wrong. The error may name either, and both must stay.
            let before = files(dir.path());
            assert_error!(
                open(dir.path(), SyncPolicy::Always),
                Error::Corrupt { .. } | Error::Unsupported { .. }
            );
            assert_eq!(files(dir.path()), before);
        } else {
            assert_unsupported_and_untouched(dir.path());
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_the_directory_means_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    open(&real, SyncPolicy::Always).unwrap().put("a", 1).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let store = open(&link, SyncPolicy::Always).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    assert_error!(open(&real, SyncPolicy::Always), Error::Locked { .. });
}

#[test]
fn the_error_names_a_directory_in_place_of_our_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["LOCK", "journal-1.jsonl", "snapshot-1.jsonl", "snapshot-1.jsonl.tmp"] {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        assert_error!(open(dir.path(), SyncPolicy::Always), Error::Io { path: named, .. } if *named == path);
        assert!(path.is_dir(), "{name}");
        fs::remove_dir(&path).unwrap();
    }
    open(dir.path(), SyncPolicy::Always).unwrap().put("a", 1).unwrap();
}

/// A dangling link is not taken for an empty store.
#[cfg(unix)]
#[test]
fn a_journal_behind_a_link_is_read_through_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there.jsonl"));
    open(&here, SyncPolicy::Always).unwrap().put("a", 1).unwrap();
    fs::rename(journal(&here, 1), &there).unwrap();
    std::os::unix::fs::symlink(&there, journal(&here, 1)).unwrap();
    let store = open(&here, SyncPolicy::Always).unwrap();
    store.put("b", 2).unwrap();
    drop(store);
    assert_eq!(open(&here, SyncPolicy::Always).unwrap().keys("").unwrap(), ["a", "b"]);
    fs::remove_file(&there).unwrap();
    let named = journal(&here, 1);
    assert_error!(open(&here, SyncPolicy::Always), Error::Corrupt { path, .. } if *path == named);
    assert!(!there.exists());
}

/// No process writes to the pipe, so opening it for reading would block forever.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_our_files_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["journal-1.jsonl", "snapshot-1.jsonl"] {
        let path = dir.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (told, answer) = std::sync::mpsc::channel();
        let opening = dir.path().to_owned();
        std::thread::spawn(move || told.send(open(&opening, SyncPolicy::Always)));
        let outcome = answer.recv_timeout(Duration::from_secs(5)).expect("an answer");
        assert_error!(outcome, Error::Io { path: named, .. } if *named == path);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn flush_succeeds_under_every_policy_even_without_writes() {
    for sync in [SyncPolicy::Always, SyncPolicy::Every(Duration::from_secs(3600)), SyncPolicy::Never] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), sync).unwrap();
        store.flush().unwrap();
        store.put("a", 1).unwrap();
        store.flush().unwrap();
        store.flush().unwrap();
        // The next line confirms that the flushed lines were synced.
        store.put("b", 1).unwrap();
        let mut bytes = fs::read(journal(crashed_copy(dir.path()).path(), 1)).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.lines().last().unwrap().contains("\"s\":2,\"d\":1,"), "{text}");
        // So damage to them is not a torn tail.
        let at = text.find("\"a\"").unwrap() + 1;
        bytes[at] = b'z';
        let damaged = tempfile::tempdir().unwrap();
        fs::write(journal(damaged.path(), 1), bytes).unwrap();
        assert_error!(open(damaged.path(), sync), Error::Corrupt { line: 2, .. });
    }
}
