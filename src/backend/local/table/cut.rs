//! Owns the cut: the entries of a table as they were at one instant, read while the table changes. Knows nothing of what
//! is done with them.
//!
//! The instant is a moment under the locks of all shards. From then on, until the cut is closed, the first change of an
//! entry keeps a copy of it as it was (copy on write). A change of several keys holds the locks of all their shards, so
//! no cut splits one.

use std::hash::BuildHasher as _;
use std::ops::Bound;

use smol_str::SmolStr;

use crate::backend::local::entry::Entry;
use crate::backend::local::table::shard_index::shard_index;
use crate::backend::local::table::shards::{PaddedShard, Table};
use crate::key::{is_cleared, is_reserved};

/// How many keys are read in one step.
const PAGE: usize = 1024;

/// Copied entries, sorted by key. Some may have expired.
pub(crate) type CopiedEntries = Vec<(SmolStr, Entry)>;

/// An open cut of a table. Several may be open at a time.
pub(crate) struct TableCut<'t> {
    table: &'t Table,
    number: u64,
}

impl Table {
    pub(crate) fn open_cut(&self) -> TableCut<'_> {
        let mut locked = self.lock_all();
        let number = locked.shards().map(|shard| shard.cuts.next_number()).max().unwrap_or(0);
        for shard in locked.shards() {
            shard.cuts.open(number);
        }
        TableCut { table: self, number }
    }
}

impl TableCut<'_> {
    /// Returns the first entries whose keys begin with `prefix` and come after `after`, without reserved ones. Also
    /// returns the key after which to continue if there may be more.
    pub(crate) fn page(&self, prefix: &str, after: Option<&str>) -> (CopiedEntries, Option<SmolStr>) {
        let (keys, last) = self.table.listed_keys(prefix, after, PAGE);
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let to = last.as_deref().map_or(Bound::Unbounded, Bound::Included);
        // After the listing, so that no key is in neither of them.
        let mut removed = self.originals(from, to, |key| key.starts_with(prefix) && !is_reserved(key));
        let mut copied = self.copy(keys);
        add_missing(&mut copied, &mut removed);
        (copied, last)
    }

    /// Returns the reserved entries that are cleared with those whose keys begin with `prefix`.
    pub(crate) fn reserved(&self, prefix: &str) -> CopiedEntries {
        let keys = self.table.keys_to_clear(prefix).iter().map(|key| SmolStr::new(&**key)).collect();
        let is_cleared = |key: &str| is_reserved(key) && is_cleared(key.as_bytes(), prefix.as_bytes());
        let mut removed = self.originals(Bound::Included(prefix), Bound::Unbounded, is_cleared);
        let mut copied = self.copy(keys);
        add_missing(&mut copied, &mut removed);
        copied
    }

    /// Copies the entries of sorted keys as they were.
    fn copy(&self, keys: Vec<SmolStr>) -> CopiedEntries {
        // Each shard is locked once, and the reads of its entries wait for the memory together.
        let hash = |key: &SmolStr| self.table.hasher.hash_one(&**key);
        let hashes: Vec<u64> = keys.iter().map(hash).collect();
        let mut by_shard: Vec<usize> = (0..keys.len()).collect();
        by_shard.sort_by_key(|at| shard_index(hashes[*at]));
        let mut entries: Vec<Option<Entry>> = vec![None; keys.len()];
        for group in by_shard.chunk_by(|a, b| shard_index(hashes[*a]) == shard_index(hashes[*b])) {
            let Some(first) = group.first() else { continue };
            let shard = self.table.shards[shard_index(hashes[*first])].0.read();
            let originals = shard.cuts.of(self.number).filter(|originals| !originals.is_empty());
            for at in group {
                let original = originals.and_then(|originals| originals.get(&*keys[*at]));
                let entry = original.map_or_else(|| shard.find(hashes[*at], &keys[*at]), Option::as_ref);
                entries[*at] = entry.cloned();
            }
        }
        keys.into_iter().zip(entries).filter_map(|(key, entry)| Some((key, entry?))).collect()
    }

    /// Returns kept entries with keys in this range, in any order.
    fn originals(
        &self,
        from: Bound<&str>,
        to: Bound<&str>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> CopiedEntries {
        let mut found = Vec::new();
        // An empty range in this form would be refused by the map.
        if matches!((from, to), (Bound::Excluded(from), Bound::Included(to)) if from >= to) {
            return found;
        }
        for shard in &self.table.shards {
            let shard = shard.0.read();
            let kept =
                shard.cuts.of(self.number).into_iter().flat_map(|kept| kept.range::<str, _>((from, to)));
            let present = kept.filter_map(|(key, entry)| Some((key, entry.as_ref()?)));
            let wanted = present.filter(|(key, _)| is_wanted(key));
            found.extend(wanted.map(|(key, entry)| (key.clone(), entry.clone())));
        }
        found
    }
}

/// Adds the originals whose keys are missing: they were removed before they were listed.
fn add_missing(copied: &mut CopiedEntries, originals: &mut CopiedEntries) {
    originals.retain(|(key, _)| copied.binary_search_by(|(copied, _)| copied.cmp(key)).is_err());
    if !originals.is_empty() {
        copied.append(originals);
        copied.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}

impl Drop for TableCut<'_> {
    fn drop(&mut self) {
        for PaddedShard(shard) in &self.table.shards {
            // Dropped after the lock is released: there may be many.
            let originals = shard.write().cuts.close(self.number);
            drop(originals);
        }
    }
}
