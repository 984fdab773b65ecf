//! Owns the counts and the outcomes of queued operations, which are kept until the program asks for them. Knows nothing
//! of how operations are sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::backend::fallback::report::counts::{Counts, Tally};
use crate::backend::redis::replay::outcome::ReplayOutcome;
use crate::backend::redis::replay::outcome::rejection_error;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::bytes::Bytes;
use crate::outage::{PendingOperation, PendingReason, Rejected, WriteConflict};
use crate::util::log_later::log_later;

/// At most this many conflicts are kept for `take_conflicts`; later ones are only counted.
const MAX_CONFLICTS_KEPT: usize = 10_000;

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) counts: Arc<Counts>,
    kept: Mutex<Kept>,
}

/// What the program has not asked for yet.
#[derive(Default)]
struct Kept {
    rejected: Vec<Rejected>,
    conflicts: Vec<WriteConflict>,
    uncertain: Vec<PendingOperation>,
}

impl Report {
    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        std::mem::take(&mut self.kept.lock().rejected)
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        std::mem::take(&mut self.kept.lock().conflicts)
    }

    pub(crate) fn uncertain(&self) -> Vec<PendingOperation> {
        self.kept.lock().uncertain.clone()
    }

    /// Counts the outcomes of `operations` that left the queue, each with the index of its operation.
    pub(crate) fn count_outcomes(&self, operations: u64, outcomes: &[(usize, ReplayOutcome)]) -> Tally {
        let operations_with = |is: fn(&ReplayOutcome) -> bool| {
            let mut indexes: Vec<_> =
                outcomes.iter().filter(|(_, outcome)| is(outcome)).map(|(index, _)| *index).collect();
            indexes.dedup();
            indexes.len() as u64
        };
        let rejected = operations_with(|outcome| matches!(outcome, ReplayOutcome::Rejected(_)));
        let conflicts = operations_with(|outcome| {
            matches!(outcome, ReplayOutcome::Overwritten(_) | ReplayOutcome::Dropped(_))
        });
        let not_done = operations_with(|outcome| !matches!(outcome, ReplayOutcome::Overwritten(_)));
        let replayed = operations.saturating_sub(not_done);
        self.counts.replayed.fetch_add(replayed, Ordering::Relaxed);
        Tally { replayed, rejected, conflicts }
    }

    /// Keeps the outcome of one operation.
    pub(crate) fn keep_outcome(&self, op: &QueuedOp, outcome: ReplayOutcome, server: &str) {
        match outcome {
            ReplayOutcome::Rejected(cause) => self.keep_rejected(op, cause, server),
            ReplayOutcome::Overwritten(theirs) => self.keep_conflict(op, theirs, true),
            ReplayOutcome::Dropped(theirs) => self.keep_conflict(op, theirs, false),
            ReplayOutcome::Uncertain => {}
        }
    }

    fn keep_rejected(&self, op: &QueuedOp, cause: String, server: &str) {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        let (key, operation) = (op.key.to_string(), op.command());
        log_later!(Warn, "the Redis server {server} rejected the queued {operation} of {key:?}: {cause}");
        let rejected = Rejected {
            key,
            operation,
            field: op.action.field().map(str::to_owned),
            value: op.action.argument(),
            error: rejection_error(op, cause),
        };
        self.kept.lock().rejected.push(rejected);
    }

    fn keep_conflict(&self, op: &QueuedOp, theirs: Option<Vec<u8>>, applied: bool) {
        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        if kept.conflicts.len() < MAX_CONFLICTS_KEPT {
            let (mine, theirs) = (op.action.argument(), theirs.map(Bytes::from));
            kept.conflicts.push(WriteConflict { key: op.key.to_string(), mine, theirs, applied });
        }
    }

    /// Counts and keeps operations whose outcome on the server is unknown.
    pub(crate) fn keep_uncertain(&self, ops: &[QueuedOp], since: SystemTime) {
        self.counts.uncertain.fetch_add(ops.len() as u64, Ordering::Relaxed);
        let uncertain = ops.iter().map(|op| pending_operation(op, since, PendingReason::Uncertain));
        self.kept.lock().uncertain.extend(uncertain);
    }
}

/// Returns how a queued operation is reported.
pub(crate) fn pending_operation(op: &QueuedOp, since: SystemTime, reason: PendingReason) -> PendingOperation {
    PendingOperation {
        key: op.key.to_string(),
        operation: op.command(),
        field: op.action.field().map(str::to_owned),
        value: op.action.argument(),
        since,
        reason,
    }
}
