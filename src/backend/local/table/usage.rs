//! Owns how much memory the table takes. Knows nothing of what the entries mean.

use crate::backend::local::table::shards::{Slot, Table};
use crate::clock::Now;
use crate::inspection::MemoryUsage;
use crate::key::Key;

/// The memory that an entry takes beside its key and its value, as an estimate: a slot of a hash table that is filled to
/// two thirds, a place in the ordered set of keys, whose nodes are filled to three quarters, and the head of an
/// allocation. Of a million entries, the process takes this within some percent.
pub(crate) const OVERHEAD: u64 =
    (size_of::<Slot>() * 3 / 2 + size_of::<smol_str::SmolStr>() * 4 / 3 + 24) as u64;

impl Table {
    /// Returns what the table takes, including expired entries that are not reclaimed yet.
    pub(crate) fn usage(&self) -> MemoryUsage {
        let (entries, reserved) = (self.keys.read().len() as u64, self.reserved.read().len() as u64);
        MemoryUsage {
            entries,
            bytes: self.bytes(),
            overhead: (entries + reserved) * OVERHEAD,
            disk: 0,
            server: None,
        }
    }

    /// Returns what the keys, the contents and the overhead of some entries take; `None` for an absent entry.
    pub(crate) fn usage_of(&self, keys: &[Key<'_>], now: &Now<'_>) -> Vec<Option<(u64, u64)>> {
        let usage = |key: &Key<'_>| {
            self.read(key, |entry| {
                let live = entry.filter(|entry| !entry.deadline.is_some_and(|end| end.has_passed(now)))?;
                Some((live.weight(key), OVERHEAD))
            })
        };
        keys.iter().map(usage).collect()
    }
}
