//! Owns how this crate starts and joins its threads. Knows nothing of their work.

use std::io;
use std::thread::{self, JoinHandle};

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
