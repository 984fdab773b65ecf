//! What the File variant promises when its process is killed at a random moment, on every level of `sync`: it
//! comes up again with each operation that was acknowledged, at most one more, and nothing that was deleted.

use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::SyncPolicy;

use super::power_loss::writer;
use crate::support::child_process::Process;
use crate::support::files::{files, journal, restore};
use crate::support::history::{self, History, acked};
use crate::support::seeds::any_seeds;

/// So often the process of one history is killed.
const KILLS: u64 = 12;

/// The histories of one level, where the environment asks for no others: so 216 processes are killed on all three.
const HISTORIES: u64 = 6;

/// Lets a process go on with a history and kills it at a random moment; tells which step it told last.
fn kill(dir: &Path, sync: SyncPolicy, seed: u64, done: u64, random: &mut Rng) -> u64 {
    let mut process: Process = writer(&history::job(sync, seed, done, u64::MAX), dir);
    let mut last = done;
    let mut note = |said: &str| match acked(said) {
        Some(step) if step == last + 1 => last = step,
        // The last line may be cut off in the middle.
        _ => assert!("ack ".starts_with(said) || said.starts_with("ack "), "seed {seed}, {last}: {said}"),
    };
    // Either while it opens the store, or among its steps.
    if random.u32(..4) > 0 {
        note(&process.hear().expect("the process ended"));
    }
    thread::sleep(Duration::from_micros(random.u64(..40_000)));
    process.kill().iter().for_each(|said| note(said));
    last
}

fn killed_again_and_again(sync: SyncPolicy) {
    let (mut kills, mut compacted) = (0, false);
    for seed in any_seeds(HISTORIES) {
        let random = &mut Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut done = 0;
        for round in 0..KILLS {
            let last = kill(dir.path(), sync, seed, done, random);
            // The next process finds the files as this one has left them, or as whoever looked has.
            let copy = tempfile::tempdir().unwrap();
            restore(copy.path(), &files(dir.path()));
            let looked_at = if random.bool() { copy.path() } else { dir.path() };
            let left = History::in_directory(looked_at, sync, seed, last)
                .unwrap_or_else(|error| panic!("MILLPOND_SEED={seed}, kill {round} after {last}: {error}"));
            done = left.must_be_after(last..=last + 1, &format!("MILLPOND_SEED={seed}, kill {round}"));
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
    killed_again_and_again(SyncPolicy::Always);
}

/// The process is killed at any moment; its writes are synced in the background.
#[test]
fn kill_9_loses_nothing_acknowledged_with_an_interval() {
    killed_again_and_again(SyncPolicy::Every(Duration::from_secs(1)));
}

/// The process is killed at any moment; nothing is synced.
#[test]
fn kill_9_loses_nothing_acknowledged_with_never() {
    killed_again_and_again(SyncPolicy::Never);
}
