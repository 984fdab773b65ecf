//! The File variant without write permission, without its directory, or without file descriptors.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use millpond::{Error, SyncPolicy};

use super::power_loss::JOBS;
use crate::support::child_process::{self, Process};
use crate::support::disk::Disk;
use crate::support::files::journal;
use crate::support::history::{self, History, acked};
use crate::support::seeds::any_seeds;
use crate::support::wait_until;

/// Removes a directory in which a compaction may be creating files.
fn remove_dir(dir: &Path) {
    wait_until("the directory is gone", Duration::from_secs(10), || {
        let _ = fs::remove_dir_all(dir);
        !dir.exists()
    });
}

/// The error has a type of its own.
#[test]
fn a_disk_that_becomes_read_only_is_an_error_for_writes_only() {
    for seed in any_seeds(3) {
        let disk = Disk::ext4(seed);
        let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0).unwrap();
        (1..=100).for_each(|n| history.step(n).unwrap());
        if !disk.is_mounted() {
            println!("no disk can become read-only: the directory is removed instead");
            remove_dir(&disk.state());
            history.assert_after(100..=100, "without a directory");
            continue;
        }
        disk.break_down().unwrap();
        let failed = (101..200).find_map(|n| Some((n - 1, history.step(n).err()?)));
        let (done, error) = failed.expect("a disk that accepts no writes");
        println!("seed {seed}: {done} steps, then {error:?}");
        assert!(matches!(error, Error::Poisoned { .. } | Error::Io { .. }), "{error:?}");
        history.assert_after(done..=done + 1, "read-only");
        assert_error!(history.store.put("more", 1), Error::Poisoned { .. } | Error::Io { .. });
        drop(history);
        let state = disk.state();
        assert_error!(
            History::in_directory(&state, SyncPolicy::Always, seed, done).map(drop),
            Error::Io { .. }
        );

        let found = disk.cut().mount();
        let history = History::in_directory(&found.state(), SyncPolicy::Always, seed, done).unwrap();
        history.assert_after(done..=done + 1, "opened again");
    }
}

/// Opening changes nothing.
#[test]
fn the_error_on_a_read_only_disk_names_it() {
    let disk = Disk::ext4(0);
    if !disk.is_mounted() {
        println!("no read-only disk is available: a file takes the place of the directory");
        fs::write(disk.state(), "x").unwrap();
        assert_error!(
            History::in_directory(&disk.state(), SyncPolicy::Always, 1, 0).map(drop),
            Error::Io { .. }
        );
        return;
    }
    let history = History::in_directory(&disk.state(), SyncPolicy::Always, 1, 0).unwrap();
    (1..=100).for_each(|n| history.step(n).unwrap());
    drop(history);
    disk.remount("ro").unwrap();
    for state in [disk.state(), disk.path().join("other").join("deeper")] {
        let outcome = History::in_directory(&state, SyncPolicy::Always, 1, 100).map(drop);
        let error = assert_error!(outcome, Error::Io { path, .. } if path.starts_with(disk.path()));
        assert!(error.to_string().contains(&disk.path().display().to_string()), "{error}");
    }
    disk.remount("rw").unwrap();
    let history = History::in_directory(&disk.state(), SyncPolicy::Always, 1, 100).unwrap();
    history.assert_after(100..=100, "opened when it is writable again");
}

/// Writes after the removal are lost, but no operation returns a wrong result.
#[test]
fn a_store_survives_the_removal_of_its_directory() {
    for seed in any_seeds(3) {
        let disk = Disk::ext4(seed);
        let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0).unwrap();
        (1..=50).for_each(|n| history.step(n).unwrap());
        remove_dir(&disk.state());
        let mut done = 50;
        // Enough steps for several compactions, which find no directory.
        for n in 51..=400 {
            match history.step(n) {
                Ok(()) => done = n,
                Err(Error::Io { .. } | Error::Poisoned { .. }) => break,
                Err(error) => panic!("seed {seed}, step {n}: {error:?}"),
            }
        }
        history.assert_after(done..=done + 1, "without a directory");
        match history.store.close() {
            Ok(()) | Err(Error::Io { .. } | Error::Poisoned { .. }) => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
        let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0).unwrap();
        assert!(history.store.is_empty().unwrap());
        history.step(1).unwrap();
    }
}

/// Continues a history with only this many free file descriptors, then with as many as allowed.
pub(crate) fn run_with_few_descriptors(job: &str, dir: &Path) {
    let words: Vec<u64> = job.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    let [seed, spare] = words[..] else { panic!("no job is called {job}") };
    let history = History::in_directory(dir, SyncPolicy::Always, seed, 0).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    held.truncate(held.len() - usize::try_from(spare).unwrap());
    for n in 1..=250 {
        history.step(n).unwrap_or_else(|error| panic!("step {n}: {error:?}"));
        child_process::report(&format!("ack {n}"));
    }
    history.assert_after(250..=250, "few descriptors");
    drop(held);
    let mut done = 250;
    wait_until("the store compacts again", Duration::from_secs(20), || {
        done += 1;
        history.step(done).unwrap();
        child_process::report(&format!("ack {done}"));
        !journal(dir, 1).exists()
    });
    history.assert_after(done..=done, "enough descriptors");
    child_process::report("end");
}

/// It compacts when descriptors are free again.
#[test]
fn a_store_without_file_descriptors_still_writes() {
    for seed in any_seeds(1) {
        for spare in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let job = format!("scarce {seed} {spare}");
            let told = Process::start_behind("ulimit -n 48", JOBS, &job, dir.path()).read_all_reports();
            assert_eq!(told.last().map(String::as_str), Some("end"), "{spare} descriptors: {told:?}");
            let done = told.iter().filter_map(|said| acked(said)).max().unwrap();
            let history = History::in_directory(dir.path(), SyncPolicy::Always, seed, done).unwrap();
            history.assert_after(done..=done, "reopened");
            let left = fs::read_dir(dir.path()).unwrap().map(|item| item.unwrap().file_name());
            assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{spare}");
        }
    }
}

#[test]
fn opening_without_file_descriptors_is_an_error() {
    let (mut refused, mut opened) = (0, 0);
    let dir = tempfile::tempdir().unwrap();
    let mut done = 0;
    for limit in 4..14 {
        let job = history::job(SyncPolicy::Always, 3, done, done + 5);
        let told =
            Process::start_behind(&format!("ulimit -n {limit}"), JOBS, &job, dir.path()).read_all_reports();
        match &told[..] {
            [said]
                if said.starts_with("refused Io") && said.contains("os error 24")
                    || said.contains("code: 24") =>
            {
                refused += 1;
            }
            [.., end] if end == "end" => {
                opened += 1;
                done += 5;
            }
            _ => panic!("{limit} descriptors: {told:?}"),
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} were refused, {opened} opened");
    let history = History::in_directory(dir.path(), SyncPolicy::Always, 3, done).unwrap();
    history.assert_after(done..=done, "opened in the end");
}
