//! Owns what a mutation does to local data: the one place that says what "put if absent" means. It only
//! decides; it changes nothing.

use smol_str::SmolStr;

use crate::backend::local::change::{Change, Content, Entry, MapValue};
use crate::backend::local::queue::QueueValue;
use crate::backend::local::view::EntryView;
use crate::clock::{Deadline, Millis, Now};
use crate::error::{Error, Result};
use crate::op::{End, EntryAction, Reply, Write};
use crate::value::{Value, counter};

/// Decides what `action` makes of what lies under `key`.
pub(crate) fn plan(
    key: &str,
    action: EntryAction,
    found: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    Ok(match action {
        // What lies there is not looked at.
        EntryAction::Put { value, ttl } => (set(value, ttl, now), Reply::Done),
        EntryAction::PutIfAbsent { value, ttl } => match found.is_present()? {
            true => (Change::Nothing, Reply::Flag(false)),
            false => (set(value, ttl, now), Reply::Flag(true)),
        },
        EntryAction::PutIfPresent { value } => match found.value()? {
            Some(_) => (replace(value, found)?, Reply::Flag(true)),
            None => (Change::Nothing, Reply::Flag(false)),
        },
        EntryAction::GetAndPut { value, ttl } => (set(value, ttl, now), Reply::Found(found.value()?)),
        EntryAction::Swap { expected, new, ttl_if_created } => {
            let before = found.value()?;
            let change = match (before == expected, before, new) {
                (false, _, _) => return Ok((Change::Nothing, Reply::Flag(false))),
                (true, Some(_), Some(new)) => replace(new, found)?,
                (true, Some(_), None) => Change::Remove,
                (true, None, Some(new)) => set(new, ttl_if_created, now),
                (true, None, None) => Change::Nothing,
            };
            (change, Reply::Flag(true))
        }
        EntryAction::Delete => match found.is_present()? {
            true => (Change::Remove, Reply::Flag(true)),
            false => (Change::Nothing, Reply::Flag(false)),
        },
        EntryAction::GetAndDelete => match found.value()? {
            Some(value) => (Change::Remove, Reply::Found(Some(value))),
            None => (Change::Nothing, Reply::Found(None)),
        },
        EntryAction::Incr { by, ttl_if_created } => {
            let before = found.value()?;
            let after = add(key, before.as_deref(), by)?;
            let change = match before {
                Some(_) => replace(Value::integer(after), found)?,
                None => set(Value::integer(after), ttl_if_created, now),
            };
            (change, Reply::Number(after))
        }
        EntryAction::Expire { ttl } => match found.is_present()? {
            true => (Change::SetDeadline(Some(Deadline::after(now, ttl))), Reply::Flag(true)),
            false => (Change::Nothing, Reply::Flag(false)),
        },
        EntryAction::Persist => match found.deadline()? {
            Some(_) => (Change::SetDeadline(None), Reply::Flag(true)),
            None => (Change::Nothing, Reply::Flag(false)),
        },
        EntryAction::Touch { ttl } => match found.value()? {
            Some(value) => (Change::SetDeadline(Some(Deadline::after(now, ttl))), Reply::Found(Some(value))),
            None => (Change::Nothing, Reply::Found(None)),
        },
        EntryAction::MapPut { fields, ttl_if_created } => map_put(fields, ttl_if_created, found, now)?,
        EntryAction::MapDelete { field } => map_delete(field, found)?,
        EntryAction::MapIncr { field, by, ttl_if_created } => {
            let after = add(key, found.field(&field)?.as_deref(), by)?;
            let fields = vec![(field, Value::integer(after))];
            let (change, _) = map_put(fields, ttl_if_created, found, now)?;
            (change, Reply::Number(after))
        }
        EntryAction::Push { end, values, ttl_if_created } => push(end, values, ttl_if_created, found, now)?,
        EntryAction::Pop { end } => pop(end, found)?,
        EntryAction::Trim { most } => trim(most, found)?,
    })
}

/// Decides what a write makes of its key, whatever the key holds.
pub(crate) fn plan_write(write: Write, now: &Now<'_>) -> Change {
    match write {
        Write::Put { value, ttl } => set(value, ttl, now),
        Write::Delete => Change::Remove,
    }
}

