//! The directory of an open store stays the same one, whatever its path comes to mean, and its files are private. A
//! store notices when another program takes its journal away.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond::{Error, FileStore, StateStore, SyncPolicy};

use crate::support::child_process::{self, Process};
use crate::support::files::{files, journal, open, snapshot};
use crate::support::wait_until;

const JOBS: &str = "file::place::a_change_of_the_working_directory_redirects_nothing";

const POLICIES: [SyncPolicy; 3] =
    [SyncPolicy::Always, SyncPolicy::Every(Duration::from_millis(5)), SyncPolicy::Never];

/// Writes until the first journal was compacted twice.
fn write_much(store: &StateStore, dir: &Path) {
    for n in 0.. {
        store.put(format!("k{}", n % 50), format!("{n:0100}")).unwrap();
        if n > 100 && !journal(dir, 1).exists() && !journal(dir, 2).exists() {
            break;
        }
    }
    store.put("last", 17).unwrap();
}

/// A store of another program, with one entry. It stays open.
fn other_store(dir: &Path) -> StateStore {
    let other = open(dir, SyncPolicy::Never).unwrap();
    other.put("of another program", 1).unwrap();
    other
}

#[track_caller]
fn assert_untouched(other: &StateStore, dir: &Path) {
    other.close().unwrap();
    let other = open(dir, SyncPolicy::Never).unwrap();
    assert_eq!(other.keys("").unwrap(), ["of another program"]);
}

#[test]
fn a_change_of_the_working_directory_redirects_nothing() {
    if let Some((_, base)) = child_process::job() {
        return change_directory(&base);
    }
    let base = tempfile::tempdir().unwrap();
    let process = Process::start_test(JOBS, "chdir", &base.path().to_string_lossy());
    assert_eq!(process.read_all_reports(), ["end"]);
}

/// The working directory belongs to the whole process, so this runs in one of its own.
fn change_directory(base: &Path) {
    let (a, b) = (base.join("a"), base.join("b"));
    for dir in [&a, &b] {
        fs::create_dir_all(dir).unwrap();
    }
    let other = other_store(&b.join("state"));
    std::env::set_current_dir(&a).unwrap();
    let store = StateStore::open("file:./state?sync=never&compact_min_bytes=4096").unwrap();
    let error = assert_error!(StateStore::open("file:state"), Error::Locked { .. });
    assert!(error.to_string().contains(&*a.join("state").to_string_lossy()), "{error}");
    std::env::set_current_dir(&b).unwrap();
    write_much(&store, &a.join("state"));
    store.close().unwrap();
    assert_untouched(&other, &b.join("state"));
    let again = open(&a.join("state"), SyncPolicy::Never).unwrap();
    assert_eq!(again.get("last").unwrap(), Some(17));
    again.close().unwrap();
    #[cfg(feature = "redis")]
    change_directory_under_a_queue(&a, &b);
    child_process::report("end");
}

#[cfg(feature = "redis")]
fn change_directory_under_a_queue(a: &Path, b: &Path) {
    let url = |dir: &str| {
        let port = crate::support::ports::free_port();
        let options =
            format!("timeout=300ms&connect_timeout=100ms&compact_min_bytes=4096&fallback=file:{dir}");
        format!("redis://127.0.0.1:{port}?key_prefix=t&{options}")
    };
    std::env::set_current_dir(a).unwrap();
    let store = StateStore::open(url("./queue")).unwrap();
    std::env::set_current_dir(b).unwrap();
    for n in 0..2000 {
        store.put("k", format!("{n:0100}")).unwrap();
    }
    store.put("last", 17).unwrap();
    drop(store);
    assert!(!b.join("queue").exists());
    let again = StateStore::open(url(&a.join("queue").display().to_string())).unwrap();
    assert_eq!(again.get("last").unwrap(), Some(17));
}

#[test]
fn a_rename_of_the_directory_or_of_its_parent_redirects_nothing() {
    for sync in POLICIES {
        let base = tempfile::tempdir().unwrap();
        let (parent, moved) = (base.path().join("parent"), base.path().join("moved"));
        let (state, renamed) = (parent.join("state"), moved.join("renamed"));
        let store = open(&state, sync).unwrap();
        store.put("first", 1).unwrap();
        fs::rename(&parent, &moved).unwrap();
        fs::rename(moved.join("state"), &renamed).unwrap();
        let other = other_store(&state);
        write_much(&store, &renamed);
        store.flush().unwrap();
        store.close().unwrap();
        assert_untouched(&other, &state);
        let again = open(&renamed, sync).unwrap();
        assert_eq!((again.get("first").unwrap(), again.get("last").unwrap()), (Some(1), Some(17)));
    }
}

