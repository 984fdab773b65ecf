//! Keeps the state of a stream in a directory, and goes on where the last run stopped.
//!
//! `cargo run --example quickstart [directory]`: run it twice.

use std::error::Error;
use std::path::PathBuf;

use millpond::{StateBackend, StateStore, WriteBatch};

const ORDERS: &str = include_str!("orders.csv");

/// How many orders one run takes in.
const PORTION: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("millpond-quickstart"), PathBuf::from);
    let store = StateStore::new(StateBackend::file(path.clone()))?;

    let begun_at: usize = store.get("bookmark")?.unwrap_or(0);
    match begun_at {
        0 => println!("a new store in {}", path.display()),
        _ => println!("the store in {} is back: {begun_at} orders were counted before", path.display()),
    }

    let orders: Vec<&str> = ORDERS.lines().skip(1).skip(begun_at).take(PORTION).collect();
    for (done, order) in orders.iter().enumerate() {
        let mut fields = order.split(',');
        let (Some(_), Some(customer), Some(cents)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(format!("not an order: {order}").into());
        };
        let spent = store.get::<i64>(&format!("spent:{customer}"))?.unwrap_or(0) + cents.parse::<i64>()?;

        // The total and the bookmark are written together: a crash in between cannot count an order twice.
        let mut batch = WriteBatch::new();
        batch.put(format!("spent:{customer}"), spent)?;
        batch.put("bookmark", begun_at + done + 1)?;
        store.write(&batch)?;
    }

    let mut totals = store.entries::<i64>("spent:").collect::<Result<Vec<_>, _>>()?;
    totals.sort_by_key(|(_, cents)| -cents);
    println!("counted {} more orders; {} customers, of whom the best are", orders.len(), totals.len());
    for (key, cents) in totals.iter().take(3) {
        println!("  {key} {}.{:02}", cents / 100, cents % 100);
    }
    match orders.len() {
        PORTION => println!("run it again: it goes on from order {}", begun_at + PORTION),
        _ => println!("all orders are counted: delete {} to begin anew", path.display()),
    }
    store.close()?;
    Ok(())
}
