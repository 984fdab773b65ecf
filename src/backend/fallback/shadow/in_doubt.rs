//! Owns what is known of keys with writes in doubt, within a bound. Knows nothing of how a write came to be in doubt.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::backend::redis::replay::observed::Observed;

/// The approximate size of a key's notes without the key and its value.
const OVERHEAD: u64 = 256;

/// If a key has had more values than this that it may hold now, nothing counts as known of it.
const MAX_CANDIDATES: usize = 8;

/// The keys with writes in doubt. A `V` is what was known of a key before.
pub(crate) struct InDoubtKeys<V> {
    keys: HashMap<SmolStr, InDoubtWrites<V>>,
    bytes: u64,
}

impl<V> Default for InDoubtKeys<V> {
    fn default() -> Self {
        Self { keys: HashMap::new(), bytes: 0 }
    }
}

/// What was known of a key before a write in doubt: how the server recognises it, and its size.
pub(crate) struct Before<V> {
    pub(crate) known: V,
    pub(crate) observed: Observed,
    pub(crate) bytes: usize,
}

/// What is known of a key with writes in doubt.
pub(crate) struct InDoubtWrites<V> {
    /// What was known before the first of them.
    pub(crate) before: Option<V>,
    /// Any of what was known before, and what the writes leave.
    pub(crate) observed: Observed,
    before_bytes: usize,
    weight: u64,
}

impl<V> InDoubtKeys<V> {
    pub(crate) fn get(&self, key: &str) -> Option<&InDoubtWrites<V>> {
        self.keys.get(key)
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Notes a write that leaves `left` if the server has done it. `before`: what was known of the key before. If there
    /// is no room within `max_bytes`, nothing counts as known of the key.
    pub(crate) fn note(&mut self, key: &str, before: Option<Before<V>>, left: Observed, max_bytes: u64) {
        let (before, observed, before_bytes) = match (before, self.remove(key)) {
            (Some(Before { known, observed, bytes }), _) => (Some(known), observed, bytes),
            (None, Some(earlier)) => (earlier.before, earlier.observed, earlier.before_bytes),
            (None, None) => (None, Observed::Nothing, 0),
        };
        let mut observed = observed.or_left(left);
        if matches!(&observed, Observed::AnyOf(all) if all.len() > MAX_CANDIDATES) {
            observed = Observed::Nothing;
        }
        let weight = weight(key, before_bytes, &observed);
        if self.bytes + weight <= max_bytes {
            self.bytes += weight;
            self.keys.insert(SmolStr::new(key), InDoubtWrites { before, observed, before_bytes, weight });
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<InDoubtWrites<V>> {
        let removed = self.keys.remove(key)?;
        self.bytes -= removed.weight;
        Some(removed)
    }
}

fn weight(key: &str, before_bytes: usize, observed: &Observed) -> u64 {
    let candidates = match observed {
        Observed::AnyOf(all) => all.len(),
        Observed::Hash(_)
        | Observed::NotAValue
        | Observed::Absent
        | Observed::AssumedAbsent
        | Observed::Nothing
        | Observed::OwnWrite => 0,
    };
    OVERHEAD + (2 * key.len() + before_bytes + candidates * std::mem::size_of::<Observed>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_take_a_bounded_number_of_bytes() {
        let mut keys = InDoubtKeys::<()>::default();
        for number in 0..1000 {
            keys.note(&format!("key {number}"), None, Observed::Absent, 10_000);
        }
        assert!((10..40).contains(&keys.len()) && keys.bytes <= 10_000);
        for number in 0..1000 {
            keys.remove(&format!("key {number}"));
        }
        assert_eq!((keys.len(), keys.bytes), (0, 0));
    }

    #[test]
    fn a_key_that_may_hold_many_values_counts_as_unknown() {
        let mut keys = InDoubtKeys::<()>::default();
        for number in 0..100 {
            keys.note("k", None, Observed::Hash([number; 20]), 1 << 20);
            if let Some(InDoubtWrites { observed: Observed::AnyOf(all), .. }) = keys.get("k") {
                assert!(all.len() <= MAX_CANDIDATES);
            }
        }
        assert_eq!(keys.len(), 1);
    }
}
