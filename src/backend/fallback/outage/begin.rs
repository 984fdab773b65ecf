//! Owns how an outage is noticed and begins. Knows nothing of how it is lived through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::backend::fallback::outage::disconnected::{Outage, OutageRules};
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::replay_queue::ReplayQueue;
use crate::backend::fallback::shared::{ProbeResult, Shared};
use crate::config::Unknown;
use crate::error::{Error, Result};
use crate::outage::Event;

impl Shared {
    /// Tells whether an error means that the server is away, and draws the conclusion. `outages` is how many there
    /// had been when the operation began: one that began since may be over already, and it was caught by that.
    pub(crate) fn is_outage(self: &Arc<Self>, error: &Error, outages: u64) -> bool {
        let was_caught = || {
            self.is_disconnected.load(Ordering::Acquire)
                || self.counts.outages.load(Ordering::Acquire) != outages
        };
        let Some(unreachable) = error.unreachable() else {
            if error.is_exhausted() && !was_caught() {
                self.wait_for_probe();
            }
            return error.is_exhausted() && was_caught();
        };
        if was_caught() {
            return true;
        }
        // One slow command is no outage, nor one connection that was closed.
        let is_alive = unreachable.doubtful && self.probe_once();
        // Others may have been told meanwhile that the server does not answer, though it does again.
        if was_caught() {
            return true;
        }
        if is_alive {
            self.check_data_loss();
        } else {
            self.begin_outage(&unreachable.cause.to_string());
        }
        !is_alive
    }

    /// Begins an outage because nobody knows whether an operation was done, and the server is to be asked at its
    /// end; `false` where that is of no use.
    pub(crate) fn begin_outage_in_doubt(self: &Arc<Self>, error: &Error) -> bool {
        if error.is_forgotten() || self.is_ending() {
            return false;
        }
        // One that answers something else has not told that.
        let cause = std::error::Error::source(error).map(ToString::to_string);
        self.begin_outage(&cause.unwrap_or_else(|| error.to_string()));
        true
    }

    /// Finds out whether the server answers: one thread for all that have come before it asks.
    pub(crate) fn probe_once(&self) -> bool {
        let came = Instant::now();
        let mut verdict = self.last_probe.lock();
        if self.is_disconnected.load(Ordering::Acquire) {
            return false;
        }
        match *verdict {
            Some(ProbeResult { asked, alive }) if asked >= came => alive,
            _ => {
                let asked = Instant::now();
                let alive = self.redis.probe();
                *verdict = Some(ProbeResult { asked, alive });
                alive
            }
        }
    }

    /// Waits until those who have the connections have found out whether the server is away, for no longer
    /// than that takes them.
    fn wait_for_probe(self: &Arc<Self>) {
        let is_away = || self.is_disconnected.load(Ordering::Acquire);
        let end = Instant::now() + self.redis.probe_budget();
        let mut wake = self.wake.lock();
        while !is_away() && !wake.ending && !self.wakeup.wait_until(&mut wake, end).timed_out() {}
        drop(wake);
        // They may just be at it, or have found out and not yet drawn the conclusion.
        let verdict =
            self.last_probe.try_lock_until(end + self.redis.probe_budget()).and_then(|verdict| *verdict);
        if verdict.is_some_and(|verdict| !verdict.alive && verdict.asked + self.limit > end) {
            self.begin_outage("no answer within the time limit");
        }
    }

    /// Begins to serve: on the server, or here where it cannot be reached. What was left `waiting` by an
    /// earlier run of the program is done there first.
    pub(crate) fn begin(self: &Arc<Self>, waiting: Vec<QueuedGroup>, sent: u64) -> Result<()> {
        let is_left = !waiting.is_empty();
        let queue = ReplayQueue::load(self.queue_bounds, self.done.load(Ordering::Relaxed), sent, waiting);
        let greeted = self.redis.check_ready();
        self.was_connected.store(greeted.is_ok(), Ordering::Release);
        match greeted {
            Ok(()) if !is_left => Ok(()),
            Ok(()) => {
                let cause = format!("{} operations of an earlier run are done first", queue.len());
                self.begin_outage_with(&cause, || queue);
                match self.try_reconnect() {
                    Err(closed) if closed.stale => {
                        let path =
                            self.queue_file.as_ref().map(|journal| journal.path().display().to_string());
                        let reason = format!("{} is an old copy: {}", path.unwrap_or_default(), closed.cause);
                        Err(Error::invalid_config("redis.fallback", reason))
                    }
                    // It goes on waiting.
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Err(error) => match error.unreachable() {
                Some(unreachable) if self.serves => {
                    self.begin_outage_with(&unreachable.cause.to_string(), || queue);
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Begins an outage, unless there is one.
    pub(crate) fn begin_outage(self: &Arc<Self>, cause: &str) {
        self.begin_outage_with(cause, || {
            ReplayQueue::new(self.queue_bounds, self.done.load(Ordering::Relaxed))
        });
    }

    /// INVARIANT: `queue` is asked for only where no outage is under way. One that ends right now has done more
    /// on the server than its beginning knew of.
    fn begin_outage_with(self: &Arc<Self>, cause: &str, queue: impl FnOnce() -> ReplayQueue) {
        if self.redis.check_process().is_err() {
            return;
        }
        let mut outage = self.outage.write();
        if outage.is_some() || self.is_ending() {
            return;
        }
        let queue = queue();
        self.redis.suspend();
        self.note_data_loss();
        let unknown_is_absent = match self.unknown {
            Some(Unknown::Absent) => true,
            Some(Unknown::Error) => false,
            None => !self.was_connected.load(Ordering::Acquire),
        };
        let rules = OutageRules { unknown_is_absent, exclusive: self.exclusive, max_away: self.max_outage };
        let (clock, shadow) = (Arc::clone(&self.clock), Arc::clone(&self.shadow));
        let away = Arc::new(Outage::begin(
            cause,
            rules,
            queue,
            clock,
            shadow,
            self.queue_file.clone(),
            Arc::clone(&self.counts),
        ));
        *outage = Some(Arc::clone(&away));
        self.counts.outages.fetch_add(1, Ordering::Release);
        self.is_disconnected.store(true, Ordering::Release);
        self.events.lock().push_back(Event::Away { cause: cause.to_owned() });
        drop(outage);
        // Whoever waits for the verdict has either seen it or waits by now.
        drop(self.wake.lock());
        self.wakeup.notify_all();
        log::warn!("the Redis server {} is away: {cause}", self.redis.server_name());
        let inner = Arc::clone(self);
        let named = std::thread::Builder::new().name("millpond-return".to_owned());
        match named.spawn(move || inner.reconnect_when_possible(&away)) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => log::error!("no thread to wait for the Redis server: {error}"),
        }
        self.dispatch_events();
    }
}
