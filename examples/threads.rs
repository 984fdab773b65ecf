//! Four threads count 25 events each. It prints 100, on every backend.
//!
//! `cargo run --example threads [url]`

use std::thread;

use millpond::StateStore;

fn main() -> millpond::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".into());
    let store = StateStore::open(&url)?;
    store.delete("events")?;

    let workers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            thread::spawn(move || (0..25).try_for_each(|_| store.incr("events", 1).map(drop)))
        })
        .collect();
    for worker in workers {
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }

    println!("{}", store.get::<i64>("events")?.unwrap_or(0));
    Ok(())
}
