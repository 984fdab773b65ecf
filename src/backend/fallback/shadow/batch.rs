//! Owns one call with operations on many keys in flight on the server, whose order among themselves is known. Knows
//! nothing of how the shadow keeps values.

use std::ops::Deref;

use hashbrown::{DefaultHashBuilder, HashMap};

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

/// Operations in flight. Each ends when its outcome is recorded, or at last when this is dropped.
pub(crate) struct ShadowBatch<'s, K: Deref<Target = str>> {
    shadow: &'s Shadow,
    keys: Vec<K>,
    is_write: bool,
    /// One for each key; none if the shadow keeps nothing.
    operations: Vec<BatchOperation>,
}

/// One operation of a batch. Operations on one key do not overlap each other: they are in flight as one, from the first
/// of them, which stands for all, to the end of the last.
struct BatchOperation {
    hash: u64,
    /// The first operation on the same key.
    first: usize,
    has_ended: bool,
    /// How many operations have not ended, and what the first one found; only for the first one.
    in_flight: usize,
    began: Began,
}

impl<'s, K: Deref<Target = str>> ShadowBatch<'s, K> {
    fn begin(shadow: &'s Shadow, keys: Vec<K>, is_write: bool) -> Self {
        let mut operations = Vec::new();
        if !shadow.is_off() {
            operations.reserve_exact(keys.len());
            let mut firsts = None;
            for key in &keys {
                let operation = enter(shadow, shadow.hash(key), is_write, &mut operations, &mut firsts);
                operations.push(operation);
            }
        }
        Self { shadow, keys, is_write, operations }
    }

    /// Records what one of the reads returned.
    pub(crate) fn record_read(&mut self, index: usize, shadowed: Shadowed) {
        self.end(index, InFlightOutcome::Read(shadowed));
    }

    /// Records what one of the writes left.
    pub(crate) fn record_write(&mut self, index: usize, shadowed: Shadowed) {
        self.end(index, InFlightOutcome::Written(shadowed));
    }

    /// Records that the writes from `first` on failed. If they are in doubt, `left` is what each of them leaves.
    pub(crate) fn record_failures_from(
        &mut self,
        first: usize,
        in_doubt: bool,
        left: impl Iterator<Item = Observed>,
    ) {
        for (index, left) in (first..self.operations.len()).zip(left) {
            self.end(index, if in_doubt { InFlightOutcome::InDoubt(left) } else { InFlightOutcome::Failed });
        }
    }

    fn end(&mut self, index: usize, outcome: InFlightOutcome) {
        let (Some(operation), Some(key)) = (self.operations.get_mut(index), self.keys.get(index)) else {
            return;
        };
        let hash = operation.hash;
        let mut stripe = self.shadow.stripe(hash).lock();
        if std::mem::replace(&mut operation.has_ended, true) {
            // It was sent again, and was not in flight any more: others may have written meanwhile.
            return self.shadow.record_repeated(key, &outcome);
        }
        let first = operation.first;
        let Some(first) = self.operations.get_mut(first) else { return };
        first.in_flight -= 1;
        let was_alone = if first.in_flight == 0 {
            stripe.leave(hash, self.is_write, first.began)
        } else {
            stripe.is_alone(hash, first.began)
        };
        self.shadow.record_outcome(key, outcome, was_alone);
    }
}

impl<K: Deref<Target = str>> Drop for ShadowBatch<'_, K> {
    fn drop(&mut self) {
        for index in 0..self.operations.len() {
            if !self.operations[index].has_ended {
                self.end(index, InFlightOutcome::unless_recorded(self.is_write));
            }
        }
    }
}

/// The first operation on each key, by its hash.
type Firsts = HashMap<u64, usize, DefaultHashBuilder>;

/// Begins the next operation of a batch. `firsts` is made for the first key that is already in flight: mostly none is.
fn enter(
    shadow: &Shadow,
    hash: u64,
    is_write: bool,
    operations: &mut [BatchOperation],
    firsts: &mut Option<Firsts>,
) -> BatchOperation {
    let index = operations.len();
    let mut stripe = shadow.stripe(hash).lock();
    if stripe.is_in_flight(hash) {
        let firsts = firsts.get_or_insert_with(|| {
            operations.iter().map(|operation| (operation.hash, operation.first)).collect()
        });
        if let Some(first) = firsts.get(&hash).copied() {
            operations[first].in_flight += 1;
            return BatchOperation { hash, first, has_ended: false, in_flight: 0, began: Began::default() };
        }
    }
    let began = stripe.enter(hash, is_write);
    if let Some(firsts) = firsts {
        firsts.insert(hash, index);
    }
    BatchOperation { hash, first: index, has_ended: false, in_flight: 1, began }
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

    /// An operation ends when its outcome is recorded, and not before the last one on its key.
    #[test]
    fn an_operation_is_in_flight_until_its_outcome_is_recorded() {
        let shadow = Shadow::new(1 << 20);
        let mut writes = shadow.begin_writes(vec!["a", "b", "a"]);
        writes.record_write(0, value("1"));
        writes.record_write(1, value("1"));
        assert_eq!(shadow.get("a", &now()), Some(value("1")));
        shadow.begin_write("a").record_write(value("2"));
        shadow.begin_write("b").record_write(value("2"));
        assert_eq!((shadow.get("a", &now()), shadow.get("b", &now())), (None, Some(value("2"))));
        writes.record_write(2, value("3"));
        drop(writes);
        assert_eq!((shadow.get("a", &now()), shadow.get("b", &now())), (None, Some(value("2"))));
        shadow.begin_write("a").record_write(value("4"));
        assert_eq!(shadow.get("a", &now()), Some(value("4")), "the batch is not in flight any more");
    }

    /// A batch of reads is sent again after its connection was lost. What was read first may be old by then.
    #[test]
    fn a_read_that_was_repeated_is_kept_only_if_it_is_the_same() {
        let shadow = Shadow::new(1 << 20);
        let mut reads = shadow.begin_reads(vec!["a", "b", "c", "d"]);
        for index in 0..3 {
            reads.record_read(index, value("1"));
        }
        reads.record_read(0, value("1"));
        reads.record_read(1, value("2"));
        reads.record_read(2, Shadowed::Absent);
        reads.record_read(3, value("2"));
        drop(reads);
        let found = ["a", "b", "c", "d"].map(|key| shadow.get(key, &now()));
        assert_eq!(found, [Some(value("1")), None, None, Some(value("2"))]);
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
