//! A queue of jobs, of which some fail: a job that fails comes back after a pause of its own, and after three attempts
//! it goes to a queue of dead letters.
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
    store.push_back_many("jobs", jobs.map(|(name, failures)| Job { address: format!("{name}@example"), failures }))?;

    while let Some(job) = store.lease_wait::<Job>("jobs", LEASE, 10 * PAUSE)? {
        work(&store, &job)?;
    }
    println!("sent: {:?}", store.queue_range::<String>("sent", ..)?);
    println!("dead: {:?}", store.queue_range::<String>("dead", ..)?);
    store.close()?;
    Ok(())
}

/// Works on a job. Its lease ends together with the effect of the job, so that no crash can do one without the other.
fn work(store: &StateStore, job: &Leased<Job>) -> Result<()> {
    let Job { address, failures } = job.value();
    let attempt = job.attempts();
    let (queue, note) = match attempt > *failures {
        true => ("sent", format!("{address} at attempt {attempt}")),
        false if attempt >= MOST_ATTEMPTS => ("dead", format!("{address} after {attempt} attempts")),
        false => {
            // It comes back when this lease ends.
            return job.extend(PAUSE).map(drop);
        }
    };
    store.transaction(|tx| {
        // If the lease had expired, another worker has the job now.
        if tx.ack(job)? {
            tx.push_back(queue, &note)?;
        }
        Ok(())
    })
}
