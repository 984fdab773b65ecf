//! Owns what the thread that waits for the server shares with everyone else: its handle, its wakeup, and the last
//! probe of a silent server. Knows nothing of the server and of any outage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// What was found out about a server that was silent once.
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
        // A thread that checked its condition before it became true waits by now.
        drop(self.is_ending.lock());
        self.wakeup.notify_all();
    }

    /// Returns at `end`, or when the condition is true or the store ends.
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

    /// Starts the thread that waits for the server.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        match thread::Builder::new().name("millpond-reconnect".to_owned()).spawn(work) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => log::error!("cannot start the thread that waits for the Redis server: {error}"),
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
