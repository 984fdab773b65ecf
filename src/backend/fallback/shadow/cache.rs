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

use crate::backend::redis::replay::observed::Observed;
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};

/// Values longer than this part of all that is kept are not.
const MAX_SHARE: u64 = 16;

/// What one entry takes besides its key and its value, roughly.
const OVERHEAD: u64 = 96;

const STRIPES: usize = 256;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shadowed {
    Absent,
    Value {
        bytes: Bytes,
        deadline: Option<Deadline>,
    },
    /// A map or a queue, or nothing, since it may have become empty.
    NotAValue,
}

impl Shadowed {
    /// Whether it says all that can be asked of the key.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Absent | Self::Value { .. } => true,
            Self::NotAValue => false,
        }
    }

    pub(crate) fn value(bytes: Option<Bytes>) -> Self {
        match bytes {
            Some(bytes) => Self::Value { bytes, deadline: None },
            None => Self::Absent,
        }
    }

    pub(crate) fn observed(&self) -> Observed {
        match self {
            Self::NotAValue => Observed::NotAValue,
            Self::Absent => Observed::Absent,
            Self::Value { bytes, .. } => Observed::Hash(sha1_smol::Sha1::from(&**bytes).digest().bytes()),
        }
    }
}

pub(crate) struct Shadow {
    longest: usize,
    cache: Cache<SmolStr, Shadowed, ByteWeighter>,
    /// The operations under way, by keys that share a place here.
    stripes: Box<[Mutex<Stripe>]>,
    hasher: DefaultHashBuilder,
    /// The keys of writes whose answers were lost.
    in_doubt: Mutex<HashMap<SmolStr, InDoubtWrites>>,
}

/// What a write whose answer was lost has left of what was known of its key.
struct InDoubtWrites {
    /// What was known before.
    before: Option<Shadowed>,
    /// That, or the write's doing.
    seen: Observed,
}

/// The operations under way on keys that share a place.
#[derive(Default)]
pub(crate) struct Stripe(Vec<InFlightKey>);

/// The operations under way on one key, which is told by its hash.
struct InFlightKey {
    hash: u64,
    inside: u32,
    /// How many writes are under way, and how many have begun while any operation was.
    writing: u32,
    begun: u64,
}

/// What an operation found when it began: whether no write was under way, and how many had begun.
pub(crate) type Began = (bool, u64);

impl Stripe {
    pub(crate) fn enter(&mut self, hash: u64, writes: bool) -> Began {
        let place = self.0.iter().position(|flight| flight.hash == hash).unwrap_or_else(|| {
            self.0.push(InFlightKey { hash, inside: 0, writing: 0, begun: 0 });
            self.0.len() - 1
        });
        let flight = &mut self.0[place];
        let alone = flight.writing == 0;
        flight.inside += 1;
        flight.writing += u32::from(writes);
        flight.begun += u64::from(writes);
        (alone, flight.begun)
    }

    /// Ends an operation, and tells whether no other write was under way since it began.
    pub(crate) fn leave(&mut self, hash: u64, writes: bool, began: Began) -> bool {
        let Some(place) = self.0.iter().position(|flight| flight.hash == hash) else {
            return false;
        };
        let flight = &mut self.0[place];
        flight.inside -= 1;
        flight.writing -= u32::from(writes);
        let alone = began == (true, flight.begun);
        if flight.inside == 0 {
            self.0.swap_remove(place);
        }
        alone
    }
}

#[derive(Clone)]
struct ByteWeighter;

impl Weighter<SmolStr, Shadowed> for ByteWeighter {
    fn weight(&self, key: &SmolStr, known: &Shadowed) -> u64 {
        let bytes = match known {
            Shadowed::Absent | Shadowed::NotAValue => 0,
            Shadowed::Value { bytes, .. } => bytes.len(),
        };
        OVERHEAD + (key.len() + bytes) as u64
    }
}

impl Shadow {
    pub(crate) fn new(bytes: u64) -> Self {
        // Entries of about a hundred bytes are expected; others only make its tables grow.
        let entries = usize::try_from(bytes / (OVERHEAD + 100)).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self {
            longest: usize::try_from(bytes / MAX_SHARE).unwrap_or(usize::MAX),
            cache: Cache::with_weighter(entries, bytes, ByteWeighter),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            in_doubt: Mutex::default(),
        }
    }

