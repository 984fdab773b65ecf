//! What a rule engine sees of an outage: nothing. It runs its rules over orders, with its state on a Redis
//! server of its own, kills that after a third of them, starts it again after two thirds, and proves at the end
//! that the totals on the server are those of the file.
//!
//! `cargo run --example outage`: it needs `redis-server` in the `PATH`, and takes a few seconds.

use std::collections::{BTreeMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Result, StateStore, Status};

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HOUR: i64 = 3600;

/// The sum in cents within three hours above which a customer is looked at.
const SUSPICIOUS: i64 = 60_000;

struct Order {
    id: u64,
    customer: String,
    cents: i64,
    time: i64,
}

fn main() -> Outcome<()> {
    let orders = read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.csv"))?;
    let (dir, port) = (tempfile::tempdir()?, TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let mut server = Server(launch(dir.path(), port)?);
    // The server does not answer yet: the store finds it as soon as it does.
    // With `exactly_once` an increment that is caught by the kill is neither lost nor done twice.
    let options = "key_prefix=outage&timeout=1s&exactly_once=true&on_unknown_key=absent";
    let store = StateStore::open(format!("redis://127.0.0.1:{port}?{options}"))?;
    store.on_event(|event| println!("{event:?}"));
    connect(&store)?;

    let (told, progress) = channel();
    thread::scope(|scope| {
        let workers = [0, 1, 2, 3].map(|worker| {
            let (store, orders, told) = (&store, &orders, told.clone());
            scope.spawn(move || work(worker, store, orders, &told))
        });
        drop(told);
        for (done, ()) in (1..).zip(&progress) {
            if done == orders.len() / 3 {
                server.0.kill()?;
            } else if done == orders.len() * 2 / 3 {
                server = Server(launch(dir.path(), port)?);
            }
            if done % 250 == 0 {
                let (counts, connected) = (store.stats().outages, store.status() == Status::Connected);
                let (state, pending) = (if connected { "connected" } else { "disconnected" }, counts.pending);
                println!("{done:4} orders  {state:9}  pending {pending:4}  replayed {:4}", counts.replayed);
            }
        }
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Outcome::Ok(())
    })?;
    connect(&store)?;

    // From here on nothing but the server itself will do.
    let redis = store.without_fallback();
    let sums = |prefix| redis.entries::<i64>(prefix).collect::<Result<BTreeMap<_, _>>>();
    let (totals, hours) = (sums("total:")?, sums("hour:")?);
    if (&totals, &hours) != (&recount(&orders, total_key), &recount(&orders, hour_key)) {
        return Err("the server and a plain recount of the file disagree".into());
    }
    println!(
        "{} orders, {} customers, {} alerts",
        redis.count("order:")?,
        totals.len(),
        redis.count("alert:")?
    );
    println!("Redis and the file agree on every total and every hour");
    Ok(store.close()?)
}

/// Runs the rules over a worker's share, which is all orders of some customers: it knows by itself which of them
/// come twice, since nobody can ask the server while it is away.
fn work(worker: u64, store: &StateStore, orders: &[Order], told: &Sender<()>) -> Result<()> {
    let mut seen = HashSet::new();
    let mine = |order: &&Order| order.customer.bytes().map(u64::from).sum::<u64>() % 4 == worker;
    for order in orders.iter().filter(mine) {
        if seen.insert(order.id) {
            store.put(format!("order:{}", order.id), order.cents)?;
            store.incr(total_key(&order.customer, order.time), order.cents)?;
            store.incr(hour_key(&order.customer, order.time), order.cents)?;
            let hours =
                (0..3).map(|ago| store.get::<i64>(&hour_key(&order.customer, order.time - ago * HOUR)));
            if hours.map(|sum| Ok(sum?.unwrap_or(0))).sum::<Result<i64>>()? > SUSPICIOUS {
                store.put(format!("alert:{}", order.customer), order.time)?;
            }
        }
        thread::sleep(Duration::from_millis(1));
        // Nobody listens where the server could not be started again.
        let _ = told.send(());
    }
    Ok(())
}

/// Waits until the server is there and everything that waited is done.
fn connect(store: &StateStore) -> Result<()> {
    let begun = Instant::now();
    loop {
        match store.reconnect() {
            Err(_) if begun.elapsed() < Duration::from_secs(10) => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

fn total_key(customer: &str, _time: i64) -> String {
    format!("total:{customer}")
}

fn hour_key(customer: &str, time: i64) -> String {
    format!("hour:{customer}:{}", time / HOUR)
}

/// The sums that the file itself has, each order counted once.
fn recount(orders: &[Order], key: fn(&str, i64) -> String) -> BTreeMap<String, i64> {
    let (mut seen, mut sums) = (HashSet::new(), BTreeMap::new());
    for order in orders.iter().filter(|order| seen.insert(order.id)) {
        *sums.entry(key(&order.customer, order.time)).or_insert(0) += order.cents;
    }
    sums
}

fn read(file: &str) -> Outcome<Vec<Order>> {
    let parse = |line: &str| {
        let mut fields = line.split(',');
        let (id, customer) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
        Some(Order { id, customer, cents: fields.next()?.parse().ok()?, time: fields.next()?.parse().ok()? })
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("reading {file}: {error}"))?;
    let lines = text.lines().skip(1);
    lines.map(|line| parse(line).ok_or_else(|| format!("not an order: {line}").into())).collect()
}

/// Starts a Redis server that keeps on the disk what it acknowledges.
fn launch(dir: &Path, port: u16) -> Outcome<Child> {
    let mut server = Command::new("redis-server");
    server.args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--bind", "127.0.0.1"]);
    server.args(["--port", &port.to_string()]).arg("--dir").arg(dir).stdout(Stdio::null());
    Ok(server.spawn().map_err(|error| format!("redis-server does not start, is it in the PATH? {error}"))?)
}

/// Gone with the program.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
