//! Random histories of operations, on every backend, compared with one simple model.
//!
//! `MILLPOND_MODEL_RUNS` sets how many histories each case runs, `MILLPOND_SEED` the seed of the first. A
//! history that fails is shrunk and printed, so that it can be added to `regressions`.

mod content;
mod operation;
mod reference;
mod reference_kinds;
mod regressions;
mod run;
mod run_kinds;
mod run_many;
mod run_values;
mod step;

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use self::operation::Operation;
use self::run::Failure;
use self::step::Step;
use crate::support::backends::{Backend, Case, HOUR};

/// How many histories a case runs by default: a second or two for each case.
fn usual_runs(backend: Backend) -> u64 {
    match backend {
        Backend::Memory => 200,
        #[cfg(feature = "redis")]
        Backend::Away => 40,
        Backend::File => 40,
        Backend::FileReopened => 5,
        #[cfg(feature = "redis")]
        Backend::Redis | Backend::RedisOnce => 20,
    }
}

/// How many operations a history has.
const LENGTH: usize = 80;

macro_rules! models {
    ($($name:ident: $backend:ident, $ttl:expr;)*) => {
        $(
            #[test]
            fn $name() {
                run_random_histories(Case { backend: Backend::$backend, default_ttl: $ttl });
            }
        )*
    };
}

models! {
    memory_does_what_the_model_does: Memory, None;
    memory_with_default_ttl_does_what_the_model_does: Memory, Some(HOUR);
    file_does_what_the_model_does: File, None;
    file_with_default_ttl_does_what_the_model_does: File, Some(HOUR);
    file_reopened_does_what_the_model_does: FileReopened, None;
    file_reopened_with_default_ttl_does_what_the_model_does: FileReopened, Some(HOUR);
}
#[cfg(feature = "redis")]
models! {
    away_does_what_the_model_does: Away, None;
    away_with_default_ttl_does_what_the_model_does: Away, Some(HOUR);
    redis_does_what_the_model_does: Redis, None;
    redis_with_default_ttl_does_what_the_model_does: Redis, Some(HOUR);
    redis_once_does_what_the_model_does: RedisOnce, Some(HOUR);
}

#[test]
fn the_model_finds_and_shrinks_a_planted_fault() {
    let case = Case { backend: Backend::Memory, default_ttl: None };
    let mut random = fastrand::Rng::with_seed(1);
    let history = operation::history(&mut random, 500);
    // The planted fault: a store that loses everything as soon as a counter is deleted.
    let fails = |history: &[Operation]| {
        let counted =
            history.iter().position(|operation| matches!(operation, Operation::On(Step::Incr { .. })));
        let cleared = history.iter().rposition(|operation| matches!(operation, Operation::Clear { .. }));
        matches!((counted, cleared), (Some(counted), Some(cleared)) if counted < cleared)
    };
    assert!(fails(&history));
    assert_eq!(shrink(history, fails).len(), 2);
    run::run(case, &[]).expect("an empty history holds");
}

fn run_random_histories(case: Case) {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number in the environment"))
    };
    let first = number("MILLPOND_SEED", 1);
    for seed in first..first + number("MILLPOND_MODEL_RUNS", usual_runs(case.backend)) {
        let history = operation::history(&mut fastrand::Rng::with_seed(seed), LENGTH);
        let Err(failure) = attempt(case, &history) else { continue };
        let small = shrink(history, |history| attempt(case, history).is_err());
        let failure = attempt(case, &small).err().unwrap_or(failure);
        panic!(
            "{case:?}, MILLPOND_SEED={seed}: {failure}\nthe smallest history that fails:\n{}",
            small.iter().map(|operation| format!("    {operation:?},")).collect::<Vec<_>>().join("\n")
        );
    }
}

/// Runs a history; a panic is a failure too.
fn attempt(case: Case, history: &[Operation]) -> Result<(), Failure> {
    panic::catch_unwind(AssertUnwindSafe(|| run::run(case, history)))
        .unwrap_or_else(|_| Err("the history panicked".into()))
}

/// Drops operations that the failure does not need: halves, quarters and so on down to single operations.
fn shrink(mut history: Vec<Operation>, fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let begun = std::time::Instant::now();
    let mut chunk = history.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let mut dropped = false;
        while from < history.len() && begun.elapsed() < Duration::from_secs(60) {
            let mut smaller = history.clone();
            smaller.drain(from..(from + chunk).min(history.len()));
            if fails(&smaller) {
                history = smaller;
                dropped = true;
            } else {
                from += chunk;
            }
        }
        match (chunk, dropped) {
            (1, false) => return history,
            (1, true) if begun.elapsed() >= Duration::from_secs(60) => return history,
            (1, true) => {}
            _ => chunk = chunk.div_ceil(2),
        }
    }
}
