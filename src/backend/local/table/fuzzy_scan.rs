//! Owns the walk over all entries of a table that moves on meanwhile, piece by piece. Knows nothing of where
//! the pieces go.
//!
//! Every piece is read under the lock of its shard, and no lock is held between two. The pieces of one entry
//! may therefore be of different states, as may any two entries. That is right where all facts about what
//! changed since the walk began are applied to the pieces, in order, as a journal does that was begun before
//! the walk:
//!
//! - Where a fact that is true whatever lay there is among them, the last such one and what follows it give
//!   the last state, whatever the pieces say. So it is where the key came anew, went, or became another
//!   kind.
//! - Otherwise the key held the same map or queue all the time. A field or a place that changed is in a later
//!   fact, and one that did not is in a piece: those behind the last one seen were there to be seen.
//! - An entry whose deadline passes is taken out without a fact. Had the walk seen a part of it by then, that
//!   part would be left: therefore the walk takes it back.

use std::ops::Bound;
use std::vec;

use smol_str::SmolStr;

use crate::backend::local::change;
use crate::backend::local::change::{Change, Content, Entry, MapValue};
use crate::backend::local::queue;
use crate::backend::local::queue::QueueValue;
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::live;
use crate::clock::Now;
use crate::op::End;
use crate::value::Value;

/// How many keys are listed together.
const KEYS: usize = 256;

/// A piece of a map or a queue has at most so many parts, and ends with the part that makes it so heavy.
const PARTS: usize = 256;
const WEIGHT: u64 = 64 * 1024;

/// A walk over the live entries, in the order of their keys.
pub(crate) struct FuzzyScan {
    listed: vec::IntoIter<SmolStr>,
    /// Behind which key to list on; `None` once all are listed.
    after: Option<SmolStr>,
    /// The entry that was not shown to its end, and where it goes on.
    partial: Option<(SmolStr, PartialEntry)>,
}

/// What of an entry is still to come.
enum PartialEntry {
    /// The fields behind this one.
    Fields(SmolStr),
    /// The values from this place on.
    Items(i64),
}

impl FuzzyScan {
    pub(crate) fn new() -> Self {
        // Before all keys, none of which is empty.
        Self { listed: Vec::new().into_iter(), after: Some(SmolStr::default()), partial: None }
    }

    /// The next piece: an entry or the beginning of one, the parts that follow, or that the one before is
    /// gone. `None` at the end.
    pub(crate) fn next(&mut self, table: &Table, now: &Now<'_>) -> Option<(SmolStr, Change)> {
        loop {
            let (key, (change, rest)) = if let Some((key, from)) = self.partial.take() {
                let piece = table.read(&key, |found| next_part(live(found, now), &from));
                (key, piece)
            } else if let Some(key) = self.listed.next() {
                let piece = table.read(&key, |found| live(found, now).map(first));
                (key, piece.unwrap_or((Change::Nothing, None)))
            } else {
                let after = self.after.take()?;
                let (keys, last) = table.all_keys(Some(&after), KEYS);
                (self.listed, self.after) = (keys.into_iter(), last);
                continue;
            };
            self.partial = rest.map(|rest| (key.clone(), rest));
            if !matches!(change, Change::Nothing) {
                return Some((key, change));
            }
        }
    }
}

/// An entry, or its beginning.
fn first(entry: &Entry) -> (Change, Option<PartialEntry>) {
    let (content, rest) = match &entry.content {
        Content::Value(value) => (Content::Value(value.clone()), None),
        Content::Map(map) => {
            let (fields, rest) = fields(map, Bound::Unbounded);
            (Content::Map(Box::new(MapValue::new(fields))), rest)
        }
        Content::Queue(queue) => {
            let (values, rest) = items(queue, queue.begin());
            (Content::Queue(Box::new(QueueValue::new(queue.begin(), values))), rest)
        }
    };
    (Change::Set(Entry { content, deadline: entry.deadline }), rest)
}

/// The next parts of an entry, or that it is gone.
fn next_part(found: Option<&Entry>, from: &PartialEntry) -> (Change, Option<PartialEntry>) {
    match (found.map(|entry| &entry.content), from) {
        (Some(Content::Map(map)), PartialEntry::Fields(after)) => {
            let (fields, rest) = fields(map, Bound::Excluded(after));
            (if fields.is_empty() { Change::Nothing } else { Change::SetFields(fields) }, rest)
        }
        (Some(Content::Queue(queue)), PartialEntry::Items(from)) => {
            let at = queue.begin().max(*from);
            let (values, rest) = items(queue, at);
            let set = |values| Change::SetItems { at, values, end: End::Back };
            (if values.is_empty() { Change::Nothing } else { set(values) }, rest)
        }
        (Some(Content::Value(_)) | None, _)
        | (Some(Content::Map(_)), PartialEntry::Items(_))
        | (Some(Content::Queue(_)), PartialEntry::Fields(_)) => (Change::Remove, None),
    }
}

fn fields(map: &MapValue, from: Bound<&str>) -> (Vec<(SmolStr, Value)>, Option<PartialEntry>) {
    let fields = map.fields().range::<str, _>((from, Bound::Unbounded));
    let fields = fields.map(|(name, value)| (name.clone(), value.clone()));
    let (piece, is_all) = part(fields, |(name, value)| change::weight(name, value));
    let last = piece.last().filter(|_| !is_all).map(|(name, _)| PartialEntry::Fields(name.clone()));
    (piece, last)
}

fn items(queue: &QueueValue, from: i64) -> (Vec<Value>, Option<PartialEntry>) {
    let (piece, is_all) = part(queue.range(from, queue.end()).cloned(), queue::weight);
    let next = PartialEntry::Items(from.saturating_add_unsigned(piece.len() as u64));
    (piece, (!is_all).then_some(next))
}

/// As many parts as make up a piece, and whether these are all.
fn part<T>(mut parts: impl Iterator<Item = T>, weight: impl Fn(&T) -> u64) -> (Vec<T>, bool) {
    let (mut piece, mut sum) = (Vec::new(), 0);
    while piece.len() < PARTS && sum < WEIGHT {
        let Some(part) = parts.next() else {
            return (piece, true);
        };
        sum += weight(&part);
        piece.push(part);
    }
    (piece, parts.next().is_none())
}
