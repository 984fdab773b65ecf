//! Owns what is true of a key after a mutation: changes are absolute, total, and the same if applied twice.
//! Knows nothing of the mutation that was requested.

use std::collections::VecDeque;

use smol_str::SmolStr;

use crate::backend::local::entry::{Content, Entry, entry_weight, field_weight};
use crate::backend::local::queue::item_weight;
use crate::clock::Deadline;
use crate::op::End;
use crate::value::Value;

/// A fact about one key.
///
/// `Nothing`, `Set` and `Remove` are valid whatever the key held. The other facts are about a map or a queue
/// that exists (`SetDeadline`: any entry). If it does not, they have no effect, because a later fact that was
/// applied already has removed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The key is as it was.
    Nothing,
    /// The key holds this entry.
    Set(Entry),
    /// The key is absent.
    Remove,
    /// The entry expires at this time, or never.
    SetDeadline(Option<Deadline>),
    /// The map has these fields.
    SetFields(Vec<(SmolStr, Value)>),
    /// The map does not have this field.
    RemoveField(SmolStr),
    /// The queue has these values at the indices from `at` on. They were pushed at `end`.
    SetItems { at: i64, values: Vec<Value>, end: End },
    /// The queue has no value before this index.
    DropBefore(i64),
    /// The queue has no value at this index or after it.
    DropFrom(i64),
}

impl Change {
    /// Returns the fewest bytes that the key and all that the change sets take in text form.
    pub(crate) fn weight(&self, key: &str) -> u64 {
        let content = match self {
            Self::Set(entry) => return entry.weight(key),
            Self::SetFields(fields) => fields.iter().map(|(name, value)| field_weight(name, value)).sum(),
            Self::SetItems { values, .. } => values.iter().map(item_weight).sum(),
            Self::Nothing
            | Self::Remove
            | Self::SetDeadline(_)
            | Self::RemoveField(_)
            | Self::DropBefore(_)
            | Self::DropFrom(_) => 0,
        };
        entry_weight(key, content)
    }
}

/// What a change took out of the state. It may be large, so it must be dropped while no lock is held.
#[derive(Debug)]
#[expect(dead_code, reason = "the contents exist only to be dropped")]
pub(crate) enum Garbage {
    Nothing,
    Entry(Entry),
    Value(Value),
    Values(VecDeque<Value>),
}

impl Entry {
    /// Changes the entry in place, and returns what is no longer part of it. A change of a part of another kind
    /// has no effect: it belongs to an earlier state, which this entry has overtaken.
    pub(crate) fn apply_in_place(&mut self, change: Change) -> Garbage {
        match (&mut self.content, change) {
            (_, Change::SetDeadline(deadline)) => {
                self.deadline = deadline;
                Garbage::Nothing
            }
            (Content::Map(map), Change::SetFields(fields)) => {
                for (field, value) in fields {
                    map.set(field, value);
                }
                Garbage::Nothing
            }
            (Content::Map(map), Change::RemoveField(field)) => {
                map.remove(&field).map_or(Garbage::Nothing, Garbage::Value)
            }
            (Content::Queue(queue), Change::SetItems { at, values, .. }) => {
                queue.set(at, values);
                Garbage::Nothing
            }
            (Content::Queue(queue), Change::DropBefore(begin)) => Garbage::Values(queue.drop_before(begin)),
            (Content::Queue(queue), Change::DropFrom(end)) => Garbage::Values(queue.drop_from(end)),
            (_, Change::Nothing | Change::Set(_) | Change::Remove)
            | (Content::Value(_) | Content::Queue(_), Change::SetFields(_) | Change::RemoveField(_))
            | (
                Content::Value(_) | Content::Map(_),
                Change::SetItems { .. } | Change::DropBefore(_) | Change::DropFrom(_),
            ) => Garbage::Nothing,
        }
    }
}
