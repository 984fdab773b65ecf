//! Owns the answers to what a program asks about outages. Knows nothing of how an outage is served.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::report::kept::pending_operation;
use crate::outage::{Event, PendingOperation, PendingReason, Rejected, Stats, WriteConflict};

impl FallbackBackend {
    pub(crate) fn on_event(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.shared.events.listen(listener);
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = &self.shared.report.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            outages: read(&counts.outages),
            queued: read(&counts.queued),
            replayed: read(&counts.replayed),
            pending: self.shared.outage.pending(),
            conflicts: read(&counts.conflicts),
            rejected: read(&counts.rejected),
            uncertain: read(&counts.uncertain),
            buried: self.shared.redis.killed_connections(),
            dropped_outcomes: read(&counts.dropped_outcomes),
            dropped_events: self.shared.events.dropped(),
        }
    }

    pub(crate) fn pending(&self) -> Vec<PendingOperation> {
        let mut pending = self.shared.report.uncertain();
        if let Some(outage) = self.shared.outage.current() {
            let session = outage.session();
            for group in session.queue.iter() {
                let since = group.queued_at.wall;
                pending.extend(group.ops.iter().map(|op| pending_operation(op, since, PendingReason::Away)));
            }
        }
        pending
    }

    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        self.shared.report.take_rejected()
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        self.shared.report.take_conflicts()
    }
}
