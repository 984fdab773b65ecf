//! Owns the entries: a sharded hash of them, and one ordered set of their keys, which is touched only when
//! a key appears or goes. Knows nothing of what a mutation means; it applies [`Change`]s.
//!
//! INVARIANT: locks are taken in the order shard (by index), then key set; never the other way round, and
//! none is held while a caller's code runs, except for the `decide` of [`Table::commit`].

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::ops::{Bound, Deref};

use hashbrown::hash_table::Entry as Place;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::{RwLock, RwLockWriteGuard};
use smol_str::SmolStr;

use super::change::{Change, Entry};
use super::plan::live;
use crate::clock::{Deadline, Now};
use crate::error::Result;

const SHARDS: usize = 32;

/// Every so many writes to a shard, at most [`RECLAIM_STEP`] of its expired entries are taken out.
const RECLAIM_EVERY: u8 = 16;
const RECLAIM_STEP: usize = 64;

/// The entries of one store.
pub(crate) struct Table {
    shards: Box<[Padded]>,
    keys: RwLock<BTreeSet<SmolStr>>,
    hasher: DefaultHashBuilder,
}

/// Keeps the locks of two shards out of one cache line.
#[repr(align(128))]
#[derive(Default)]
struct Padded(RwLock<Shard>);

#[derive(Default)]
struct Shard {
    slots: HashTable<Slot>,
    /// The keys that have a deadline, the earliest first.
    mortal: BTreeSet<(Deadline, SmolStr)>,
    writes: u8,
    /// The weights of all its entries.
    bytes: u64,
}

