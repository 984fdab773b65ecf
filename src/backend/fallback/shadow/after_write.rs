//! Owns what the shadow holds of a key after an operation on the server. It only decides, from what was known before
//! and from the reply. Knows nothing of how the shadow keeps values.

use crate::backend::fallback::shadow::cache::{Shadow, Shadowed};
use crate::backend::fallback::shadow::in_flight::ShadowWrite;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::clock::{Clock, Deadline, Millis, Now};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply, Write};
use crate::value::{Form, Value};

impl Shadow {
    /// Records what an operation left on the server, if that is known.
    pub(crate) fn record_reply(&self, write: ShadowWrite<'_>, op: &Op<'_>, reply: &Reply, clock: &dyn Clock) {
        if let Some(shadowed) = self.shadowed_after(op, reply, clock) {
            write.record_write(shadowed);
        }
    }

    /// Returns what is known of a key after an operation on the server.
    pub(crate) fn shadowed_after(&self, op: &Op<'_>, reply: &Reply, clock: &dyn Clock) -> Option<Shadowed> {
        // `Now` reads the clock only if a deadline is involved.
        let now = Now::of(clock);
        // A put and a delete replace all that was stored under the key.
        let replaces_all = matches!(op.action, EntryAction::Put { .. } | EntryAction::Delete);
        let before = if replaces_all { None } else { self.get(&op.key, &now) };
        shadowed_after_action(&op.action, reply, before.as_ref(), &now)
    }
}

impl Shadowed {
    /// Returns the entry that is served locally during an outage. Its [`Form`] is irrelevant: it is never written to
    /// a file.
    pub(crate) fn entry(self) -> Option<Entry> {
        match self {
            Self::Value { bytes, deadline } => Some(Entry::value(Value::new(bytes, Form::Raw), deadline)),
            Self::Absent | Self::NotAValue => None,
        }
    }
}

/// Returns what is known of a key after a write of a batch on the server.
pub(crate) fn shadowed_after_write(write: &Write, clock: &dyn Clock) -> Shadowed {
    match write {
        Write::Put { value, ttl } => Shadowed::Value {
            bytes: value.bytes.clone(),
            deadline: ttl.map(|ttl| Deadline::after(&Now::of(clock), ttl)),
        },
        Write::Delete => Shadowed::Absent,
    }
}

