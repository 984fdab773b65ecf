//! Owns how much memory a queued operation takes: in the queue, and in the local state that it changes. The numbers are
//! measured, by a test of the memory of a process.

use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;

/// The operation itself, with its group.
const OPERATION: usize = 216;

/// A value in a block of its own, and its place in an entry.
const VALUE: usize = 150;

/// A field, with its value, in the queue and in a map, and its name among the known fields.
const FIELD: usize = 280;

/// A number in a field.
const FIELD_NUMBER: usize = 130;

/// A deadline, which is also listed in the order of all deadlines.
const DEADLINE: usize = 60;

/// What is noted of a key that has queued operations, and its place in the table.
const KEY: usize = 280;

/// What a new queue and a new map take.
const NEW_QUEUE: usize = 120;
const NEW_MAP: usize = 650;

/// A key of more bytes than this is copied into a block each time that it is noted.
const INLINE: usize = 23;
const BLOCK: usize = 16;
const COPIES: usize = 3;

/// Returns how much an operation takes, without what its key takes once.
pub(crate) fn of_operation(op: &QueuedOp) -> u64 {
    let deadline = |has_one: bool| if has_one { DEADLINE } else { 0 };
    let parts = match &op.action {
        QueuedAction::Put { ttl, .. } => VALUE + deadline(ttl.is_some()),
        QueuedAction::Incr { ttl_if_created, .. } => VALUE + deadline(ttl_if_created.is_some()),
        QueuedAction::PutIfPresent { .. } => VALUE,
        QueuedAction::Expire { .. } | QueuedAction::Renew { .. } => DEADLINE,
        QueuedAction::MapPut { fields, ttl_if_created } => {
            fields.len() * FIELD + deadline(ttl_if_created.is_some())
        }
        QueuedAction::MapIncr { ttl_if_created, .. } => FIELD_NUMBER + deadline(ttl_if_created.is_some()),
        QueuedAction::Push { values, ttl_if_created, .. } => {
            values.len() * VALUE + deadline(ttl_if_created.is_some())
        }
        QueuedAction::MapDelete { .. } | QueuedAction::SetLease { .. } => FIELD_NUMBER,
        QueuedAction::WindowAdd(_) => FIELD_NUMBER + DEADLINE,
        QueuedAction::Delete
        | QueuedAction::Persist
        | QueuedAction::Pop { .. }
        | QueuedAction::Trim { .. } => 0,
    };
    (OPERATION + op.key.len() + op.action.bytes() + parts) as u64
}

/// Returns how much the key of an operation takes that is the first one to it in the queue.
pub(crate) fn of_key(op: &QueuedOp) -> u64 {
    let copies = if op.key.len() > INLINE { COPIES * (op.key.len() + BLOCK) } else { 0 };
    let entry = match &op.action {
        QueuedAction::Push { .. } => NEW_QUEUE,
        QueuedAction::MapPut { .. }
        | QueuedAction::MapDelete { .. }
        | QueuedAction::MapIncr { .. }
        | QueuedAction::WindowAdd(_) => NEW_MAP,
        QueuedAction::Put { .. }
        | QueuedAction::PutIfPresent { .. }
        | QueuedAction::Delete
        | QueuedAction::Incr { .. }
        | QueuedAction::Expire { .. }
        | QueuedAction::Renew { .. }
        | QueuedAction::Persist
        | QueuedAction::Pop { .. }
        | QueuedAction::Trim { .. }
        | QueuedAction::SetLease { .. } => 0,
    };
    (KEY + copies + entry) as u64
}
