//! A queue of jobs, of which some fail: a job that fails comes back after a pause of its own, and after three attempts
//! it goes to a queue of dead letters. The outcome of a job is stored, and its lease ends, in one transaction.
//!
//! `cargo run --example jobs [url]`

use std::error::Error;
use std::time::Duration;

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
    let jobs = [("anna", 0), ("ben", 2), ("carl", 9)];
    store.push_back_many(
        "jobs",
        jobs.map(|(name, failures)| Job { address: format!("{name}@example"), failures }),
    )?;

    while let Some(job) = store.lease_wait::<Job>("jobs", LEASE, 10 * PAUSE)? {
        work(&store, &job)?;
    }
    println!("sent: {:?}", store.queue_range::<String>("sent", ..)?);
    println!("dead: {:?}", store.queue_range::<String>("dead", ..)?);
    store.close()?;
    Ok(())
}

/// Works on a job. A worker that is killed before the commit leaves the job to another one, so that a job may be done
/// twice, and is never lost; its outcome is stored once.
fn work(store: &StateStore, job: &Leased<Job>) -> Result<()> {
    let Job { address, failures } = job.value();
    let attempt = job.attempts();
    let (queue, outcome) = if attempt > *failures {
        ("sent", format!("{address} at attempt {attempt}"))
    } else if attempt >= MOST_ATTEMPTS {
        ("dead", format!("{address} after {attempt} attempts"))
    } else {
        // The job comes back when its lease ends.
        return job.extend(PAUSE).map(drop);
    };
    let stored = store.transaction(|tx| {
        tx.push_back(queue, &outcome)?;
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
