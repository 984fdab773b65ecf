//! What the File variant promises of its files: they come back, whatever happened to them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Error, FileOptions, ManualClock, StateBackend, StateConfig, StateStore, SyncPolicy, WriteBatch,
};

fn config(dir: &Path, sync: SyncPolicy) -> StateConfig {
    StateConfig::default()
        .backend(StateBackend::File { path: dir.to_path_buf() })
        .file(FileOptions::default().sync(sync).compact_min_bytes(4096))
}

fn open(dir: &Path, sync: SyncPolicy) -> Result<StateStore, Error> {
    StateStore::with_config(config(dir, sync))
}

fn all(store: &StateStore) -> BTreeMap<String, Vec<u8>> {
    let keys = store.keys("").unwrap();
    keys.into_iter().map(|key| (key.clone(), store.get_bytes(&key).unwrap().unwrap().to_vec())).collect()
}

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().filter_map(|item| item.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// A copy of a store's directory as a crash would leave it: without the last line that a close writes. The
/// store must be too small to be compacted meanwhile.
fn crashed_copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for item in fs::read_dir(dir).unwrap() {
        let item = item.unwrap();
        fs::copy(item.path(), copy.path().join(item.file_name())).unwrap();
    }
    copy
}

#[test]
fn what_was_written_is_there_after_reopening() {
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
fn a_torn_tail_is_cut_at_every_byte_and_the_next_append_starts_clean() {
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

#[test]
fn a_flipped_bit_is_refused_or_cuts_the_tail_and_never_gives_a_wrong_value() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    for n in 0..5 {
        store.put(&format!("k{n}"), n).unwrap();
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
                assert!(at >= last_line, "damage at {at} went unseen");
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

#[test]
fn where_nothing_vouches_damage_before_whole_lines_is_refused_and_a_torn_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), SyncPolicy::Never).unwrap();
    for n in 0..3 {
        store.put(&format!("k{n}"), n).unwrap();
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

#[test]
fn any_bytes_for_a_journal_are_an_error_and_never_a_panic() {
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

#[test]
fn what_is_not_ours_stays_and_what_we_left_goes() {
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

#[test]
fn a_file_where_the_directory_should_be_and_the_other_way_round_are_named() {
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

#[test]
fn threads_that_wait_share_their_syncs_and_lose_nothing() {
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
fn compaction_under_writers_keeps_the_bound_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut largest = 0;
    for round in 0..3_u32 {
        let store = StateStore::with_clock(config(dir.path(), SyncPolicy::Never), clock.clone()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..5000_u32 {
                        let key = format!("{thread}:{}", n % 100);
                        store.put(&key, (round, n, "x".repeat(100))).unwrap();
                        if n % 10 == 0 {
                            store
                                .put_with_ttl(&format!("m{thread}:{n}"), n, Duration::from_secs(60))
                                .unwrap();
                        }
                        if n % 100 == 99 {
                            store.delete(&format!("{thread}:{}", n % 7)).unwrap();
                        }
                    }
                });
            }
            for _ in 0..200 {
                largest = largest.max(size(dir.path()));
                std::thread::yield_now();
            }
        });
        largest = largest.max(size(dir.path()));
        let before = all(&store);
        assert_eq!(before.len(), 2000 + 400 - 4);
        drop(store);
        let store = StateStore::with_clock(config(dir.path(), SyncPolicy::Never), clock.clone()).unwrap();
        assert_eq!(all(&store), before);
        clock.advance(Duration::from_secs(61));
    }
    assert!(dir.path().join("journal-1.jsonl").symlink_metadata().is_err(), "nothing was compacted");
    let live = 2400 * 130;
    assert!(largest <= 3 * live + (1 << 20), "{largest}");
}

/// Not a test of its own: what the tests below run in a process that they can kill.
#[test]
fn child() {
    let Ok(dir) = std::env::var("MILLPOND_TEST_CHILD") else { return };
    let store = open(&PathBuf::from(dir), SyncPolicy::Always).unwrap();
    let from: i64 = store.get("last").unwrap().unwrap_or(0);
    let mut out = std::io::stdout();
    for n in from + 1.. {
        let mut batch = WriteBatch::new();
        batch.put("last", n).unwrap().put(&format!("k{}", n % 50), n).unwrap();
        match n % 3 {
            0 => batch.delete("flicker").unwrap(),
            _ => batch.put("flicker", "x".repeat(200)).unwrap(),
        };
        if let Err(error) = store.write(&batch) {
            writeln!(out, "failed {error:?}").unwrap();
            out.flush().unwrap();
            assert!(matches!(error, Error::StorageFull { .. }));
            assert_eq!(store.get::<i64>("last").unwrap().unwrap_or(0), n - 1);
            return;
        }
        writeln!(out, "ack {n}").unwrap();
        out.flush().unwrap();
    }
}

fn run_child(dir: &Path, through: Option<&str>) -> std::process::Child {
    let exe = std::env::current_exe().unwrap();
    let mut command = match through {
        None => Command::new(exe),
        Some(script) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg("sh").arg(exe);
            command
        }
    };
    command.args(["--exact", "child", "--nocapture"]).env("MILLPOND_TEST_CHILD", dir);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = 0;
    for round in 0..20 {
        let mut child = run_child(dir.path(), None);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 1 + round * 17 % 120;
        while left > 0 {
            let line = lines.next().expect("the child ended").unwrap();
            if let Some((_, number)) = line.rsplit_once("ack ") {
                acked = number.parse().unwrap();
                left -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acked = line.rsplit_once("ack ").and_then(|(_, number)| number.parse().ok()).unwrap_or(acked);
        }
        let store = open(dir.path(), SyncPolicy::Always).unwrap();
        let last: i64 = store.get("last").unwrap().unwrap();
        assert!((acked..=acked + 1).contains(&last), "acknowledged {acked}, found {last}");
        assert_eq!(store.get::<i64>(&format!("k{}", last % 50)).unwrap(), Some(last));
        assert_eq!(store.contains("flicker").unwrap(), last % 3 != 0);
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_storage_full_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = "ulimit -f 8; trap '' XFSZ; exec \"$@\"";
    let child = run_child(dir.path(), Some(script));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("failed StorageFull"), "{text}");
    let acked = text.lines().filter_map(|line| line.rsplit_once("ack ")?.1.parse::<i64>().ok()).max();
    let store = open(dir.path(), SyncPolicy::Always).unwrap();
    assert_eq!(store.get::<i64>("last").unwrap(), acked);
    store.put("more", 1).unwrap();
}
