//! Owns what a plan can read of one key: the entry, part by part. Knows nothing of what is planned.

use smol_str::SmolStr;

use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::queue::QueueValue;
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now, Ttl};
use crate::error::{Error, Kind, Result};
use crate::op::{Answer, Presence, Query};
use crate::value::Value;

/// What a key holds. Reading a part of another kind is `WrongType`; an absent key reads as an empty map or an
/// empty queue.
pub(crate) trait EntryView {
    fn presence(&mut self) -> Result<Option<Presence>>;

    fn value(&mut self) -> Result<Option<Bytes>>;

    fn field(&mut self, field: &SmolStr) -> Result<Option<Bytes>>;

    /// Returns the fields of a map, sorted by name.
    fn fields(&mut self) -> Result<Vec<(SmolStr, Bytes)>>;

    fn map_length(&mut self) -> Result<u64>;

    /// Returns the index of the first value of a queue, and the index after the last.
    fn bounds(&mut self) -> Result<(i64, i64)>;

    /// Returns the value of a queue at an index within its bounds.
    fn item(&mut self, at: i64) -> Result<Option<Value>>;

    fn is_present(&mut self) -> Result<bool> {
        Ok(self.presence()?.is_some())
    }

    fn deadline(&mut self) -> Result<Option<Deadline>> {
        Ok(self.presence()?.and_then(|presence| presence.deadline))
    }
}

/// Returns the entry, unless its deadline has passed.
pub(crate) fn live<'a>(found: Option<&'a Entry>, now: &Now<'_>) -> Option<&'a Entry> {
    found.filter(|entry| entry.deadline.is_none_or(|deadline| !deadline.has_passed(now)))
}

/// What a key of the table holds, if it has not expired.
pub(crate) struct LiveEntry<'a> {
    key: &'a str,
    entry: Option<&'a Entry>,
}

impl<'a> LiveEntry<'a> {
    pub(crate) fn new(key: &'a str, found: Option<&'a Entry>, now: &Now<'_>) -> Self {
        Self { key, entry: live(found, now) }
    }

    /// Does what [`LiveEntry::new`] does, but ignores the deadline.
    pub(crate) fn without_deadline(key: &'a str, entry: Option<&'a Entry>) -> Self {
        Self { key, entry }
    }

    fn wrong_type(&self, expected: Kind) -> Error {
        let found = self.entry.map(Entry::kind);
        Error::WrongType { key: self.key.to_owned(), expected, found }
    }

    fn as_value(&self) -> Result<Option<&'a Value>> {
        match self.entry.map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Value(value)) => Ok(Some(value)),
            Some(Content::Map(_) | Content::Queue(_)) => Err(self.wrong_type(Kind::Value)),
        }
    }

    fn as_map(&self) -> Result<Option<&'a MapValue>> {
        match self.entry.map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Map(map)) => Ok(Some(map)),
            Some(Content::Value(_) | Content::Queue(_)) => Err(self.wrong_type(Kind::Map)),
        }
    }

    fn as_queue(&self) -> Result<Option<&'a QueueValue>> {
        match self.entry.map(|entry| &entry.content) {
            None => Ok(None),
            Some(Content::Queue(queue)) => Ok(Some(queue)),
            Some(Content::Value(_) | Content::Map(_)) => Err(self.wrong_type(Kind::Queue)),
        }
    }

    pub(crate) fn ttl(&self, now: &Now<'_>) -> Option<Ttl> {
        let deadline = self.entry?.deadline;
        Some(deadline.map_or(Ttl::Never, |deadline| Ttl::In(deadline.remaining(now))))
    }

    /// Answers a query.
    pub(crate) fn answer(&mut self, query: &Query) -> Result<Answer> {
        Ok(match query {
            Query::Presence => Answer::Presence(self.presence()?),
            Query::Value => Answer::Found(self.value()?),
            Query::Field(name) => Answer::Found(self.field(name)?),
            Query::Fields(names) => {
                let map = self.as_map()?;
                Answer::Each(names.iter().map(|name| field_of(map, name)).collect())
            }
            Query::Map => Answer::Map(self.fields()?),
            Query::Names => Answer::Names(
                self.as_map()?.map(|map| map.fields().keys().cloned().collect()).unwrap_or_default(),
            ),
            Query::MapLength => Answer::Count(self.map_length()?),
            Query::Bounds => Answer::Bounds(self.bounds()?),
            Query::Items { from, to } => Answer::Items(self.as_queue()?.map_or_else(Vec::new, |queue| {
                let index = |position: u64| queue.begin().saturating_add_unsigned(position);
                let values = queue.range(index(*from), index(*to));
                values.map(|value| value.bytes.clone()).collect()
            })),
            Query::Lease { id, removed } => {
                Answer::Lease(self.as_map()?.and_then(|leases| leases.held_lease(id, *removed)))
            }
        })
    }
}

fn field_of(map: Option<&MapValue>, field: &str) -> Option<Bytes> {
    map.and_then(|map| map.fields().get(field)).map(|value| value.bytes.clone())
}

impl EntryView for LiveEntry<'_> {
    fn presence(&mut self) -> Result<Option<Presence>> {
        Ok(self.entry.map(|entry| Presence { kind: Some(entry.kind()), deadline: entry.deadline }))
    }

    fn value(&mut self) -> Result<Option<Bytes>> {
        Ok(self.as_value()?.map(|value| value.bytes.clone()))
    }

    fn field(&mut self, field: &SmolStr) -> Result<Option<Bytes>> {
        Ok(field_of(self.as_map()?, field))
    }

    fn fields(&mut self) -> Result<Vec<(SmolStr, Bytes)>> {
        let fields = self.as_map()?.into_iter().flat_map(MapValue::fields);
        Ok(fields.map(|(name, value)| (name.clone(), value.bytes.clone())).collect())
    }

    fn map_length(&mut self) -> Result<u64> {
        Ok(self.as_map()?.map_or(0, |map| map.fields().len() as u64))
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        Ok(self.as_queue()?.map_or((0, 0), |queue| (queue.begin(), queue.end())))
    }

    fn item(&mut self, at: i64) -> Result<Option<Value>> {
        Ok(self.as_queue()?.and_then(|queue| queue.get(at)).cloned())
    }
}