struct Slot {
    /// Short keys lie in the slot itself: comparing them costs no further cache line.
    key: SmolStr,
    entry: Entry,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Padded::default()).collect(),
            keys: RwLock::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Shows the entry under `key`, which may have expired, to `look`.
    pub(crate) fn read<R>(&self, key: &str, look: impl FnOnce(Option<&Entry>) -> R) -> R {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards[index(hash)].0.read();
        look(shard.find(hash, key))
    }

    /// Lets `decide` look at the entry under `key` and applies what it decides, in one step.
    pub(crate) fn commit<R>(
        &self,
        key: &str,
        now: &Now<'_>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<R> {
        // What was replaced is dropped here, outside the lock: it may be large.
        self.step(key, now, decide).map(|(_, reply)| reply)
    }

    /// Does what [`Table::commit`] does, and hands out what was replaced.
    fn step<R>(
        &self,
        key: &str,
        now: &Now<'_>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<(Option<Entry>, R)> {
        let hash = self.hasher.hash_one(key);
        let mut guard = self.shards[index(hash)].0.write();
        let shard = &mut *guard;
        let (replaced, reply) = match shard.slots.find_mut(hash, |slot| *slot.key == *key) {
            None => {
                let (change, reply) = decide(None)?;
                (self.apply_to(shard, hash, key, change), reply)
            }
            Some(slot) => match decide(Some(&slot.entry))? {
                // The way of most writes: nothing but the slot that was just found is touched.
                (Change::Set(entry), reply) if entry.deadline == slot.entry.deadline => {
                    shard.bytes += entry.weight(key);
                    shard.bytes -= slot.entry.weight(key);
                    (Some(std::mem::replace(&mut slot.entry, entry)), reply)
                }
                (change, reply) => (self.apply_to(shard, hash, key, change), reply),
            },
        };
        self.reclaim(shard, now);
        Ok((replaced, reply))
    }

    /// Applies one change, and tells the weight of what it replaced.
    pub(crate) fn apply(&self, key: &str, change: Change, now: &Now<'_>) -> u64 {
        // `decide` cannot fail here.
        let replaced = self.step(key, now, |_| Ok((change, ()))).ok().and_then(|(replaced, ())| replaced);
        replaced.map_or(0, |entry| entry.weight(key))
    }

    /// Applies all changes, in their order, in one step that no reader sees a part of, and tells the
    /// weight of what they replaced.
    pub(crate) fn apply_all<K: Deref<Target = str>>(&self, changes: Vec<(K, Change)>, now: &Now<'_>) -> u64 {
        let hashes: Vec<u64> = changes.iter().map(|(key, _)| self.hasher.hash_one(&**key)).collect();
        let indices: BTreeSet<usize> = hashes.iter().map(|hash| index(*hash)).collect();
        let mut guards: Vec<Option<RwLockWriteGuard<'_, Shard>>> = Vec::new();
        guards.resize_with(SHARDS, || None);
        for index in indices {
            guards[index] = Some(self.shards[index].0.write());
        }
        let (mut replaced, mut freed) = (Vec::new(), 0);
        for ((key, change), hash) in changes.into_iter().zip(hashes) {
            if let Some(shard) = &mut guards[index(hash)] {
                let before = self.apply_to(shard, hash, &key, change);
                freed += before.as_ref().map_or(0, |entry| entry.weight(&key));
                replaced.extend(before);
                self.reclaim(shard, now);
            }
        }
        drop(guards);
        freed
    }

    /// The live ones of at most `limit` keys that begin with `prefix` and come behind `after`, in order, and
    /// the last key looked at if there may be more.
    pub(crate) fn keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: &Now<'_>,
    ) -> (Vec<SmolStr>, Option<SmolStr>) {
        let (mut keys, more) = self.any_keys(prefix, after, limit);
        keys.retain(|key| self.read(key, |found| live(found, now).is_some()));
        (keys, more)
    }

    /// The live entries of at most `limit` keys that come behind `after`, in order, and the last key looked
    /// at if there may be more.
    pub(crate) fn entries(
        &self,
        after: Option<&str>,
        limit: usize,
        now: &Now<'_>,
    ) -> (Vec<(SmolStr, Entry)>, Option<SmolStr>) {
        let (keys, more) = self.any_keys("", after, limit);
        let entry = |key: SmolStr| {
            let entry = self.read(&key, |found| live(found, now).cloned())?;
            Some((key, entry))
        };
        (keys.into_iter().filter_map(entry).collect(), more)
    }

    /// As [`Table::keys`], with those that have expired.
    fn any_keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<SmolStr>, Option<SmolStr>) {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let all = self.keys.read();
        let found = all.range::<str, _>((from, Bound::Unbounded));
        let keys: Vec<SmolStr> =
            found.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect();
        let more = if keys.len() == limit { keys.last().cloned() } else { None };
        (keys, more)
    }

    /// How many entries there are.
    pub(crate) fn len(&self, now: &Now<'_>) -> u64 {
        let count = |shard: &Shard| {
            let expired = shard.mortal.iter().take_while(|(deadline, _)| deadline.has_passed(now)).count();
            shard.slots.len() - expired
        };
        self.shards.iter().map(|shard| count(&shard.0.read()) as u64).sum()
    }

    /// The weights of all entries, of expired ones too until they are reclaimed.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.read().bytes).sum()
    }

    /// A table of these entries, whose keys are sorted and differ.
    pub(crate) fn load(entries: Vec<(SmolStr, Entry)>) -> Self {
        let table = Self::new();
        *table.keys.write() = entries.iter().map(|(key, _)| key.clone()).collect();
        for (key, entry) in entries {
            let hash = table.hasher.hash_one(&*key);
            let mut shard = table.shards[index(hash)].0.write();
            shard.bytes += entry.weight(&key);
            shard.reschedule(key.clone(), None, entry.deadline);
            shard.slots.insert_unique(hash, Slot { key, entry }, |slot| table.hasher.hash_one(&*slot.key));
        }
        table
    }

    /// Takes all expired entries out.
    pub(crate) fn reclaim_all(&self, now: &Now<'_>) {
        for shard in &self.shards {
            let mut shard = shard.0.write();
            while let Some((_, key)) = shard.mortal.first().filter(|(deadline, _)| deadline.has_passed(now)) {
                let key = key.clone();
                let hash = self.hasher.hash_one(&*key);
                self.apply_to(&mut shard, hash, &key, Change::Remove);
            }
        }
    }

    /// Changes the table under the lock of its shard and hands out what was replaced.
    fn apply_to(&self, shard: &mut Shard, hash: u64, key: &str, change: Change) -> Option<Entry> {
        match change {
            Change::Nothing => None,
            Change::Set(entry) => {
                let deadline = entry.deadline;
                shard.bytes += entry.weight(key);
                let place = shard.slots.entry(
                    hash,
                    |slot| *slot.key == *key,
                    |slot| self.hasher.hash_one(&*slot.key),
                );
                let (key, before) = match place {
                    Place::Occupied(mut place) => {
                        let slot = place.get_mut();
                        let before = std::mem::replace(&mut slot.entry, entry);
                        shard.bytes -= before.weight(&slot.key);
                        if before.deadline == deadline {
                            return Some(before);
                        }
                        (slot.key.clone(), Some(before))
                    }
                    Place::Vacant(place) => {
                        let key = SmolStr::new(key);
                        place.insert(Slot { key: key.clone(), entry });
                        self.keys.write().insert(key.clone());
                        (key, None)
                    }
                };
                shard.reschedule(key, before.as_ref().and_then(|entry| entry.deadline), deadline);
                before
            }
            Change::SetDeadline(deadline) => {
                let slot = shard.slots.find_mut(hash, |slot| *slot.key == *key)?;
                let before = std::mem::replace(&mut slot.entry.deadline, deadline);
                let key = slot.key.clone();
                shard.reschedule(key, before, deadline);
                None
            }
            Change::Remove => {
                let place = shard.slots.find_entry(hash, |slot| *slot.key == *key).ok()?;
                let (slot, _) = place.remove();
                shard.bytes -= slot.entry.weight(&slot.key);
                self.keys.write().remove(&slot.key);
                shard.reschedule(slot.key, slot.entry.deadline, None);
                Some(slot.entry)
            }
        }
    }

    /// Now and then takes a few expired entries out of a shard that has some.
    fn reclaim(&self, shard: &mut Shard, now: &Now<'_>) {
        if shard.mortal.is_empty() {
            return;
        }
        shard.writes = shard.writes.wrapping_add(1);
        if !shard.writes.is_multiple_of(RECLAIM_EVERY) {
            return;
        }
        for _ in 0..RECLAIM_STEP {
            let Some((_, key)) = shard.mortal.first().filter(|(deadline, _)| deadline.has_passed(now)) else {
                return;
            };
            let key = key.clone();
            let hash = self.hasher.hash_one(&*key);
            self.apply_to(shard, hash, &key, Change::Remove);
        }
    }
}

impl Shard {
    fn find(&self, hash: u64, key: &str) -> Option<&Entry> {
        self.slots.find(hash, |slot| *slot.key == *key).map(|slot| &slot.entry)
    }

    /// Keeps the order of deadlines after the one of `key` has changed.
    fn reschedule(&mut self, key: SmolStr, before: Option<Deadline>, after: Option<Deadline>) {
        let key = match before {
            Some(before) => {
                let known = (before, key);
                self.mortal.remove(&known);
                known.1
            }
            None => key,
        };
        if let Some(after) = after {
            self.mortal.insert((after, key));
        }
    }
}

/// The shard of a hash: from bits that the hash table inside a shard does not use to find its place.
fn index(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}
