//! Owns how a table is filled that nobody else sees yet. Knows nothing of where the changes come from.

use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry as Place;
use smol_str::SmolStr;

use crate::backend::local::change::{Change, Entry};
use crate::backend::local::table::shards::{Slot, Table, index};
use crate::key::is_reserved;

/// A table that is being filled: no lock is taken, and its keys are put in order once, at the end. Nothing expires
/// meanwhile: a later change may say that it lives on.
pub(crate) struct BulkLoader {
    table: Table,
    /// The keys in the order in which they appeared; some may be gone, or have appeared again.
    appeared: Vec<SmolStr>,
    len: usize,
}

impl BulkLoader {
    pub(crate) fn new() -> Self {
        Self { table: Table::default(), appeared: Vec::new(), len: 0 }
    }

    /// Makes a change as [`Table::apply`] does.
    pub(crate) fn apply(&mut self, key: &str, change: Change) {
        let Self { table, appeared, len } = self;
        let hash = table.hasher.hash_one(key);
        let (shards, hasher) = (&mut table.shards, &table.hasher);
        let shard = shards[index(hash)].0.get_mut();
        match change {
            Change::Nothing => {}
            Change::Set(entry) => {
                shard.bytes += entry.weight(key);
                let is_it = |slot: &Slot| *slot.key == *key;
                match shard.slots.entry(hash, is_it, |slot| hasher.hash_one(&*slot.key)) {
                    Place::Occupied(mut place) => {
                        let before = std::mem::replace(&mut place.get_mut().entry, entry);
                        shard.bytes -= before.weight(key);
                    }
                    Place::Vacant(place) => {
                        let key = SmolStr::new(key);
                        place.insert(Slot { key: key.clone(), entry });
                        appeared.push(key);
                        *len += 1;
                    }
                }
            }
            Change::Remove => {
                if let Ok(place) = shard.slots.find_entry(hash, |slot| *slot.key == *key) {
                    let (slot, _) = place.remove();
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

    /// Shows the entry under `key` to `look`.
    pub(crate) fn read<R>(&self, key: &str, look: impl FnOnce(Option<&Entry>) -> R) -> R {
        self.table.read(key, look)
    }

    /// How many entries there are, expired ones and reserved ones among them.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The weights of all entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// The table, ready for use.
    pub(crate) fn finish(self) -> Table {
        let Self { mut table, mut appeared, len } = self;
        if appeared.len() > len {
            appeared.retain(|key| table.read(key, |found| found.is_some()));
        }
        let reserved: Vec<SmolStr> = appeared.extract_if(.., |key| is_reserved(key)).collect();
        // Out of a sequence a set is built at once, and densely.
        *table.keys.get_mut() = appeared.into_iter().collect();
        *table.reserved.get_mut() = reserved.into_iter().collect();
        for shard in &mut table.shards {
            let shard = shard.0.get_mut();
            let mortal = shard.slots.iter().filter_map(|slot| Some((slot.entry.deadline?, slot.key.clone())));
            shard.expirations = mortal.collect();
        }
        table
    }
}
