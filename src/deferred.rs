//! Owns an operation that was done here and waits to be done on the server. Knows nothing of where it waits.

use std::time::Duration;

use crate::clock::Millis;
use crate::key::Key;
use crate::op::Action;

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
    /// The same, or what this action leaves: it may have been done there already.
    pub(crate) fn or_done(self, action: &Action) -> Self {
        let done = match action {
            Action::Put { value, .. } => Self::Value(sha1_smol::Sha1::from(&*value.bytes).digest().bytes()),
            Action::Delete => Self::Absent,
            _ => return Self::Own,
        };
        match self {
            Self::Value(_) | Self::Absent | Self::Unknown | Self::Other => Self::Either(vec![self, done]),
            Self::Either(mut all) => {
                all.push(done);
                Self::Either(all)
            }
            Self::Assumed | Self::Own => self,
        }
    }
}

/// An operation that waits.
#[derive(Debug, Clone)]
pub(crate) struct Deferred {
    pub(crate) key: Key<'static>,
    pub(crate) action: Action,
    pub(crate) seen: Seen,
}

impl Deferred {
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
}
