//! A small rule engine in worker threads: it reads orders, some of which come twice, counts each once, keeps
//! totals for every customer, and raises an alert where somebody spends much within three hours.
//!
//! `cargo run --example rule_engine [url] [file]`: the result is the same on every backend, and after a
//! second run too, since orders that were seen are not counted again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::thread;
use std::time::Duration;

use millpond::StateStore;

const WORKERS: u64 = 4;
const HOUR: i64 = 3600;

/// The sum in cents within three hours above which a customer is looked at.
const SUSPICIOUS: i64 = 60_000;

/// Orders are remembered, and hours kept, for as long as they can matter.
const KEPT: Duration = Duration::from_secs(24 * 3600);

struct Order {
    id: u64,
    customer: String,
    cents: i64,
    time: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory:".into());
    let file = arguments
        .next()
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.csv").into());
    let orders = read(&file)?;

    let store = StateStore::open(&url)?.namespace("rule_engine");
    run(&store, &orders)?;

    let mut result = BTreeMap::new();
    for entry in store.entries::<i64>("total:") {
        let (key, number) = entry?;
        result.insert(key, number);
    }
    if result != recount(&orders) {
        return Err("the store and a plain recount of the file disagree".into());
    }
    for (key, number) in &result {
        println!("{key} = {number}");
    }
    Ok(())
}

/// Lets each worker take its share of the customers, so that the orders of one customer stay in order.
fn run(store: &StateStore, orders: &[Order]) -> millpond::Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = |order: &&Order| {
                        order.customer.bytes().map(u64::from).sum::<u64>() % WORKERS == worker
                    };
                    orders.iter().filter(mine).try_for_each(|order| apply_rules(store, order))
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn apply_rules(store: &StateStore, order: &Order) -> millpond::Result<()> {
    let Order { id, customer, cents, time } = order;

    // An order is counted once, however often it is delivered.
    if !store.set_if_not_exists(format!("seen:{id}"), true, Some(KEPT))? {
        store.incr("repeated", 1)?;
        return Ok(());
    }
    store.batch_incr([
        ("total:orders".to_owned(), 1),
        (format!("total:spent:{customer}"), *cents),
        (format!("total:orders:{customer}"), 1),
    ])?;

    // A sliding total: one counter an hour, each with an end, and the sum of the last three.
    let hour = time / HOUR;
    store.incr_with_ttl(format!("hour:{customer}:{hour}"), *cents, KEPT)?;
    let last_three = (hour - 2..=hour).map(|hour| format!("hour:{customer}:{hour}"));
    let spent: i64 = store.batch_get::<i64>(last_three)?.into_iter().flatten().sum();
    if spent > SUSPICIOUS {
        store.incr("total:alerts", 1)?;
    }
    Ok(())
}

/// The same rules without a store.
fn recount(orders: &[Order]) -> BTreeMap<String, i64> {
    let (mut seen, mut hours, mut totals) = (HashSet::new(), HashMap::new(), BTreeMap::new());
    for Order { id, customer, cents, time } in orders {
        if !seen.insert(id) {
            continue;
        }
        *totals.entry("total:orders".to_owned()).or_insert(0) += 1;
        *totals.entry(format!("total:spent:{customer}")).or_insert(0) += cents;
        *totals.entry(format!("total:orders:{customer}")).or_insert(0) += 1;
        let hour = time / HOUR;
        *hours.entry((customer, hour)).or_insert(0) += cents;
        let spent: i64 = (hour - 2..=hour).filter_map(|hour| hours.get(&(customer, hour))).sum();
        if spent > SUSPICIOUS {
            *totals.entry("total:alerts".to_owned()).or_insert(0) += 1;
        }
    }
    totals
}

fn read(file: &str) -> Result<Vec<Order>, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("reading {file}: {error}"))?;
    text.lines()
        .skip(1)
        .map(|line| parse(line).ok_or_else(|| format!("not an order: {line}").into()))
        .collect()
}

fn parse(line: &str) -> Option<Order> {
    let mut fields = line.split(',');
    let order = Order {
        id: fields.next()?.parse().ok()?,
        customer: fields.next()?.to_owned(),
        cents: fields.next()?.parse().ok()?,
        time: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(order)
}
