//! Owns the shadow: the last value that this process saw of each key while it was connected, as far as there
//! is room. Knows nothing of outages.
//!
//! INVARIANT: what it holds is never older than what this process saw last. Where operations on one key
//! overlap, nobody here knows their order on the server, and the key is forgotten.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};
use crate::deferred::Seen;
use crate::op::Action;

/// Longer values are not kept.
const LONGEST: usize = 4096;

/// What one entry takes besides its key and its value, roughly.
const AROUND: u64 = 96;

const STRIPES: usize = 256;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Absent,
    Value { bytes: Bytes, deadline: Option<Deadline> },
}

impl Known {
    pub(super) fn value(bytes: Option<Bytes>) -> Self {
        match bytes {
            Some(bytes) => Self::Value { bytes, deadline: None },
            None => Self::Absent,
        }
    }

    fn seen(&self) -> Seen {
        match self {
            Self::Absent => Seen::Absent,
            Self::Value { bytes, .. } => Seen::Value(sha1_smol::Sha1::from(&**bytes).digest().bytes()),
        }
    }
}

pub(super) struct Shadow {
    cache: Cache<SmolStr, Known, ByBytes>,
    /// The operations under way, by keys that share a place here.
    stripes: Box<[Mutex<Stripe>]>,
    hasher: DefaultHashBuilder,
    /// What may lie under keys since writes whose answers were lost: what was known before, or their doing.
    lost: Mutex<HashMap<SmolStr, Seen>>,
}

type Stripe = HashMap<SmolStr, Flight>;

/// The operations under way on one key.
#[derive(Default)]
struct Flight {
    inside: u32,
    /// How many writes are under way, and how many have begun while any operation was.
    writing: u32,
    begun: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<SmolStr, Known> for ByBytes {
    fn weight(&self, key: &SmolStr, known: &Known) -> u64 {
        let bytes = match known {
            Known::Absent => 0,
            Known::Value { bytes, .. } => bytes.len(),
        };
        AROUND + (key.len() + bytes) as u64
    }
}

impl Shadow {
    pub(super) fn new(bytes: u64) -> Self {
        // Entries of about a hundred bytes are expected; others only make its tables grow.
        let entries = usize::try_from(bytes / (AROUND + 100)).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self {
            cache: Cache::with_weighter(entries, bytes, ByBytes),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            lost: Mutex::default(),
        }
    }

    /// What is known of a key, unless its time is over.
    pub(super) fn get(&self, key: &str, now: &Now<'_>) -> Option<Known> {
        match self.cache.get(key)? {
            Known::Value { deadline: Some(deadline), .. } if deadline.has_passed(now) => Some(Known::Absent),
            known => Some(known),
        }
    }

    /// All that is known.
    pub(super) fn all(&self) -> impl Iterator<Item = (SmolStr, Known)> {
        self.cache.iter()
    }

    /// Forgets everything, also what operations see that are under way now.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            stripe.lock().values_mut().for_each(|flight| flight.begun += 1);
        }
        self.cache.clear();
    }

    /// What was seen of a key, and whether that is known still.
    pub(super) fn seen(&self, key: &str, now: &Now<'_>) -> (Seen, bool) {
        match self.get(key, now) {
            Some(known) => (known.seen(), true),
            None => (self.lost.lock().get(key).cloned().unwrap_or(Seen::Unknown), false),
        }
    }

    /// Forgets the writes whose answers were lost.
    pub(super) fn settle(&self) {
        self.lost.lock().clear();
    }

    /// Begins a read of a key.
    pub(super) fn reading<'s>(&'s self, key: &'s str) -> Reading<'s> {
        let mut stripe = self.stripe(key).lock();
        let flight = stripe.entry(SmolStr::new(key)).or_default();
        flight.inside += 1;
        Reading { shadow: self, key, begun: flight.begun, alone: flight.writing == 0 }
    }

    /// Begins a write to a key. Dropped without a word of its outcome, it makes the key unknown.
    pub(super) fn writing<'s>(&'s self, key: &'s str) -> Writing<'s> {
        let mut stripe = self.stripe(key).lock();
        let flight = stripe.entry(SmolStr::new(key)).or_default();
        let alone = flight.writing == 0;
        flight.inside += 1;
        flight.writing += 1;
        flight.begun += 1;
        Writing { shadow: self, key, begun: flight.begun, alone, outcome: Outcome::Unknown }
    }

    fn stripe(&self, key: &str) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(key);
        &self.stripes[(hash >> 32) as usize % STRIPES]
    }

    fn knows(&self, key: &str, known: &Known) -> bool {
        match (self.cache.get(key), known) {
            (Some(Known::Value { bytes, .. }), Known::Value { bytes: read, .. }) => bytes == *read,
            _ => false,
        }
    }

    fn keep(&self, key: &str, known: Known) {
        match &known {
            Known::Value { bytes, .. } if bytes.len() > LONGEST => drop(self.cache.remove(key)),
            _ => self.cache.insert(SmolStr::new(key), known),
        }
    }
}

/// A read under way.
pub(super) struct Reading<'s> {
    shadow: &'s Shadow,
    key: &'s str,
    begun: u64,
    alone: bool,
}

impl Reading<'_> {
    /// Keeps what was read, if no write was under way meanwhile. A read does not tell until when the value
    /// stays: where it is the one that was known, that is known too.
    pub(super) fn saw(self, known: Known) {
        let stripe = self.shadow.stripe(self.key).lock();
        let begun = stripe.get(self.key).map(|flight| flight.begun);
        if self.alone && begun == Some(self.begun) && !self.shadow.knows(self.key, &known) {
            self.shadow.keep(self.key, known);
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        leave(&mut self.shadow.stripe(self.key).lock(), self.key, false);
    }
}

