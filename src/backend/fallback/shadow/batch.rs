//! Owns operations on many keys at a time, whose order among themselves is known.

use std::ops::Deref;

use crate::backend::fallback::shadow::cache::{Began, InFlightOutcome, Shadow, Shadowed};
use crate::backend::redis::replay::observed::Observed;

impl Shadow {
    /// Begins to read keys at once.
    pub(crate) fn begin_reads<K: Deref<Target = str>>(&self, keys: Vec<K>) -> ShadowBatch<'_, K> {
        ShadowBatch::begin(self, keys, false)
    }

    /// Begins to write to keys, one after another. Keys of whose outcome nothing is said become unknown.
    pub(crate) fn begin_writes<K: Deref<Target = str>>(&self, keys: Vec<K>) -> ShadowBatch<'_, K> {
        ShadowBatch::begin(self, keys, true)
    }
}

/// Operations under way. What it is told of each counts when it is dropped.
pub(crate) struct ShadowBatch<'s, K: Deref<Target = str>> {
    shadow: &'s Shadow,
    keys: Vec<K>,
    /// The hashes of the keys with their places, sorted: a key that comes twice has its places in order.
    sorted: Vec<(u64, usize)>,
    writes: bool,
    /// For each key, in the order of the hashes.
    began: Vec<Began>,
    /// For each place.
    outcomes: Vec<InFlightOutcome>,
}

impl<'s, K: Deref<Target = str>> ShadowBatch<'s, K> {
    fn begin(shadow: &'s Shadow, keys: Vec<K>, writes: bool) -> Self {
        let mut sorted = Vec::new();
        if !shadow.is_off() {
            sorted.extend(keys.iter().map(|key| shadow.hash(key)).zip(0..));
            sorted.sort_unstable();
        }
        let enter = |hash| shadow.stripe(hash).lock().enter(hash, writes);
        let began = each(&sorted).map(|(hash, _)| enter(hash)).collect();
        let outcome = if writes { InFlightOutcome::Unknown } else { InFlightOutcome::Nothing };
        Self { shadow, sorted, writes, began, outcomes: vec![outcome; keys.len()], keys }
    }

    /// Notes what the read at a place saw: see `Reading::saw`.
    pub(crate) fn record_read(&mut self, place: usize, known: Shadowed) {
        self.outcomes[place] = InFlightOutcome::Read(known);
    }

    /// Notes what the write at a place left: see `Writing::left`.
    pub(crate) fn record_write(&mut self, place: usize, known: Shadowed) {
        self.outcomes[place] = InFlightOutcome::Written(known);
    }

    /// Notes that the writes from a place on failed, or where their answers were `lost`, what they would leave:
    /// see `Writing::not_done`.
    pub(crate) fn record_failures_from(
        &mut self,
        place: usize,
        lost: bool,
        done: impl Iterator<Item = Observed>,
    ) {
        for (outcome, done) in self.outcomes.iter_mut().skip(place).zip(done) {
            *outcome = if lost { InFlightOutcome::InDoubt(done) } else { InFlightOutcome::Failed };
        }
    }
}

impl<K: Deref<Target = str>> Drop for ShadowBatch<'_, K> {
    fn drop(&mut self) {
        for ((hash, places), began) in each(&self.sorted).zip(&self.began) {
            let mut stripe = self.shadow.stripe(hash).lock();
            let alone = stripe.leave(hash, self.writes, *began);
            for (_, place) in places {
                let outcome = std::mem::replace(&mut self.outcomes[*place], InFlightOutcome::Nothing);
                self.shadow.ended(&self.keys[*place], outcome, alone);
            }
        }
    }
}

/// The keys, each with its places.
fn each(sorted: &[(u64, usize)]) -> impl Iterator<Item = (u64, &[(u64, usize)])> {
    sorted.chunk_by(|one, other| one.0 == other.0).map(|places| (places[0].0, places))
}
