//! The child processes that make calls and report them. The parent keeps what each of them has reported, and starts
//! another one in the place of a process that was killed.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use millpond::{Error, Result, StateStore, WriteBatch};
use rustix::time::{ClockId, clock_gettime};

use super::history::{Report, begin_line, end_line};
use super::model::{Operation, Outcome};
use crate::support::child_process::{Process, report};
use crate::support::redis_stores::{open, options};

/// The test that becomes a child process if it is given a job.
const TEST: &str = "linearizability::run::calls_without_faults_are_linearizable";

const THREADS: u64 = 3;

/// After this time all processes go on to other objects, so that each history stays short.
const ROUND: Duration = Duration::from_millis(400);

/// The longest pause between two calls of a thread.
const PAUSE: u64 = 2_500;

/// How the objects of one round are called on the server.
const VALUES: [&str; 4] = ["a", "b", "c", "d"];
const FIELDS: [&str; 2] = ["x", "y"];

/// Returns the time of the machine's monotonic clock in nanoseconds. It is the same for all processes.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// What a child process is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// No other process has the same number.
    pub(super) process: u64,
    pub(super) seed: u64,
    /// When it ends, by the monotonic clock.
    pub(super) until: u64,
    pub(super) exactly_once: bool,
}

impl Job {
    fn text(self) -> String {
        let Self { process, seed, until, exactly_once } = self;
        format!("{process} {seed} {until} {}", u8::from(exactly_once))
    }

    fn parse(text: &str) -> Self {
        let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        let [process, seed, until, exactly_once] = numbers.try_into().unwrap();
        Self { process, seed, until, exactly_once: exactly_once == 1 }
    }
}

/// Does the job of a child process.
pub(super) fn record(job: &str, url: &Path) {
    let job = Job::parse(job);
    // Between two attempts there is time for the calls of others.
    let options = options().pool_size(4).retry_delay(Duration::from_millis(10));
    let options = options.exactly_once(job.exactly_once);
    // The server may not serve now.
    let store = loop {
        match open(url.to_str().unwrap(), options.clone()) {
            Ok(store) => break store,
            Err(_) if now() < job.until => thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || call_until_the_end(store, job, thread));
        }
    });
}

fn call_until_the_end(store: &StateStore, job: Job, thread: u64) {
    let mut random = Rng::with_seed(job.seed ^ (job.process << 8) ^ thread);
    // No two calls write the same value.
    let mut value = i64::try_from((job.process * THREADS + thread) * 1_000_000).unwrap();
    // What this thread last saw of each object.
    let mut seen = HashMap::new();
    let mut id = thread * 1_000_000_000;
    while now() < job.until {
        id += 1;
        value += 1;
        let round = now() / u64::try_from(ROUND.as_nanos()).unwrap();
        let (object, operation) = choose(&mut random, round, value, &seen);
        report(&begin_line(id, now(), &object, operation));
        let outcome = run(store, &mut random, &object, operation);
        let ended = now();
        if let Ok(Outcome::Found(found)) = outcome {
            seen.insert(object, found);
        }
        report(&end_line(id, ended, report_of(outcome)));
        thread::sleep(Duration::from_micros(random.u64(..PAUSE)));
    }
}

fn report_of(outcome: Result<Outcome>) -> Report {
    match outcome {
        Ok(outcome) => Report::Applied(outcome),
        Err(Error::Unavailable { maybe_applied: true, .. }) => Report::MaybeApplied,
        Err(Error::Unavailable { maybe_applied: false, .. } | Error::Conflict { .. }) => Report::NotApplied,
        Err(other) => panic!("{other:?}"),
    }
}