/// Returns what is known of a key after an action on the server. `before` is what was known before the action.
fn shadowed_after_action(
    action: &EntryAction,
    reply: &Reply,
    before: Option<&Shadowed>,
    now: &Now<'_>,
) -> Option<Shadowed> {
    let value = |value: &Value, ttl: Option<Millis>| Shadowed::Value {
        bytes: value.bytes.clone(),
        deadline: ttl.map(|ttl| Deadline::after(now, ttl)),
    };
    // The action keeps the deadline. If the deadline is not known, the value is held without one, as after a read.
    let value_keeping_deadline = |value: &Value| {
        Some(Shadowed::Value { bytes: value.bytes.clone(), deadline: known_deadline(before) })
    };
    match (action, reply) {
        (EntryAction::Put { value: put, ttl } | EntryAction::GetAndPut { value: put, ttl }, _)
        | (EntryAction::PutIfAbsent { value: put, ttl }, Reply::Flag(true)) => Some(value(put, *ttl)),
        (EntryAction::PutIfPresent { value: put }, Reply::Flag(true)) => value_keeping_deadline(put),
        (EntryAction::Swap { expected: None, new: Some(new), ttl_if_created }, Reply::Flag(true)) => {
            Some(value(new, *ttl_if_created))
        }
        (EntryAction::Swap { expected: Some(_), new: Some(new), .. }, Reply::Flag(true)) => {
            value_keeping_deadline(new)
        }
        (EntryAction::Incr { ttl_if_created, .. }, Reply::Number(number)) => match before {
            Some(Shadowed::Value { .. }) => value_keeping_deadline(&Value::integer(*number)),
            // If an earlier increment created the key, the key expires even before this deadline.
            Some(Shadowed::Absent | Shadowed::NotAValue) | None => {
                Some(value(&Value::integer(*number), *ttl_if_created))
            }
        },
        (EntryAction::Touch { ttl }, Reply::Found(Some(bytes))) => {
            Some(Shadowed::Value { bytes: bytes.clone(), deadline: Some(Deadline::after(now, *ttl)) })
        }
        // Whether the value has a deadline is known only if one was set before.
        (EntryAction::Renew { ttl }, Reply::Found(Some(bytes))) => {
            let deadline = known_deadline(before).map(|before| before.max(Deadline::after(now, *ttl)));
            Some(Shadowed::Value { bytes: bytes.clone(), deadline })
        }
        (EntryAction::Expire { ttl }, Reply::Flag(true)) => {
            with_deadline(before?, Some(Deadline::after(now, *ttl)))
        }
        (EntryAction::Persist, Reply::Flag(true)) => with_deadline(before?, None),
        // The key exists: what was known of it still holds, unless that was its absence.
        (EntryAction::PutIfAbsent { .. }, Reply::Flag(false)) => {
            before.filter(|before| **before != Shadowed::Absent).cloned()
        }
        (EntryAction::Persist, Reply::Flag(false)) => before.cloned(),
        (EntryAction::PutIfPresent { .. } | EntryAction::Expire { .. }, Reply::Flag(false))
        | (EntryAction::Touch { .. } | EntryAction::Renew { .. }, Reply::Found(None))
        | (EntryAction::Swap { new: None, .. }, Reply::Flag(true))
        | (EntryAction::Delete | EntryAction::GetAndDelete, _) => Some(Shadowed::Absent),
        (
            EntryAction::MapPut { .. }
            | EntryAction::MapDelete { .. }
            | EntryAction::MapIncr { .. }
            | EntryAction::Push { .. }
            | EntryAction::Pop { .. }
            | EntryAction::Trim { .. }
            | EntryAction::WindowAdd(_),
            _,
        ) => Some(Shadowed::NotAValue),
        // The swap did not happen, since the key has another value; or the reply does not belong to the action.
        (
            EntryAction::PutIfAbsent { .. }
            | EntryAction::PutIfPresent { .. }
            | EntryAction::Swap { .. }
            | EntryAction::Incr { .. }
            | EntryAction::Expire { .. }
            | EntryAction::Persist
            | EntryAction::Touch { .. }
            | EntryAction::Renew { .. },
            _,
        ) => None,
    }
}

fn known_deadline(shadowed: Option<&Shadowed>) -> Option<Deadline> {
    match shadowed {
        Some(Shadowed::Value { deadline, .. }) => *deadline,
        Some(Shadowed::Absent | Shadowed::NotAValue) | None => None,
    }
}

fn with_deadline(shadowed: &Shadowed, deadline: Option<Deadline>) -> Option<Shadowed> {
    match shadowed {
        Shadowed::Value { bytes, .. } => Some(Shadowed::Value { bytes: bytes.clone(), deadline }),
        Shadowed::NotAValue => Some(Shadowed::NotAValue),
        Shadowed::Absent => None,
    }
}

/// Returns what is known of each key after a transaction has made these changes on the server. The shadow records them
/// in order, so the last of several changes of one key counts. Their deadlines are relative to `begun`, the time that
/// the transaction was given; `clock` shows the time of the shadow.
pub(crate) fn shadowed_after_changes<'c>(
    changes: impl Iterator<Item = &'c (Key<'static>, Change)>,
    begun: &Now<'_>,
    clock: &dyn Clock,
) -> Vec<Option<Shadowed>> {
    let now = Now::of(clock);
    changes.map(|(_, change)| shadowed_after_change(change, begun, &now)).collect()
}

fn shadowed_after_change(change: &Change, begun: &Now<'_>, now: &Now<'_>) -> Option<Shadowed> {
    match change {
        Change::Set(Entry { content: Content::Value(value), deadline }) => match deadline {
            None => Some(Shadowed::Value { bytes: value.bytes.clone(), deadline: None }),
            Some(deadline) => Some(deadline.ttl(begun).map_or(Shadowed::Absent, |ttl| Shadowed::Value {
                bytes: value.bytes.clone(),
                deadline: Some(Deadline::after(now, ttl)),
            })),
        },
        Change::Remove => Some(Shadowed::Absent),
        // The change does not show what is stored under the key.
        Change::Nothing | Change::SetDeadline(_) => None,
        Change::Set(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::SetItems { .. }
        | Change::DropBefore(_)
        | Change::DropFrom(_) => Some(Shadowed::NotAValue),
    }
}