    /// Whether nothing is kept: then nothing is told apart either.
    pub(crate) fn is_off(&self) -> bool {
        self.longest == 0
    }

    /// What is known of a key, unless its time is over.
    pub(crate) fn get(&self, key: &str, now: &Now<'_>) -> Option<Shadowed> {
        match self.cache.get(key)? {
            Shadowed::Value { deadline: Some(deadline), .. } if deadline.has_passed(now) => {
                Some(Shadowed::Absent)
            }
            known => Some(known),
        }
    }

    /// All that is known.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SmolStr, Shadowed)> {
        self.cache.iter()
    }

    /// Forgets everything, also what operations see that are under way now.
    pub(crate) fn clear(&self) {
        for stripe in &self.stripes {
            stripe.lock().0.iter_mut().for_each(|flight| flight.begun += 1);
        }
        self.cache.clear();
    }

    /// What was seen of a key, and whether that is known still.
    pub(crate) fn observed(&self, key: &str, now: &Now<'_>) -> (Observed, bool) {
        match self.get(key, now) {
            Some(known) => (known.observed(), known.is_complete()),
            None => {
                (self.in_doubt.lock().get(key).map_or(Observed::Nothing, |lost| lost.seen.clone()), false)
            }
        }
    }

    /// What was known of a key before a write whose answer was lost, or is known still.
    pub(crate) fn before_in_doubt(&self, key: &str, now: &Now<'_>) -> Option<Shadowed> {
        self.get(key, now).or_else(|| self.in_doubt.lock().get(key)?.before.clone())
    }

    /// Forgets the writes whose answers were lost.
    pub(crate) fn forget_in_doubt(&self) {
        self.in_doubt.lock().clear();
    }

    /// Begins a read of a key.
    pub(crate) fn begin_read<'s>(&'s self, key: &'s str) -> ShadowRead<'s> {
        ShadowRead(InFlight::begin(self, key, false))
    }

    /// Begins a write to a key. Dropped without a word of its outcome, it makes the key unknown.
    pub(crate) fn begin_write<'s>(&'s self, key: &'s str) -> ShadowWrite<'s> {
        ShadowWrite(InFlight::begin(self, key, true))
    }

    /// Makes a key unknown.
    pub(crate) fn forget(&self, key: &str) {
        drop(self.begin_write(key));
    }

    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(crate) fn stripe(&self, hash: u64) -> &Mutex<Stripe> {
        &self.stripes[(hash >> 32) as usize % STRIPES]
    }

    /// Takes in how an operation ended. The stripe of the key is locked.
    pub(crate) fn ended(&self, key: &str, outcome: InFlightOutcome, alone: bool) {
        match outcome {
            InFlightOutcome::Read(known) if alone && !self.knows(key, &known) => self.keep(key, known),
            InFlightOutcome::Written(known) if alone => self.keep(key, known),
            InFlightOutcome::Failed if alone => {}
            InFlightOutcome::Nothing | InFlightOutcome::Read(_) => {}
            InFlightOutcome::InDoubt(done) => {
                let before = self.cache.remove(key).map(|(_, known)| known);
                let mut lost = self.in_doubt.lock();
                let earlier = lost.remove(key);
                let seen = match (&before, &earlier) {
                    (Some(known), _) => known.observed(),
                    (None, Some(lost)) => lost.seen.clone(),
                    (None, None) => Observed::Nothing,
                };
                let before = before.or(earlier.and_then(|lost| lost.before));
                lost.insert(SmolStr::new(key), InDoubtWrites { before, seen: seen.or_left(done) });
            }
            InFlightOutcome::Written(_) | InFlightOutcome::Failed | InFlightOutcome::Unknown => {
                self.cache.remove(key);
            }
        }
    }

    fn knows(&self, key: &str, known: &Shadowed) -> bool {
        match (self.cache.get(key), known) {
            (Some(Shadowed::Value { bytes, .. }), Shadowed::Value { bytes: read, .. }) => bytes == *read,
            _ => false,
        }
    }

    fn keep(&self, key: &str, known: Shadowed) {
        match &known {
            Shadowed::Value { bytes, .. } if bytes.len() > self.longest => drop(self.cache.remove(key)),
            _ => self.cache.insert(SmolStr::new(key), known),
        }
    }
}

