//! Owns what is queued and sent as one: an operation, or all operations of a batch. Knows nothing of the order of
//! groups.

use std::ops::{Deref, DerefMut};

use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::clock::Millis;
use crate::key::Key;

/// An operation before it is queued.
pub(crate) struct OpToQueue {
    pub(crate) key: Key<'static>,
    pub(crate) action: QueuedAction,
    /// How the server is asked whether it has done the operation already, if it may have.
    pub(crate) in_doubt: Option<InDoubt>,
}

impl OpToQueue {
    /// An operation that was not sent.
    pub(crate) fn new(key: &Key<'_>, action: QueuedAction) -> Self {
        Self { key: key.clone().into_owned(), action, in_doubt: None }
    }
}

/// What an operation takes besides what it carries, roughly.
const OVERHEAD: u64 = 160;

/// What is done at once: one operation, or all of a batch.
#[derive(Debug, Clone)]
pub(crate) struct QueuedGroup {
    pub(crate) ops: Ops,
    pub(crate) queued: QueuedAt,
    pub(crate) bytes: u64,
}

/// One operation lies in its place, without a vector around it.
#[derive(Debug, Clone)]
pub(crate) enum Ops {
    One([QueuedOp; 1]),
    Several(Vec<QueuedOp>),
}

impl Deref for Ops {
    type Target = [QueuedOp];

    fn deref(&self) -> &[QueuedOp] {
        match self {
            Self::One(op) => op,
            Self::Several(ops) => ops,
        }
    }
}

impl DerefMut for Ops {
    fn deref_mut(&mut self) -> &mut [QueuedOp] {
        match self {
            Self::One(op) => op,
            Self::Several(ops) => ops,
        }
    }
}

impl QueuedGroup {
    pub(crate) fn new(mut ops: Vec<QueuedOp>, queued: QueuedAt) -> Self {
        let bytes = ops.iter().map(weight).sum();
        let ops = match ops.pop() {
            Some(op) if ops.is_empty() => Ops::One([op]),
            last => {
                ops.extend(last);
                Ops::Several(ops)
            }
        };
        Self { ops, queued, bytes }
    }
}

impl QueuedGroup {
    /// Makes an action one with the only operation, or hands it back.
    pub(crate) fn coalesce(
        &mut self,
        action: QueuedAction,
        queued: impl FnOnce() -> QueuedAt,
    ) -> Option<QueuedAction> {
        let Ops::One([before]) = &mut self.ops else {
            return Some(action);
        };
        // Of one that may have been done only the server knows whether it is still to be.
        if before.in_doubt.is_some() {
            return Some(action);
        }
        let ages = matches!(action, QueuedAction::Put { ttl: Some(_), .. } | QueuedAction::Expire { .. });
        let rest = coalesce_actions(&mut before.action, action);
        if ages && rest.is_none() {
            self.queued = queued();
        }
        self.bytes = weight(before);
        rest
    }
}

fn weight(op: &QueuedOp) -> u64 {
    OVERHEAD + (op.key.len() + op.action.bytes()) as u64
}

/// Makes of an action the one that does what it and the next do one after the other, if there is one that may
/// be sent in its place; hands the next one back otherwise.
fn coalesce_actions(before: &mut QueuedAction, after: QueuedAction) -> Option<QueuedAction> {
    match (&mut *before, &after) {
        // What lay there before does not matter to either, and the second replaces all of the first.
        (
            QueuedAction::Put { .. } | QueuedAction::Delete,
            QueuedAction::Put { .. } | QueuedAction::Delete,
        )
        | (QueuedAction::Expire { .. }, QueuedAction::Expire { .. })
        | (QueuedAction::PutIfPresent { .. }, QueuedAction::PutIfPresent { .. }) => *before = after,
        // Until when it stays is as it was.
        (QueuedAction::Put { value, .. }, QueuedAction::PutIfPresent { value: new }) => *value = new.clone(),
        (
            QueuedAction::Incr { by, ttl_if_created },
            QueuedAction::Incr { by: more, ttl_if_created: other },
        ) if same(*ttl_if_created, *other) => match by.checked_add(*more) {
            Some(sum) => *by = sum,
            None => return Some(after),
        },
        _ => return Some(after),
    }
    None
}

fn same(one: Option<Millis>, other: Option<Millis>) -> bool {
    // With a time to live at birth the first of them decides when it ends.
    one.is_none() && other.is_none()
}
