//! Owns what a mutation of one entry does to local data, such as what "put if absent" means. It only decides and
//! changes nothing; it must not know where the entry is stored.

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::plan_window::plan_window;
use crate::backend::local::queue::QueueValue;
use crate::backend::local::view::EntryView;
use crate::bytes::Bytes;
use crate::clock::{Deadline, Millis, Now};
use crate::error::{Error, Result};
use crate::op::{End, EntryAction, Reply, Write};
use crate::value::{Value, counter};

/// Decides what `action` changes under `key`, and the reply to it.
pub(crate) fn plan(
    key: &str,
    action: EntryAction,
    view: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    Ok(match action {
        // INVARIANT: a `Put` never reads the view; `is_blind` relies on it.
        EntryAction::Put { value, ttl } => (set(value, ttl, now), Reply::Done),
        EntryAction::PutIfAbsent { value, ttl } => change_if(!view.is_present()?, || set(value, ttl, now)),
        EntryAction::PutIfPresent { value } => match view.value()? {
            Some(_) => (replace(value, view)?, Reply::Flag(true)),
            None => (Change::Nothing, Reply::Flag(false)),
        },
        EntryAction::GetAndPut { value, ttl } => (set(value, ttl, now), Reply::Found(view.value()?)),
        EntryAction::Swap { expected, new, ttl_if_created } => {
            swap(expected.as_ref(), new, ttl_if_created, view, now)?
        }
        EntryAction::Delete => change_if(view.is_present()?, || Change::Remove),
        EntryAction::GetAndDelete => match view.value()? {
            Some(value) => (Change::Remove, Reply::Found(Some(value))),
            None => (Change::Nothing, Reply::Found(None)),
        },
        EntryAction::Incr { by, ttl_if_created } => {
            let before = view.value()?;
            let after = add(key, before.as_deref(), by)?;
            let change = match before {
                Some(_) => replace(Value::integer(after), view)?,
                None => set(Value::integer(after), ttl_if_created, now),
            };
            (change, Reply::Number(after))
        }
        EntryAction::Expire { ttl } => {
            change_if(view.is_present()?, || Change::SetDeadline(Some(Deadline::after(now, ttl))))
        }
        EntryAction::Persist => change_if(view.deadline()?.is_some(), || Change::SetDeadline(None)),
        EntryAction::Touch { ttl } => match view.value()? {
            Some(value) => (Change::SetDeadline(Some(Deadline::after(now, ttl))), Reply::Found(Some(value))),
            None => (Change::Nothing, Reply::Found(None)),
        },
        EntryAction::Renew { ttl } => renew(ttl, view, now)?,
        EntryAction::MapPut { fields, ttl_if_created } => map_put(fields, ttl_if_created, view, now)?,
        EntryAction::MapDelete { field } => map_delete(field, view)?,
        EntryAction::MapIncr { field, by, ttl_if_created } => {
            let after = add(key, view.field(&field)?.as_deref(), by)?;
            let fields = vec![(field, Value::integer(after))];
            let (change, _) = map_put(fields, ttl_if_created, view, now)?;
            (change, Reply::Number(after))
        }
        EntryAction::Push { end, values, ttl_if_created } => push(end, values, ttl_if_created, view, now)?,
        EntryAction::Pop { end } => pop(end, view)?,
        EntryAction::Trim { most } => trim(most, view)?,
        EntryAction::WindowAdd(add) => plan_window(key, &add, view, now)?,
    })
}

/// Decides what a write changes, whatever its key holds.
pub(crate) fn plan_write(write: Write, now: &Now<'_>) -> Change {
    match write {
        Write::Put { value, ttl } => set(value, ttl, now),
        Write::Delete => Change::Remove,
    }
}

/// Returns whether `plan` decides the same whatever the key holds.
pub(crate) fn is_blind(action: &EntryAction) -> bool {
    matches!(action, EntryAction::Put { .. })
}

fn set(value: Value, ttl: Option<Millis>, now: &Now<'_>) -> Change {
    Change::Set(Entry::value(value, deadline(ttl, now)))
}

fn deadline(ttl: Option<Millis>, now: &Now<'_>) -> Option<Deadline> {
    ttl.map(|ttl| Deadline::after(now, ttl))
}