/// Takes the journal away from a running store.
fn take_away(how: &str, dir: &Path) {
    let (file, elsewhere) = (journal(dir, 1), dir.with_extension("elsewhere"));
    match how {
        "directory" => fs::remove_dir_all(dir).unwrap(),
        "journal" => fs::remove_file(file).unwrap(),
        "renamed journal" => fs::rename(file, elsewhere).unwrap(),
        "replaced journal" => {
            fs::copy(&file, &elsewhere).unwrap();
            fs::rename(elsewhere, file).unwrap();
        }
        _ => {
            fs::remove_dir_all(dir).unwrap();
            drop(other_store(dir));
        }
    }
}

#[test]
fn a_store_whose_journal_is_taken_away_acknowledges_nothing_more() {
    let long = SyncPolicy::Every(Duration::from_secs(3600));
    for sync in POLICIES.into_iter().chain([long]) {
        for how in ["directory", "journal", "renamed journal", "replaced journal", "directory made anew"] {
            for end in ["put", "flush", "close"] {
                let base = tempfile::tempdir().unwrap();
                let dir = base.path().join("state");
                let store = open(&dir, sync).unwrap();
                store.put("a", 1).unwrap();
                take_away(how, &dir);
                match end {
                    "flush" => {
                        drop(assert_error!(store.flush(), Error::Poisoned { path, .. } if *path == dir));
                    }
                    "close" => {}
                    _ if sync == SyncPolicy::Always => {
                        assert_error!(store.put("b", 2), Error::Poisoned { path, .. } if *path == dir);
                    }
                    _ => wait_until("a write is refused", Duration::from_secs(20), || {
                        store.put("b", 2).is_err()
                    }),
                }
                if end != "close" {
                    assert_error!(store.put("c", 3), Error::Poisoned { .. });
                    assert_error!(store.incr("n", 1), Error::Poisoned { .. });
                    assert_eq!(store.get("a").unwrap(), Some(1), "{sync} {how}");
                }
                assert_error!(store.close(), Error::Poisoned { .. });
            }
        }
    }
}

/// The file to which the link leads is neither truncated nor locked.
#[test]
fn a_link_in_place_of_the_lock_file_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let (dir, victim) = (base.path().join("state"), base.path().join("victim"));
    fs::create_dir(&dir).unwrap();
    for target in [victim.clone(), base.path().join("absent")] {
        fs::write(&victim, "precious").unwrap();
        let lock = dir.join("LOCK");
        symlink(&target, &lock).unwrap();
        let error = assert_error!(open(&dir, SyncPolicy::Always), Error::Io { path, .. } if *path == lock);
        assert!(crate::support::chain(&error).concat().contains("symbolic link"), "{error:?}");
        assert_error!(FileStore::repair(&dir), Error::Io { path, .. } if *path == lock);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!base.path().join("absent").exists());
        fs::remove_file(lock).unwrap();
    }
}

#[test]
fn a_link_in_place_of_an_unfinished_snapshot_is_not_followed() {
    let base = tempfile::tempdir().unwrap();
    let (dir, victim) = (base.path().join("state"), base.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    let store = open(&dir, SyncPolicy::Never).unwrap();
    for number in 2..10 {
        symlink(&victim, dir.join(format!("snapshot-{number}.jsonl.tmp"))).unwrap();
    }
    write_much(&store, &dir);
    store.close().unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(snapshot(&dir, 3)).is_ok_and(|found| found.is_file()));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn modes(paths: &[PathBuf]) -> Vec<u32> {
    paths.iter().map(|path| mode(path)).collect()
}

#[test]
fn new_files_and_directories_are_private_and_existing_ones_keep_their_mode() {
    let base = tempfile::tempdir().unwrap();
    let shared = base.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    for (dir, expected) in [(base.path().join("new/state"), 0o700), (shared, 0o755)] {
        let store = open(&dir, SyncPolicy::Never).unwrap();
        write_much(&store, &dir);
        store.close().unwrap();
        assert_eq!(mode(&dir), expected, "{}", dir.display());
        let names: Vec<PathBuf> = files(&dir).into_keys().map(|name| dir.join(name)).collect();
        assert!(names.len() >= 3, "{names:?}");
        assert_eq!(modes(&names), [0o600].repeat(names.len()), "{names:?}");
        for path in &names {
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        drop(open(&dir, SyncPolicy::Never).unwrap());
        assert_eq!(modes(&names), [0o640].repeat(names.len()), "{names:?}");
    }
}
