//! Owns one call with operations on many keys in flight on the server, whose order among themselves is known. Knows
//! nothing of how the shadow keeps values.

use std::ops::Deref;

use crate::backend::fallback::shadow::cache::{InFlightOutcome, Shadow, Shadowed};
use crate::backend::fallback::shadow::stripe::Began;
use crate::backend::redis::replay::observed::Observed;

impl Shadow {
    /// Begins to read many keys.
    pub(crate) fn begin_reads<K: Deref<Target = str>>(&self, keys: Vec<K>) -> ShadowBatch<'_, K> {
        ShadowBatch::begin(self, keys, false)
    }

    /// Begins to write to many keys, one after another. Keys of which no outcome is recorded are forgotten.
    pub(crate) fn begin_writes<K: Deref<Target = str>>(&self, keys: Vec<K>) -> ShadowBatch<'_, K> {
        ShadowBatch::begin(self, keys, true)
    }
}

/// Operations in flight. Their outcomes are recorded when this is dropped.
pub(crate) struct ShadowBatch<'s, K: Deref<Target = str>> {
    shadow: &'s Shadow,
    keys: Vec<K>,
    /// The hash of each key and its index, sorted: the operations on one key are neighbours, in their order.
    sorted: Vec<(u64, usize)>,
    is_write: bool,
    /// One for each different key, in the order of the hashes.
    began: Vec<Began>,
    /// One for each operation.
    outcomes: Vec<InFlightOutcome>,
}

impl<'s, K: Deref<Target = str>> ShadowBatch<'s, K> {
    fn begin(shadow: &'s Shadow, keys: Vec<K>, is_write: bool) -> Self {
        let mut sorted = Vec::new();
        if !shadow.is_off() {
            sorted.extend(keys.iter().map(|key| shadow.hash(key)).zip(0..));
            sorted.sort_unstable();
        }
        let enter = |hash| shadow.stripe(hash).lock().enter(hash, is_write);
        let began = group_by_hash(&sorted).map(|(hash, _)| enter(hash)).collect();
        let outcomes = vec![InFlightOutcome::unless_recorded(is_write); keys.len()];
        Self { shadow, keys, sorted, is_write, began, outcomes }
    }

    /// Records what one of the reads returned.
    pub(crate) fn record_read(&mut self, index: usize, shadowed: Shadowed) {
        self.outcomes[index] = InFlightOutcome::Read(shadowed);
    }

    /// Records what one of the writes left.
    pub(crate) fn record_write(&mut self, index: usize, shadowed: Shadowed) {
        self.outcomes[index] = InFlightOutcome::Written(shadowed);
    }

    /// Records that the writes from `first` on failed. If they are in doubt, `left` is what each of them leaves.
    pub(crate) fn record_failures_from(
        &mut self,
        first: usize,
        in_doubt: bool,
        left: impl Iterator<Item = Observed>,
    ) {
        for (outcome, left) in self.outcomes.iter_mut().skip(first).zip(left) {
            *outcome = if in_doubt { InFlightOutcome::InDoubt(left) } else { InFlightOutcome::Failed };
        }
    }
}

impl<K: Deref<Target = str>> Drop for ShadowBatch<'_, K> {
    fn drop(&mut self) {
        for ((hash, operations), began) in group_by_hash(&self.sorted).zip(&self.began) {
            let mut stripe = self.shadow.stripe(hash).lock();
            let was_alone = stripe.leave(hash, self.is_write, *began);
            for (_, index) in operations {
                let outcome = std::mem::replace(&mut self.outcomes[*index], InFlightOutcome::Nothing);
                self.shadow.record_outcome(&self.keys[*index], outcome, was_alone);
            }
        }
    }
}

/// Returns each hash with the operations on its key.
fn group_by_hash(sorted: &[(u64, usize)]) -> impl Iterator<Item = (u64, &[(u64, usize)])> {
    sorted.chunk_by(|one, other| one.0 == other.0).map(|operations| (operations[0].0, operations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::clock::Now;

    fn value(text: &str) -> Shadowed {
        Shadowed::value(Some(Bytes::from(text)))
    }

    fn now() -> Now<'static> {
        Now::at(1)
    }

    #[test]
    fn a_batch_overlaps_other_writes_but_not_itself() {
        let shadow = Shadow::new(1 << 20);
        let keys: Vec<String> = (0..5000).map(|n| format!("k{n}")).collect();
        let mut writes = shadow.begin_writes(keys.iter().map(String::as_str).collect());
        let other = shadow.begin_write("k7");
        for index in 0..keys.len() {
            writes.record_write(index, value("1"));
        }
        drop(writes);
        other.record_write(value("2"));
        assert_eq!(shadow.get("k7", &now()), None);
        let written = keys.iter().filter(|key| shadow.get(key, &now()) == Some(value("1"))).count();
        assert_eq!(written, keys.len() - 1);

        let mut reads = shadow.begin_reads(vec!["a", "b", "c"]);
        shadow.begin_write("b").record_write(value("3"));
        reads.record_read(0, value("4"));
        reads.record_read(1, value("5"));
        reads.record_read(2, Shadowed::Absent);
        drop(reads);
        let found = ["a", "b", "c"].map(|key| shadow.get(key, &now()));
        assert_eq!(found, [Some(value("4")), Some(value("3")), Some(Shadowed::Absent)]);
    }

    #[test]
    fn of_two_writes_to_one_key_the_later_one_counts() {
        let shadow = Shadow::new(1 << 20);
        let mut writes = shadow.begin_writes(vec!["a", "b", "a"]);
        writes.record_write(0, value("1"));
        writes.record_write(2, value("2"));
        drop(writes);
        assert_eq!((shadow.get("a", &now()), shadow.get("b", &now())), (Some(value("2")), None));
    }

    #[test]
    fn a_batch_in_doubt_leaves_the_old_value_or_its_own() {
        let shadow = Shadow::new(1 << 20);
        shadow.begin_write("a").record_write(value("4"));
        shadow.begin_write("b").record_write(value("3"));
        shadow.begin_write("c").record_write(Shadowed::Absent);
        let left = [Observed::Absent, Observed::OwnWrite].into_iter();
        shadow.begin_writes(vec!["a", "b"]).record_failures_from(0, true, left);
        assert_eq!(shadow.get("a", &now()), None);
        assert_eq!(shadow.before_in_doubt("a", &now()), Some(value("4")));
        let either = Observed::AnyOf(vec![value("4").observed(), Observed::Absent]);
        assert_eq!(shadow.observed("a", &now()), (either, false));
        assert_eq!(shadow.observed("b", &now()), (Observed::OwnWrite, false));
        shadow.begin_writes(vec!["c"]).record_failures_from(0, false, [Observed::Absent].into_iter());
        assert_eq!(shadow.get("c", &now()), Some(Shadowed::Absent));
    }
}
