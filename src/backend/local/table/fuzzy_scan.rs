//! Owns the fuzzy scan: it reads all entries of a table, in chunks, while the table changes. Knows nothing of what is
//! done with the chunks.
//!
//! Every chunk is read under the lock of its shard, and no lock is held between two chunks. The chunks of one entry
//! may therefore come from different states, and so may any two entries. The result is right if all facts about
//! changes since the scan began are applied to the chunks, in order. A journal does that if it was started before the
//! scan:
//!
//! - If one of those facts sets or removes the key, the last such fact and the facts after it give the last state,
//!   whatever the chunks contain. This covers a key that was created, was removed, or changed its kind.
//! - Otherwise the key held the same map or queue all the time. A field or an index that changed is in a later fact.
//!   One that did not change is in a chunk, because it existed when the scan reached it.
//! - An expired entry is removed without a fact. If the scan has emitted a part of it by then, that part would remain,
//!   so the scan emits a removal.

use std::ops::Bound;
use std::vec;

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue, field_weight};
use crate::backend::local::queue::{QueueValue, item_weight};
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::live;
use crate::clock::Now;
use crate::op::End;
use crate::value::Value;

/// How many keys are listed in one step.
const LISTED_KEYS: usize = 256;

/// A chunk of a map or a queue has at most this many parts, and ends with the part that reaches the weight.
const CHUNK_PARTS: usize = 256;
const CHUNK_WEIGHT: u64 = 64 * 1024;

/// A scan of the live entries, in the order of their keys.
pub(crate) struct FuzzyScan {
    listed: vec::IntoIter<SmolStr>,
    /// The key after which to continue listing; `None` once all keys are listed.
    after: Option<SmolStr>,
    /// The entry that is read only in part, and where to continue.
    partial: Option<(SmolStr, PartialEntry)>,
}

/// The part of an entry that is not read yet.
enum PartialEntry {
    /// The fields after this one.
    Fields(SmolStr),
    /// The values from this index on.
    Items(i64),
}

impl FuzzyScan {
    pub(crate) fn new() -> Self {
        // The empty key sorts before all keys, because no key is empty.
        Self { listed: Vec::new().into_iter(), after: Some(SmolStr::default()), partial: None }
    }

    /// Returns the next chunk: an entry or its first part, more parts of the same entry, or the removal of that
    /// entry. `None` at the end.
    pub(crate) fn next(&mut self, table: &Table, now: &Now<'_>) -> Option<(SmolStr, Change)> {
        loop {
            let (key, (change, partial)) = if let Some((key, from)) = self.partial.take() {
                let chunk = table.read(&key, |entry| next_chunk(live(entry, now), &from));
                (key, chunk)
            } else if let Some(key) = self.listed.next() {
                let chunk = table.read(&key, |entry| live(entry, now).map(first_chunk));
                (key, chunk.unwrap_or((Change::Nothing, None)))
            } else {
                let after = self.after.take()?;
                let (keys, last) = table.all_keys(Some(&after), LISTED_KEYS);
                (self.listed, self.after) = (keys.into_iter(), last);
                continue;
            };
            self.partial = partial.map(|partial| (key.clone(), partial));
            if !matches!(change, Change::Nothing) {
                return Some((key, change));
            }
        }
    }
}

/// Returns an entry, or its first part.
fn first_chunk(entry: &Entry) -> (Change, Option<PartialEntry>) {
    let (content, partial) = match &entry.content {
        Content::Value(value) => (Content::Value(value.clone()), None),
        Content::Map(map) => {
            let (fields, partial) = take_fields(map, Bound::Unbounded);
            (Content::Map(Box::new(MapValue::new(fields))), partial)
        }
        Content::Queue(queue) => {
            let (values, partial) = take_items(queue, queue.begin());
            (Content::Queue(Box::new(QueueValue::new(queue.begin(), values))), partial)
        }
    };
    (Change::Set(Entry { content, deadline: entry.deadline }), partial)
}

/// Returns the next parts of an entry, or its removal.
fn next_chunk(entry: Option<&Entry>, from: &PartialEntry) -> (Change, Option<PartialEntry>) {
    match (entry.map(|entry| &entry.content), from) {
        (Some(Content::Map(map)), PartialEntry::Fields(after)) => {
            let (fields, partial) = take_fields(map, Bound::Excluded(after));
            (if fields.is_empty() { Change::Nothing } else { Change::SetFields(fields) }, partial)
        }
        (Some(Content::Queue(queue)), PartialEntry::Items(from)) => {
            let at = queue.begin().max(*from);
            let (values, partial) = take_items(queue, at);
            let set = |values| Change::SetItems { at, values, end: End::Back };
            (if values.is_empty() { Change::Nothing } else { set(values) }, partial)
        }
        (Some(Content::Value(_)) | None, _)
        | (Some(Content::Map(_)), PartialEntry::Items(_))
        | (Some(Content::Queue(_)), PartialEntry::Fields(_)) => (Change::Remove, None),
    }
}

fn take_fields(map: &MapValue, from: Bound<&str>) -> (Vec<(SmolStr, Value)>, Option<PartialEntry>) {
    let fields = map.fields().range::<str, _>((from, Bound::Unbounded));
    let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
    let (chunk, is_last) = take_chunk(fields, |(name, value)| field_weight(name, value));
    let last = chunk.last().filter(|_| !is_last).map(|(name, _)| PartialEntry::Fields(name.clone()));
    (chunk, last)
}

fn take_items(queue: &QueueValue, from: i64) -> (Vec<Value>, Option<PartialEntry>) {
    let (chunk, is_last) = take_chunk(queue.range(from, queue.end()).cloned(), item_weight);
    let next = PartialEntry::Items(from.saturating_add_unsigned(chunk.len() as u64));
    (chunk, (!is_last).then_some(next))
}

/// Takes the parts of one chunk, and returns whether no parts are left.
fn take_chunk<T>(mut parts: impl Iterator<Item = T>, weight: impl Fn(&T) -> u64) -> (Vec<T>, bool) {
    let (mut chunk, mut sum) = (Vec::new(), 0);
    while chunk.len() < CHUNK_PARTS && sum < CHUNK_WEIGHT {
        let Some(part) = parts.next() else {
            return (chunk, true);
        };
        sum += weight(&part);
        chunk.push(part);
    }
    (chunk, parts.next().is_none())
}
