//! Power failures in the File variant, on a real file system: only data that had reached the disk survives.

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millpond::{Error, SyncPolicy};

use crate::support::child_process::{self, Process};
use crate::support::disk::{Disk, Left, stop};
use crate::support::files::journal;
use crate::support::history::{self, History, acked, flushed};
use crate::support::seeds::any_seeds;

/// The test that does the jobs of all tests on disks.
pub(crate) const JOBS: &str = "file::power_loss::a_history_continues_where_it_stopped";

/// How often the power fails in one history.
const CUTS: u64 = 5;

/// Starts a process that does one of these jobs.
pub(crate) fn start_writer(job: &str, dir: &Path) -> Process {
    Process::start_test(JOBS, job, &dir.to_string_lossy())
}

/// A history during which the power failed.
struct Cut {
    left: Left,
    /// The numbers of steps that must survive: acknowledged a while before the failure, and acknowledged at
    /// the failure.
    settled: u64,
    acked: u64,
}

/// Makes a process continue a history, and cuts the power at a random moment.
fn cut_power(disk: &Disk, sync: SyncPolicy, seed: u64, done: u64, random: &mut Rng) -> Cut {
    let mut process = start_writer(&history::job(sync, seed, done, u64::MAX), &disk.state());
    let mut last = done;
    let read_report = |process: &mut Process, last: &mut u64| {
        let said = process.read_report().expect("the process ended");
        *last = acked(&said).unwrap_or_else(|| panic!("seed {seed}, {last} steps done: {said}"));
    };
    for _ in 0..random.u32(..120) {
        read_report(&mut process, &mut last);
    }
    let mut settled = last;
    if let SyncPolicy::Every(interval) = sync {
        // Much longer than the interval, so that even a slow machine has synced by then.
        let begun = Instant::now();
        while begun.elapsed() < interval * 30 {
            read_report(&mut process, &mut last);
        }
    } else {
        // At any moment of an operation.
        std::thread::sleep(Duration::from_micros(random.u64(..2000)));
    }
    stop(&process);
    let left = disk.cut();
    for said in process.kill() {
        last = acked(&said).unwrap_or_else(|| panic!("seed {seed}, {last} steps done: {said}"));
    }
    settled = match sync {
        SyncPolicy::Always => last,
        SyncPolicy::Never => flushed(done, last),
        _ => settled.max(flushed(done, last)),
    };
    Cut { left, settled, acked: last }
}

#[test]
fn a_history_continues_where_it_stopped() {
    if let Some((job, dir)) = child_process::job() {
        return match job.split(' ').next() {
            Some("marks") => super::system_calls::write_marks(&job, &dir),
            Some("scarce") => super::lost_access::run_with_few_descriptors(&job, &dir),
            _ => history::continue_history(&job, &dir),
        };
    }
    for seed in any_seeds(2) {
        let disk = Disk::ext4(seed);
        for at in 0..3 {
            let history = History::in_directory(&disk.state(), SyncPolicy::Always, seed, at * 200).unwrap();
            history.assert_after(at * 200..=at * 200, "reopened");
            (1..=200).for_each(|n| history.step(at * 200 + n).unwrap());
        }
        assert!(!journal(&disk.state(), 1).exists(), "nothing was compacted");
    }
}

/// No deleted entry comes back.
#[test]
fn after_a_power_failure_every_acknowledged_step_is_found() {
    let mut compacted = false;
    for seed in any_seeds(5) {
        let random = &mut Rng::with_seed(seed);
        let mut disk = Disk::ext4(seed);
        let mut done = 0;
        for round in 0..CUTS {
            let Cut { left, acked, .. } = cut_power(&disk, SyncPolicy::Always, seed, done, random);
            let found = left.mount();
            let what = format!("seed {seed}, power cut {round} after {acked} acknowledged steps");
            let history = History::in_directory(&found.state(), SyncPolicy::Always, seed, acked)
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            done = history.assert_after(acked..=acked + 1, &what);
            // Data that survived this time must also survive the next time.
            drop(history);
            let history = History::in_directory(&found.state(), SyncPolicy::Always, seed, done).unwrap();
            history.assert_after(done..=done, &what);
            drop(history);
            compacted |= !journal(&found.state(), 1).exists();
            // The next process finds the files as the power failure left them, or as the opening above left
            // them.
            disk = if random.bool() { left.mount() } else { found };
        }
    }
    assert!(compacted, "nothing was compacted");
}

#[test]
fn after_a_power_failure_steps_older_than_the_interval_exist() {
    let sync = SyncPolicy::Every(Duration::from_millis(10));
    for seed in any_seeds(2) {
        let random = &mut Rng::with_seed(seed);
        let mut disk = Disk::ext4(seed);
        let mut done = 0;
        for round in 0..3 {
            let Cut { left, settled, acked } = cut_power(&disk, sync, seed, done, random);
            disk = left.mount();
            let what = format!("seed {seed}, power cut {round}, {settled} to {acked} steps");
            let history = History::in_directory(&disk.state(), sync, seed, settled)
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            done = history.assert_after(settled..=acked + 1, &what);
        }
    }
}

/// The store is at an earlier step, or refuses to open.
#[test]
fn after_a_power_failure_without_syncs_no_step_is_wrong() {
    for seed in any_seeds(4) {
        let random = &mut Rng::with_seed(seed);
        let mut disk = Disk::ext4(seed);
        let mut done = 0;
        for round in 0..CUTS {
            let Cut { left, settled, acked } = cut_power(&disk, SyncPolicy::Never, seed, done, random);
            disk = left.mount();
            let what = format!("seed {seed}, power cut {round}, {settled} to {acked} steps");
            match History::in_directory(&disk.state(), SyncPolicy::Never, seed, settled) {
                Ok(history) => done = history.assert_after(settled..=acked + 1, &what),
                Err(Error::Corrupt { reason, .. }) if disk.is_mounted() => {
                    println!("{what}: refused, {reason}");
                    break;
                }
                Err(error) => panic!("{what}: {error:?}"),
            }
        }
    }
}
