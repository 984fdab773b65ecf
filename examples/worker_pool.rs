//! A queue of jobs, drained by four threads, and on Redis by a second process with four more. Some workers
//! drop a job half-way, as one that dies would; the job comes back after its lease and is done by another.
//! Every job is done, and counts once.
//!
//! `cargo run --example worker_pool [url]`

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millpond::StateStore;
use serde::{Deserialize, Serialize};

const JOBS: u64 = 1000;
const THREADS: usize = 4;

/// Longer than a job takes; a job of a worker that died comes back after this.
const LEASE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
struct Job {
    id: u64,
    number: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory:".into());
    let is_first = arguments.next().is_none();

    let store = StateStore::open(&url)?.namespace("worker_pool");
    let mut other = None;
    if is_first {
        fill(&store)?;
        other = start_another(&url)?;
    }
    run(&store)?;
    report(&store)?;
    if let Some(mut other) = other
        && !other.wait()?.success()
    {
        return Err("the second process failed".into());
    }
    if is_first {
        println!("{}", store.get::<String>("report")?.unwrap_or_default());
    }
    Ok(())
}

/// Begins from scratch; the lock keeps others from doing so at the same time.
fn fill(store: &StateStore) -> millpond::Result<()> {
    let guard = store.lock("fill", PATIENCE, PATIENCE)?;
    store.clear()?;
    store.push_back_many("jobs", (0..JOBS).map(|id| Job { id, number: id * id }))?;
    guard.release()
}

/// Redis is shared by processes: there this program is started once more.
fn start_another(url: &str) -> std::io::Result<Option<Child>> {
    if !url.starts_with("redis") {
        return Ok(None);
    }
    Command::new(std::env::current_exe()?).args([url, "worker"]).spawn().map(Some)
}

fn run(store: &StateStore) -> millpond::Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(move || work(store))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn work(store: &StateStore) -> millpond::Result<()> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    while store.map_len("results")? < JOBS {
        let Some(leased) = store.lease_wait::<Job>("jobs", LEASE, LEASE)? else {
            continue;
        };
        let job = leased.value();
        // One job of each process is begun and dropped.
        if !HAS_FAILED.swap(true, Ordering::Relaxed) {
            continue;
        }
        // A job may be handed out twice, so its result counts only if it is the first.
        store.transaction(|tx| {
            if tx.map_put("results", job.id.to_string(), job.number)? {
                tx.incr("sum", i64::try_from(job.number).unwrap_or(0))?;
            }
            Ok(())
        })?;
        // After `false`, the job is handed out again; its result is known then.
        let _ended_in_time = leased.ack()?;
    }
    Ok(())
}

/// The first worker writes the report; a later holder of the lock has a larger token and finds it written.
fn report(store: &StateStore) -> millpond::Result<()> {
    let _guard = store.lock("report", PATIENCE, PATIENCE)?;
    let (done, sum) = (store.map_len("results")?, store.get::<i64>("sum")?.unwrap_or(0));
    store.set_if_not_exists("report", format!("{done} jobs, the sum of their squares is {sum}"), None)?;
    Ok(())
}
