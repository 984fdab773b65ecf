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

use crate::backend::local::change::{Change, Entry, Garbage};
use crate::backend::local::view::{LiveEntry, live};
use crate::clock::{Deadline, Now};
use crate::error::Result;
use crate::key::is_reserved;
use crate::op::{Answer, Query};

const SHARDS: usize = 32;

/// Every so many writes to a shard, at most [`RECLAIM_STEP`] of its expired entries are taken out.
const RECLAIM_EVERY: u8 = 16;
const RECLAIM_STEP: usize = 64;

/// The entries of one store.
pub(crate) struct Table {
    pub(crate) shards: Box<[PaddedShard]>,
    pub(crate) keys: RwLock<BTreeSet<SmolStr>>,
    /// The keys that are this crate's own and are listed to nobody.
    pub(crate) reserved: RwLock<BTreeSet<SmolStr>>,
    pub(crate) hasher: DefaultHashBuilder,
}

/// Keeps the locks of two shards out of one cache line.
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
}

pub(crate) struct Slot {
    /// Short keys lie in the slot itself: comparing them costs no further cache line.
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

    /// Does what [`Table::commit`] does, and hands out what went, and how much that weighed.
    fn step<R>(
        &self,
        key: &str,
        now: &Now<'_>,
        decide: impl FnOnce(Option<&Entry>) -> Result<(Change, R)>,
    ) -> Result<(RemovedEntries, R)> {
        let hash = self.hasher.hash_one(key);
        let mut guard = self.shards[index(hash)].0.write();
        let shard = &mut *guard;
        let (gone, reply) = match shard.slots.find_mut(hash, |slot| *slot.key == *key) {
            None => {
                let (change, reply) = decide(None)?;
                (self.apply_to(shard, hash, key, change), reply)
            }
            Some(slot) => match decide(Some(&slot.entry))? {
                // The way of most writes: nothing but the slot that was just found is touched.
                (Change::Set(entry), reply) if entry.deadline == slot.entry.deadline => {
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
        Ok((gone, reply))
    }

    /// Applies one change, and tells the weight of what it replaced.
    pub(crate) fn apply(&self, key: &str, change: Change, now: &Now<'_>) -> u64 {
        // `decide` cannot fail here.
        self.step(key, now, |_| Ok((change, ()))).map_or(0, |((_, weight), ())| weight)
    }

    /// Applies all changes, in their order, in one step that no reader sees a part of, and tells the
    /// weight of what they replaced.
    pub(crate) fn apply_all<K: Deref<Target = str>>(&self, changes: Vec<(K, Change)>, now: &Now<'_>) -> u64 {
        let mut locked = self.lock(changes.iter().map(|(key, _)| &**key));
        locked.apply(changes, now)
    }

    /// Takes the locks of keys.
    pub(crate) fn lock<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> LockedShards<'_> {
        let indices: BTreeSet<usize> = keys.into_iter().map(|key| index(self.hasher.hash_one(key))).collect();
        let mut shards: Vec<Option<RwLockWriteGuard<'_, Shard>>> = Vec::new();
        shards.resize_with(SHARDS, || None);
        for index in indices {
            shards[index] = Some(self.shards[index].0.write());
        }
        LockedShards { table: self, shards, removed: Vec::new() }
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
        let (mut keys, more) = any_keys(&self.keys.read(), prefix, after, limit);
        keys.retain(|key| self.read(key, |found| live(found, now).is_some()));
        (keys, more)
    }

    /// At most `limit` of the keys that come behind `after`, in order, reserved ones and those of entries that
    /// have expired among them, and the last of them if there may be more.
    pub(crate) fn all_keys(&self, after: Option<&str>, limit: usize) -> (Vec<SmolStr>, Option<SmolStr>) {
        let (mut keys, _) = any_keys(&self.keys.read(), "", after, limit);
        let (reserved, _) = any_keys(&self.reserved.read(), "", after, limit);
        if !reserved.is_empty() {
            keys.extend(reserved);
            keys.sort_unstable();
            keys.truncate(limit);
        }
        let more = if keys.len() == limit { keys.last().cloned() } else { None };
        (keys, more)
    }

    /// The reserved keys that begin with `prefix`.
    pub(crate) fn reserved_keys(&self, prefix: &str) -> Vec<SmolStr> {
        any_keys(&self.reserved.read(), prefix, None, usize::MAX).0
    }

    /// How many entries there are, reserved ones left out.
    pub(crate) fn len(&self, now: &Now<'_>) -> u64 {
        let mut expired = 0;
        for shard in &self.shards {
            let shard = shard.0.read();
            let gone = shard.expirations.iter().take_while(|(deadline, _)| deadline.has_passed(now));
            expired += gone.filter(|(_, key)| !is_reserved(key)).count();
        }
        self.keys.read().len().saturating_sub(expired) as u64
    }

    /// The weights of all entries, of expired ones too until they are reclaimed.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.read().bytes).sum()
    }

    /// Takes all expired entries out.
    pub(crate) fn reclaim_all(&self, now: &Now<'_>) {
        for shard in &self.shards {
            let mut shard = shard.0.write();
            while let Some((_, key)) =
                shard.expirations.first().filter(|(deadline, _)| deadline.has_passed(now))
            {
                let key = key.clone();
                let hash = self.hasher.hash_one(&*key);
                self.apply_to(&mut shard, hash, &key, Change::Remove);
            }
        }
    }

    /// Changes the table under the lock of its shard, and hands out what went, and how much that weighed.
    fn apply_to(&self, shard: &mut Shard, hash: u64, key: &str, change: Change) -> RemovedEntries {
        match change {
            Change::Nothing => (Garbage::Nothing, 0),
            Change::Set(entry) => self.set(shard, hash, key, entry),
            Change::Remove => {
                let Ok(place) = shard.slots.find_entry(hash, |slot| *slot.key == *key) else {
                    return (Garbage::Nothing, 0);
                };
                let (slot, _) = place.remove();
                let weight = slot.entry.weight(&slot.key);
                shard.bytes -= weight;
                self.set_of(&slot.key).write().remove(&slot.key);
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
                let dropped = slot.entry.apply_in_place(change);
                let after = slot.entry.weight(key);
                shard.bytes = shard.bytes + after - before;
                if slot.entry.deadline != deadline {
                    let (key, after) = (slot.key.clone(), slot.entry.deadline);
                    shard.reschedule(key, deadline, after);
                }
                (dropped, before.saturating_sub(after))
            }
        }
    }

    fn set(&self, shard: &mut Shard, hash: u64, key: &str, entry: Entry) -> RemovedEntries {
        let deadline = entry.deadline;
        shard.bytes += entry.weight(key);
        let place =
            shard.slots.entry(hash, |slot| *slot.key == *key, |slot| self.hasher.hash_one(&*slot.key));
        let (key, before) = match place {
            Place::Occupied(mut place) => {
                let slot = place.get_mut();
                (slot.key.clone(), Some(std::mem::replace(&mut slot.entry, entry)))
            }
            Place::Vacant(place) => {
                let key = SmolStr::new(key);
                place.insert(Slot { key: key.clone(), entry });
                self.set_of(&key).write().insert(key.clone());
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

    /// The ordered set that a key belongs to.
    fn set_of(&self, key: &str) -> &RwLock<BTreeSet<SmolStr>> {
        if is_reserved(key) { &self.reserved } else { &self.keys }
    }

    /// Now and then takes a few expired entries out of a shard that has some.
    fn reclaim(&self, shard: &mut Shard, now: &Now<'_>) {
        if shard.expirations.is_empty() {
            return;
        }
        shard.writes = shard.writes.wrapping_add(1);
        if !shard.writes.is_multiple_of(RECLAIM_EVERY) {
            return;
        }
        for _ in 0..RECLAIM_STEP {
            let Some((_, key)) = shard.expirations.first().filter(|(deadline, _)| deadline.has_passed(now))
            else {
                return;
            };
            let key = key.clone();
            let hash = self.hasher.hash_one(&*key);
            self.apply_to(shard, hash, &key, Change::Remove);
        }
    }
}

/// Keys whose shards are locked, and what changes so far took out: it is dropped behind the locks.
pub(crate) struct LockedShards<'t> {
    table: &'t Table,
    shards: Vec<Option<RwLockWriteGuard<'t, Shard>>>,
    removed: Vec<Garbage>,
}

impl LockedShards<'_> {
    /// The entry under a key that is locked; it may have expired.
    pub(crate) fn find(&self, key: &str) -> Option<&Entry> {
        let hash = self.table.hasher.hash_one(key);
        self.shards[index(hash)].as_ref()?.find(hash, key)
    }

    /// Answers a question about a key that is locked.
    pub(crate) fn ask(&self, key: &str, query: &Query, now: &Now<'_>) -> Result<Answer> {
        LiveEntry::new(key, self.find(key), now).answer(query)
    }

    /// Applies changes to keys that are locked, in order, and tells the weight of what they replaced.
    pub(crate) fn apply<K: Deref<Target = str>>(&mut self, changes: Vec<(K, Change)>, now: &Now<'_>) -> u64 {
        let mut freed = 0;
        for (key, change) in changes {
            let hash = self.table.hasher.hash_one(&*key);
            if let Some(shard) = &mut self.shards[index(hash)] {
                let (dropped, weight) = self.table.apply_to(shard, hash, &key, change);
                freed += weight;
                self.removed.push(dropped);
                self.table.reclaim(shard, now);
            }
        }
        freed
    }
}

impl Drop for LockedShards<'_> {
    fn drop(&mut self) {
        self.shards.clear();
    }
}

/// What a change took out, and how much it weighed.
type RemovedEntries = (Garbage, u64);

/// At most `limit` of the keys that begin with `prefix` and come behind `after`, in order, and the last of
/// them if there may be more.
fn any_keys(
    all: &BTreeSet<SmolStr>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> (Vec<SmolStr>, Option<SmolStr>) {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let found = all.range::<str, _>((from, Bound::Unbounded));
    let keys: Vec<SmolStr> = found.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect();
    let more = if keys.len() == limit { keys.last().cloned() } else { None };
    (keys, more)
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
                self.expirations.remove(&known);
                known.1
            }
            None => key,
        };
        if let Some(after) = after {
            self.expirations.insert((after, key));
        }
    }
}

/// The shard of a hash: from bits that the hash table inside a shard does not use to find its place.
pub(crate) fn index(hash: u64) -> usize {
    usize::from(SHARE[(hash >> 48) as usize % SHARE.len()])
}

/// The shards take shares that grow from one to two, in equal ratios. A hash table doubles when it is full; of equal
/// ones all would do so at the same number of entries, which takes long, and leaves all of them half empty.
static SHARE: [u8; 1024] = shares();

/// Where the share of each shard ends: `1024 * (2^(n/32) - 1)`.
const ENDS: [u16; SHARDS] = [
    22, 45, 69, 93, 117, 142, 168, 194, 220, 248, 276, 304, 333, 363, 393, 424, 456, 488, 521, 555, 590, 625,
    661, 698, 736, 774, 814, 854, 895, 937, 980, 1024,
];

const fn shares() -> [u8; 1024] {
    let mut shares = [0; 1024];
    let (mut at, mut shard) = (0, 0);
    while at < shares.len() {
        if at >= ENDS[shard as usize] as usize {
            shard += 1;
        }
        shares[at] = shard;
        at += 1;
    }
    shares
}
