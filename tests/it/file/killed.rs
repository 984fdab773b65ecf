//! Processes of the File variant that are killed at a random moment, with every `sync` policy: the reopened
//! store has every acknowledged operation, at most one more, and nothing that was deleted.

use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::SyncPolicy;

use super::power_loss::start_writer;
use crate::support::child_process::Process;
use crate::support::files::{files, journal, restore};
use crate::support::history::{self, History, acked};
use crate::support::seeds::any_seeds;

/// How often the process of one history is killed.
const KILLS: u64 = 12;

/// The number of histories per policy, unless the environment asks for others: 216 processes are killed for
/// all three.
const HISTORIES: u64 = 6;

/// Makes a process continue a history and kills it at a random moment; returns the last step that it
/// reported.
fn kill(dir: &Path, sync: SyncPolicy, seed: u64, done: u64, random: &mut Rng) -> u64 {
    let mut process: Process = start_writer(&history::job(sync, seed, done, u64::MAX), dir);
    let mut last = done;
    let mut note = |said: &str| match acked(said) {
        Some(step) if step == last + 1 => last = step,
        // The last line may be cut off in the middle.
        _ => assert!("ack ".starts_with(said) || said.starts_with("ack "), "seed {seed}, {last}: {said}"),
    };
    // Either while it opens the store, or during its steps.
    if random.u32(..4) > 0 {
        note(&process.read_report().expect("the process ended"));
    }
    thread::sleep(Duration::from_micros(random.u64(..40_000)));
    process.kill().iter().for_each(|said| note(said));
    last
}

fn kill_repeatedly(sync: SyncPolicy) {
    let (mut kills, mut compacted) = (0, false);
    for seed in any_seeds(HISTORIES) {
        let random = &mut Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut done = 0;
        for round in 0..KILLS {
            let last = kill(dir.path(), sync, seed, done, random);
            // The next process finds the files as this process left them, or as the opening below left them.
            let copy = tempfile::tempdir().unwrap();
            restore(copy.path(), &files(dir.path()));
            let looked_at = if random.bool() { copy.path() } else { dir.path() };
            let left = History::in_directory(looked_at, sync, seed, last)
                .unwrap_or_else(|error| panic!("MILLPOND_SEED={seed}, kill {round} after {last}: {error}"));
            done = left.assert_after(last..=last + 1, &format!("MILLPOND_SEED={seed}, kill {round}"));
            kills += 1;
        }
        compacted |= !journal(dir.path(), 1).exists();
    }
    println!("{kills} processes were killed");
    assert!(kills > 0 && compacted, "nothing was compacted");
}

/// The process is killed at any moment.
#[test]
fn kill_9_loses_nothing_acknowledged_with_always() {
    kill_repeatedly(SyncPolicy::Always);
}

/// The process is killed at any moment; its writes are synced in the background.
#[test]
fn kill_9_loses_nothing_acknowledged_with_an_interval() {
    kill_repeatedly(SyncPolicy::Every(Duration::from_secs(1)));
}

/// The process is killed at any moment; nothing is synced.
#[test]
fn kill_9_loses_nothing_acknowledged_with_never() {
    kill_repeatedly(SyncPolicy::Never);
}
