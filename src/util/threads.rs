//! Owns how this crate starts and joins its threads. Knows nothing of their work.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread that may be left to itself is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// Starts a thread; fails if the system has no room for another one.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Waits for a thread to end, unless this is the thread: a listener or a logger that it calls may close the store.
pub(crate) fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != thread::current().id() {
        // A panic of the thread was reported by the panic hook.
        let _ = thread.join();
    }
}

/// As [`join`], but for at most until `end`: then the thread is left to itself.
pub(crate) fn join_until(thread: JoinHandle<()>, end: Option<Instant>) {
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let is_self = thread.thread().id() == thread::current().id();
    while !is_self && !thread.is_finished() {
        if is_over() {
            return;
        }
        thread::sleep(PAUSE);
    }
    join(thread);
}
