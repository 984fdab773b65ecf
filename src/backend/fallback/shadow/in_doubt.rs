//! Owns what is known of keys with writes in doubt, within a bound. Knows nothing of how a write came to be in doubt.

use std::collections::HashMap;

use smol_str::SmolStr;

use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::redis::replay::observed::Observed;

/// The approximate size of a key's notes without the key and its value.
const OVERHEAD: u64 = 256;

/// If a key has had more values than this that it may hold now, nothing counts as known of it.
const MAX_CANDIDATES: usize = 8;

/// The keys with writes in doubt.
#[derive(Default)]
pub(crate) struct InDoubtKeys {
    keys: HashMap<SmolStr, InDoubtWrites>,
    bytes: u64,
}

/// What is known of a key with writes in doubt.
pub(crate) struct InDoubtWrites {
    /// What was known before the first of them.
    pub(crate) before: Option<Shadowed>,
    /// Any of what was known before, and what the writes leave.
    pub(crate) observed: Observed,
}

impl InDoubtKeys {
    pub(crate) fn get(&self, key: &str) -> Option<&InDoubtWrites> {
        self.keys.get(key)
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Notes a write that leaves `left` if the server has done it. `before`: what was known of the key before. If there
    /// is no room within `max_bytes`, nothing counts as known of the key.
    pub(crate) fn note(&mut self, key: &str, before: Option<Shadowed>, left: Observed, max_bytes: u64) {
        let earlier = self.remove(key);
        let observed = match (&before, &earlier) {
            (Some(shadowed), _) => shadowed.observed(),
            (None, Some(writes)) => writes.observed.clone(),
            (None, None) => Observed::Nothing,
        };
        let before = before.or(earlier.and_then(|writes| writes.before));
        let mut observed = observed.or_left(left);
        if matches!(&observed, Observed::AnyOf(all) if all.len() > MAX_CANDIDATES) {
            observed = Observed::Nothing;
        }
        let writes = InDoubtWrites { before, observed };
        let weight = weight(key, &writes);
        if self.bytes + weight <= max_bytes {
            self.bytes += weight;
            self.keys.insert(SmolStr::new(key), writes);
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<InDoubtWrites> {
        let removed = self.keys.remove(key)?;
        self.bytes -= weight(key, &removed);
        Some(removed)
    }
}

fn weight(key: &str, writes: &InDoubtWrites) -> u64 {
    let value = writes.before.as_ref().map_or(0, Shadowed::value_len);
    let candidates = match &writes.observed {
        Observed::AnyOf(all) => all.len(),
        Observed::Hash(_)
        | Observed::NotAValue
        | Observed::Absent
        | Observed::AssumedAbsent
        | Observed::Nothing
        | Observed::OwnWrite => 0,
    };
    OVERHEAD + (2 * key.len() + value + candidates * std::mem::size_of::<Observed>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_take_a_bounded_number_of_bytes() {
        let mut keys = InDoubtKeys::default();
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
        let mut keys = InDoubtKeys::default();
        for number in 0..100 {
            keys.note("k", None, Observed::Hash([number; 20]), 1 << 20);
            if let Some(InDoubtWrites { observed: Observed::AnyOf(all), .. }) = keys.get("k") {
                assert!(all.len() <= MAX_CANDIDATES);
            }
        }
        assert_eq!(keys.len(), 1);
    }
}
