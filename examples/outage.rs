//! What a program sees of an outage: nothing. It counts orders on a Redis server of its own, kills that after
//! a third of them, starts it again after two thirds, and proves at the end that each is counted there once.
//!
//! `cargo run --example outage`: it needs `redis-server` in the `PATH`, and takes a few seconds.

use std::collections::{BTreeMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, Result, StateStore, Status};

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Order {
    id: u64,
    customer: String,
    cents: i64,
}

fn main() -> Outcome<()> {
    let orders = read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.csv"))?;
    let (dir, port) = (tempfile::tempdir()?, TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let mut server = Server(launch(dir.path(), port)?);
    // The server does not answer yet: the store finds it as soon as it does.
    let store = StateStore::open(&format!("redis://127.0.0.1:{port}?key_prefix=outage&timeout=1s"))?;
    store.on_event(|event| println!("{event:?}"));
    connect(&store)?;

    let (told, progress) = channel();
    let doubtful = thread::scope(|scope| {
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
                let (counts, connected) = (store.stats(), store.status() == Status::Connected);
                let (state, pending) = (if connected { "connected" } else { "away" }, counts.pending);
                println!("{done:4} orders  {state:9}  pending {pending:4}  replayed {:4}", counts.replayed);
            }
        }
        let mut doubtful = HashSet::new();
        for worker in workers {
            doubtful.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Outcome::Ok(doubtful)
    })?;
    connect(&store)?;

    // From here on nothing but the server itself will do.
    let redis = store.strict();
    for customer in doubtful {
        println!("recounted, since the answer to an increment was lost: {customer}");
        let spent = redis.entries::<i64>(&format!("order:{customer}:")).map(|order| Ok(order?.1));
        redis.put(&format!("spent:{customer}"), spent.sum::<Result<i64>>()?)?;
    }
    let totals: BTreeMap<String, i64> = redis.entries("spent:").collect::<Result<_>>()?;
    if totals != recount(&orders) {
        return Err("the server and a plain recount of the file disagree".into());
    }
    println!("{} orders, {} customers: Redis and the file agree", redis.count("order:")?, totals.len());
    Ok(store.close()?)
}

/// Does a worker's share, which is all orders of some customers: it knows by itself which of them come twice,
/// since nobody can ask the server while it is away. Returns who may have an increment too few.
fn work(worker: u64, store: &StateStore, orders: &[Order], told: &Sender<()>) -> Result<HashSet<String>> {
    let (mut seen, mut doubtful) = (HashSet::new(), HashSet::new());
    let mine = |order: &&Order| order.customer.bytes().map(u64::from).sum::<u64>() % 4 == worker;
    for Order { id, customer, cents } in orders.iter().filter(mine) {
        if seen.insert(id) {
            // A put may be repeated, so a crash in the middle of it is no error.
            store.put(&format!("order:{customer}:{id}"), cents)?;
            // An increment may not: of one that was under way nobody knows whether it was done.
            match store.incr(&format!("spent:{customer}"), *cents) {
                Err(Error::Unavailable { maybe_applied: true, .. }) => _ = doubtful.insert(customer.clone()),
                outcome => _ = outcome?,
            }
        }
        thread::sleep(Duration::from_millis(1));
        // Nobody listens where the server could not be started again.
        let _ = told.send(());
    }
    Ok(doubtful)
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

fn recount(orders: &[Order]) -> BTreeMap<String, i64> {
    let (mut seen, mut totals) = (HashSet::new(), BTreeMap::new());
    for order in orders.iter().filter(|order| seen.insert(order.id)) {
        *totals.entry(format!("spent:{}", order.customer)).or_insert(0) += order.cents;
    }
    totals
}

fn read(file: &str) -> Outcome<Vec<Order>> {
    let parse = |line: &str| {
        let mut fields = line.split(',');
        let (id, customer) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
        Some(Order { id, customer, cents: fields.next()?.parse().ok()? })
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
