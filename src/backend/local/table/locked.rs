//! Owns access to several shards at once, under their locks. Knows nothing of why they are locked together.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::ops::Deref;

use parking_lot::RwLockWriteGuard;

use crate::backend::local::change::{Change, Garbage};
use crate::backend::local::entry::Entry;
use crate::backend::local::table::shard_index::{SHARDS, shard_index};
use crate::backend::local::table::shards::{Shard, Table};
use crate::backend::local::view::LiveEntry;
use crate::clock::Now;
use crate::error::Result;
use crate::op::{Answer, Query};

/// Locked shards, and what the changes so far took out of them.
pub(crate) struct LockedShards<'t> {
    table: &'t Table,
    shards: Vec<Option<RwLockWriteGuard<'t, Shard>>>,
    /// Dropped only after the locks are released, because it may be large.
    removed: Vec<Garbage>,
}

impl Table {
    /// Locks the shards of these keys.
    pub(crate) fn lock<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> LockedShards<'_> {
        // INVARIANT: sorted, so that two threads never wait for each other's shards.
        let indices: BTreeSet<usize> =
            keys.into_iter().map(|key| shard_index(self.hasher.hash_one(key))).collect();
        let mut shards: Vec<Option<RwLockWriteGuard<'_, Shard>>> = Vec::new();
        shards.resize_with(SHARDS, || None);
        for index in indices {
            shards[index] = Some(self.shards[index].0.write());
        }
        LockedShards { table: self, shards, removed: Vec::new() }
    }

    /// Locks all shards.
    pub(crate) fn lock_all(&self) -> LockedShards<'_> {
        let shards = self.shards.iter().map(|shard| Some(shard.0.write())).collect();
        LockedShards { table: self, shards, removed: Vec::new() }
    }

    /// Applies all changes, in order, in one step that no reader sees a part of. Returns the weight of what they
    /// replaced.
    pub(crate) fn apply_all<K: Deref<Target = str>>(&self, changes: Vec<(K, Change)>, now: &Now<'_>) -> u64 {
        let mut locked = self.lock(changes.iter().map(|(key, _)| &**key));
        locked.apply(changes, now)
    }
}

impl LockedShards<'_> {
    /// Returns the entry of a locked key; it may have expired.
    pub(crate) fn find(&self, key: &str) -> Option<&Entry> {
        let hash = self.table.hasher.hash_one(key);
        self.shards[shard_index(hash)].as_ref()?.find(hash, key)
    }

    /// Returns the locked shards.
    pub(crate) fn shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().flatten().map(|shard| &mut **shard)
    }

    /// Returns the locked shards, to be read.
    pub(crate) fn locked_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().flatten().map(|shard| &**shard)
    }

    /// Answers a query about a locked key.
    pub(crate) fn ask(&self, key: &str, query: &Query, now: &Now<'_>) -> Result<Answer> {
        LiveEntry::new(key, self.find(key), now).answer(query)
    }

    /// Applies changes to locked keys, in order, and returns the weight of what they replaced.
    pub(crate) fn apply<K: Deref<Target = str>>(&mut self, changes: Vec<(K, Change)>, now: &Now<'_>) -> u64 {
        let mut freed = 0;
        for (key, change) in changes {
            let hash = self.table.hasher.hash_one(&*key);
            if let Some(shard) = &mut self.shards[shard_index(hash)] {
                let (garbage, weight) = self.table.apply_to(shard, hash, &key, change);
                freed += weight;
                self.removed.push(garbage);
                self.table.reclaim(shard, now);
            }
        }
        freed
    }
}

impl Drop for LockedShards<'_> {
    /// Releases the locks before `removed` is dropped.
    fn drop(&mut self) {
        self.shards.clear();
    }
}
