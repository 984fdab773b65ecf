//! Owns a group of operations that are queued and sent as one: a single operation, or all operations of a batch. Knows
//! nothing of the order of groups.

use std::ops::{Deref, DerefMut};

use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::weight;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::key::Key;

/// An operation before it is queued.
pub(crate) struct OpToQueue {
    pub(crate) key: Key<'static>,
    pub(crate) action: QueuedAction,
    /// How to ask the server whether it has done the operation, if the operation is in doubt.
    pub(crate) in_doubt: Option<InDoubt>,
}

impl OpToQueue {
    /// An operation that was not sent.
    pub(crate) fn new(key: &Key<'_>, action: QueuedAction) -> Self {
        Self { key: key.clone().into_owned(), action, in_doubt: None }
    }
}

/// Operations that are queued and sent together.
#[derive(Debug, Clone)]
pub(crate) struct QueuedGroup {
    pub(crate) ops: Ops,
    pub(crate) queued_at: QueuedAt,
    /// How much memory the operations take, without their keys' share.
    pub(crate) bytes: u64,
    /// How much the keys take to which no earlier operation is queued.
    pub(crate) key_bytes: u64,
}

/// The operations of a group. The usual single one needs no allocation.
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
    pub(crate) fn new(mut ops: Vec<QueuedOp>, queued_at: QueuedAt) -> Self {
        let bytes = ops.iter().map(weight::of_operation).sum();
        let ops = match ops.pop() {
            Some(op) if ops.is_empty() => Ops::One([op]),
            last => {
                ops.extend(last);
                Ops::Several(ops)
            }
        };
        Self { ops, queued_at, bytes, key_bytes: 0 }
    }

    /// Coalesces an action with the only operation of the group if it can; returns the action otherwise.
    pub(crate) fn coalesce(
        &mut self,
        action: QueuedAction,
        queued_at: impl FnOnce() -> QueuedAt,
    ) -> Option<QueuedAction> {
        let Ops::One([before]) = &mut self.ops else {
            return Some(action);
        };
        // If the operation is in doubt, only the server knows whether it must still be done.
        if before.in_doubt.is_some() {
            return Some(action);
        }
        let restarts_ttl = matches!(
            action,
            QueuedAction::Put { ttl: Some(_), .. } | QueuedAction::Expire { .. } | QueuedAction::Renew { .. }
        );
        let rest = coalesce_actions(&mut before.action, action);
        if rest.is_none() {
            before.calls = before.calls.saturating_add(1);
            if restarts_ttl {
                self.queued_at = queued_at();
            }
        }
        self.bytes = weight::of_operation(before);
        rest
    }
}

/// Changes `before` into one action with the effect of both, if there is such an action; returns `after` otherwise.
fn coalesce_actions(before: &mut QueuedAction, after: QueuedAction) -> Option<QueuedAction> {
    match (&mut *before, &after) {
        // The second action replaces everything that the first one sets, and neither depends on what was stored before.
        (
            QueuedAction::Put { .. } | QueuedAction::Delete,
            QueuedAction::Put { .. } | QueuedAction::Delete,
        )
        | (QueuedAction::Expire { .. }, QueuedAction::Expire { .. })
        | (QueuedAction::Renew { .. }, QueuedAction::Renew { .. })
        | (QueuedAction::PutIfPresent { .. }, QueuedAction::PutIfPresent { .. }) => *before = after,
        // The second action keeps the deadline of the first one.
        (QueuedAction::Put { value, .. }, QueuedAction::PutIfPresent { value: new }) => *value = new.clone(),
        // With a TTL it matters which of the increments creates the key: its deadline counts from then.
        (
            QueuedAction::Incr { by, ttl_if_created: None },
            QueuedAction::Incr { by: more, ttl_if_created: None },
        ) => match by.checked_add(*more) {
            Some(sum) => *by = sum,
            None => return Some(after),
        },
        (
            QueuedAction::Put { .. }
            | QueuedAction::PutIfPresent { .. }
            | QueuedAction::Delete
            | QueuedAction::Incr { .. }
            | QueuedAction::Expire { .. }
            | QueuedAction::Renew { .. }
            | QueuedAction::Persist
            | QueuedAction::MapPut { .. }
            | QueuedAction::MapDelete { .. }
            | QueuedAction::MapIncr { .. }
            | QueuedAction::Push { .. }
            | QueuedAction::Pop { .. }
            | QueuedAction::Trim { .. }
            | QueuedAction::WindowAdd(_)
            | QueuedAction::SetLease { .. },
            _,
        ) => return Some(after),
    }
    None
}
