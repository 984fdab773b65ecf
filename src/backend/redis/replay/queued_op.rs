//! Owns an operation that was done here and waits to be done on the server. Knows nothing of where it waits.

use std::sync::Arc;

use crate::backend::redis::exactly_once::slots::{CallId, SlotCall};
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::key::Key;
use crate::op::{End, EntryAction, Write};
use crate::value::Value;

/// What this process had last seen of a key when it changed it without the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    /// This value, by its SHA-1.
    Hash([u8; 20]),
    /// One of these: what was there before a write whose answer was lost, or its doing.
    AnyOf(Vec<Observed>),
    /// A map or a queue, or nothing, since it may have become empty.
    NotAValue,
    /// That nothing was there.
    Absent,
    /// Nothing at all; and a read was told that nothing is there.
    AssumedAbsent,
    /// Nothing at all.
    Nothing,
    /// What an earlier operation of this process makes of it.
    OwnWrite,
}

impl Observed {
    /// What an action leaves.
    pub(crate) fn left_by_entry(action: &EntryAction) -> Self {
        match action {
            EntryAction::Put { value, .. } => Self::hash_of(value),
            EntryAction::Delete => Self::Absent,
            EntryAction::PutIfAbsent { .. }
            | EntryAction::PutIfPresent { .. }
            | EntryAction::GetAndPut { .. }
            | EntryAction::Swap { .. }
            | EntryAction::GetAndDelete
            | EntryAction::Incr { .. }
            | EntryAction::Expire { .. }
            | EntryAction::Persist
            | EntryAction::Touch { .. }
            | EntryAction::MapPut { .. }
            | EntryAction::MapDelete { .. }
            | EntryAction::MapIncr { .. }
            | EntryAction::Push { .. }
            | EntryAction::Pop { .. }
            | EntryAction::Trim { .. } => Self::OwnWrite,
        }
    }

    /// What a write of a batch leaves.
    pub(crate) fn left_by_write(write: &Write) -> Self {
        match write {
            Write::Put { value, .. } => Self::hash_of(value),
            Write::Delete => Self::Absent,
        }
    }

    fn hash_of(value: &Value) -> Self {
        Self::Hash(sha1_smol::Sha1::from(&*value.bytes).digest().bytes())
    }

    /// What a queued action leaves.
    pub(crate) fn left_by(action: &QueuedAction) -> Self {
        match action {
            QueuedAction::Put { value, .. } => Self::hash_of(value),
            QueuedAction::Delete => Self::Absent,
            QueuedAction::PutIfPresent { .. }
            | QueuedAction::Incr { .. }
            | QueuedAction::Expire { .. }
            | QueuedAction::Persist
            | QueuedAction::MapPut { .. }
            | QueuedAction::MapDelete { .. }
            | QueuedAction::MapIncr { .. }
            | QueuedAction::Push { .. }
            | QueuedAction::Pop { .. }
            | QueuedAction::Trim { .. }
            | QueuedAction::SetLease { .. } => Self::OwnWrite,
        }
    }

    /// The same, or what a write leaves that may have been done there already.
    pub(crate) fn or_left(self, done: Self) -> Self {
        match (self, done) {
            (_, Self::OwnWrite) => Self::OwnWrite,
            (seen @ (Self::AssumedAbsent | Self::OwnWrite), _) => seen,
            (Self::AnyOf(mut all), done) => {
                all.push(done);
                Self::AnyOf(all)
            }
            (seen @ (Self::Hash(_) | Self::Absent | Self::Nothing | Self::NotAValue), done) => {
                Self::AnyOf(vec![seen, done])
            }
        }
    }
}

/// An operation that waits.
#[derive(Debug, Clone)]
pub(crate) struct QueuedOp {
    pub(crate) key: Key<'static>,
    pub(crate) action: QueuedAction,
    pub(crate) observed: Observed,
    /// Where the server may have done it already: how it is asked.
    pub(crate) in_doubt: Option<InDoubt>,
}

/// A step of a call whose answer was lost. The server knows whether it was done: then it is not done again. A
/// pop is not done in any case; its value goes back if the server had handed it out, since nobody was given it.
#[derive(Debug, Clone)]
pub(crate) struct InDoubt {
    pub(crate) call: CallId,
    /// Which of its steps this is.
    pub(crate) step: usize,
    /// Until the server was asked, no other call of this process has its lane.
    slot_call: Option<Arc<SlotCall>>,
}

impl InDoubt {
    pub(crate) fn new(turn: &Arc<SlotCall>, step: usize) -> Self {
        Self { call: turn.id(), step, slot_call: Some(Arc::clone(turn)) }
    }

    /// How often the server had lost its memory when it was sent, where that is known.
    pub(crate) fn loss_count(&self) -> Option<u64> {
        self.slot_call.as_ref().map(|turn| turn.loss_count())
    }

    /// A step of a call that an earlier run of the program has made.
    pub(crate) fn from_earlier_run(call: CallId, step: usize) -> Self {
        Self { call, step, slot_call: None }
    }
}

impl QueuedOp {
    /// Returns the Redis command that it becomes, as reports name it.
    pub(crate) fn command(&self) -> &'static str {
        match &self.action {
            QueuedAction::Pop { end: End::Front } if self.undoes_pop() => "LPUSH",
            QueuedAction::Pop { end: End::Back } if self.undoes_pop() => "RPUSH",
            action => action.command(),
        }
    }

    /// Returns whether it is a pop whose value nobody received: it is not done, and undone if it was.
    pub(crate) fn undoes_pop(&self) -> bool {
        self.in_doubt.is_some() && matches!(self.action, QueuedAction::Pop { .. })
    }
}

/// What the server found when it did an operation that had waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplayOutcome {
    /// Somebody else had written the key meanwhile, and that is overwritten: the value, or its beginning.
    Overwritten(Option<Vec<u8>>),
    /// Somebody else had written the key meanwhile, and that stays.
    Dropped(Option<Vec<u8>>),
    /// It was refused, and why.
    Rejected(String),
    /// The server does not know any more whether it had done it before. It was not done again.
    Uncertain,
}
