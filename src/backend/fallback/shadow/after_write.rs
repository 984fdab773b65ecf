//! Owns what this process knows of a key after an operation on the server. Knows nothing of where that is kept.

use crate::backend::fallback::shadow::cache::{ShadowWrite, Shadowed};
use crate::backend::fallback::shared::Shared;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::clock::{Deadline, Millis, Now};
use crate::error::Kind;
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply, Write};
use crate::value::{Form, Value};

impl Shared {
    /// Keeps what an operation on the server has left there.
    pub(crate) fn record_reply(&self, writing: ShadowWrite<'_>, op: &Op<'_>, reply: &Reply) {
        if let Some(known) = self.shadowed_after(op, reply) {
            writing.record_write(known);
        }
    }

    /// What is known of a key after an operation on the server.
    pub(crate) fn shadowed_after(&self, op: &Op<'_>, reply: &Reply) -> Option<Shadowed> {
        let now = Now::of(&*self.clock);
        let before = match &op.action {
            // What was there before does not matter.
            EntryAction::Put { .. } | EntryAction::Delete => None,
            _ => self.shadow.get(&op.key, &now),
        };
        known(&op.action, reply, before.as_ref(), &now)
    }
}

impl Shared {
    /// Returns what is known of a key after a write of a batch on the server.
    pub(crate) fn shadowed_after_write(&self, write: &Write) -> Shadowed {
        match write {
            Write::Put { value, ttl } => Shadowed::Value {
                bytes: value.bytes.clone(),
                deadline: ttl.map(|ttl| Deadline::after(&Now::of(&*self.clock), ttl)),
            },
            Write::Delete => Shadowed::Absent,
        }
    }
}

impl Shadowed {
    /// What it lets lie here. Whose text a value is does not matter: nothing of it is written down.
    pub(crate) fn entry(self) -> Option<Entry> {
        match self {
            Self::Value { bytes, deadline } => Some(Entry::value(Value { bytes, form: Form::Raw }, deadline)),
            Self::Absent | Self::NotAValue => None,
        }
    }
}

/// What is known of a key after an action on the server, of which `before` was known.
fn known(action: &EntryAction, reply: &Reply, before: Option<&Shadowed>, now: &Now<'_>) -> Option<Shadowed> {
    let value = |value: &Value, ttl: Option<Millis>| Shadowed::Value {
        bytes: value.bytes.clone(),
        deadline: ttl.map(|ttl| Deadline::after(now, ttl)),
    };
    // Until when it stays is as it was; where that is not known, as after a read.
    let kept = |value: &Value| {
        let deadline = match before {
            Some(Shadowed::Value { deadline, .. }) => *deadline,
            Some(Shadowed::Absent | Shadowed::NotAValue) | None => None,
        };
        Some(Shadowed::Value { bytes: value.bytes.clone(), deadline })
    };
    match (action, reply) {
        (EntryAction::Put { value: put, ttl } | EntryAction::GetAndPut { value: put, ttl }, _)
        | (EntryAction::PutIfAbsent { value: put, ttl }, Reply::Flag(true)) => Some(value(put, *ttl)),
        (EntryAction::PutIfPresent { value: put }, Reply::Flag(true)) => kept(put),
        (EntryAction::Swap { expected: None, new: Some(new), ttl_if_created }, Reply::Flag(true)) => {
            Some(value(new, *ttl_if_created))
        }
        (EntryAction::Swap { expected: Some(_), new: Some(new), .. }, Reply::Flag(true)) => kept(new),
        (EntryAction::Incr { ttl_if_created, .. }, Reply::Number(number)) => match before {
            Some(Shadowed::Value { .. }) => kept(&Value::integer(*number)),
            // With a TTL at birth it may have been there before: then it stays no longer than this.
            Some(Shadowed::Absent | Shadowed::NotAValue) | None => {
                Some(value(&Value::integer(*number), *ttl_if_created))
            }
        },
        (EntryAction::Touch { ttl }, Reply::Found(Some(bytes))) => {
            Some(Shadowed::Value { bytes: bytes.clone(), deadline: Some(Deadline::after(now, *ttl)) })
        }
        (EntryAction::Expire { ttl }, Reply::Flag(true)) => until(before?, Some(Deadline::after(now, *ttl))),
        (EntryAction::Persist, Reply::Flag(true)) => until(before?, None),
        // It is what was there, as far as this process knows.
        (EntryAction::PutIfAbsent { .. }, Reply::Flag(false)) => {
            before.filter(|known| **known != Shadowed::Absent).cloned()
        }
        (EntryAction::Persist, Reply::Flag(false)) => before.cloned(),
        (EntryAction::PutIfPresent { .. } | EntryAction::Expire { .. }, Reply::Flag(false))
        | (EntryAction::Touch { .. }, Reply::Found(None))
        | (EntryAction::Swap { new: None, .. }, Reply::Flag(true))
        | (EntryAction::Delete | EntryAction::GetAndDelete, _) => Some(Shadowed::Absent),
        _ if action.traits().kind != Kind::Value => Some(Shadowed::NotAValue),
        _ => None,
    }
}

/// The same with another deadline.
fn until(known: &Shadowed, deadline: Option<Deadline>) -> Option<Shadowed> {
    match known {
        Shadowed::Value { bytes, .. } => Some(Shadowed::Value { bytes: bytes.clone(), deadline }),
        Shadowed::NotAValue => Some(Shadowed::NotAValue),
        Shadowed::Absent => None,
    }
}

/// What is known of each key after a transaction has made these changes there.
pub(crate) fn after_changes(changes: &[(Key<'static>, Change)]) -> Vec<Option<Shadowed>> {
    // Of several changes of a key the last one counts, in the shadow too.
    changes.iter().map(|(_, change)| changed(change)).collect()
}

fn changed(change: &Change) -> Option<Shadowed> {
    match change {
        Change::Set(Entry { content: Content::Value(value), deadline }) => {
            Some(Shadowed::Value { bytes: value.bytes.clone(), deadline: *deadline })
        }
        Change::Remove => Some(Shadowed::Absent),
        // Whether it is a value, and which, is not known.
        Change::Nothing | Change::SetDeadline(_) => None,
        Change::Set(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::SetItems { .. }
        | Change::DropBefore(_)
        | Change::DropFrom(_) => Some(Shadowed::NotAValue),
    }
}