/// Replaces an existing value and keeps its deadline.
fn replace(value: Value, view: &mut impl EntryView) -> Result<Change> {
    Ok(Change::Set(Entry::value(value, view.deadline()?)))
}

/// Makes the change only on a condition, and replies whether it did.
fn change_if(condition: bool, change: impl FnOnce() -> Change) -> (Change, Reply) {
    let change = if condition { change() } else { Change::Nothing };
    (change, Reply::Flag(condition))
}

fn swap(
    expected: Option<&Bytes>,
    new: Option<Value>,
    ttl_if_created: Option<Millis>,
    view: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let before = view.value()?;
    if before.as_ref() != expected {
        return Ok((Change::Nothing, Reply::Flag(false)));
    }
    let change = match (before, new) {
        (Some(_), Some(new)) => replace(new, view)?,
        (Some(_), None) => Change::Remove,
        (None, Some(new)) => set(new, ttl_if_created, now),
        (None, None) => Change::Nothing,
    };
    Ok((change, Reply::Flag(true)))
}

fn renew(ttl: Millis, view: &mut impl EntryView, now: &Now<'_>) -> Result<(Change, Reply)> {
    let value = view.value()?;
    let before = if value.is_some() { view.deadline()? } else { None };
    let after = before.map(|before| before.max(Deadline::after(now, ttl)));
    let change = if after == before { Change::Nothing } else { Change::SetDeadline(after) };
    Ok((change, Reply::Found(value)))
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
    view: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let is_new = view.map_length()? == 0;
    let mut added = 0;
    for (name, _) in &fields {
        let exists = !is_new && view.field(name)?.is_some();
        added += u64::from(!exists);
    }
    let change = if is_new {
        let content = Content::Map(Box::new(MapValue::new(fields)));
        Change::Set(Entry { content, deadline: deadline(ttl_if_created, now) })
    } else {
        Change::SetFields(fields)
    };
    Ok((change, number(added)))
}

fn map_delete(field: SmolStr, view: &mut impl EntryView) -> Result<(Change, Reply)> {
    if view.field(&field)?.is_none() {
        return Ok((Change::Nothing, Reply::Flag(false)));
    }
    let is_last = view.map_length()? == 1;
    let change = if is_last { Change::Remove } else { Change::RemoveField(field) };
    Ok((change, Reply::Flag(true)))
}

fn push(
    end: End,
    mut values: Vec<Value>,
    ttl_if_created: Option<Millis>,
    view: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let (begin, after_last) = view.bounds()?;
    let count = values.len() as u64;
    if end == End::Front {
        // They are pushed one after another, so the last of them comes first.
        values.reverse();
    }
    let at = match end {
        End::Front => begin.saturating_sub_unsigned(count),
        End::Back => after_last,
    };
    let change = if begin == after_last {
        let content = Content::Queue(Box::new(QueueValue::new(0, values)));
        Change::Set(Entry { content, deadline: deadline(ttl_if_created, now) })
    } else {
        Change::SetItems { at, values, end }
    };
    Ok((change, number(after_last.abs_diff(begin) + count)))
}

fn pop(end: End, view: &mut impl EntryView) -> Result<(Change, Reply)> {
    let (begin, after_last) = view.bounds()?;
    if begin == after_last {
        return Ok((Change::Nothing, Reply::Found(None)));
    }
    let last = after_last - 1;
    let (at, change) = match end {
        End::Front => (begin, Change::DropBefore(begin + 1)),
        End::Back => (last, Change::DropFrom(last)),
    };
    let value = view.item(at)?.map(|value| value.bytes);
    let change = if begin == last { Change::Remove } else { change };
    Ok((change, Reply::Found(value)))
}

fn trim(most: u64, view: &mut impl EntryView) -> Result<(Change, Reply)> {
    let (begin, after_last) = view.bounds()?;
    let dropped = after_last.abs_diff(begin).saturating_sub(most);
    let change = if dropped == 0 {
        Change::Nothing
    } else if most == 0 {
        Change::Remove
    } else {
        Change::DropBefore(begin.saturating_add_unsigned(dropped))
    };
    Ok((change, number(dropped)))
}

fn number(count: u64) -> Reply {
    Reply::Number(i64::try_from(count).unwrap_or(i64::MAX))
}
