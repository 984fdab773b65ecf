//! Owns one operation in flight on the server, until the shadow records how it ended. Knows nothing of how the shadow
//! keeps values.

use crate::backend::fallback::shadow::cache::{InFlightOutcome, Shadow, Shadowed};
use crate::backend::fallback::shadow::stripe::Began;
use crate::backend::redis::replay::observed::Observed;

impl Shadow {
    /// Begins a read of a key.
    pub(crate) fn begin_read<'s>(&'s self, key: &'s str) -> ShadowRead<'s> {
        ShadowRead(InFlight::begin(self, key, false))
    }

    /// Begins a write to a key. If the write is dropped before its outcome is recorded, the key is forgotten.
    pub(crate) fn begin_write<'s>(&'s self, key: &'s str) -> ShadowWrite<'s> {
        ShadowWrite(InFlight::begin(self, key, true))
    }

    /// Forgets a key.
    pub(crate) fn forget(&self, key: &str) {
        drop(self.begin_write(key));
    }
}

/// An operation in flight. Its outcome is recorded when it is dropped, so that a panic cannot leave it in flight.
struct InFlight<'s> {
    shadow: &'s Shadow,
    key: &'s str,
    hash: u64,
    is_write: bool,
    began: Began,
    outcome: InFlightOutcome,
}

impl<'s> InFlight<'s> {
    fn begin(shadow: &'s Shadow, key: &'s str, is_write: bool) -> Self {
        if shadow.is_off() {
            let (began, outcome) = (Began::default(), InFlightOutcome::Nothing);
            return Self { shadow, key, hash: 0, is_write, began, outcome };
        }
        let hash = shadow.hash(key);
        let began = shadow.stripe(hash).lock().enter(hash, is_write);
        let outcome = InFlightOutcome::unless_recorded(is_write);
        Self { shadow, key, hash, is_write, began, outcome }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.shadow.is_off() {
            return;
        }
        let mut stripe = self.shadow.stripe(self.hash).lock();
        let was_alone = stripe.leave(self.hash, self.is_write, self.began);
        let outcome = std::mem::replace(&mut self.outcome, InFlightOutcome::Nothing);
        self.shadow.record_outcome(self.key, outcome, was_alone);
    }
}

/// A read in flight.
pub(crate) struct ShadowRead<'s>(InFlight<'s>);

impl ShadowRead<'_> {
    /// Records what was read, unless a write overlapped. A read does not return the deadline of the value: if the
    /// value is the one that the shadow holds, the deadline that the shadow holds stays too.
    pub(crate) fn record_read(mut self, shadowed: Shadowed) {
        self.0.outcome = InFlightOutcome::Read(shadowed);
    }
}

/// A write in flight.
pub(crate) struct ShadowWrite<'s>(InFlight<'s>);

impl ShadowWrite<'_> {
    /// Records what the write left, unless another write overlapped.
    pub(crate) fn record_write(mut self, shadowed: Shadowed) {
        self.0.outcome = InFlightOutcome::Written(shadowed);
    }

    /// Records that the write failed: the key is as it was, unless another write overlapped. If the write is in
    /// doubt, the key is either as it was or as the write `left` it.
    pub(crate) fn record_failure(mut self, in_doubt: bool, left: impl FnOnce() -> Observed) {
        self.0.outcome = if in_doubt { InFlightOutcome::InDoubt(left()) } else { InFlightOutcome::Failed };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::clock::{Deadline, Now};

    fn value(text: &str) -> Shadowed {
        Shadowed::value(Some(Bytes::from(text)))
    }

    fn now() -> Now<'static> {
        Now::at(1)
    }

    #[test]
    fn the_last_observation_is_kept() {
        let shadow = Shadow::new(1 << 20);
        assert_eq!(shadow.get("k", &now()), None);
        shadow.begin_read("k").record_read(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(value("1")));
        shadow.begin_write("k").record_write(Shadowed::Absent);
        assert_eq!(shadow.get("k", &now()), Some(Shadowed::Absent));
        drop(shadow.begin_write("k"));
        assert_eq!(shadow.get("k", &now()), None, "the outcome was not recorded");
    }

    #[test]
    fn overlapping_operations_are_forgotten() {
        let shadow = Shadow::new(1 << 20);
        let (first, second) = (shadow.begin_write("k"), shadow.begin_write("k"));
        second.record_write(value("2"));
        assert_eq!(shadow.get("k", &now()), None);
        first.record_write(value("1"));
        assert_eq!(shadow.get("k", &now()), None);

        let read = shadow.begin_read("k");
        shadow.begin_write("k").record_write(value("3"));
        read.record_read(value("2"));
        assert_eq!(shadow.get("k", &now()), Some(value("3")), "the read may be older");

        let write = shadow.begin_write("k");
        shadow.clear();
        write.record_write(value("3"));
        assert_eq!(shadow.get("k", &now()), None, "the order of the write and the data loss is not known");

        let write = shadow.begin_write("k");
        let read = shadow.begin_read("k");
        write.record_write(value("4"));
        read.record_read(value("3"));
        assert_eq!(shadow.get("k", &now()), Some(value("4")));
    }

    #[test]
    fn a_read_of_the_same_value_keeps_the_deadline() {
        let shadow = Shadow::new(1 << 20);
        let shadowed = Shadowed::Value { bytes: Bytes::from("1"), deadline: Deadline::from_millis(5) };
        shadow.begin_write("k").record_write(shadowed.clone());
        shadow.begin_read("k").record_read(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(shadowed));
        shadow.begin_read("k").record_read(value("2"));
        assert_eq!(shadow.get("k", &now()), Some(value("2")));
    }
}
