//! Owns what a program asks about outages, and how a store ends. Knows nothing of how an outage is lived
//! through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::backend::fallback::shared::{Fallback, Shared};
use crate::error::{Error, Result};
use crate::outage::{Event, PendingOperation, PendingReason, Rejected, Stats, WriteConflict};

/// What a program asks about outages.
impl Fallback {
    pub(crate) fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.shared.listeners.lock().push(Arc::new(listener));
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            outages: read(&counts.outages),
            queued: read(&counts.queued),
            replayed: read(&counts.replayed),
            pending: self.shared.outage().map_or(0, |away| away.state().queue.len()),
            conflicts: read(&counts.conflicts),
            rejected: read(&counts.rejected),
            uncertain: read(&counts.uncertain),
            buried: self.shared.redis.killed_connections(),
        }
    }

    pub(crate) fn pending(&self) -> Vec<PendingOperation> {
        let mut pending = self.shared.reports.lock().uncertain.clone();
        if let Some(away) = self.shared.outage() {
            let state = away.state();
            for waiting in state.queue.iter() {
                pending.extend(waiting.ops.iter().map(|op| PendingOperation {
                    key: op.key.to_string(),
                    operation: op.command(),
                    field: op.action.field().map(str::to_owned),
                    value: op.action.argument(),
                    since: waiting.queued.wall,
                    reason: PendingReason::Away,
                }));
            }
        }
        pending
    }

    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut self.shared.reports.lock().rejected)
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        std::mem::take(&mut self.shared.reports.lock().conflicts)
    }

    /// Tries now whether the server is back.
    pub(crate) fn reconnect(&self) -> Result<()> {
        self.shared.redis.check_process()?;
        self.shared.try_reconnect().map_err(|closed| match closed.denied {
            true => Error::Denied { source: closed.cause.into() },
            false => Error::Unavailable { maybe_applied: false, source: closed.cause.into() },
        })
    }

    pub(crate) fn close_within(&self, timeout: Duration) -> Result<()> {
        self.shared.close(timeout)
    }
}

impl Shared {
    /// Ends: what waits is done on the server within `timeout`, or is lost.
    pub(crate) fn close(&self, timeout: Duration) -> Result<()> {
        // Here is no thread to wait for, and what waits is done by the process that has it.
        self.redis.check_process()?;
        {
            let mut wake = self.wake.lock();
            if wake.ending {
                return Ok(());
            }
            wake.ending = true;
        }
        self.wakeup.notify_all();
        let returning = self.thread.lock().take();
        // Who is told of something by that thread may close the store: it does not wait for itself. One that
        // panicked has nothing to tell.
        let me = std::thread::current().id();
        let _ = returning.filter(|thread| thread.thread().id() != me).map(JoinHandle::join);
        let waiting = || self.outage().map_or(0, |away| away.state().queue.len());
        let begun = Instant::now();
        while waiting() > 0 {
            match self.try_reconnect() {
                Err(_) if begun.elapsed() < timeout => std::thread::sleep(Duration::from_millis(10)),
                Ok(()) | Err(_) => break,
            }
        }
        self.has_ended.store(true, Ordering::Release);
        // Whoever was about to add to what waits has done so by now.
        drop(self.outage.write());
        let left = waiting();
        if left == 0 {
            self.redis.delete_reply_cache();
        }
        self.redis.close()?;
        if let Some(journal) = &self.queue_file {
            journal.close()?;
            if left > 0 {
                let path = journal.path().display();
                log::info!("{left} operations that wait for the Redis server are kept in {path}");
            }
            return Ok(());
        }
        match left {
            0 => Ok(()),
            left => Err(Error::abandoned(left)),
        }
    }
}
