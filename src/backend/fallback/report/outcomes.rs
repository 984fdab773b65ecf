//! Owns what is kept and counted of operations that waited, once the server has said what became of them. Knows
//! nothing of how they were sent.

use std::sync::atomic::Ordering;

use crate::backend::fallback::outage::disconnected::{Outage, Tally};
use crate::backend::fallback::shared::{MAX_CONFLICTS_KEPT, Reports, Shared};
use crate::backend::redis::replay::connection::rejection_error;
use crate::backend::redis::replay::queued_op::{QueuedOp, ReplayOutcome};
use crate::bytes::Bytes;
use crate::outage::{PendingOperation, PendingReason, Rejected, WriteConflict};

impl Shared {
    /// Counts what became of operations that waited.
    pub(crate) fn count_outcomes(&self, away: &Outage, operations: u64, outcomes: &[(usize, ReplayOutcome)]) {
        let places = |is: fn(&ReplayOutcome) -> bool| {
            let mut places: Vec<_> =
                outcomes.iter().filter(|(_, outcome)| is(outcome)).map(|(at, _)| *at).collect();
            places.dedup();
            places.len() as u64
        };
        let rejected = places(|outcome| matches!(outcome, ReplayOutcome::Rejected(_)));
        let conflicts =
            places(|outcome| matches!(outcome, ReplayOutcome::Overwritten(_) | ReplayOutcome::Dropped(_)));
        let not_done = places(|outcome| !matches!(outcome, ReplayOutcome::Overwritten(_)));
        let replayed = operations.saturating_sub(not_done);
        self.counts.replayed.fetch_add(replayed, Ordering::Relaxed);
        away.add(Tally { replayed, rejected, conflicts });
    }

    /// Keeps what became of an operation for whoever asks.
    pub(crate) fn report_outcome(&self, op: &QueuedOp, outcome: ReplayOutcome) {
        let key = op.key.to_string();
        let mine = op.action.argument();
        let mut told = self.reports.lock();
        match outcome {
            ReplayOutcome::Rejected(cause) => {
                self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                let (operation, place) = (op.command(), self.redis.server_name());
                log::warn!("the Redis server {place} refused {operation} {key:?}, which had waited: {cause}");
                let (field, error) = (op.action.field().map(str::to_owned), rejection_error(op, cause));
                told.rejected.push(Rejected { key, operation, field, value: mine, error });
            }
            ReplayOutcome::Overwritten(theirs) => self.report_conflict(&mut told, key, mine, theirs, true),
            ReplayOutcome::Dropped(theirs) => self.report_conflict(&mut told, key, mine, theirs, false),
            ReplayOutcome::Uncertain => {}
        }
    }

    fn report_conflict(
        &self,
        told: &mut Reports,
        key: String,
        mine: Option<Bytes>,
        theirs: Option<Vec<u8>>,
        applied: bool,
    ) {
        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        if told.conflicts.len() < MAX_CONFLICTS_KEPT {
            let theirs = theirs.map(Bytes::from);
            told.conflicts.push(WriteConflict { key, mine, theirs, applied });
        }
    }

    pub(crate) fn report_uncertain(&self, doubtful: Vec<QueuedOp>, away: &Outage) {
        self.counts.uncertain.fetch_add(doubtful.len() as u64, Ordering::Relaxed);
        // What is known of these keys is known no more.
        for op in &doubtful {
            drop(self.shadow.begin_write(&op.key));
        }
        let uncertain = doubtful.into_iter().map(|op| PendingOperation {
            key: op.key.to_string(),
            operation: op.command(),
            field: op.action.field().map(str::to_owned),
            value: op.action.argument(),
            since: away.since,
            reason: PendingReason::Uncertain,
        });
        self.reports.lock().uncertain.extend(uncertain);
    }
}
