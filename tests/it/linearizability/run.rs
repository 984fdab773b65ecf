//! Runs of several processes on one server, with and without faults.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::checker::{Verdict, check};
use super::faults::Targets;
use super::history::{Histories, text};
use super::recorder::{Job, Place, now, record};
use crate::support::child_process::job;
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::seeds::any_seeds;

const PROCESSES: u64 = 4;

/// How long one run lasts, unless `MILLPOND_TEST_SECONDS` says otherwise.
const RUN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    All,
}

/// Lets processes call one server, and returns the histories of all objects.
fn record_histories(seed: u64, run: Duration, exactly_once: bool, faults: Faults) -> Histories {
    let server = RedisServer::start();
    let proxies = [Proxy::to(server.port()), Proxy::to(server.port())];
    let places: Vec<Place> = (0..PROCESSES).map(|_| Place::default()).collect();
    let kills = AtomicBool::new(false);
    let until = now() + u64::try_from(run.as_nanos()).unwrap();
    let reported: Vec<(u64, Vec<String>)> = thread::scope(|scope| {
        let runs: Vec<_> = (0..)
            .zip(&places)
            .map(|(process, place)| {
                let url = proxies[usize::try_from(process).unwrap() % proxies.len()].url();
                let kills = &kills;
                let job = Job { process, seed, until, exactly_once };
                scope.spawn(move || place.run(job, &url, || kills.load(Ordering::SeqCst)))
            })
            .collect();
        if faults == Faults::All {
            let targets = Targets { server: &server, proxies: &proxies, places: &places, kills: &kills };
            targets.cause_faults(&mut Rng::with_seed(seed), until);
        }
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let mut histories = Histories::default();
    for (process, lines) in reported {
        histories.add(&process.to_string(), &lines);
    }
    histories
}

fn assert_linearizable(seed: u64, run: Duration, exactly_once: bool, faults: Faults) {
    let histories = record_histories(seed, run, exactly_once, faults);
    let (mut calls, mut in_doubt, mut undecided, mut violated) = (0, 0, 0, Vec::new());
    for (object, history) in &histories.0 {
        calls += history.len();
        in_doubt += history.iter().filter(|call| call.returned.is_none()).count();
        match check(history) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Violated => violated.push(object),
        }
    }
    let objects = histories.0.len();
    println!(
        "{objects} objects, {calls} calls, {in_doubt} in doubt, {undecided} undecided, {violated:?} violated"
    );
    if let Some(object) = violated.first() {
        panic!("MILLPOND_SEED={seed}: {object} is not linearizable:\n{}", text(&histories.0[*object]));
    }
    assert!(calls > 100, "{calls} calls");
    assert!(faults == Faults::None || in_doubt > 0, "no fault had an effect");
    assert!(undecided * 20 <= objects, "{undecided} of {objects} histories take too long to check");
}

/// How long a run with faults lasts.
fn length() -> Duration {
    let seconds = std::env::var("MILLPOND_TEST_SECONDS").ok();
    seconds.map_or(RUN, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

#[test]
fn calls_without_faults_are_linearizable() {
    if let Some((job, url)) = job() {
        return record(&job, &url);
    }
    assert_linearizable(fastrand::u64(..1 << 40), Duration::from_secs(1), false, Faults::None);
}

#[test]
fn calls_under_faults_are_linearizable() {
    let seed = any_seeds(1).next().unwrap();
    assert_linearizable(seed, length(), false, Faults::All);
}

#[test]
fn calls_with_exactly_once_under_faults_are_linearizable() {
    let seed = any_seeds(1).next().unwrap();
    assert_linearizable(seed, length(), true, Faults::All);
}
