//! Owns the entries: a sharded hash table, and an ordered set of their keys that changes only when a key appears or
//! disappears. Knows nothing of what a mutation means; it applies [`Change`]s.
//!
//! INVARIANT: shards are locked in the order of their indices, and a key set after the shards. No lock is held while a
//! caller's code runs, except in [`Table::read`] and [`Table::commit`].

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry as TableEntry;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;
use smol_str::SmolStr;

use crate::backend::local::change::{Change, Garbage};
use crate::backend::local::entry::Entry;
use crate::backend::local::table::originals::OpenCuts;
use crate::backend::local::table::shard_index::{SHARDS, shard_index};
use crate::clock::{Deadline, Now};
use crate::error::Result;
use crate::key::is_reserved;
use crate::stats::EntryStats;

/// After this many writes to a shard, at most [`RECLAIM_STEP`] of its expired entries are removed.
const RECLAIM_EVERY: u8 = 16;
const RECLAIM_STEP: usize = 64;

/// The entries of one store.
pub(crate) struct Table {
    pub(crate) shards: Box<[PaddedShard]>,
    pub(crate) keys: RwLock<BTreeSet<SmolStr>>,
    /// The keys that this crate reserves for itself; they are never listed.
    pub(crate) reserved: RwLock<BTreeSet<SmolStr>>,
    pub(crate) hasher: DefaultHashBuilder,
}

/// Keeps the locks of two shards in different cache lines.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct PaddedShard(pub(crate) RwLock<Shard>);

#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) slots: HashTable<Slot>,
    /// The keys that have a deadline, the earliest first.
    pub(crate) expirations: BTreeSet<(Deadline, SmolStr)>,
    writes: u8,
    /// The weights of all its entries.
    pub(crate) bytes: u64,
    /// How many expired entries were removed.
    pub(crate) expired: u64,
    pub(crate) cuts: OpenCuts,
}

