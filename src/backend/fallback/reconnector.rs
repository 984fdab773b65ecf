//! Owns what the reconnecting thread shares with other threads: its handle, its wakeup, and the result of the last
//! probe; and whose turn it is to do its work if it could not be started. Knows nothing of servers and outages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::util::backoff::Backoff;
use crate::util::log_later::log_later;
use crate::util::threads;

/// If the thread cannot be started, the pauses between two turns of operations that do its work. A turn that took long
/// is followed by a pause that is longer by this factor.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const LONGER_THAN_TURN: u32 = 4;
const JITTER: f64 = 0.5;

/// The result of a probe of a server that had not replied in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) alive: bool,
}

#[derive(Default)]
pub(crate) struct Reconnector {
    one_attempt: Mutex<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lacks_thread: AtomicBool,
    turns: Mutex<Turns>,
    is_ending: Mutex<bool>,
    wakeup: Condvar,
    pub(crate) last_probe: Mutex<Option<ProbeResult>>,
    was_connected: AtomicBool,
    last_failure: Mutex<Option<String>>,
}

/// The turns in which operations do the work of a thread that could not be started.
struct Turns {
    is_taken: bool,
    /// When the next turn is due; `None` is at once.
    due: Option<Instant>,
    backoff: Backoff,
}

impl Default for Turns {
    fn default() -> Self {
        Self { is_taken: false, due: None, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, JITTER) }
    }
}

/// One of these turns. Nobody else has one until it is dropped, and for a pause afterwards.
pub(crate) struct Turn<'r> {
    reconnector: &'r Reconnector,
    begun: Instant,
}

impl Turn<'_> {
    /// Notes that no thread is missing any more.
    pub(crate) fn end(self) {
        self.reconnector.lacks_thread.store(false, Ordering::Release);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.reconnector.turns.lock();
        let pause = turns.backoff.next(fastrand::f64()).max(self.begun.elapsed() * LONGER_THAN_TURN);
        turns.due = Some(Instant::now() + pause);
        turns.is_taken = false;
    }
}

impl Reconnector {
    /// Waits until no other thread attempts to reconnect; `None` if that is not so by `end`.
    pub(crate) fn lock_attempt(&self, end: Option<Instant>) -> Option<MutexGuard<'_, ()>> {
        match end {
            Some(end) => self.one_attempt.try_lock_until(end),
            None => Some(self.one_attempt.lock()),
        }
    }

    /// Returns whether this process has ever been connected to the server.
    pub(crate) fn was_connected(&self) -> bool {
        self.was_connected.load(Ordering::Acquire)
    }

    pub(crate) fn set_was_connected(&self, was_connected: bool) {
        self.was_connected.store(was_connected, Ordering::Release);
    }

    /// Returns why the last attempt to reconnect failed; `None` before the first attempt of an outage.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }

    pub(crate) fn set_last_failure(&self, failure: Option<String>) {
        *self.last_failure.lock() = failure;
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

    /// Starts the reconnecting thread. If the system has no room for a thread now, operations do its work in turns.
    pub(crate) fn spawn(&self, server: &str, work: impl FnOnce() + Send + 'static) {
        let started = threads::spawn("millpond-reconnect", work);
        let lacked_thread = self.lacks_thread.swap(started.is_err(), Ordering::AcqRel);
        match started {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) if !lacked_thread => {
                *self.turns.lock() = Turns::default();
                log_later!(
                    Warn,
                    "the thread that reconnects to Redis {server} cannot be started, so operations try to reconnect: \
                     {error}"
                );
            }
            Err(_) => {}
        }
    }

    /// Returns a turn if the reconnecting thread could not be started and its work is due.
    pub(crate) fn take_turn(&self) -> Option<Turn<'_>> {
        let (mut turns, begun) = (self.turns.lock(), Instant::now());
        if !self.lacks_thread() || turns.is_taken || turns.due.is_some_and(|due| begun < due) {
            return None;
        }
        turns.is_taken = true;
        Some(Turn { reconnector: self, begun })
    }

    /// Returns whether the reconnecting thread could not be started.
    pub(crate) fn lacks_thread(&self) -> bool {
        self.lacks_thread.load(Ordering::Acquire)
    }

    /// Waits for the thread to end, but at most until `end`.
    pub(crate) fn join(&self, end: Option<Instant>) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            threads::join_until(thread, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_thread_leaves_turns_and_one_at_a_time() {
        let reconnector = Reconnector::default();
        assert!(reconnector.take_turn().is_none(), "no thread is missing");
        reconnector.lacks_thread.store(true, Ordering::Release);
        let turn = reconnector.take_turn();
        assert!(turn.is_some() && reconnector.take_turn().is_none(), "another thread has its turn");
        drop(turn);
        assert!(reconnector.take_turn().is_none(), "a pause follows");
        reconnector.turns.lock().due = None;
        assert!(reconnector.take_turn().is_some());
    }
}
