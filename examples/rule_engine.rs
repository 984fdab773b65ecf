//! A small rule engine in worker threads: it reads orders, some of which come twice, counts each once, keeps
//! totals for every customer, and raises an alert where somebody spends much within three hours.
//!
//! `cargo run --example rule_engine [url] [file]`: the result is the same on every backend, and after a second run
//! too, since orders that were seen are not counted again. It is also the same if the program is killed at any moment
//! and started again, or if the Redis server goes away for a while: each order is one transaction.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::thread;
use std::time::Duration;

use millpond::{Result, StateStore};
use serde::{Deserialize, Serialize};

const WORKERS: u64 = 4;
const HOUR: i64 = 3600;

/// The sum in cents within three hours above which a customer is looked at.
const SUSPICIOUS: i64 = 60_000;

/// Orders are remembered for as long as they may come again.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The pause before an order is tried again.
const PAUSE: Duration = Duration::from_millis(20);

struct Order {
    id: u64,
    customer: String,
    cents: i64,
    time: i64,
}

/// What is kept of a customer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    orders: u64,
    cents: i64,
    alerts: u64,
    /// What was spent in each of the last three hours.
    hours: BTreeMap<i64, i64>,
}

impl Totals {
    /// The rules.
    fn add(&mut self, order: &Order) {
        self.orders += 1;
        self.cents += order.cents;
        let hour = order.time / HOUR;
        *self.hours.entry(hour).or_insert(0) += order.cents;
        self.hours = self.hours.split_off(&(hour - 2));
        if self.hours.values().sum::<i64>() > SUSPICIOUS {
            self.alerts += 1;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory:".into());
    let file = arguments
        .next()
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.csv").into());
    let orders = read(&file)?;

    let store = StateStore::open(&url)?;
    let engine = store.namespace("rule_engine");
    run(&engine, &orders)?;

    let totals: BTreeMap<String, Totals> = engine.entries("customer:").collect::<Result<_>>()?;
    if totals != recount(&orders) {
        return Err("the store and a plain recount of the file disagree".into());
    }
    for (customer, Totals { orders, cents, alerts, .. }) in &totals {
        println!("{customer}: {orders} orders, {cents} cents, {alerts} alerts");
    }
    println!("{} orders in all", totals.values().map(|totals| totals.orders).sum::<u64>());
    store.close()?;
    Ok(())
}

/// Lets each worker take its share of the customers, so that the orders of one customer stay in order.
fn run(store: &StateStore, orders: &[Order]) -> Result<()> {
    // The receipt of an order and the change of the totals are made together, or not at all.
    let engine = store.operator(KEPT, |tx, order: &Order| {
        tx.upsert(key(order), Totals::default, |totals| totals.add(order)).map(drop)
    });
    let process = |order: &Order| {
        loop {
            match engine.apply(order.id.to_string(), order) {
                // The server is away, for example. Trying again is safe in any case.
                Err(error) if error.is_transient() => thread::sleep(PAUSE),
                outcome => return outcome.map(drop),
            }
        }
    };
    let process = &process;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    let is_mine = |order: &&Order| {
                        order.customer.bytes().map(u64::from).sum::<u64>() % WORKERS == worker
                    };
                    orders.iter().filter(is_mine).try_for_each(process)
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn key(order: &Order) -> String {
    format!("customer:{}", order.customer)
}

/// The same rules without a store.
fn recount(orders: &[Order]) -> BTreeMap<String, Totals> {
    let mut seen = HashSet::new();
    let mut totals = BTreeMap::<String, Totals>::new();
    for order in orders.iter().filter(|order| seen.insert(order.id)) {
        totals.entry(key(order)).or_default().add(order);
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
