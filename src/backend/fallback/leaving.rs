//! Owns how an outage is noticed and begins. Knows nothing of how it is lived through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::away::{Away, Rules};
use super::{Inner, Verdict};
use crate::config::Unknown;
use crate::error::Error;
use crate::outage::Event;

impl Inner {
    /// Tells whether an error means that the server is away, and draws the conclusion.
    pub(super) fn is_outage(self: &Arc<Self>, error: &Error) -> bool {
        let Some(unreachable) = error.unreachable() else {
            return error.is_exhausted() && self.await_verdict();
        };
        if self.is_away.load(Ordering::Acquire) {
            return true;
        }
        // One slow command is no outage, nor one connection that was closed.
        if unreachable.doubtful && self.is_alive() {
            self.mind_history();
            return false;
        }
        self.leave(&unreachable.cause.to_string());
        true
    }

    /// Finds out whether the server answers: one thread for all that have come before it asks.
    pub(super) fn is_alive(&self) -> bool {
        let came = Instant::now();
        let mut verdict = self.verdict.lock();
        if self.is_away.load(Ordering::Acquire) {
            return false;
        }
        match *verdict {
            Some(Verdict { asked, alive }) if asked >= came => alive,
            _ => {
                let asked = Instant::now();
                let alive = self.redis.is_alive();
                *verdict = Some(Verdict { asked, alive });
                alive
            }
        }
    }

    /// Waits until those who have the connections have found out whether the server is away, for no longer
    /// than that takes them.
    pub(super) fn await_verdict(self: &Arc<Self>) -> bool {
        let is_away = || self.is_away.load(Ordering::Acquire);
        let end = Instant::now() + self.redis.verdict();
        let mut wake = self.wake.lock();
        while !is_away() && !wake.ending && !self.woken.wait_until(&mut wake, end).timed_out() {}
        drop(wake);
        // They may just be at it, or have found out and not yet drawn the conclusion.
        let verdict = self.verdict.try_lock_until(end + self.redis.verdict()).and_then(|verdict| *verdict);
        if verdict.is_some_and(|verdict| !verdict.alive && verdict.asked + self.limit > end) {
            self.leave("no answer within the time limit");
        }
        is_away()
    }

    /// Begins an outage, unless there is one.
    pub(super) fn leave(self: &Arc<Self>, cause: &str) {
        if self.redis.check_process().is_err() {
            return;
        }
        let mut outage = self.outage.write();
        if outage.is_some() || self.is_ending() {
            return;
        }
        self.redis.cut_off();
        self.note_lost_history();
        let unknown_is_absent = match self.unknown {
            Some(Unknown::Absent) => true,
            Some(Unknown::Error) => false,
            None => !self.was_connected.load(Ordering::Acquire),
        };
        let (exclusive, bounds, max_away) = (self.exclusive, self.bounds, self.max_away);
        let rules = Rules { unknown_is_absent, exclusive, bounds, max_away };
        let done = self.done.load(Ordering::Relaxed);
        let away = Away::begin(rules, done, Arc::clone(&self.clock), Arc::clone(&self.shadow));
        let away = Arc::new(away);
        *outage = Some(Arc::clone(&away));
        self.is_away.store(true, Ordering::Release);
        self.events.lock().push_back(Event::Away { cause: cause.to_owned() });
        drop(outage);
        // Whoever waits for the verdict has either seen it or waits by now.
        drop(self.wake.lock());
        self.woken.notify_all();
        self.counts.outages.fetch_add(1, Ordering::Relaxed);
        log::warn!("the Redis server cannot be reached: {cause}");
        let inner = Arc::clone(self);
        let named = std::thread::Builder::new().name("millpond-return".to_owned());
        match named.spawn(move || inner.return_when_possible(&away)) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => log::error!("no thread to wait for the Redis server: {error}"),
        }
        self.tell();
    }
}
