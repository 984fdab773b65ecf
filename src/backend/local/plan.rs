//! Owns what a mutation does to local data: the one place that says what "put if absent" means. It only
//! decides; it changes nothing.

use super::change::{Change, Entry};
use crate::clock::{Deadline, Millis, Now};
use crate::error::{Error, Result};
use crate::op::{Action, Reply};
use crate::value::{Value, counter};

/// Decides what `action` makes of the entry under `key`. `found` may have expired, and then counts as
/// absent.
pub(crate) fn plan(
    key: &str,
    action: Action,
    found: Option<&Entry>,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    // What lies there is not looked at, nor is the clock read, for what does not depend on it.
    let found = if is_blind(&action) { None } else { live(found, now) };
    Ok(match action {
        Action::Put { value, ttl } => (set(value, ttl, now), Reply::Done),
        Action::PutIfAbsent { value, ttl } => match found {
            Some(_) => (Change::Nothing, Reply::Flag(false)),
            None => (set(value, ttl, now), Reply::Flag(true)),
        },
        Action::PutIfPresent { value } => match found {
            Some(entry) => (keep_deadline(entry, value), Reply::Flag(true)),
            None => (Change::Nothing, Reply::Flag(false)),
        },
        Action::PutAndGet { value, ttl } => (set(value, ttl, now), read(found)),
        Action::Swap { expected, new, birth_ttl } => {
            let same = match (found, &expected) {
                (Some(entry), Some(expected)) => entry.value.bytes == *expected,
                (None, None) => true,
                _ => false,
            };
            let change = match (same, found, new) {
                (true, Some(entry), Some(new)) => keep_deadline(entry, new),
                (true, Some(_), None) => Change::Remove,
                (true, None, Some(new)) => set(new, birth_ttl, now),
                (true, None, None) | (false, _, _) => Change::Nothing,
            };
            (change, Reply::Flag(same))
        }
        Action::Delete => (remove(found), Reply::Flag(found.is_some())),
        Action::Take => (remove(found), read(found)),
        Action::Incr { by, birth_ttl } => incr(key, by, birth_ttl, found, now)?,
        Action::Expire { ttl } => match found {
            Some(_) => (Change::SetDeadline(Some(Deadline::after(now, ttl))), Reply::Flag(true)),
            None => (Change::Nothing, Reply::Flag(false)),
        },
        Action::Persist => match found {
            Some(Entry { deadline: Some(_), .. }) => (Change::SetDeadline(None), Reply::Flag(true)),
            _ => (Change::Nothing, Reply::Flag(false)),
        },
        Action::Touch { ttl } => match found {
            Some(_) => (Change::SetDeadline(Some(Deadline::after(now, ttl))), read(found)),
            None => (Change::Nothing, read(None)),
        },
    })
}

/// Tells whether `plan` decides the same whatever lies under the key.
pub(crate) fn is_blind(action: &Action) -> bool {
    matches!(action, Action::Put { .. })
}

/// What a put or a delete of a batch makes of a key, whatever lies there when its turn comes.
pub(crate) fn plan_write(key: &str, action: Action, now: &Now<'_>) -> Result<Change> {
    match action {
        Action::Delete => Ok(Change::Remove),
        action => plan(key, action, None, now).map(|(change, _)| change),
    }
}

/// The entry, unless its deadline has passed.
pub(crate) fn live<'a>(found: Option<&'a Entry>, now: &Now<'_>) -> Option<&'a Entry> {
    found.filter(|entry| entry.deadline.is_none_or(|deadline| !deadline.has_passed(now)))
}

fn set(value: Value, ttl: Option<Millis>, now: &Now<'_>) -> Change {
    Change::Set(Entry { value, deadline: ttl.map(|ttl| Deadline::after(now, ttl)) })
}

fn keep_deadline(entry: &Entry, value: Value) -> Change {
    Change::Set(Entry { value, deadline: entry.deadline })
}

fn remove(found: Option<&Entry>) -> Change {
    match found {
        Some(_) => Change::Remove,
        None => Change::Nothing,
    }
}

fn read(found: Option<&Entry>) -> Reply {
    Reply::Found(found.map(|entry| entry.value.bytes.clone()))
}

fn incr(
    key: &str,
    by: i64,
    birth_ttl: Option<Millis>,
    found: Option<&Entry>,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let Some(entry) = found else {
        return Ok((set(Value::integer(by), birth_ttl, now), Reply::Number(by)));
    };
    let before = counter(&entry.value.bytes).ok_or_else(|| Error::NotAnInteger { key: key.to_owned() })?;
    let after = before.checked_add(by).ok_or_else(|| Error::Overflow { key: key.to_owned() })?;
    Ok((keep_deadline(entry, Value::integer(after)), Reply::Number(after)))
}
