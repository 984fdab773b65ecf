//! Owns how a table is filled before any other thread can see it. Knows nothing of where the changes come from.

use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry as TableEntry;
use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::table::shard_index::shard_index;
use crate::backend::local::table::shards::{Slot, Table};
use crate::key::is_reserved;

/// A table that is being filled. No lock is taken, and the keys are sorted once, at the end. Nothing expires
/// meanwhile, because a later change may extend or remove the deadline.
pub(crate) struct BulkLoader {
    table: Table,
    /// The keys in the order in which they appeared; some may be removed by now, or appear twice.
    appeared: Vec<SmolStr>,
    len: usize,
}

impl BulkLoader {
    pub(crate) fn new() -> Self {
        Self { table: Table::default(), appeared: Vec::new(), len: 0 }
    }

    /// Applies a change as [`Table::apply`] does.
    pub(crate) fn apply(&mut self, key: &str, change: Change) {
        let Self { table, appeared, len } = self;
        let hash = table.hasher.hash_one(key);
        let (shards, hasher) = (&mut table.shards, &table.hasher);
        let shard = shards[shard_index(hash)].0.get_mut();
        match change {
            Change::Nothing => {}
            Change::Set(entry) => {
                shard.bytes += entry.weight(key);
                let is_key = |slot: &Slot| *slot.key == *key;
                match shard.slots.entry(hash, is_key, |slot| hasher.hash_one(&*slot.key)) {
                    TableEntry::Occupied(mut occupied) => {
                        let before = std::mem::replace(&mut occupied.get_mut().entry, entry);
                        shard.bytes -= before.weight(key);
                    }
                    TableEntry::Vacant(vacant) => {
                        let key = SmolStr::new(key);
                        vacant.insert(Slot { key: key.clone(), entry });
                        appeared.push(key);
                        *len += 1;
                    }
                }
            }
            Change::Remove => {
                if let Ok(occupied) = shard.slots.find_entry(hash, |slot| *slot.key == *key) {
                    let (slot, _) = occupied.remove();
                    shard.bytes -= slot.entry.weight(key);
                    *len -= 1;
                }
            }
            Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => {
                if let Some(slot) = shard.slots.find_mut(hash, |slot| *slot.key == *key) {
                    let before = slot.entry.weight(key);
                    slot.entry.apply_in_place(change);
                    shard.bytes = shard.bytes + slot.entry.weight(key) - before;
                }
            }
        }
    }

    /// Passes the entry of `key` to `view`.
    pub(crate) fn read<R>(&self, key: &str, view: impl FnOnce(Option<&Entry>) -> R) -> R {
        self.table.read(key, view)
    }

    /// Returns how many entries there are, including expired and reserved ones.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the weight of all entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// Sorts the keys and the deadlines, and returns the table.
    pub(crate) fn finish(self) -> Table {
        let Self { mut table, mut appeared, len } = self;
        if appeared.len() > len {
            appeared.retain(|key| table.read(key, |entry| entry.is_some()));
        }
        let reserved: Vec<SmolStr> = appeared.extract_if(.., |key| is_reserved(key)).collect();
        // Collecting builds a set in one pass and packs it densely.
        *table.keys.get_mut() = appeared.into_iter().collect();
        *table.reserved.get_mut() = reserved.into_iter().collect();
        for shard in &mut table.shards {
            let shard = shard.0.get_mut();
            let expirations =
                shard.slots.iter().filter_map(|slot| Some((slot.entry.deadline?, slot.key.clone())));
            shard.expirations = expirations.collect();
        }
        table
    }
}