/// Ends an operation, and tells how many writes had begun by then.
fn leave(stripe: &mut Stripe, key: &str, wrote: bool) -> u64 {
    let Some(flight) = stripe.get_mut(key) else { return 0 };
    flight.inside -= 1;
    flight.writing -= u32::from(wrote);
    let begun = flight.begun;
    if flight.inside == 0 {
        stripe.remove(key);
    }
    begun
}

/// How a write ended.
enum Outcome {
    /// Nobody said.
    Unknown,
    Left(Known),
    /// It was not made.
    Failed,
    /// Its answer was lost.
    Lost(Box<Action>),
}

/// A write under way.
pub(super) struct Writing<'s> {
    shadow: &'s Shadow,
    key: &'s str,
    begun: u64,
    alone: bool,
    outcome: Outcome,
}

impl Writing<'_> {
    /// Keeps what it left, if no other write was under way meanwhile.
    pub(super) fn left(mut self, known: Known) {
        self.outcome = Outcome::Left(known);
    }

    /// Keeps what was known before, if no other write was under way meanwhile.
    pub(super) fn failed(mut self) {
        self.outcome = Outcome::Failed;
    }

    /// Keeps only what may lie there now: what was known before, or what the action leaves.
    pub(super) fn lost(mut self, action: &Action) {
        self.outcome = Outcome::Lost(Box::new(action.clone()));
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut stripe = self.shadow.stripe(self.key).lock();
        let begun = leave(&mut stripe, self.key, true);
        let alone = self.alone && begun == self.begun;
        match std::mem::replace(&mut self.outcome, Outcome::Unknown) {
            Outcome::Left(known) if alone => self.shadow.keep(self.key, known),
            Outcome::Failed if alone => {}
            Outcome::Lost(action) => {
                let before = self.shadow.cache.remove(self.key).map(|(_, known)| known.seen());
                let mut lost = self.shadow.lost.lock();
                let earlier = lost.remove(self.key);
                let seen = before.or(earlier).unwrap_or(Seen::Unknown);
                lost.insert(SmolStr::new(self.key), seen.or_done(&action));
            }
            Outcome::Left(_) | Outcome::Failed | Outcome::Unknown => drop(self.shadow.cache.remove(self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Millis};
    use std::time::Duration;

    fn value(text: &str) -> Known {
        Known::value(Some(Bytes::from(text)))
    }

    fn now() -> Now<'static> {
        Now::at(1)
    }

    #[test]
    fn it_knows_what_was_seen_last() {
        let shadow = Shadow::new(1 << 20);
        assert_eq!(shadow.get("k", &now()), None);
        shadow.reading("k").saw(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(value("1")));
        shadow.writing("k").left(Known::Absent);
        assert_eq!(shadow.get("k", &now()), Some(Known::Absent));
        drop(shadow.writing("k"));
        assert_eq!(shadow.get("k", &now()), None, "nobody said how it ended");
    }

    #[test]
    fn what_overlaps_is_forgotten() {
        let shadow = Shadow::new(1 << 20);
        let (first, second) = (shadow.writing("k"), shadow.writing("k"));
        second.left(value("2"));
        assert_eq!(shadow.get("k", &now()), None);
        first.left(value("1"));
        assert_eq!(shadow.get("k", &now()), None);

        let read = shadow.reading("k");
        shadow.writing("k").left(value("3"));
        read.saw(value("2"));
        assert_eq!(shadow.get("k", &now()), Some(value("3")), "the read may be older");

        let write = shadow.writing("k");
        shadow.clear();
        write.left(value("3"));
        assert_eq!(shadow.get("k", &now()), None, "what happened in between is not known");

        let write = shadow.writing("k");
        let read = shadow.reading("k");
        write.left(value("4"));
        read.saw(value("3"));
        assert_eq!(shadow.get("k", &now()), Some(value("4")));
    }

    #[test]
    fn it_is_bounded_and_keeps_no_long_values() {
        let shadow = Shadow::new(100_000);
        for number in 0..10_000 {
            shadow.writing(&format!("k:{number}")).left(value("0123456789"));
        }
        assert!(shadow.cache.weight() <= 100_000);
        assert!(shadow.cache.len() > 100);
        shadow.writing("long").left(value("short"));
        shadow.writing("long").left(value(&"x".repeat(LONGEST + 1)));
        assert_eq!(shadow.get("long", &now()), None);
    }

    #[test]
    fn what_has_expired_is_absent() {
        let shadow = Shadow::new(1 << 20);
        let clock = ManualClock::default();
        let deadline = Deadline::after(&Now::of(&clock), Millis::new(Duration::from_secs(1)).unwrap());
        shadow.writing("k").left(Known::Value { bytes: Bytes::from("1"), deadline: Some(deadline) });
        assert!(matches!(shadow.get("k", &Now::of(&clock)), Some(Known::Value { .. })));
        clock.advance(Duration::from_secs(1));
        assert_eq!(shadow.get("k", &Now::of(&clock)), Some(Known::Absent));
    }

    #[test]
    fn a_read_does_not_take_the_deadline_off() {
        let shadow = Shadow::new(1 << 20);
        let kept = Known::Value { bytes: Bytes::from("1"), deadline: Deadline::from_millis(5) };
        shadow.writing("k").left(kept.clone());
        shadow.reading("k").saw(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(kept));
        shadow.reading("k").saw(value("2"));
        assert_eq!(shadow.get("k", &now()), Some(value("2")));
    }
}