/// How an operation ended.
#[derive(Clone)]
pub(crate) enum InFlightOutcome {
    /// A read that saw nothing.
    Nothing,
    Read(Shadowed),
    /// A write of which nobody said it.
    Unknown,
    Written(Shadowed),
    /// The write was not made.
    Failed,
    /// The answer to the write was lost; it may have left this.
    InDoubt(Observed),
}

/// An operation under way.
struct InFlight<'s> {
    shadow: &'s Shadow,
    key: &'s str,
    hash: u64,
    writes: bool,
    began: Began,
    outcome: InFlightOutcome,
}

impl<'s> InFlight<'s> {
    fn begin(shadow: &'s Shadow, key: &'s str, writes: bool) -> Self {
        if shadow.is_off() {
            return Self {
                shadow,
                key,
                hash: 0,
                writes,
                began: (false, 0),
                outcome: InFlightOutcome::Nothing,
            };
        }
        let hash = shadow.hash(key);
        let began = shadow.stripe(hash).lock().enter(hash, writes);
        let outcome = if writes { InFlightOutcome::Unknown } else { InFlightOutcome::Nothing };
        Self { shadow, key, hash, writes, began, outcome }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.shadow.is_off() {
            return;
        }
        let mut stripe = self.shadow.stripe(self.hash).lock();
        let alone = stripe.leave(self.hash, self.writes, self.began);
        self.shadow.ended(self.key, std::mem::replace(&mut self.outcome, InFlightOutcome::Nothing), alone);
    }
}

/// A read under way.
pub(crate) struct ShadowRead<'s>(InFlight<'s>);

impl ShadowRead<'_> {
    /// Keeps what was read, if no write was under way meanwhile. A read does not tell until when the value
    /// stays: where it is the one that was known, that is known too.
    pub(crate) fn record_read(mut self, known: Shadowed) {
        self.0.outcome = InFlightOutcome::Read(known);
    }
}

/// A write under way.
pub(crate) struct ShadowWrite<'s>(InFlight<'s>);