/// Tells whether `plan` decides the same whatever lies under the key.
pub(crate) fn is_blind(action: &EntryAction) -> bool {
    matches!(action, EntryAction::Put { .. })
}

fn set(value: Value, ttl: Option<Millis>, now: &Now<'_>) -> Change {
    Change::Set(Entry::value(value, deadline(ttl, now)))
}

fn deadline(ttl: Option<Millis>, now: &Now<'_>) -> Option<Deadline> {
    ttl.map(|ttl| Deadline::after(now, ttl))
}

/// Another value in the place of one that is there.
fn replace(value: Value, found: &mut impl EntryView) -> Result<Change> {
    Ok(Change::Set(Entry::value(value, found.deadline()?)))
}

fn add(key: &str, before: Option<&[u8]>, by: i64) -> Result<i64> {
    let before = match before {
        None => 0,
        Some(text) => counter(text).ok_or_else(|| Error::NotAnInteger { key: key.to_owned() })?,
    };
    before.checked_add(by).ok_or_else(|| Error::Overflow { key: key.to_owned() })
}

fn map_put(
    fields: Vec<(SmolStr, Value)>,
    ttl_if_created: Option<Millis>,
    found: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let is_born = found.map_length()? == 0;
    let mut new = 0;
    for (name, _) in &fields {
        let is_known = !is_born && found.field(name)?.is_some();
        new += u64::from(!is_known);
    }
    let change = match is_born {
        true => {
            let content = Content::Map(Box::new(MapValue::new(fields)));
            Change::Set(Entry { content, deadline: deadline(ttl_if_created, now) })
        }
        false => Change::SetFields(fields),
    };
    Ok((change, number(new)))
}

fn map_delete(field: SmolStr, found: &mut impl EntryView) -> Result<(Change, Reply)> {
    if found.field(&field)?.is_none() {
        return Ok((Change::Nothing, Reply::Flag(false)));
    }
    let change = match found.map_length()? {
        1 => Change::Remove,
        _ => Change::RemoveField(field),
    };
    Ok((change, Reply::Flag(true)))
}

fn push(
    end: End,
    mut values: Vec<Value>,
    ttl_if_created: Option<Millis>,
    found: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let (first, behind) = found.bounds()?;
    let count = values.len() as u64;
    if end == End::Front {
        // One after another: the last of them comes to lie in front.
        values.reverse();
    }
    let at = match end {
        End::Front => first.saturating_sub_unsigned(count),
        End::Back => behind,
    };
    let change = match first == behind {
        true => {
            let content = Content::Queue(Box::new(QueueValue::new(0, values)));
            Change::Set(Entry { content, deadline: deadline(ttl_if_created, now) })
        }
        false => Change::SetItems { at, values, end },
    };
    Ok((change, number(behind.abs_diff(first) + count)))
}

fn pop(end: End, found: &mut impl EntryView) -> Result<(Change, Reply)> {
    let (first, behind) = found.bounds()?;
    let at = match end {
        End::Front => first,
        End::Back => behind - 1,
    };
    if first == behind {
        return Ok((Change::Nothing, Reply::Found(None)));
    }
    let value = found.item(at)?.map(|value| value.bytes);
    let change = match end {
        _ if first + 1 == behind => Change::Remove,
        End::Front => Change::DropBefore(first + 1),
        End::Back => Change::DropFrom(behind - 1),
    };
    Ok((change, Reply::Found(value)))
}

fn trim(most: u64, found: &mut impl EntryView) -> Result<(Change, Reply)> {
    let (first, behind) = found.bounds()?;
    let dropped = behind.abs_diff(first).saturating_sub(most);
    let change = match dropped {
        0 => Change::Nothing,
        _ if most == 0 => Change::Remove,
        _ => Change::DropBefore(first.saturating_add_unsigned(dropped)),
    };
    Ok((change, number(dropped)))
}

fn number(count: u64) -> Reply {
    Reply::Number(i64::try_from(count).unwrap_or(i64::MAX))
}
