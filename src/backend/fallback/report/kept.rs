//! Owns how the outcomes of queued operations are counted, logged, and kept until the program asks for them. Knows
//! nothing of how operations are sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::backend::fallback::report::counts::{Counts, Tally};
use crate::backend::fallback::report::outcomes::{MAX_BYTES, Outcomes};
use crate::backend::redis::replay::kept_outcome::KeptOutcome;
use crate::backend::redis::replay::outcome::ReplayOutcome;
use crate::backend::redis::replay::outcome::rejection_error;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::bytes::Bytes;
use crate::outage::{PendingOperation, PendingReason, Rejected, WriteConflict};
use crate::util::log_later::log_later;

/// After this many rejections one line about them is logged, if not before.
const REJECTIONS_A_LINE: u64 = 1000;

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) counts: Arc<Counts>,
    /// What the program has not asked for yet.
    kept: Mutex<Outcomes>,
    not_logged: Mutex<Rejections>,
}

/// Rejections that were not logged yet.
#[derive(Default)]
struct Rejections {
    count: u64,
    /// What happened to the first of them.
    first: String,
}

impl Report {
    /// Begins with the outcomes that an earlier run of the program kept in files. They are not counted again.
    pub(crate) fn restore(outcomes: Vec<KeptOutcome>) -> Self {
        let report = Self::default();
        let mut kept = report.kept.lock();
        for KeptOutcome { op, outcome, since } in outcomes {
            match outcome {
                ReplayOutcome::Rejected(cause) => {
                    let cause_len = cause.len();
                    kept.add_rejected(rejected(&op, cause), cause_len)
                }
                ReplayOutcome::Overwritten(theirs) => kept.add_conflict(conflict(&op, theirs, true)),
                ReplayOutcome::Dropped(theirs) => kept.add_conflict(conflict(&op, theirs, false)),
                ReplayOutcome::Uncertain => {
                    kept.add_uncertain(pending_operation(&op, since, PendingReason::Uncertain))
                }
            };
        }
        drop(kept);
        report
    }

    /// Returns the keys of the last rejected operations.
    pub(crate) fn last_rejected(&self, limit: usize) -> Vec<String> {
        self.kept.lock().last_rejected(limit)
    }

    /// Returns the keys of the last conflicts.
    pub(crate) fn last_conflicts(&self, limit: usize) -> Vec<String> {
        self.kept.lock().last_conflicts(limit)
    }

    pub(crate) fn take_rejected(&self) -> Vec<Rejected> {
        self.kept.lock().take_rejected()
    }

    pub(crate) fn take_conflicts(&self) -> Vec<WriteConflict> {
        self.kept.lock().take_conflicts()
    }

    /// Returns at most `limit` of the uncertain operations, the oldest first.
    pub(crate) fn uncertain(&self, limit: usize) -> Vec<PendingOperation> {
        self.kept.lock().uncertain(limit)
    }

    /// Returns how many uncertain operations are kept.
    pub(crate) fn uncertain_count(&self) -> usize {
        self.kept.lock().uncertain_count()
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

    /// Counts outcomes, and keeps them.
    pub(crate) fn keep_outcomes(&self, outcomes: &[KeptOutcome], server: &str) {
        for KeptOutcome { op, outcome, since } in outcomes {
            match outcome {
                ReplayOutcome::Rejected(cause) => self.keep_rejected(op, cause.clone(), server),
                ReplayOutcome::Overwritten(theirs) => self.keep_conflict(op, theirs.clone(), true, server),
                ReplayOutcome::Dropped(theirs) => self.keep_conflict(op, theirs.clone(), false, server),
                ReplayOutcome::Uncertain => self.keep_uncertain(op, *since, server),
            }
        }
    }

    fn keep_rejected(&self, op: &QueuedOp, cause: String, server: &str) {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        let (key, operation) = (op.key.to_string(), op.command());
        let is_line_due = {
            let mut not_logged = self.not_logged.lock();
            if not_logged.count == 0 {
                not_logged.first = format!("{operation} of {key:?}: {cause}");
            }
            not_logged.count += 1;
            not_logged.count >= REJECTIONS_A_LINE
        };
        if is_line_due {
            self.log_rejections(server);
        }
        let cause_len = cause.len();
        let dropped = self.kept.lock().add_rejected(rejected(op, cause), cause_len);
        self.count_dropped(dropped, server);
    }

    /// Logs one line about the rejections of which no line tells yet.
    pub(crate) fn log_rejections(&self, server: &str) {
        let Rejections { count, first } = std::mem::take(&mut *self.not_logged.lock());
        match count {
            0 => {}
            1 => log_later!(Warn, "Redis {server} rejected the queued {first}; see take_rejected"),
            _ => log_later!(
                Warn,
                "Redis {server} rejected {count} queued operations, first the {first}; see take_rejected"
            ),
        }
    }

    fn keep_conflict(&self, op: &QueuedOp, theirs: Option<Vec<u8>>, applied: bool, server: &str) {
        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        let dropped = self.kept.lock().add_conflict(conflict(op, theirs, applied));
        self.count_dropped(dropped, server);
    }

    /// Counts and keeps an operation whose outcome on the server is unknown.
    fn keep_uncertain(&self, op: &QueuedOp, since: SystemTime, server: &str) {
        self.counts.uncertain.fetch_add(1, Ordering::Relaxed);
        let uncertain = pending_operation(op, since, PendingReason::Uncertain);
        let dropped = self.kept.lock().add_uncertain(uncertain);
        self.count_dropped(dropped, server);
    }

    fn count_dropped(&self, dropped: u64, server: &str) {
        if dropped > 0 && self.counts.dropped_outcomes.fetch_add(dropped, Ordering::Relaxed) == 0 {
            let mebibytes = MAX_BYTES >> 20;
            log_later!(
                Warn,
                "Redis {server}: the rejected, uncertain and conflicting operations take more than {mebibytes} MiB, so \
                 the oldest are dropped: take them with take_rejected and take_conflicts"
            );
        }
    }
}

fn rejected(op: &QueuedOp, cause: String) -> Rejected {
    Rejected {
        key: op.key.to_string(),
        operation: op.command(),
        field: op.action.field().map(str::to_owned),
        value: op.action.argument(),
        error: rejection_error(op, cause),
    }
}

fn conflict(op: &QueuedOp, theirs: Option<Vec<u8>>, applied: bool) -> WriteConflict {
    let (mine, theirs) = (op.action.argument(), theirs.map(Bytes::from));
    WriteConflict { key: op.key.to_string(), local: mine, remote: theirs, applied }
}

/// Returns how a queued operation is reported.
pub(crate) fn pending_operation(op: &QueuedOp, since: SystemTime, reason: PendingReason) -> PendingOperation {
    PendingOperation {
        key: op.key.to_string(),
        command: op.command(),
        calls: op.calls,
        field: op.action.field().map(str::to_owned),
        value: op.action.argument(),
        since,
        reason,
    }
}