pub(crate) struct Slot {
    /// Short keys are stored in the slot itself: comparing them reads no further cache line.
    pub(crate) key: SmolStr,
    pub(crate) entry: Entry,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| PaddedShard::default()).collect(),
            keys: RwLock::default(),
            reserved: RwLock::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Table {
    /// Passes the entry of `key`, which may have expired, to `view`.
    pub(crate) fn read<R>(&self, key: &str, view: impl FnOnce(Option<&Entry>) -> R) -> R {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards[shard_index(hash)].0.read();
        view(shard.find(hash, key))
    }

    /// Applies the change that `decide` makes of the entry of `key`, in one step.
    pub(crate) fn commit<R>(
        &self,
        key: &str,
        now: &Now<'_>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<R> {
        // The garbage is dropped here, after the lock is released: it may be large.
        self.commit_with_garbage(key, now, decide).map(|(_, reply)| reply)
    }

    /// Does what [`Table::commit`] does, and also returns what the change took out.
    fn commit_with_garbage<R>(
        &self,
        key: &str,
        now: &Now<'_>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<(RemovedEntries, R)> {
        let hash = self.hasher.hash_one(key);
        let mut guard = self.shards[shard_index(hash)].0.write();
        let shard = &mut *guard;
        let (removed, reply) = match shard.slots.find_mut(hash, |slot| *slot.key == *key) {
            None => {
                let (change, reply) = decide(None)?;
                (self.apply_to(shard, hash, key, change), reply)
            }
            Some(slot) => match decide(Some(&slot.entry))? {
                // Most writes take this path, which touches only the slot that was just found.
                (Change::Set(entry), reply) if entry.deadline == slot.entry.deadline => {
                    if !shard.cuts.is_empty() {
                        shard.cuts.keep(key, Some(&slot.entry));
                    }
                    let before = std::mem::replace(&mut slot.entry, entry);
                    let weight = before.weight(key);
                    shard.bytes += slot.entry.weight(key);
                    shard.bytes -= weight;
                    ((Garbage::Entry(before), weight), reply)
                }
                (change, reply) => (self.apply_to(shard, hash, key, change), reply),
            },
        };
        self.reclaim(shard, now);
        Ok((removed, reply))
    }

    /// Applies one change and returns the weight of what it replaced.
    pub(crate) fn apply(&self, key: &str, change: Change, now: &Now<'_>) -> u64 {
        // This `decide` cannot fail.
        self.commit_with_garbage(key, now, |_| Ok((change, ()))).map_or(0, |((_, weight), ())| weight)
    }

    /// Returns how many live entries there are, without reserved ones.
    pub(crate) fn len(&self, now: &Now<'_>) -> u64 {
        let mut expired = 0;
        for shard in &self.shards {
            let shard = shard.0.read();
            let passed = shard.expirations.iter().take_while(|(deadline, _)| deadline.has_passed(now));
            expired += passed.filter(|(_, key)| !is_reserved(key)).count();
        }
        self.keys.read().len().saturating_sub(expired) as u64
    }

    /// Returns how many live entries there are, and how many expired ones were removed.
    pub(crate) fn entry_stats(&self, now: &Now<'_>) -> EntryStats {
        let expired = self.shards.iter().map(|shard| shard.0.read().expired).sum();
        EntryStats { total: self.len(now), expired, bytes: self.bytes(), evicted: 0 }
    }

    /// Returns the weight of all entries, including expired ones that are not reclaimed yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.read().bytes).sum()
    }

    /// Removes all expired entries, and returns how many there were, without reserved ones.
    pub(crate) fn reclaim_all(&self, now: &Now<'_>) -> u64 {
        let mut removed = 0;
        for shard in &self.shards {
            // Others may use the shard in between.
            while let Some(count) = self.reclaim_some(&mut shard.0.write(), now) {
                removed += count;
            }
        }
        removed
    }

    /// Removes at most [`RECLAIM_STEP`] expired entries from a shard, and returns how many of them were not reserved;
    /// `None` if none was left.
    pub(crate) fn reclaim_some(&self, shard: &mut Shard, now: &Now<'_>) -> Option<u64> {
        let mut removed = None;
        for _ in 0..RECLAIM_STEP {
            let Some((_, key)) = shard.expirations.first().filter(|(deadline, _)| deadline.has_passed(now))
            else {
                break;
            };
            let key = key.clone();
            self.apply_to(shard, self.hasher.hash_one(&*key), &key, Change::Remove);
            // What this crate keeps for itself is not counted.
            *removed.get_or_insert(0) += u64::from(!is_reserved(&key));
        }
        shard.expired += removed.unwrap_or_default();
        removed
    }

    /// Applies a change to a locked shard, and returns what it took out.
    pub(crate) fn apply_to(&self, shard: &mut Shard, hash: u64, key: &str, change: Change) -> RemovedEntries {
        if !shard.cuts.is_empty() && !matches!(change, Change::Nothing) {
            let slot = shard.slots.find(hash, |slot| *slot.key == *key);
            shard.cuts.keep(key, slot.map(|slot| &slot.entry));
        }
        match change {
            Change::Nothing => (Garbage::Nothing, 0),
            Change::Set(entry) => self.set(shard, hash, key, entry),
            Change::Remove => {
                let Ok(occupied) = shard.slots.find_entry(hash, |slot| *slot.key == *key) else {
                    return (Garbage::Nothing, 0);
                };
                let (slot, _) = occupied.remove();
                let weight = slot.entry.weight(&slot.key);
                shard.bytes -= weight;
                self.key_set(&slot.key).write().remove(&slot.key);
                shard.reschedule(slot.key, slot.entry.deadline, None);
                (Garbage::Entry(slot.entry), weight)
            }
            Change::SetDeadline(_)
            | Change::SetFields(_)
            | Change::RemoveField(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => {
                let Some(slot) = shard.slots.find_mut(hash, |slot| *slot.key == *key) else {
                    return (Garbage::Nothing, 0);
                };
                let (before, deadline) = (slot.entry.weight(key), slot.entry.deadline);
                let garbage = slot.entry.apply_in_place(change);
                let after = slot.entry.weight(key);
                shard.bytes = shard.bytes + after - before;
                if slot.entry.deadline != deadline {
                    let (key, after) = (slot.key.clone(), slot.entry.deadline);
                    shard.reschedule(key, deadline, after);
                }
                (garbage, before.saturating_sub(after))
            }
        }
    }

    fn set(&self, shard: &mut Shard, hash: u64, key: &str, entry: Entry) -> RemovedEntries {
        let deadline = entry.deadline;
        shard.bytes += entry.weight(key);
        let table_entry =
            shard.slots.entry(hash, |slot| *slot.key == *key, |slot| self.hasher.hash_one(&*slot.key));
        let (key, before) = match table_entry {
            TableEntry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                (slot.key.clone(), Some(std::mem::replace(&mut slot.entry, entry)))
            }
            TableEntry::Vacant(vacant) => {
                let key = SmolStr::new(key);
                vacant.insert(Slot { key: key.clone(), entry });
                self.key_set(&key).write().insert(key.clone());
                (key, None)
            }
        };
        let Some(before) = before else {
            shard.reschedule(key, None, deadline);
            return (Garbage::Nothing, 0);
        };
        let weight = before.weight(&key);
        shard.bytes -= weight;
        if before.deadline != deadline {
            shard.reschedule(key, before.deadline, deadline);
        }
        (Garbage::Entry(before), weight)
    }

    /// Returns the ordered set that a key belongs to.
    fn key_set(&self, key: &str) -> &RwLock<BTreeSet<SmolStr>> {
        if is_reserved(key) { &self.reserved } else { &self.keys }
    }

    /// Removes a few expired entries from the shard, on every [`RECLAIM_EVERY`]th call.
    pub(crate) fn reclaim(&self, shard: &mut Shard, now: &Now<'_>) {
        if shard.expirations.is_empty() {
            return;
        }
        shard.writes = shard.writes.wrapping_add(1);
        if !shard.writes.is_multiple_of(RECLAIM_EVERY) {
            return;
        }
        self.reclaim_some(shard, now);
    }
}

/// What a change took out, and the weight of that.
type RemovedEntries = (Garbage, u64);

impl Shard {
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<&Entry> {
        self.slots.find(hash, |slot| *slot.key == *key).map(|slot| &slot.entry)
    }

    /// Updates the order of the deadlines after that of `key` has changed.
    fn reschedule(&mut self, key: SmolStr, before: Option<Deadline>, after: Option<Deadline>) {
        let key = match before {
            Some(before) => {
                let expiration = (before, key);
                self.expirations.remove(&expiration);
                expiration.1
            }
            None => key,
        };
        if let Some(after) = after {
            self.expirations.insert((after, key));
        }
    }
}
