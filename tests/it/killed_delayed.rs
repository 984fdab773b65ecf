//! Programs and servers that are killed while values are pushed with a delay: each acknowledged value comes once, and none
//! comes early.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use millpond::StateStore;

use crate::support::child_process::{self, Process, report};
#[cfg(feature = "redis")]
use crate::support::redis_server::RedisServer;
use crate::support::seeds::any_seeds;

/// The test that does the jobs of this file.
const JOBS: &str = "killed_delayed::a_delayed_value_outlives_a_killed_program";

const DELAY: Duration = Duration::from_millis(300);
const MINUTE: Duration = Duration::from_secs(60);
const KILLS: u64 = 6;

/// A number, and the time before which it must not come, in milliseconds.
type Delayed = (u64, u128);

fn now() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()
}

/// Pushes numbers from `first` on until it is killed or refused, and reports each that was acknowledged.
fn push_numbers(url: &str, first: u64) {
    let store = StateStore::open(url).unwrap();
    for number in first.. {
        let value: Delayed = (number, now() + DELAY.as_millis());
        if store.push_after("q", value, DELAY).is_err() {
            return;
        }
        report(&number.to_string());
    }
}

/// Takes all values, the last of which is due within the delay, and returns their numbers.
fn take_all(store: &StateStore) -> Vec<u64> {
    let mut numbers = Vec::new();
    // A server counts from the time at which it receives the push, and the last push may just have been made.
    while let Some(leased) = store.lease_wait::<Delayed>("q", MINUTE, DELAY * 3).unwrap() {
        let (number, due) = *leased.value();
        assert!(now() >= due, "{number} came {} ms early", due - now());
        assert!(leased.ack().unwrap());
        numbers.push(number);
    }
    numbers
}

/// Checks that all acknowledged numbers came once, and of the others at most the one that was on its way.
fn check(taken: &[u64], acknowledged: &[u64]) {
    let distinct: BTreeSet<u64> = taken.iter().copied().collect();
    assert_eq!(distinct.len(), taken.len(), "a value came twice: {taken:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|number| !distinct.contains(number)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(taken.len() <= acknowledged.len() + 1, "{taken:?} of {acknowledged:?}");
    assert!(taken.is_sorted(), "{taken:?}");
}

fn numbers(reports: &[String]) -> Vec<u64> {
    reports.iter().map(|number| number.parse().unwrap()).collect()
}

/// Waits until the program has pushed something, and then for a random time.
fn wait(process: &mut Process, random: &mut Rng) -> u64 {
    let first = process.read_report().unwrap().parse().unwrap();
    thread::sleep(Duration::from_millis(random.u64(..200)));
    first
}

#[test]
fn a_delayed_value_outlives_a_killed_program() {
    if let Some((job, url)) = child_process::job() {
        return push_numbers(url.to_str().unwrap(), job.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().join("state").display());
    for seed in any_seeds(KILLS) {
        let mut process = Process::start_test(JOBS, "0", &url);
        let first = wait(&mut process, &mut Rng::with_seed(seed));
        let acknowledged = [vec![first], numbers(&process.kill())].concat();
        check(&take_all(&StateStore::open(&url).unwrap()), &acknowledged);
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_delayed_value_outlives_a_killed_server() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = format!("{}?key_prefix=t&fallback=none&timeout=5s", server.url(0));
    for seed in any_seeds(KILLS) {
        let mut process = Process::start_test(JOBS, "0", &url);
        let first = wait(&mut process, &mut Rng::with_seed(seed));
        server.kill();
        server.restart();
        let acknowledged = [vec![first], numbers(&process.read_all_reports())].concat();
        check(&take_all(&StateStore::open(&url).unwrap()), &acknowledged);
    }
}
