//! Owns by how much changes make a table grow, and how a table is measured. It decides nothing and changes nothing.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, field_weight};
use crate::backend::local::queue::item_weight;
use crate::backend::local::table::bounds::{Growth, Size};
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::shards::Shard;
use crate::backend::local::table::usage::OVERHEAD;
use crate::key::is_reserved;

/// Returns what an entry counts as.
fn size_of(key: &str, entry: Option<&Entry>) -> Size {
    entry.map_or_else(Size::default, |entry| Size {
        entries: i64::from(!is_reserved(key)),
        bytes: signed(entry.weight(key) + OVERHEAD),
    })
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Returns what a change makes of a key that holds `entry`, which may have expired.
pub(crate) fn growth_of(key: &str, entry: Option<&Entry>, change: &Change) -> Growth {
    let before = size_of(key, entry);
    let in_place = |by: i64| Size { bytes: before.bytes + by, ..before };
    let written = match (change, entry) {
        (Change::Set(after), _) => size_of(key, Some(after)),
        (Change::Remove, _) | (_, None) => Size::default(),
        (Change::Nothing | Change::SetDeadline(_), Some(_)) => before,
        (change, Some(entry)) => in_place(content_growth(&entry.content, change)),
    };
    // A key that is absent and stays so, or is left alone, is not written.
    let written = if matches!(change, Change::Nothing) { Size::default() } else { written };
    let by = if matches!(change, Change::Nothing) { Size::default() } else { written - before };
    Growth { by, written }
}

/// Returns by how many bytes a change of a part of an entry makes it grow.
fn content_growth(content: &Content, change: &Change) -> i64 {
    match (content, change) {
        (Content::Map(map), Change::SetFields(fields)) => {
            let before = |name: &SmolStr| map.fields().get(name).map_or(0, |value| field_weight(name, value));
            let by = |(name, value): &(SmolStr, _)| signed(field_weight(name, value)) - signed(before(name));
            fields.iter().map(by).sum()
        }
        (Content::Map(map), Change::RemoveField(name)) => {
            -map.fields().get(name).map_or(0, |value| signed(field_weight(name, value)))
        }
        (Content::Queue(_), Change::SetItems { values, .. }) => {
            values.iter().map(|value| signed(item_weight(value))).sum()
        }
        (Content::Queue(queue), Change::DropBefore(begin)) => {
            -queue.range(i64::MIN, *begin).map(|value| signed(item_weight(value))).sum::<i64>()
        }
        (Content::Queue(queue), Change::DropFrom(end)) => {
            -queue.range(*end, i64::MAX).map(|value| signed(item_weight(value))).sum::<i64>()
        }
        (
            Content::Value(_) | Content::Map(_) | Content::Queue(_),
            Change::Nothing
            | Change::Set(_)
            | Change::Remove
            | Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_),
        ) => 0,
    }
}

impl LockedShards<'_> {
    /// Returns what changes of locked keys make of the table.
    pub(crate) fn growth_of<K: AsRef<str>>(&self, changes: &[(K, Change)]) -> Growth {
        let mut total = Growth::default();
        // A key that is changed several times is changed in a copy, since each change depends on the one before it.
        let mut copies: HashMap<&str, Option<Entry>> = HashMap::new();
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (index, (key, _)) in changes.iter().enumerate() {
            if last.insert(key.as_ref(), index).is_some() {
                copies.entry(key.as_ref()).or_insert_with(|| self.find(key.as_ref()).cloned());
            }
        }
        for (index, (key, change)) in changes.iter().enumerate() {
            let key = key.as_ref();
            let growth = match copies.get_mut(key) {
                None => growth_of(key, self.find(key), change),
                Some(copy) => {
                    let growth = growth_of(key, copy.as_ref(), change);
                    *copy = changed(copy.take(), change);
                    growth
                }
            };
            total.by += growth.by;
            if last.get(key) == Some(&index) {
                total.written += growth.written;
            }
        }
        total
    }

    /// Measures the locked shards.
    pub(crate) fn measure(&self) -> Measure {
        self.locked_shards().map(Shard::measure).fold(Measure::default(), |sum, shard| Measure {
            bytes: sum.bytes + shard.bytes,
            expired: sum.expired + shard.expired,
        })
    }
}

/// Returns an entry after a change.
fn changed(entry: Option<Entry>, change: &Change) -> Option<Entry> {
    match change {
        Change::Nothing => entry,
        Change::Set(after) => Some(after.clone()),
        Change::Remove => None,
        Change::SetDeadline(_)
        | Change::SetFields(_)
        | Change::RemoveField(_)
        | Change::SetItems { .. }
        | Change::DropBefore(_)
        | Change::DropFrom(_) => entry.map(|mut entry| {
            entry.apply_in_place(change.clone());
            entry
        }),
    }
}

/// What shards hold, by which it is known what has changed between two measurements.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measure {
    bytes: i64,
    /// How many entries were removed because they had expired.
    expired: i64,
}

impl Measure {
    /// Returns what must still be counted since `earlier`, after a write whose growth was counted: what it has freed,
    /// and what has expired.
    pub(crate) fn uncounted(self, write: Size, earlier: Self) -> Size {
        let bytes = self.bytes - earlier.bytes - write.grown().bytes;
        Size { entries: write.freed().entries + earlier.expired - self.expired, bytes }
    }
}

impl Shard {
    pub(crate) fn measure(&self) -> Measure {
        Measure {
            bytes: signed(self.bytes + OVERHEAD * self.slots.len() as u64),
            expired: signed(self.expired),
        }
    }
}
