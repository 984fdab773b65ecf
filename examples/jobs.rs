//! A queue of jobs, of which some fail and one begins later: a job that fails comes back after a pause of its own, and after
//! three attempts it goes to a queue of dead letters. The outcome of a job is stored, and its lease ends, in one
//! transaction.
//!
//! `cargo run --example jobs [url]`

use std::error::Error;
use std::time::Duration;

use millpond::handle::Queue;
use millpond::{Leased, Result, StateStore};
use serde::{Deserialize, Serialize};

const LEASE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
const MOST_ATTEMPTS: u64 = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    address: String,
    /// How often sending it fails before it succeeds.
    failures: u64,
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let store = StateStore::open(&url)?.namespace("mail");
    store.clear()?;
    let queue: Queue<Job> = store.queue("jobs").dead_letter_after(MOST_ATTEMPTS, "dead");
    let job = |name, failures| Job { address: format!("{name}@example"), failures };
    queue.push_back_many([job("anna", 0), job("ben", 2), job("carl", 9)])?;
    queue.push_after(job("dora", 0), 5 * PAUSE)?;

    while let Some(job) = queue.lease_wait(LEASE, 10 * PAUSE)? {
        work(&store, &job)?;
    }
    let mut sent = store.queue_range::<String>("sent", ..)?;
    sent.sort();
    println!("sent: {sent:?}");
    let dead = store.queue_range::<Job>("dead", ..)?.into_iter().map(|job| job.address);
    println!("dead: {:?}", dead.collect::<Vec<_>>());
    store.close()?;
    Ok(())
}

/// Works on a job. A worker that is killed before the commit leaves the job to another one, so that a job may be done
/// twice, and is never lost; its outcome is stored once.
fn work(store: &StateStore, job: &Leased<Job>) -> Result<()> {
    let Job { address, failures } = job.value();
    let attempt = job.attempts();
    if attempt <= *failures {
        // The job comes back when its lease ends.
        return job.extend(PAUSE).map(drop);
    }
    let outcome = format!("{address} at attempt {attempt}");
    let stored = store.transaction(|tx| {
        tx.push_back("sent", &outcome)?;
        if !tx.ack(job)? {
            return Err(millpond::Error::abort("the lease has expired"));
        }
        Ok(())
    });
    match stored {
        // Another worker has the job by now, and stores its outcome.
        Err(millpond::Error::Aborted(_)) => Ok(()),
        stored => stored,
    }
}
