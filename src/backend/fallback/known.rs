//! Owns what this process knows of a key after an operation on the server. Knows nothing of where that is kept.

use super::Inner;
use super::shadow::{Known, Writing};
use crate::clock::{Deadline, Millis, Now};
use crate::op::{Action, Op, Reply};
use crate::value::Value;

impl Inner {
    /// Keeps what an operation on the server has left there.
    pub(super) fn keep(&self, writing: Writing<'_>, op: &Op<'_>, reply: &Reply) {
        let now = Now::of(&*self.clock);
        let before = self.shadow.get(&op.key, &now);
        if let Some(known) = known(&op.action, reply, before.as_ref(), &now) {
            writing.left(known);
        }
    }
}

/// What is known of a key after an action on the server, of which `before` was known.
fn known(action: &Action, reply: &Reply, before: Option<&Known>, now: &Now<'_>) -> Option<Known> {
    let value = |value: &Value, ttl: Option<Millis>| Known::Value {
        bytes: value.bytes.clone(),
        deadline: ttl.map(|ttl| Deadline::after(now, ttl)),
    };
    // Until when it stays is as it was.
    let kept = |value: &Value| match before {
        Some(Known::Value { deadline, .. }) => {
            Some(Known::Value { bytes: value.bytes.clone(), deadline: *deadline })
        }
        Some(Known::Absent) | None => None,
    };
    match (action, reply) {
        (Action::Put { value: put, ttl } | Action::PutAndGet { value: put, ttl }, _)
        | (Action::PutIfAbsent { value: put, ttl }, Reply::Flag(true)) => Some(value(put, *ttl)),
        (Action::PutIfPresent { value: put }, Reply::Flag(true)) => kept(put),
        (Action::Swap { expected: None, new: Some(new), birth_ttl }, Reply::Flag(true)) => {
            Some(value(new, *birth_ttl))
        }
        (Action::Swap { expected: Some(_), new: Some(new), .. }, Reply::Flag(true)) => kept(new),
        (Action::Incr { by, birth_ttl }, Reply::Number(number)) => match before {
            Some(Known::Value { .. }) => kept(&Value::integer(*number)),
            Some(Known::Absent) if number == by => Some(value(&Value::integer(*number), *birth_ttl)),
            Some(Known::Absent) | None => {
                // Whether it was there before, and until when it stays, is not known.
                birth_ttl.is_none().then(|| value(&Value::integer(*number), None))
            }
        },
        (Action::PutIfPresent { .. }, Reply::Flag(false))
        | (Action::Swap { new: None, .. }, Reply::Flag(true))
        | (Action::Delete | Action::Take, _) => Some(Known::Absent),
        _ => None,
    }
}
