//! Owns an operation that was done here and waits to be done on the server. Knows nothing of where it waits.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::redis::exactly_once::slots::{CallId, SlotCall};
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{Action, End};

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
    pub(crate) fn left_by(action: &Action) -> Self {
        match action {
            Action::Put { value, .. } => Self::Hash(sha1_smol::Sha1::from(&*value.bytes).digest().bytes()),
            Action::Delete => Self::Absent,
            _ => Self::OwnWrite,
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
    pub(crate) action: Action,
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
    /// The field of a map that it is about, where it is one.
    pub(crate) fn field(&self) -> Option<String> {
        match &self.action {
            Action::MapPut { fields, .. } if fields.len() == 1 => {
                fields.first().map(|(name, _)| name.to_string())
            }
            Action::MapDelete { field } | Action::MapIncr { field, .. } => Some(field.to_string()),
            _ => None,
        }
    }

    /// The value or the number that it carries, where that is one.
    pub(crate) fn argument(&self) -> Option<Bytes> {
        match &self.action {
            Action::Put { value, .. } | Action::PutIfPresent { value } => Some(value.bytes.clone()),
            Action::Incr { by, .. } | Action::MapIncr { by, .. } => {
                Some(Bytes::from(by.to_string().as_str()))
            }
            Action::MapPut { fields, .. } if fields.len() == 1 => {
                fields.first().map(|(_, value)| value.bytes.clone())
            }
            Action::Push { values, .. } if values.len() == 1 => {
                values.first().map(|value| value.bytes.clone())
            }
            _ => None,
        }
    }

    /// How it is named to who asks what waits: by the command that it becomes.
    pub(crate) fn command(&self) -> &'static str {
        match &self.action {
            Action::Pop { end: End::Front } if self.undoes_pop() => "LPUSH",
            Action::Pop { end: End::Back } if self.undoes_pop() => "RPUSH",
            action => action.name(),
        }
    }

    /// Whether it is a pop of which nobody was told: it is not done, and undone if it was.
    pub(crate) fn undoes_pop(&self) -> bool {
        self.in_doubt.is_some() && matches!(self.action, Action::Pop { .. })
    }

    /// What is to be done on the server after it has waited this long: times to live have gone on running.
    pub(crate) fn after_waiting(&self, age: Duration) -> Action {
        let left = |ttl: Millis| {
            Duration::from_millis(ttl.get()).checked_sub(age).and_then(|ttl| Millis::new(ttl).ok())
        };
        match &self.action {
            Action::Put { value, ttl: Some(ttl) } => match left(*ttl) {
                Some(ttl) => Action::Put { value: value.clone(), ttl: Some(ttl) },
                None => Action::Delete,
            },
            Action::Expire { ttl } | Action::Touch { ttl } => match left(*ttl) {
                Some(ttl) => Action::Expire { ttl },
                None => Action::Delete,
            },
            Action::NoteLease { id, left: Some(ttl) } => {
                let left = Some(left(*ttl).unwrap_or(Millis::LEAST));
                Action::NoteLease { id: id.clone(), left }
            }
            action => action.clone(),
        }
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
