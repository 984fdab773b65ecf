//! Owns what a key holds: an entry with its content and deadline, and how much it weighs. Knows nothing of
//! mutations.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::backend::local::queue::{QueueValue, item_weight};
use crate::clock::Deadline;
use crate::error::Kind;
use crate::value::Value;

/// The fewest bytes that the text form of an entry adds to its key and its content.
const ENTRY_OVERHEAD: usize = r#"{"k":"","v":},"#.len();

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    /// The time from which on the entry is expired; `None` means never.
    pub(crate) deadline: Option<Deadline>,
}

/// The content of an entry, by kind. A map or a queue is never empty.
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

    pub(crate) fn into_fields(self) -> BTreeMap<SmolStr, Value> {
        self.fields
    }

    /// Sets a field and returns its previous value.
    pub(crate) fn set(&mut self, field: SmolStr, value: Value) -> Option<Value> {
        self.bytes += field_weight(&field, &value);
        let name_len = field.len();
        let before = self.fields.insert(field, value);
        self.bytes -= before.as_ref().map_or(0, |before| weight_of_field(name_len, before));
        before
    }

    /// Removes a field and returns its value.
    pub(crate) fn remove(&mut self, field: &str) -> Option<Value> {
        let before = self.fields.remove(field)?;
        self.bytes -= field_weight(field, &before);
        Some(before)
    }
}

/// Returns the fewest bytes that a field of a map takes in text form.
pub(crate) fn field_weight(field: &str, value: &Value) -> u64 {
    weight_of_field(field.len(), value)
}

fn weight_of_field(name_len: usize, value: &Value) -> u64 {
    const NAME_OVERHEAD: usize = r#""f":"","#.len();
    item_weight(value) + (NAME_OVERHEAD + name_len) as u64
}

/// Returns the fewest bytes that an entry takes in text form, if its content takes `content` bytes.
pub(crate) fn entry_weight(key: &str, content: u64) -> u64 {
    (ENTRY_OVERHEAD + key.len()) as u64 + content
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

    /// Returns the fewest bytes that the entry and its key take in text form.
    pub(crate) fn weight(&self, key: &str) -> u64 {
        let content = match &self.content {
            Content::Value(value) => value.weight(),
            Content::Map(map) => map.bytes,
            Content::Queue(queue) => queue.bytes(),
        };
        entry_weight(key, content)
    }

    /// Returns whether a mutation could have left the entry like this: a map with fields, or a queue with values
    /// and without gaps. While a journal is read over a later state, an entry may be incomplete.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.content {
            Content::Value(_) => true,
            Content::Map(map) => !map.fields.is_empty(),
            Content::Queue(queue) => queue.begin() < queue.end() && !queue.has_gaps(),
        }
    }

    /// Returns the entry with the gaps of its queue closed; `None` if that leaves nothing.
    pub(crate) fn without_gaps(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Queue(queue) => Content::Queue(Box::new(queue.without_gaps())),
            Content::Value(_) | Content::Map(_) => self.content.clone(),
        };
        let entry = Self { content, deadline: self.deadline };
        entry.is_complete().then_some(entry)
    }
}
