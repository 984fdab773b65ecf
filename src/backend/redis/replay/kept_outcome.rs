//! Owns an outcome of a queued operation that is kept until the program asks for it. Knows nothing of where it is kept.

use std::time::SystemTime;

use crate::backend::redis::replay::outcome::ReplayOutcome;
use crate::backend::redis::replay::queued_op::QueuedOp;

/// What happened to a queued operation.
#[derive(Debug, Clone)]
pub(crate) struct KeptOutcome {
    pub(crate) op: QueuedOp,
    pub(crate) outcome: ReplayOutcome,
    /// When the operation was queued, or when the outage began.
    pub(crate) since: SystemTime,
}

/// How a program asks for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    Rejected,
    Conflict,
    Uncertain,
}

impl KeptOutcome {
    pub(crate) fn kind(&self) -> OutcomeKind {
        match self.outcome {
            ReplayOutcome::Rejected(_) => OutcomeKind::Rejected,
            ReplayOutcome::Overwritten(_) | ReplayOutcome::Dropped(_) => OutcomeKind::Conflict,
            ReplayOutcome::Uncertain => OutcomeKind::Uncertain,
        }
    }
}
