//! Owns the answers to what a program asks about outages. Knows nothing of how an outage is served.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::report::kept::{Report, pending_operation};
use crate::backend::redis::place::ServerPlace;
use crate::backend::redis::replay::kept_outcome::OutcomeKind;
use crate::outage::{Event, ListenerHandle, PendingOperation, PendingReason, Rejected, WriteConflict};
use crate::stats::OutageStats;

/// How many queued groups are read at a time.
const PAGE: usize = 1000;

impl FallbackBackend {
    /// Returns where the state is.
    pub(crate) fn place(&self) -> &ServerPlace {
        self.shared.redis.place()
    }

    pub(crate) fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> ListenerHandle {
        let number = self.shared.events.listen(listener);
        // The handle does not keep the store open.
        let shared = AssertUnwindSafe(Arc::downgrade(&self.shared));
        ListenerHandle::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.events.remove(number);
            }
        })
    }

    pub(crate) fn outage_stats(&self) -> OutageStats {
        let counts = &self.shared.report.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        OutageStats {
            outages: read(&counts.outages),
            queued: read(&counts.queued),
            replayed: read(&counts.replayed),
            pending: self.shared.outage.pending(),
            conflicts: read(&counts.conflicts),
            rejected: read(&counts.rejected),
            uncertain: read(&counts.uncertain),
            killed_connections: self.shared.redis.killed_connections(),
            dropped_outcomes: read(&counts.dropped_outcomes),
            dropped_events: self.shared.events.dropped(),
            disconnected: self.shared.outage.current().map_or(Duration::ZERO, |outage| {
                // The clock of the system may have been set back.
                outage.since.elapsed().unwrap_or_default()
            }),
        }
    }

    /// Returns at most `limit` operations: those in doubt, and then the queued ones. Writers wait at most for a page of
    /// them.
    pub(crate) fn pending(&self, limit: usize) -> Vec<PendingOperation> {
        if let Some(file) = self.queue_file()
            && self.shared.report.uncertain_count() <= limit
        {
            file.note_uncertain_told();
        }
        let mut pending = self.shared.report.uncertain(limit);
        if let Some(outage) = self.shared.outage.current() {
            let mut read = 0;
            while pending.len() < limit {
                let session = outage.session();
                let page = session.queue.behind(read).take(PAGE.min(limit - pending.len()));
                let before = read;
                for (number, group) in page {
                    let since = group.queued_at.wall;
                    let ops = group.ops.iter();
                    pending.extend(ops.map(|op| pending_operation(op, since, PendingReason::Away)));
                    read = number;
                }
                if read == before {
                    break;
                }
            }
            pending.truncate(limit);
        }
        pending
    }

    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        self.take(OutcomeKind::Rejected, Report::take_rejected)
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        self.take(OutcomeKind::Conflict, Report::take_conflicts)
    }

    /// Takes outcomes from the report, and from the queue's files if there are any.
    fn take<R>(&self, kind: OutcomeKind, take: impl FnOnce(&Report) -> R) -> R {
        let take = || take(&self.shared.report);
        match self.queue_file() {
            Some(file) => file.take(kind, take),
            None => take(),
        }
    }

    /// Returns the queue's files. In a forked child they are those of the parent.
    fn queue_file(&self) -> Option<&QueueFile> {
        self.shared.queue_file.as_deref().filter(|_| self.shared.redis.check_process().is_ok())
    }
}
