//! Owns what the reconnecting thread shares with other threads: its handle, its wakeup, and the result of the last
//! probe. Knows nothing of servers and outages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// The result of a probe of a server that had not replied in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    pub(crate) begun: Instant,
    pub(crate) alive: bool,
}

#[derive(Default)]
pub(crate) struct Reconnector {
    one_attempt: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_ending: Mutex<bool>,
    wakeup: Condvar,
    pub(crate) last_probe: Mutex<Option<ProbeResult>>,
    was_connected: AtomicBool,
}

impl Reconnector {
    /// Waits until no other thread attempts to reconnect.
    pub(crate) fn lock_attempt(&self) -> MutexGuard<'_, ()> {
        self.one_attempt.lock()
    }

    /// Returns whether this process has ever been connected to the server.
    pub(crate) fn was_connected(&self) -> bool {
        self.was_connected.load(Ordering::Acquire)
    }

    pub(crate) fn set_was_connected(&self, was_connected: bool) {
        self.was_connected.store(was_connected, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.is_ending.lock()
    }

    /// Ends all waits, now and later; returns whether this is the first call.
    pub(crate) fn begin_ending(&self) -> bool {
        let was_ending = std::mem::replace(&mut *self.is_ending.lock(), true);
        self.wakeup.notify_all();
        !was_ending
    }

    /// Wakes the threads in [`wait_until`](Self::wait_until), after their condition has become true.
    pub(crate) fn wake_all(&self) {
        // Once this lock is taken, a thread that found its condition false is waiting, and the wakeup reaches it.
        drop(self.is_ending.lock());
        self.wakeup.notify_all();
    }

    /// Waits until the condition is true, but at most until `end` or until the store ends.
    pub(crate) fn wait_until(&self, end: Instant, condition: impl Fn() -> bool) {
        let mut is_ending = self.is_ending.lock();
        while !condition() && !*is_ending && !self.wakeup.wait_until(&mut is_ending, end).timed_out() {}
    }

    /// Sleeps until the pause is over or the store ends.
    pub(crate) fn sleep(&self, pause: Duration) {
        let mut is_ending = self.is_ending.lock();
        if !*is_ending {
            self.wakeup.wait_for(&mut is_ending, pause);
        }
    }

    /// Starts the reconnecting thread.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        match thread::Builder::new().name("millpond-reconnect".to_owned()).spawn(work) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => log::error!("cannot start the thread that reconnects to the Redis server: {error}"),
        }
    }

    /// Waits for the thread to end, unless this is the thread: a listener that it calls may close the store.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        let this = thread::current().id();
        // A thread that panicked has nothing to report.
        let _ = thread.filter(|thread| thread.thread().id() != this).map(JoinHandle::join);
    }
}
