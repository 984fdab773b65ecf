//! Code of the program that this crate calls: loggers, listeners, clocks, closures, and the implementations of serde's
//! traits. All of it may use the store, in every way, without waiting for itself.

mod clock;
mod hooks;
#[cfg(feature = "redis")]
mod lines;
#[cfg(feature = "redis")]
mod logger;

use std::cell::Cell;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millpond::StateStore;

#[cfg(feature = "redis")]
use crate::support::child_process::Process;

/// How long a history with such code may take. One that waits for itself never ends.
const LIMIT: Duration = Duration::from_secs(60);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, but not inside itself: an operation of the logger may write a log line too.
fn unless_inside(work: impl FnOnce()) {
    if !INSIDE.replace(true) {
        work();
        INSIDE.set(false);
    }
}

/// Uses a store in every way that takes a lock of it. What the operations return depends on the moment.
fn use_store(store: &StateStore) {
    let _ = store.put("foreign", 1);
    let _ = store.get::<i64>("foreign");
    let _ = store.get::<i64>("unknown");
    let _ = store.push_back("foreign queue", "a line");
    let _ = store.incr("foreign count", 1);
    let _ = store.put_with_ttl("foreign ttl", 1, Duration::from_secs(60));
    let _ = store.map_put("foreign map", "field", 1);
    let _ = store.modify("foreign modified", |found: Option<i64>| Some(found.unwrap_or_default() + 1));
    let _ = store.batch_put([("foreign a", 1), ("foreign b", 2)]);
    let _ = store.transaction(|tx| tx.get::<i64>("foreign").and_then(|_| tx.put("foreign tx", 1)));
    let _ = store.try_lock("foreign lock", Duration::from_secs(1));
    let _ = store.keys_page("foreign", None, 5);
    let _ = store.status();
    let _ = (store.stats(), store.pending(10), store.take_rejected(), store.take_conflicts());
    let _ = store.reconnect();
    let _ = store.flush();
}

/// Runs a history in a thread of its own, and fails if it does not end.
fn in_time(what: &str, run: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        run();
        let _ = sender.send(());
    });
    match receiver.recv_timeout(LIMIT) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} did not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            thread.join().expect("the history");
        }
    }
}

/// Waits for a child process that does a job, and returns what it has reported. Kills it and fails if it does not end.
#[cfg(feature = "redis")]
fn run_job(test: &str, job: &str) -> Vec<String> {
    let mut child = Process::start_test(&format!("foreign_code::{test}"), job, "");
    let (sender, receiver) = mpsc::channel();
    let process = child.child.id();
    thread::spawn(move || {
        let reports: Vec<String> = std::iter::from_fn(|| child.read_report()).collect();
        let has_succeeded = child.child.wait().is_ok_and(|status| status.success());
        let _ = sender.send((has_succeeded, reports));
    });
    let Ok((has_succeeded, reports)) = receiver.recv_timeout(LIMIT) else {
        let _ = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
        let (_, reports) = receiver.recv().expect("the reports of a killed process");
        panic!("the job {job} did not end: {reports:#?}");
    };
    assert!(has_succeeded, "the job {job} failed: {reports:#?}");
    reports
}