impl ShadowWrite<'_> {
    /// Keeps what it left, if no other write was under way meanwhile.
    pub(crate) fn record_write(mut self, known: Shadowed) {
        self.0.outcome = InFlightOutcome::Written(known);
    }

    /// Keeps what was known before, if no other write was under way meanwhile; where the answer was `lost`, only
    /// what may lie there now: that, or what the write leaves.
    pub(crate) fn record_failure(mut self, lost: bool, done: impl FnOnce() -> Observed) {
        self.0.outcome = if lost { InFlightOutcome::InDoubt(done()) } else { InFlightOutcome::Failed };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Millis};
    use std::time::Duration;

    fn value(text: &str) -> Shadowed {
        Shadowed::value(Some(Bytes::from(text)))
    }

    fn now() -> Now<'static> {
        Now::at(1)
    }

    #[test]
    fn it_knows_what_was_seen_last() {
        let shadow = Shadow::new(1 << 20);
        assert_eq!(shadow.get("k", &now()), None);
        shadow.begin_read("k").record_read(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(value("1")));
        shadow.begin_write("k").record_write(Shadowed::Absent);
        assert_eq!(shadow.get("k", &now()), Some(Shadowed::Absent));
        drop(shadow.begin_write("k"));
        assert_eq!(shadow.get("k", &now()), None, "nobody said how it ended");
    }

    #[test]
    fn what_overlaps_is_forgotten() {
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
        assert_eq!(shadow.get("k", &now()), None, "what happened in between is not known");

        let write = shadow.begin_write("k");
        let read = shadow.begin_read("k");
        write.record_write(value("4"));
        read.record_read(value("3"));
        assert_eq!(shadow.get("k", &now()), Some(value("4")));
    }

    #[test]
    fn many_at_a_time_are_kept_in_their_order() {
        let shadow = Shadow::new(1 << 20);
        let keys: Vec<String> = (0..5000).map(|n| format!("k{n}")).collect();
        let mut writing = shadow.begin_writes(keys.iter().map(String::as_str).collect());
        let other = shadow.begin_write("k7");
        for index in 0..keys.len() {
            writing.record_write(index, value("1"));
        }
        drop(writing);
        other.record_write(value("2"));
        assert_eq!(shadow.get("k7", &now()), None);
        let known = keys.iter().filter(|key| shadow.get(key, &now()) == Some(value("1"))).count();
        assert_eq!(known, keys.len() - 1);

        let mut twice = shadow.begin_writes(vec!["a", "b", "a"]);
        twice.record_write(0, value("1"));
        twice.record_write(2, value("2"));
        drop(twice);
        assert_eq!((shadow.get("a", &now()), shadow.get("b", &now())), (Some(value("2")), None));

        let mut reading = shadow.begin_reads(vec!["a", "b", "c"]);
        shadow.begin_write("b").record_write(value("3"));
        reading.record_read(0, value("4"));
        reading.record_read(1, value("5"));
        reading.record_read(2, Shadowed::Absent);
        drop(reading);
        let found = ["a", "b", "c"].map(|key| shadow.get(key, &now()));
        assert_eq!(found, [Some(value("4")), Some(value("3")), Some(Shadowed::Absent)]);
        shadow.begin_writes(vec!["a", "b"]).record_failures_from(
            0,
            true,
            [Observed::Absent, Observed::OwnWrite].into_iter(),
        );
        assert_eq!(shadow.get("a", &now()), None);
        assert_eq!(shadow.before_in_doubt("a", &now()), Some(value("4")));
        assert_eq!(
            shadow.observed("a", &now()),
            (Observed::AnyOf(vec![value("4").observed(), Observed::Absent]), false)
        );
        assert_eq!(shadow.observed("b", &now()), (Observed::OwnWrite, false));
        shadow.begin_writes(vec!["c"]).record_failures_from(0, false, [Observed::Absent].into_iter());
        assert_eq!(shadow.get("c", &now()), Some(Shadowed::Absent));
    }

    #[test]
    fn it_is_bounded_and_keeps_no_value_that_would_fill_it() {
        let shadow = Shadow::new(100_000);
        for number in 0..10_000 {
            shadow.begin_write(&format!("k:{number}")).record_write(value("0123456789"));
        }
        assert!(shadow.cache.weight() <= 100_000);
        assert!(shadow.cache.len() > 100);
        shadow.begin_write("long").record_write(value("short"));
        shadow.begin_write("long").record_write(value(&"x".repeat(6251)));
        assert_eq!(shadow.get("long", &now()), None);
        shadow.begin_write("long").record_write(value(&"x".repeat(6250)));
        assert!(shadow.get("long", &now()).is_some());
    }

    #[test]
    fn what_has_expired_is_absent() {
        let shadow = Shadow::new(1 << 20);
        let clock = ManualClock::default();
        let deadline = Deadline::after(&Now::of(&clock), Millis::new(Duration::from_secs(1)).unwrap());
        shadow
            .begin_write("k")
            .record_write(Shadowed::Value { bytes: Bytes::from("1"), deadline: Some(deadline) });
        assert!(matches!(shadow.get("k", &Now::of(&clock)), Some(Shadowed::Value { .. })));
        clock.advance(Duration::from_secs(1));
        assert_eq!(shadow.get("k", &Now::of(&clock)), Some(Shadowed::Absent));
    }

    #[test]
    fn a_read_does_not_take_the_deadline_off() {
        let shadow = Shadow::new(1 << 20);
        let kept = Shadowed::Value { bytes: Bytes::from("1"), deadline: Deadline::from_millis(5) };
        shadow.begin_write("k").record_write(kept.clone());
        shadow.begin_read("k").record_read(value("1"));
        assert_eq!(shadow.get("k", &now()), Some(kept));
        shadow.begin_read("k").record_read(value("2"));
        assert_eq!(shadow.get("k", &now()), Some(value("2")));
    }
}
