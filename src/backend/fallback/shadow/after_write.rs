//! Owns what this process knows of a key after an operation on the server. Knows nothing of where that is kept.

use crate::backend::fallback::shadow::cache::{Known, Writing};
use crate::backend::fallback::shared::Inner;
use crate::backend::local::change::{Change, Content, Entry};
use crate::clock::{Deadline, Millis, Now};
use crate::error::Kind;
use crate::key::Key;
use crate::op::{Action, Op, Reply};
use crate::value::{Form, Value};

impl Inner {
    /// Keeps what an operation on the server has left there.
    pub(crate) fn keep(&self, writing: Writing<'_>, op: &Op<'_>, reply: &Reply) {
        if let Some(known) = self.known_after(op, reply) {
            writing.left(known);
        }
    }

    /// What is known of a key after an operation on the server.
    pub(crate) fn known_after(&self, op: &Op<'_>, reply: &Reply) -> Option<Known> {
        let now = Now::of(&*self.clock);
        let before = match &op.action {
            // What was there before does not matter.
            Action::Put { .. } | Action::Delete => None,
            _ => self.shadow.get(&op.key, &now),
        };
        known(&op.action, reply, before.as_ref(), &now)
    }
}

impl Known {
    /// What it lets lie here. Whose text a value is does not matter: nothing of it is written down.
    pub(crate) fn entry(self) -> Option<Entry> {
        match self {
            Self::Value { bytes, deadline } => Some(Entry::value(Value { bytes, form: Form::Raw }, deadline)),
            Self::Absent | Self::Other => None,
        }
    }
}

/// What is known of a key after an action on the server, of which `before` was known.
fn known(action: &Action, reply: &Reply, before: Option<&Known>, now: &Now<'_>) -> Option<Known> {
    let value = |value: &Value, ttl: Option<Millis>| Known::Value {
        bytes: value.bytes.clone(),
        deadline: ttl.map(|ttl| Deadline::after(now, ttl)),
    };
    // Until when it stays is as it was; where that is not known, as after a read.
    let kept = |value: &Value| {
        let deadline = match before {
            Some(Known::Value { deadline, .. }) => *deadline,
            Some(Known::Absent | Known::Other) | None => None,
        };
        Some(Known::Value { bytes: value.bytes.clone(), deadline })
    };
    match (action, reply) {
        (Action::Put { value: put, ttl } | Action::PutAndGet { value: put, ttl }, _)
        | (Action::PutIfAbsent { value: put, ttl }, Reply::Flag(true)) => Some(value(put, *ttl)),
        (Action::PutIfPresent { value: put }, Reply::Flag(true)) => kept(put),
        (Action::Swap { expected: None, new: Some(new), birth_ttl }, Reply::Flag(true)) => {
            Some(value(new, *birth_ttl))
        }
        (Action::Swap { expected: Some(_), new: Some(new), .. }, Reply::Flag(true)) => kept(new),
        (Action::Incr { birth_ttl, .. }, Reply::Number(number)) => match before {
            Some(Known::Value { .. }) => kept(&Value::integer(*number)),
            // With a TTL at birth it may have been there before: then it stays no longer than this.
            Some(Known::Absent | Known::Other) | None => Some(value(&Value::integer(*number), *birth_ttl)),
        },
        (Action::Touch { ttl }, Reply::Found(Some(bytes))) => {
            Some(Known::Value { bytes: bytes.clone(), deadline: Some(Deadline::after(now, *ttl)) })
        }
        (Action::Expire { ttl }, Reply::Flag(true)) => until(before?, Some(Deadline::after(now, *ttl))),
        (Action::Persist, Reply::Flag(true)) => until(before?, None),
        // It is what was there, as far as this process knows.
        (Action::PutIfAbsent { .. }, Reply::Flag(false)) => {
            before.filter(|known| **known != Known::Absent).cloned()
        }
        (Action::Persist, Reply::Flag(false)) => before.cloned(),
        (Action::PutIfPresent { .. } | Action::Expire { .. }, Reply::Flag(false))
        | (Action::Touch { .. }, Reply::Found(None))
        | (Action::Swap { new: None, .. }, Reply::Flag(true))
        | (Action::Delete | Action::Take, _) => Some(Known::Absent),
        _ if action.kind() != Kind::Value => Some(Known::Other),
        _ => None,
    }
}

/// The same with another deadline.
fn until(known: &Known, deadline: Option<Deadline>) -> Option<Known> {
    match known {
        Known::Value { bytes, .. } => Some(Known::Value { bytes: bytes.clone(), deadline }),
        Known::Other => Some(Known::Other),
        Known::Absent => None,
    }
}

/// What is known of each key after a transaction has made these changes there.
pub(crate) fn after(changes: &[(Key<'static>, Change)]) -> Vec<Option<Known>> {
    // Of several changes of a key the last one counts, in the shadow too.
    changes.iter().map(|(_, change)| changed(change)).collect()
}

fn changed(change: &Change) -> Option<Known> {
    match change {
        Change::Set(Entry { content: Content::Value(value), deadline }) => {
            Some(Known::Value { bytes: value.bytes.clone(), deadline: *deadline })
        }
        Change::Remove => Some(Known::Absent),
        // Whether it is a value, and which, is not known.
        Change::Nothing | Change::SetDeadline(_) => None,
        Change::Set(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::SetItems { .. }
        | Change::DropBefore(_)
        | Change::DropFrom(_) => Some(Known::Other),
    }
}
