//! Owns how the keys of a table are listed, in order and a limited number at a time. Knows nothing of the operations
//! that list them.

use std::collections::BTreeSet;
use std::ops::Bound;

use smol_str::SmolStr;

use crate::backend::local::table::shards::Table;
use crate::backend::local::view::live;
use crate::clock::Now;

impl Table {
    /// Takes at most `limit` keys that begin with `prefix` and come after `after`, in order, and returns the live ones
    /// of them. Also returns the last key taken if there may be more.
    pub(crate) fn keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: &Now<'_>,
    ) -> (Vec<SmolStr>, Option<SmolStr>) {
        let (mut keys, last) = self.listed_keys(prefix, after, limit);
        keys.retain(|key| self.read(key, |entry| live(entry, now).is_some()));
        (keys, last)
    }

    /// Returns at most `limit` keys that come after `after`, in order, including reserved ones and those of expired
    /// entries. Also returns the last of them if there may be more.
    pub(crate) fn all_keys(&self, after: Option<&str>, limit: usize) -> (Vec<SmolStr>, Option<SmolStr>) {
        let (mut keys, _) = take_keys(&self.keys.read(), "", after, limit);
        let (reserved, _) = take_keys(&self.reserved.read(), "", after, limit);
        if !reserved.is_empty() {
            keys.extend(reserved);
            keys.sort_unstable();
            keys.truncate(limit);
        }
        let last = last_of_full(&keys, limit);
        (keys, last)
    }

    /// Returns at most `limit` keys that begin with `prefix` and come after `after`, in order, including those of expired
    /// entries. Also returns the last of them if there may be more.
    pub(crate) fn listed_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<SmolStr>, Option<SmolStr>) {
        take_keys(&self.keys.read(), prefix, after, limit)
    }

    /// Returns the reserved keys that begin with `prefix`.
    pub(crate) fn reserved_keys(&self, prefix: &str) -> Vec<SmolStr> {
        take_keys(&self.reserved.read(), prefix, None, usize::MAX).0
    }
}

/// Returns at most `limit` keys that begin with `prefix` and come after `after`, in order. Also returns the last of them
/// if there may be more.
fn take_keys(
    keys: &BTreeSet<SmolStr>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> (Vec<SmolStr>, Option<SmolStr>) {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    };
    let keys = keys.range::<str, _>((from, Bound::Unbounded));
    let taken: Vec<SmolStr> = keys.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect();
    let last = last_of_full(&taken, limit);
    (taken, last)
}

/// Returns the last key if the list has reached its limit, so that there may be more keys after it.
fn last_of_full(keys: &[SmolStr], limit: usize) -> Option<SmolStr> {
    if keys.len() == limit { keys.last().cloned() } else { None }
}
