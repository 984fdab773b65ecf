//! Owns the threads that wait for a value to be pushed or for a lock to be released. Knows nothing of what they do when
//! they are woken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::error::{Error, Result};
use crate::key::{Companion, Key, permits_of};

/// A waiting thread checks again after this long, because nothing wakes it when a lease or a lock expires.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The threads that wait, by key.
///
/// INVARIANT: a waiting thread is counted before it checks for a change, and a changing thread reads the count after
/// its change. So the waiting thread sees the change, or the changing thread sees the count.
#[derive(Default)]
pub(crate) struct WaitList {
    count: AtomicUsize,
    closed: AtomicBool,
    keys: Mutex<HashMap<SmolStr, KeyWaiters>>,
}

/// The threads that wait for one key.
#[derive(Default)]
struct KeyWaiters {
    threads: usize,
    /// How many times they were woken.
    wakeups: u64,
    condvar: Arc<Condvar>,
    /// The tickets of the threads that wait in order, the first in front.
    fifo: VecDeque<u64>,
    next_ticket: u64,
}

impl WaitList {
    /// Wakes threads that wait for a key: one, or all if more than one thing became available.
    pub(crate) fn wake(&self, key: &str, available: usize) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(waiters) = self.keys.lock().get_mut(key) {
            waiters.wake(available);
        }
    }

    /// Repeats `attempt` until it yields something, `end` has passed, or the store is closed. The next attempt follows
    /// when the key is woken, and after `poll_interval` at the latest.
    pub(crate) fn attempt_until<R>(
        &self,
        key: &str,
        end: Instant,
        poll_interval: Option<Duration>,
        mut attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        // Most calls do not need to wait.
        if let Some(done) = attempt()? {
            return Ok(Some(done));
        }
        let waiter = self.enter(key, false);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::closed());
            }
            let wakeups = waiter.wakeups();
            if let Some(done) = attempt()? {
                return Ok(Some(done));
            }
            if !waiter.wait(wakeups, end, poll_interval) {
                return Ok(None);
            }
        }
    }

    /// Does what [`WaitList::attempt_until`] does, but only the first thread in the FIFO makes attempts.
    pub(crate) fn attempt_in_order<R>(
        &self,
        key: &str,
        end: Instant,
        mut attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let waiter = self.enter(key, true);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::closed());
            }
            let wakeups = waiter.wakeups();
            if waiter.is_first()
                && let Some(done) = attempt()?
            {
                return Ok(Some(done));
            }
            if !waiter.wait(wakeups, end, Some(POLL_INTERVAL)) {
                return Ok(None);
            }
        }
    }

    /// Returns whether a thread waits in order for the key.
    pub(crate) fn has_ordered_waiter(&self, key: &str) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && self.keys.lock().get(key).is_some_and(|waiters| !waiters.fifo.is_empty())
    }

    /// Ends all waits with an error.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for waiters in self.keys.lock().values_mut() {
            waiters.wake(usize::MAX);
        }
    }

    fn enter<'w>(&'w self, key: &'w str, in_order: bool) -> Waiter<'w> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut keys = self.keys.lock();
        let waiters = keys.entry(SmolStr::new(key)).or_default();
        waiters.threads += 1;
        let condvar = Arc::clone(&waiters.condvar);
        let mut ticket = None;
        if in_order {
            ticket = Some(waiters.next_ticket);
            waiters.fifo.push_back(waiters.next_ticket);
            waiters.next_ticket += 1;
        }
        Waiter { list: self, key, condvar, ticket }
    }
}

impl KeyWaiters {
    fn wake(&mut self, available: usize) {
        self.wakeups += 1;
        if available == 1 && self.fifo.is_empty() {
            self.condvar.notify_one();
        } else {
            self.condvar.notify_all();
        }
    }
}

/// A thread that waits for one key.
struct Waiter<'w> {
    list: &'w WaitList,
    key: &'w str,
    condvar: Arc<Condvar>,
    /// Its ticket, if it waits in order.
    ticket: Option<u64>,
}

impl Waiter<'_> {
    fn wakeups(&self) -> u64 {
        self.list.keys.lock().get(self.key).map_or(0, |waiters| waiters.wakeups)
    }

    fn is_first(&self) -> bool {
        let keys = self.list.keys.lock();
        keys.get(self.key).is_some_and(|waiters| waiters.fifo.front().copied() == self.ticket)
    }

    /// Waits until the key was woken more than `wakeups` times, or the poll interval is over. Returns `false` if `end`
    /// has passed.
    fn wait(&self, wakeups: u64, end: Instant, poll_interval: Option<Duration>) -> bool {
        let now = Instant::now();
        if now >= end {
            return false;
        }
        let next_poll = poll_interval.and_then(|interval| now.checked_add(interval));
        let until = next_poll.map_or(end, |next_poll| next_poll.min(end));
        let mut keys = self.list.keys.lock();
        while keys.get(self.key).is_some_and(|waiters| waiters.wakeups == wakeups) {
            if self.condvar.wait_until(&mut keys, until).timed_out() {
                break;
            }
        }
        true
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut keys = self.list.keys.lock();
        self.list.count.fetch_sub(1, Ordering::SeqCst);
        let Some(waiters) = keys.get_mut(self.key) else {
            return;
        };
        waiters.threads -= 1;
        if waiters.threads == 0 {
            keys.remove(self.key);
            return;
        }
        if let Some(own) = self.ticket {
            waiters.fifo.retain(|ticket| *ticket != own);
            waiters.wake(usize::MAX);
        }
    }
}

/// Returns how many values or locks become available through a change.
pub(crate) fn available_after(key: &str, change: &Change) -> usize {
    match change {
        Change::SetItems { values, .. } => values.len(),
        Change::Set(Entry { content: Content::Queue(queue), .. }) => {
            usize::try_from(queue.begin().abs_diff(queue.end())).unwrap_or(usize::MAX)
        }
        // Removing a key releases something only if the key is a lock.
        Change::Remove => usize::from(Key::is_companion(key, Companion::Lock)),
        Change::Nothing
        | Change::Set(_)
        | Change::SetDeadline(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::DropBefore(_)
        | Change::DropFrom(_) => 0,
    }
}

/// Returns the keys to wake after these changes, each with what became available.
pub(crate) fn keys_to_wake<K: AsRef<str>>(changes: &[(K, Change)]) -> Vec<(SmolStr, usize)> {
    let keys = changes.iter().map(|(key, change)| (key.as_ref(), available_after(key.as_ref(), change)));
    keys.filter(|(_, available)| *available > 0)
        .map(|(key, available)| (SmolStr::new(permits_of(key).unwrap_or(key)), available))
        .collect()
}
