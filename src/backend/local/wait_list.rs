//! Owns the threads that wait: for a value to be pushed, for a lock to be free. Knows nothing of what they
//! do when they are woken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use smol_str::SmolStr;

use crate::backend::local::change::{Change, Content, Entry};
use crate::error::{Error, Result};
use crate::key::{Companion, Key};

/// After this long, what nobody tells of is looked at: a lease that runs out, a lock that expires.
pub(crate) const STEP: Duration = Duration::from_millis(25);

/// The threads that wait, by key.
///
/// INVARIANT: a thread is counted before it looks whether it has to wait, and whoever changes something
/// looks at the count afterwards. So either the one sees the change or the other the thread.
#[derive(Default)]
pub(crate) struct WaitList {
    count: AtomicUsize,
    closed: AtomicBool,
    keys: Mutex<HashMap<SmolStr, KeyWaiters>>,
}

/// Those who wait for one key.
#[derive(Default)]
struct KeyWaiters {
    threads: usize,
    /// How often they were woken.
    wakeups: u64,
    condvar: Arc<Condvar>,
    /// Those who wait in line, the first of them in front, and the number of the next.
    fifo: VecDeque<u64>,
    next: u64,
}

impl WaitList {
    /// Wakes those who wait for a key: one, or all where there is more than one thing to be had.
    pub(crate) fn wake(&self, key: &str, things: usize) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(place) = self.keys.lock().get_mut(key) {
            place.wake(things);
        }
    }

    /// Makes attempts until one yields something, or `end` comes, or the store is closed: another one
    /// whenever the key is called, and after `step` at the latest.
    pub(crate) fn attempt_until<R>(
        &self,
        key: &str,
        end: Instant,
        step: Option<Duration>,
        mut attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        // Most often there is no need to wait.
        if let Some(done) = attempt()? {
            return Ok(Some(done));
        }
        let waiting = self.enter(key, false);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::closed());
            }
            let calls = waiting.wakeups();
            if let Some(done) = attempt()? {
                return Ok(Some(done));
            }
            if !waiting.wait(calls, end, step) {
                return Ok(None);
            }
        }
    }

    /// As [`Waiters::attempt_until`], but only the first in line makes attempts.
    pub(crate) fn attempt_in_order<R>(
        &self,
        key: &str,
        end: Instant,
        mut attempt: impl FnMut() -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let waiting = self.enter(key, true);
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::closed());
            }
            let calls = waiting.wakeups();
            if waiting.is_first()
                && let Some(done) = attempt()?
            {
                return Ok(Some(done));
            }
            if !waiting.wait(calls, end, Some(STEP)) {
                return Ok(None);
            }
        }
    }

    /// Tells whether somebody waits in line for the key.
    pub(crate) fn has_queue(&self, key: &str) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && self.keys.lock().get(key).is_some_and(|place| !place.fifo.is_empty())
    }

    /// Ends all waiting.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for place in self.keys.lock().values_mut() {
            place.wake(usize::MAX);
        }
    }

    fn enter<'w>(&'w self, key: &'w str, in_line: bool) -> Waiter<'w> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut places = self.keys.lock();
        let place = places.entry(SmolStr::new(key)).or_default();
        place.threads += 1;
        let called = Arc::clone(&place.condvar);
        let mut number = None;
        if in_line {
            number = Some(place.next);
            place.fifo.push_back(place.next);
            place.next += 1;
        }
        Waiter { list: self, key, called, number }
    }
}

impl KeyWaiters {
    fn wake(&mut self, things: usize) {
        self.wakeups += 1;
        if things == 1 && self.fifo.is_empty() {
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
    called: Arc<Condvar>,
    /// Its number, if it waits in line.
    number: Option<u64>,
}

impl Waiter<'_> {
    fn wakeups(&self) -> u64 {
        self.list.keys.lock().get(self.key).map_or(0, |place| place.wakeups)
    }

    fn is_first(&self) -> bool {
        let places = self.list.keys.lock();
        places.get(self.key).is_some_and(|place| place.fifo.front().copied() == self.number)
    }

    /// Waits until there were more than so many calls, or a step is over; `false` where the end has come.
    fn wait(&self, calls: u64, end: Instant, step: Option<Duration>) -> bool {
        let now = Instant::now();
        if now >= end {
            return false;
        }
        let until = step.and_then(|step| now.checked_add(step)).map_or(end, |step| step.min(end));
        let mut places = self.list.keys.lock();
        while places.get(self.key).is_some_and(|place| place.wakeups == calls) {
            if self.called.wait_until(&mut places, until).timed_out() {
                break;
            }
        }
        true
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut places = self.list.keys.lock();
        self.list.count.fetch_sub(1, Ordering::SeqCst);
        let Some(place) = places.get_mut(self.key) else {
            return;
        };
        place.threads -= 1;
        if place.threads == 0 {
            places.remove(self.key);
            return;
        }
        if let Some(number) = self.number {
            place.fifo.retain(|waiting| *waiting != number);
            place.wake(usize::MAX);
        }
    }
}

/// How many things a change brings that somebody may wait for.
pub(crate) fn available_after(key: &str, change: &Change) -> usize {
    match change {
        Change::SetItems { values, .. } => values.len(),
        Change::Set(Entry { content: Content::Queue(queue), .. }) => {
            usize::try_from(queue.begin().abs_diff(queue.end())).unwrap_or(usize::MAX)
        }
        // Only whoever waits for a lock waits for its key.
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

/// Whom to wake once these changes are made.
pub(crate) fn keys_to_wake<K: AsRef<str>>(changes: &[(K, Change)]) -> Vec<(SmolStr, usize)> {
    let things = changes.iter().map(|(key, change)| (key.as_ref(), available_after(key.as_ref(), change)));
    things.filter(|(_, things)| *things > 0).map(|(key, things)| (SmolStr::new(key), things)).collect()
}
