//! Owns what lies under a key, and what is true of it after a mutation: absolute, total, and the same if
//! applied twice. Knows nothing of what was asked.

use std::collections::{BTreeMap, VecDeque};

use smol_str::SmolStr;

use crate::backend::local::queue;
use crate::backend::local::queue::QueueValue;
use crate::bytes::Bytes;
use crate::clock::Deadline;
use crate::error::Kind;
use crate::op::End;
use crate::value::Value;

/// The least that stands around an entry where it is written down as text.
const OVERHEAD: usize = r#"{"k":"","v":},"#.len();

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    /// From when on it is gone; `None` is never.
    pub(crate) deadline: Option<Deadline>,
}

/// One of the kinds of things. A map or a queue is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Value(Value),
    Map(Box<MapValue>),
    Queue(Box<QueueValue>),
}

/// The fields of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MapValue {
    fields: BTreeMap<SmolStr, Value>,
    bytes: u64,
}

impl MapValue {
    pub(crate) fn new(fields: impl IntoIterator<Item = (SmolStr, Value)>) -> Self {
        let mut map = Self::default();
        for (field, value) in fields {
            map.set(field, value);
        }
        map
    }

    pub(crate) fn fields(&self) -> &BTreeMap<SmolStr, Value> {
        &self.fields
    }

    fn set(&mut self, field: SmolStr, value: Value) -> Option<Value> {
        self.bytes += weight(&field, &value);
        let length = field.len();
        let before = self.fields.insert(field, value);
        self.bytes -= before.as_ref().map_or(0, |before| part_weight(length, before));
        before
    }

    fn remove(&mut self, field: &str) -> Option<Value> {
        let before = self.fields.remove(field)?;
        self.bytes -= weight(field, &before);
        Some(before)
    }
}

pub(crate) fn weight(field: &str, value: &Value) -> u64 {
    part_weight(field.len(), value)
}

fn part_weight(field: usize, value: &Value) -> u64 {
    const AROUND: usize = r#""f":"","#.len();
    queue::weight(value) + (AROUND + field) as u64
}

impl Entry {
    pub(crate) fn value(value: Value, deadline: Option<Deadline>) -> Self {
        Self { content: Content::Value(value), deadline }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.content {
            Content::Value(_) => Kind::Value,
            Content::Map(_) => Kind::Map,
            Content::Queue(_) => Kind::Queue,
        }
    }

    /// How many bytes the entry and its key take at least where they are written down as text.
    pub(crate) fn weight(&self, key: &str) -> u64 {
        let bytes = match &self.content {
            Content::Value(value) => value.weight(),
            Content::Map(map) => map.bytes,
            Content::Queue(queue) => queue.bytes(),
        };
        (OVERHEAD + key.len()) as u64 + bytes
    }

    /// Tells whether it is as mutations leave it: a map with fields, or a queue with values and without
    /// gaps. While facts are read over a later state it may be otherwise.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.content {
            Content::Value(_) => true,
            Content::Map(map) => !map.fields.is_empty(),
            Content::Queue(queue) => queue.begin() < queue.end() && !queue.has_gaps(),
        }
    }

    /// What is left of it without what is missing; `None` where that is nothing.
    pub(crate) fn without_gaps(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Queue(queue) => Content::Queue(Box::new(queue.without_gaps())),
            whole => whole.clone(),
        };
        let entry = Self { content, deadline: self.deadline };
        entry.is_complete().then_some(entry)
    }

    /// Changes it in place, and hands out what is no longer part of it. A change of another kind of thing
    /// than this is of an earlier state, which this one has overtaken: it changes nothing.
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
            _ => Garbage::Nothing,
        }
    }
}

/// What a change took out of the state. It may be large, so it is dropped where no lock is held.
#[derive(Debug)]
#[expect(dead_code, reason = "what is in it is there to be dropped")]
pub(crate) enum Garbage {
    Nothing,
    Entry(Entry),
    Value(Value),
    Values(VecDeque<Value>),
}

/// A fact about one key.
///
/// The first three are true whatever lay there. The others are about a map or a queue that is there; where
/// none is, they say nothing: a later fact that was seen already has removed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is as it was.
    Nothing,
    /// This lies under the key.
    Set(Entry),
    /// Nothing lies under the key.
    Remove,
    /// What lies under the key is gone from then on, or never.
    SetDeadline(Option<Deadline>),
    /// The map has these fields.
    SetFields(Vec<(SmolStr, Value)>),
    /// The map does not have this field.
    RemoveField(SmolStr),
    /// The queue has these values at the places from `at` on. They came in at that end.
    SetItems { at: i64, values: Vec<Value>, end: End },
    /// The queue begins at this place, or behind it.
    DropBefore(i64),
    /// The queue ends before this place.
    DropFrom(i64),
}

impl Change {
    /// How many bytes what it sets takes at least where it is written down as text.
    pub(crate) fn weight(&self, key: &str) -> u64 {
        let bytes = match self {
            Self::Set(entry) => return entry.weight(key),
            Self::SetFields(fields) => fields.iter().map(|(name, value)| weight(name, value)).sum(),
            Self::SetItems { values, .. } => values.iter().map(queue::weight).sum(),
            Self::Nothing
            | Self::Remove
            | Self::SetDeadline(_)
            | Self::RemoveField(_)
            | Self::DropBefore(_)
            | Self::DropFrom(_) => 0,
        };
        (OVERHEAD + key.len()) as u64 + bytes
    }
}

/// The bytes of values.
pub(crate) fn bytes<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<Bytes> {
    values.into_iter().map(|value| value.bytes.clone()).collect()
}
