//! Loads rows into totals and keeps a bookmark, so that a run that was killed is resumed exactly: each row counts once.
//!
//! `cargo run --example bookmarks [url] [rows]`: with `rows`, the program aborts after so many, in the middle of its
//! work, as if it had been killed. Run it again, and it goes on.

use std::error::Error;

use millpond::StateStore;

const ORDERS: &str = include_str!("orders.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory:".to_owned());
    let abort_after: Option<usize> = arguments.next().map(|rows| rows.parse()).transpose()?;

    let store = StateStore::open(&url)?.namespace("etl");
    let begun_at: usize = store.get("bookmark")?.unwrap_or(0);
    for (done, row) in ORDERS.lines().skip(1).enumerate().skip(begun_at) {
        if abort_after.is_some_and(|rows| done == begun_at + rows) {
            std::process::abort();
        }
        load(&store, done, row)?;
    }
    let loaded: usize = store.get("bookmark")?.unwrap_or(0);
    let cents: i64 =
        store.entries::<i64>("spent:").map(|entry| entry.map(|(_, cents)| cents)).sum::<Result<_, _>>()?;
    println!("{loaded} rows, {cents} cents");
    store.close()?;
    Ok(())
}

/// The total and the bookmark change together. A row that cannot be read is counted, and does not stop the others; `?`
/// works on errors of the program too.
fn load(store: &StateStore, done: usize, row: &str) -> Result<(), Box<dyn Error>> {
    let fields: Vec<&str> = row.split(',').collect();
    store.try_transaction(|tx| {
        // Another process may have loaded this row meanwhile.
        if tx.get::<usize>("bookmark")?.unwrap_or(0) > done {
            return Ok(());
        }
        match fields.as_slice() {
            [_, customer, cents, ..] => {
                tx.incr(format!("spent:{customer}"), cents.trim().parse::<i64>()?)?;
            }
            _ => {
                tx.incr("unreadable", 1)?;
            }
        }
        tx.put("bookmark", done + 1)?;
        Ok(())
    })
}
