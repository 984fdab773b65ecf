//! Forks: a child refuses the stores that it inherits, and has no effect on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use fork::Fork;
use millpond::{Error, RedisOptions, Result, StateStore};

use crate::support::child_process::{Process, job, report};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, memory, notice_disconnect, open, pending, wait_until_connected};

/// The longest life of a child.
const LONGEST: Duration = Duration::from_secs(20);

const CHILD: &str = "outage::fork::a_child_refuses_its_parents_store_and_the_parent_continues";

/// Ends a child that hangs.
fn end_in_time() {
    thread::spawn(|| {
        thread::sleep(LONGEST);
        std::process::abort();
    });
}

/// Makes a child use the store and drop it, while `meanwhile` uses it in the parent.
fn fork(store: &mut Option<StateStore>, meanwhile: impl FnOnce(&StateStore)) {
    match fork::fork().unwrap() {
        Fork::Child => {
            end_in_time();
            let work = AssertUnwindSafe(|| {
                try_every_call(store.as_ref().unwrap());
                drop(store.take());
            });
            std::process::exit(i32::from(catch_unwind(work).is_err()));
        }
        Fork::Parent(child) => {
            meanwhile(store.as_ref().unwrap());
            let status = fork::waitpid(child).unwrap();
            report(&format!("the child ended with {status}"));
        }
    }
}

fn assert_refused<T: std::fmt::Debug>(what: &str, outcome: Result<T>) {
    let error = assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
    let cause = crate::support::chain(&error).concat();
    assert!(cause.contains("fork before a store is opened") && !error.is_transient(), "{what}: {cause}");
}

/// Calls that a child makes on a store that its parent opened.
fn try_every_call(store: &StateStore) {
    assert_refused("get", store.get::<i64>("n"));
    assert_refused("put", store.put("n", 7));
    assert_refused("incr", store.incr("n", 1));
    assert_refused("batch_put", store.batch_put([("n", 7), ("m", 7)]));
    assert_refused("push_back", store.push_back("q", 1));
    assert_refused("pop_front_wait", store.pop_front_wait::<i64>("q", LONGEST));
    assert_refused("take_wait", store.lease_wait::<i64>("q", LONGEST, LONGEST));
    assert_refused("lock_wait", store.lock("l", LONGEST, LONGEST).map(drop));
    assert_refused("transaction", store.transaction(|tx| tx.put("n", 7)));
    assert_refused("keys", store.keys(""));
    assert_refused("clear", store.clear());
    assert_refused("strict", store.without_fallback().incr("n", 1));
    assert_refused("reconnect", store.reconnect());
    assert_refused("close", store.close_within(LONGEST));
}

/// Forks with a connected store, with a disconnected one, and from within a transaction of each.
fn run_parent(url: &str, options: RedisOptions) {
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let proxy = Proxy::to(port);
    let mut opened = Some(open(&proxy.url(), options).unwrap());
    let write = |store: &StateStore| {
        for n in 0..50 {
            store.incr("n", 1).unwrap();
            store.push_back("q", n).unwrap();
        }
    };
    opened.iter().for_each(write);
    fork(&mut opened, write);
    opened.iter().for_each(fork_within_a_transaction);
    // The key is then known locally, so that a transaction may depend on it during an outage.
    assert_eq!(opened.as_ref().unwrap().get::<i64>("x").unwrap(), Some(1));
    proxy.set(Mode::Down);
    opened.iter().for_each(notice_disconnect);
    opened.iter().for_each(write);
    fork(&mut opened, write);
    opened.iter().for_each(fork_within_a_transaction);
    let store = opened.unwrap();
    let waiting = pending(&store);
    report(&format!("away: {}", waiting.is_some()));
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    write(&store);
    let stats = store.stats().outages;
    report(&format!("{} {} {}", stats.conflicts, stats.rejected, stats.uncertain));
    store.close().unwrap();
}

/// The child continues after a read that the parent made, and must not be able to commit the transaction.
fn fork_within_a_transaction(store: &StateStore) {
    let mut is_child = false;
    let outcome = store.transaction(|tx| {
        let n: Option<i64> = tx.get("x")?;
        match fork::fork().unwrap() {
            Fork::Child => {
                end_in_time();
                is_child = true;
            }
            Fork::Parent(child) => {
                let status = fork::waitpid(child).unwrap();
                report(&format!("the child ended with {status}"));
            }
        }
        tx.put("x", n.unwrap_or_default() + if is_child { 1_000_000 } else { 1 })
    });
    if is_child {
        let is_refused = matches!(outcome, Err(Error::Unavailable { maybe_applied: false, .. }));
        std::process::exit(i32::from(!is_refused));
    }
    outcome.unwrap();
}

#[test]
fn a_child_refuses_its_parents_store_and_the_parent_continues() {
    if let Some((job, url)) = job() {
        let dir = tempfile::tempdir().unwrap();
        let options = if job == "files" { durable(dir.path()) } else { memory() };
        return run_parent(url.to_str().unwrap(), options.exclusive(true));
    }
    for job in ["memory", "files"] {
        let server = RedisServer::start();
        let told = Process::start_test(CHILD, job, &server.url(0)).read_all_reports();
        let ended = "the child ended with 0";
        assert_eq!(told, [ended, ended, ended, ended, "away: true", "0 0 0"], "{job}");
        let raw = RawClient::connect(&server.url(0));
        check(&raw);
        // The marker of a queue in memory goes with its store.
        let markers: Vec<String> = raw.run("KEYS", &["*marker*"]);
        assert_eq!(markers.len(), usize::from(job == "files"), "{job}: {markers:?}");
    }
}

fn check(raw: &RawClient) {
    assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), 5 * 50, "the writes of the parent");
    assert_eq!(raw.run::<_, i64>("GET", &["t:x"]), 2, "one for each transaction");
    assert_eq!(raw.run::<_, i64>("LLEN", &["t:q"]), 5 * 50);
}
