//! Owns an operation that was done here and waits to be done on the server. Knows nothing of where it waits.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::redis::exactly_once::slots::{CallId, Turn};
use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{Action, End};

/// What this process had last seen of a key when it changed it without the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This value, by its SHA-1.
    Value([u8; 20]),
    /// One of these: what was there before a write whose answer was lost, or its doing.
    Either(Vec<Seen>),
    /// A map or a queue, or nothing, since it may have become empty.
    Other,
    /// That nothing was there.
    Absent,
    /// Nothing at all; and a read was told that nothing is there.
    Assumed,
    /// Nothing at all.
    Unknown,
    /// What an earlier operation of this process makes of it.
    Own,
}

impl Seen {
    /// What an action leaves.
    pub(crate) fn done_by(action: &Action) -> Self {
        match action {
            Action::Put { value, .. } => Self::Value(sha1_smol::Sha1::from(&*value.bytes).digest().bytes()),
            Action::Delete => Self::Absent,
            _ => Self::Own,
        }
    }

    /// The same, or what a write leaves that may have been done there already.
    pub(crate) fn or(self, done: Self) -> Self {
        match (self, done) {
            (_, Self::Own) => Self::Own,
            (seen @ (Self::Assumed | Self::Own), _) => seen,
            (Self::Either(mut all), done) => {
                all.push(done);
                Self::Either(all)
            }
            (seen @ (Self::Value(_) | Self::Absent | Self::Unknown | Self::Other), done) => {
                Self::Either(vec![seen, done])
            }
        }
    }
}

/// An operation that waits.
#[derive(Debug, Clone)]
pub(crate) struct Deferred {
    pub(crate) key: Key<'static>,
    pub(crate) action: Action,
    pub(crate) seen: Seen,
    /// Where the server may have done it already: how it is asked.
    pub(crate) told: Option<Told>,
}

/// A step of a call whose answer was lost. The server knows whether it was done: then it is not done again. A
/// pop is not done in any case; its value goes back if the server had handed it out, since nobody was given it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) call: CallId,
    /// Which of its steps this is.
    pub(crate) place: usize,
    /// Until the server was asked, no other call of this process has its lane.
    turn: Option<Arc<Turn>>,
}

impl Told {
    pub(crate) fn of(turn: &Arc<Turn>, place: usize) -> Self {
        Self { call: turn.call(), place, turn: Some(Arc::clone(turn)) }
    }

    /// How often the server had lost its memory when it was sent, where that is known.
    pub(crate) fn losses(&self) -> Option<u64> {
        self.turn.as_ref().map(|turn| turn.losses())
    }

    /// A step of a call that an earlier run of the program has made.
    pub(crate) fn left(call: CallId, place: usize) -> Self {
        Self { call, place, turn: None }
    }
}

impl Deferred {
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
    pub(crate) fn name(&self) -> &'static str {
        match &self.action {
            Action::Pop { end: End::Front } if self.gives_back() => "LPUSH",
            Action::Pop { end: End::Back } if self.gives_back() => "RPUSH",
            action => action.name(),
        }
    }

    /// Whether it is a pop of which nobody was told: it is not done, and undone if it was.
    pub(crate) fn gives_back(&self) -> bool {
        self.told.is_some() && matches!(self.action, Action::Pop { .. })
    }

    /// What is to be done on the server after it has waited this long: times to live have gone on running.
    pub(crate) fn aged(&self, age: Duration) -> Action {
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
pub(crate) enum Outcome {
    /// Somebody else had written the key meanwhile, and that is overwritten: the value, or its beginning.
    Overwritten(Option<Vec<u8>>),
    /// Somebody else had written the key meanwhile, and that stays.
    Dropped(Option<Vec<u8>>),
    /// It was refused, and why.
    Rejected(String),
    /// The server does not know any more whether it had done it before. It was not done again.
    Uncertain,
}
