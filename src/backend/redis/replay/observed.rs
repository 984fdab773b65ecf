//! Owns what a process last observed of a key, by which the server recognises a conflict. Knows nothing of queues.

use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::op::{EntryAction, Write};
use crate::value::Value;

/// What this process had last observed of a key when it changed it without the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    /// This value, by its SHA-1.
    Hash([u8; 20]),
    /// One of these: the value before a write in doubt, or what that write leaves.
    AnyOf(Vec<Observed>),
    /// A map or a queue, or nothing, because it may have become empty.
    NotAValue,
    /// That the key did not exist.
    Absent,
    /// Nothing at all, and a read has returned that the key does not exist.
    AssumedAbsent,
    /// Nothing at all.
    Nothing,
    /// What an earlier operation of this process makes of the key.
    OwnWrite,
}

impl Observed {
    /// Returns whether the replay of an action compares what the server holds with what was observed.
    pub(crate) fn is_compared(action: &EntryAction) -> bool {
        matches!(action, EntryAction::Put { .. } | EntryAction::Delete)
    }

    /// Returns what an action on an entry leaves.
    pub(crate) fn left_by_entry(action: &EntryAction) -> Self {
        match action {
            EntryAction::Put { value, .. } | EntryAction::PutIfPresent { value } => Self::hash_of(value),
            EntryAction::Delete => Self::Absent,
            EntryAction::PutIfAbsent { .. }
            | EntryAction::GetAndPut { .. }
            | EntryAction::Swap { .. }
            | EntryAction::GetAndDelete
            | EntryAction::Incr { .. }
            | EntryAction::Expire { .. }
            | EntryAction::Persist
            | EntryAction::Touch { .. }
            | EntryAction::Renew { .. }
            | EntryAction::MapPut { .. }
            | EntryAction::MapDelete { .. }
            | EntryAction::MapIncr { .. }
            | EntryAction::Push { .. }
            | EntryAction::Pop { .. }
            | EntryAction::Trim { .. }
            | EntryAction::WindowAdd(_) => Self::OwnWrite,
        }
    }

    /// Returns what a write of a batch leaves.
    pub(crate) fn left_by_write(write: &Write) -> Self {
        match write {
            Write::Put { value, .. } => Self::hash_of(value),
            Write::Delete => Self::Absent,
        }
    }

    /// Returns what a queued action leaves.
    pub(crate) fn left_by(action: &QueuedAction) -> Self {
        match action {
            QueuedAction::Put { value, .. } | QueuedAction::PutIfPresent { value } => Self::hash_of(value),
            QueuedAction::Delete => Self::Absent,
            QueuedAction::Incr { .. }
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
            | QueuedAction::SetLease { .. } => Self::OwnWrite,
        }
    }

    fn hash_of(value: &Value) -> Self {
        Self::Hash(sha1_smol::Sha1::from(&*value.bytes).digest().bytes())
    }

    /// Returns the same, or what a write in doubt leaves, which the server may have applied already.
    pub(crate) fn or_left(self, written: Self) -> Self {
        match (self, written) {
            (_, Self::OwnWrite) => Self::OwnWrite,
            (before @ (Self::AssumedAbsent | Self::OwnWrite), _) => before,
            (Self::AnyOf(mut all), written) => {
                all.push(written);
                Self::AnyOf(all)
            }
            (before @ (Self::Hash(_) | Self::Absent | Self::Nothing | Self::NotAValue), written) => {
                Self::AnyOf(vec![before, written])
            }
        }
    }
}
