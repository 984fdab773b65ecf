//! Processes that are killed during a backup, or whose backup has no room.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::{Error, StateStore, SyncPolicy};

use crate::support::child_process::{self, Process, report};
use crate::support::files::{files, open, open_read_only};
use crate::support::seeds::any_seeds;

/// The test that does the jobs of this file.
const JOBS: &str = "file::killed_backup::a_backup_that_is_killed_leaves_no_part_of_a_store";

const KILLS: u64 = 12;
const ENTRIES: u64 = 300;

/// Backs up again and again, and reports it.
fn back_up_repeatedly(dir: &Path) {
    let store = open(&dir.join("state"), SyncPolicy::Never).unwrap();
    let StateStore::File(file) = &store else { panic!("{store:?}") };
    for copy in 0.. {
        report(&format!("begins {copy}"));
        file.backup(dir.join(format!("copy-{copy}"))).unwrap();
    }
}

/// Backs up what another process has written, where no file can be so long.
fn back_up_without_room(dir: &Path) {
    let store = open_read_only(&dir.join("state")).unwrap();
    let StateStore::File(file) = &store else { panic!("{store:?}") };
    for name in ["new/copy", "empty"] {
        let error = file.backup(dir.join(name)).unwrap_err();
        assert!(error.is_storage_full(), "{error:?}");
        report(&format!("no room in {name}"));
    }
}

fn fill(dir: &Path) -> StateStore {
    let store = open(&dir.join("state"), SyncPolicy::Never).unwrap();
    for n in 0..ENTRIES {
        store.put(format!("k{n}"), "x".repeat(1000)).unwrap();
    }
    store
}

#[test]
fn a_backup_that_is_killed_leaves_no_part_of_a_store() {
    if let Some((job, dir)) = child_process::job() {
        return if job == "scarce" { back_up_without_room(&dir) } else { back_up_repeatedly(&dir) };
    }
    let mut partial = 0;
    for seed in any_seeds(KILLS) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path()).close().unwrap();
        let random = &mut Rng::with_seed(seed);
        let mut process = Process::start_test(JOBS, "repeat", &dir.path().to_string_lossy());
        let begins = |said: &str| said.strip_prefix("begins ").unwrap().parse::<u64>().unwrap();
        let mut last = begins(&process.read_report().expect("the process ended"));
        thread::sleep(Duration::from_micros(random.u64(..20_000)));
        if let Some(said) = process.kill().iter().rfind(|said| said.starts_with("begins ")) {
            last = begins(said);
        }
        for copy in 0..=last + 1 {
            let path = dir.path().join(format!("copy-{copy}"));
            let names = if path.exists() { files(&path) } else { BTreeMap::default() };
            let is_begun = names.iter().any(|(name, bytes)| name != "LOCK" || !bytes.is_empty());
            if copy >= last && !is_begun {
                continue;
            }
            match open(&path, SyncPolicy::Always) {
                Ok(store) => assert_eq!(store.len().unwrap(), ENTRIES, "seed {seed}, copy {copy}"),
                Err(Error::Corrupt { .. }) if copy >= last => partial += 1,
                Err(error) => panic!("seed {seed}, copy {copy} of {last}: {error:?}"),
            }
        }
        assert_eq!(open(&dir.path().join("state"), SyncPolicy::Always).unwrap().len().unwrap(), ENTRIES);
    }
    println!("{partial} of the backups were killed in the middle");
}

#[test]
fn a_backup_without_room_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = fill(dir.path());
    fs::create_dir(dir.path().join("empty")).unwrap();
    let told = Process::start_limited_test(JOBS, "scarce", dir.path(), 64).read_all_reports();
    assert_eq!(told, ["no room in new/copy", "no room in empty"]);
    assert!(!dir.path().join("new").exists());
    assert_eq!(files(&dir.path().join("empty")).len(), 0);
    store.put("later", 1).unwrap();
    assert_eq!(store.len().unwrap(), ENTRIES + 1);
}