/// Chooses an object of the round, and what to do with it.
fn choose(
    random: &mut Rng,
    round: u64,
    value: i64,
    seen: &HashMap<String, Option<i64>>,
) -> (String, Operation) {
    match random.u8(..10) {
        0 | 1 => {
            let operation = if random.bool() { Operation::Push(value) } else { Operation::Pop };
            (format!("r{round}:queue"), operation)
        }
        2 => {
            let operation = if random.bool() { Operation::FieldPut(value) } else { Operation::FieldGet };
            (format!("r{round}:map/{}", FIELDS[random.usize(..FIELDS.len())]), operation)
        }
        _ => {
            let object = format!("r{round}:{}", VALUES[random.usize(..VALUES.len())]);
            let last = seen.get(&object).copied().flatten();
            let operation = match random.u8(..14) {
                0 | 1 => Operation::Get,
                2 | 3 => Operation::Put(value),
                4 | 5 => Operation::Swap(last, value),
                6 | 7 => Operation::Incr(1),
                8 => Operation::Delete,
                9 => Operation::GetAndDelete,
                10 => Operation::GetAndPut(value),
                11 => Operation::SetIfNotExists(value),
                12 => Operation::Update(value),
                _ => Operation::Write(value),
            };
            (object, operation)
        }
    }
}

fn run(store: &StateStore, random: &mut Rng, object: &str, operation: Operation) -> Result<Outcome> {
    let (key, field) = object.split_once('/').unwrap_or((object, ""));
    Ok(match operation {
        Operation::Get => Outcome::Found(store.get(key)?),
        Operation::Put(new) => {
            store.put(key, new)?;
            Outcome::Done
        }
        Operation::Swap(expected, new) => {
            Outcome::Flag(store.compare_and_set(key, expected.as_ref(), &new)?)
        }
        Operation::Incr(by) => Outcome::Number(match random.u8(..4) {
            0 => store.modify(key, |held: Option<i64>| Some(held.unwrap_or(0) + by))?.unwrap(),
            1 => store.transaction(|tx| tx.incr(key, by))?,
            2 => store.batch_incr([(key, by)])?[0],
            _ => store.incr(key, by)?,
        }),
        Operation::Delete => {
            Outcome::Flag(if random.bool() { store.batch_delete([key])? == 1 } else { store.delete(key)? })
        }
        Operation::GetAndDelete => Outcome::Found(store.get_and_delete(key)?),
        Operation::GetAndPut(new) => Outcome::Found(store.get_and_put(key, new)?),
        Operation::SetIfNotExists(new) => Outcome::Flag(store.set_if_not_exists(key, new, None)?),
        Operation::Update(new) => Outcome::Flag(store.update(key, new)?),
        Operation::Write(new) => {
            match random.u8(..3) {
                0 => store.write(WriteBatch::new().put(key, new)?)?,
                1 => store.batch_put([(key, new)])?,
                _ => store.transaction(|tx| tx.put(key, new))?,
            }
            Outcome::Done
        }
        Operation::FieldGet => Outcome::Found(store.map_get(key, field)?),
        Operation::FieldPut(new) => Outcome::Flag(store.map_put(key, field, new)?),
        Operation::Push(value) => Outcome::Number(i64::try_from(store.push_back(key, value)?).unwrap()),
        Operation::Pop => Outcome::Found(store.pop_front(key)?),
    })
}

/// The process that runs in one place now.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<Option<u32>>);

impl Place {
    /// Sends a signal to the process, if one runs.
    pub(super) fn signal(&self, signal: &str) {
        // The lock is held, so that the process cannot end and its id be used for another one meanwhile.
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = *running {
            let done = Command::new("kill").args([signal, &id.to_string()]).status();
            assert!(done.expect("the kill command").success(), "{signal} {id}");
        }
    }

    /// Runs child processes, one after another, until the end. Returns what each of them has reported, by its
    /// number.
    pub(super) fn run(&self, job: Job, url: &str, was_killed: impl Fn() -> bool) -> Vec<(u64, Vec<String>)> {
        let mut reported = Vec::new();
        let mut job = job;
        while now() < job.until {
            let mut process = Process::start_test(TEST, &job.text(), url);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.child.id());
            let lines: Vec<String> = std::iter::from_fn(|| process.read_report()).collect();
            // The process has closed its output, but is not reaped: its id still belongs to it.
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let status = process.child.wait().unwrap();
            assert!(
                status.success() || was_killed(),
                "process {} failed: {status}, {:?}",
                job.process,
                lines.last()
            );
            reported.push((job.process, lines));
            job.process += 100;
        }
        reported
    }
}
