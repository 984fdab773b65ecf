//! Disks without room in the File variant, and disks that fail during a write.

use std::fs;
use std::time::Duration;

use fastrand::Rng;
use millpond::{Error, SyncPolicy};

use super::power_loss::JOBS;
use crate::support::child_process::Process;
use crate::support::disk::Disk;
use crate::support::files::journal;
use crate::support::history::{self, History, acked};
use crate::support::seeds::any_seeds;
use crate::support::wait_until;

/// A process whose files cannot grow beyond a few KiB, for machines on which no small disk can be mounted.
fn outgrow_a_limit(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let job = history::job(SyncPolicy::Always, seed, 0, 10_000);
    let told = Process::start_limited_test(JOBS, &job, dir.path(), 16).read_all_reports();
    let done = told.iter().filter_map(|said| acked(said)).max().unwrap_or(0);
    let failed = format!("failed {} StorageFull", done + 1);
    assert!(told.iter().any(|said| said.starts_with(&failed)), "{told:?}");
    assert!(told.contains(&format!("reads {done}")), "{told:?}");
    let history = History::in_directory(dir.path(), SyncPolicy::Always, seed, done).unwrap();
    let found = history.assert_after(done..=done, "reopened");
    (found + 1..found + 50).for_each(|n| history.step(n).unwrap());
}

/// It gets an error that says so.
#[test]
fn a_process_whose_files_cannot_grow_keeps_its_data() {
    for seed in any_seeds(2) {
        outgrow_a_limit(seed);
    }
}

/// Takes steps of a history until the disk is full, and returns the number of the last one that succeeded.
fn fill(history: &History, done: u64) -> u64 {
    for n in done + 1..done + 100_000 {
        match history.step(n) {
            Ok(()) => {}
            Err(Error::StorageFull { .. }) => return n - 1,
            Err(error) => panic!("step {n}: {error:?}"),
        }
    }
    panic!("the disk never became full");
}

/// The same store continues when there is room again.
#[test]
fn on_a_full_disk_memory_and_files_agree() {
    for seed in any_seeds(4) {
        let random = &mut Rng::with_seed(seed);
        let disk = Disk::small("size=4m");
        if !disk.is_mounted() {
            outgrow_a_limit(seed);
            continue;
        }
        let sync = if random.bool() { SyncPolicy::Always } else { SyncPolicy::Never };
        let ballast = disk.path().join("ballast");
        let history = History::in_directory(&disk.state(), sync, seed, 0).unwrap();
        let mut done = 0;
        for round in 0..3 {
            let what = format!("seed {seed}, full for the {round}. time");
            done += 40;
            (done - 39..=done).for_each(|n| history.step(n).unwrap());
            take_all_but(&disk, &ballast, random.u64(..40_000));
            done = fill(&history, done);
            history.assert_after(done..=done, &what);
            // Repeatedly, no step is half done. A compaction may have freed a little room.
            for _ in 0..3 {
                done = fill(&history, done);
                history.assert_after(done..=done, &what);
            }
            let copy = disk.cut().mount();
            fs::remove_file(copy.path().join("ballast")).unwrap();
            let reopened = History::in_directory(&copy.state(), sync, seed, done).unwrap();
            reopened.assert_after(done..=done, &what);

            fs::remove_file(&ballast).unwrap();
            (done + 1..=done + 60).for_each(|n| history.step(n).unwrap());
            done += 60;
            history.assert_after(done..=done, &what);
        }

        // The store is closed and opened while the disk is full.
        take_all_but(&disk, &ballast, 0);
        done = fill(&history, done);
        drop(history);
        let reopened = History::in_directory(&disk.state(), sync, seed, done);
        match &reopened {
            Ok(history) => drop(history.assert_after(done..=done, "opened on a full disk")),
            Err(Error::StorageFull { .. }) => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
        drop(reopened);
        fs::remove_file(&ballast).unwrap();
        let history = History::in_directory(&disk.state(), sync, seed, done).unwrap();
        history.assert_after(done..=done, "opened once there was room");
    }
}

/// Fills a disk up to so many free bytes.
fn take_all_but(disk: &Disk, ballast: &std::path::Path, left: u64) {
    use std::io::Write;
    let mut file = fs::File::create(ballast).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(left)).unwrap();
    assert!(disk.is_mounted());
}

/// It compacts as soon as new files can be created again.
#[test]
fn on_a_disk_without_free_inodes_the_store_continues() {
    for seed in any_seeds(1) {
        if !Disk::small("size=8m").is_mounted() {
            outgrow_a_limit(seed);
            continue;
        }
        let mut refused = 0;
        for files in 2..8 {
            let disk = Disk::small(&format!("size=8m,nr_inodes={files}"));
            let history = match History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0) {
                Ok(history) => history,
                Err(Error::StorageFull { .. }) => {
                    refused += 1;
                    disk.remount("nr_inodes=100").unwrap();
                    History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0).unwrap();
                    continue;
                }
                Err(error) => panic!("{files} files: {error:?}"),
            };
            for n in 1..=300 {
                history.step(n).unwrap_or_else(|error| panic!("{files} files, step {n}: {error:?}"));
            }
            history.assert_after(300..=300, "no more files");
            disk.remount("nr_inodes=100").unwrap();
            let mut done = 300;
            wait_until("the store compacts again", Duration::from_secs(20), || {
                done += 1;
                history.step(done).unwrap();
                !journal(&disk.state(), 1).exists()
            });
            drop(history);
            let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, done).unwrap();
            history.assert_after(done..=done, "reopened");
        }
        assert!((1..6).contains(&refused), "{refused}");
    }
}

/// The reopened store has every acknowledged write.
#[test]
fn a_failed_sync_poisons_the_store_until_it_is_reopened() {
    for seed in any_seeds(3) {
        fail_a_sync(seed);
    }
}

/// If the file system could not write data to the disk, it treats that data as written afterwards: the next
/// sync reports success.
pub(crate) fn fail_a_sync(seed: u64) {
    let random = &mut Rng::with_seed(seed);
    let disk = Disk::ext4(seed);
    if !disk.is_mounted() {
        println!("no failing disk is available: the files cannot grow instead");
        outgrow_a_limit(seed);
        return;
    }
    let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, 0).unwrap();
    (1..=20).for_each(|n| history.step(n).unwrap());
    disk.starve(random.u64(..400_000));
    let failed = (21..100_000).find_map(|n| Some((n - 1, history.step(n).err()?)));
    let (done, error) = failed.expect("a disk that fails");
    println!("seed {seed}: {done} steps, then {error:?}");
    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
    history.assert_after(done..=done + 1, "poisoned");
    for _ in 0..3 {
        assert_error!(history.store.put("more", 1), Error::Poisoned { .. });
        assert_error!(history.store.flush(), Error::Poisoned { .. });
    }
    history.assert_after(done..=done + 1, "poisoned");
    drop(history);
    let found = disk.cut().mount();
    let history = History::in_directory(&found.state(), SyncPolicy::Always, seed, done).unwrap();
    history.assert_after(done..=done + 1, "opened again");
}
