//! Owns the shadow: the last value of each key that this process saw while it was connected, as far as there is room.
//! Knows nothing of outages.
//!
//! INVARIANT: the shadow never holds an older value of a key than the last one that this process saw. If operations on
//! one key overlap, their order on the server is not known, and the key is forgotten.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use smol_str::SmolStr;

use crate::backend::fallback::shadow::in_doubt::{Before, InDoubtKeys};
use crate::backend::fallback::shadow::stripe::Stripe;
use crate::backend::redis::replay::observed::Observed;
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};

/// A value that is longer than this part of the shadow is not kept: it would push out too many others.
const MAX_SHARE: u64 = 16;

/// The approximate size of an entry without its key and its value.
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
    /// Returns whether everything about the key is known.
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

    /// Returns how the replay recognises on the server that the key is unchanged.
    pub(crate) fn observed(&self) -> Observed {
        match self {
            Self::NotAValue => Observed::NotAValue,
            Self::Absent => Observed::Absent,
            Self::Value { bytes, .. } => Observed::Hash(sha1_smol::Sha1::from(&**bytes).digest().bytes()),
        }
    }

    pub(crate) fn value_len(&self) -> usize {
        match self {
            Self::Absent | Self::NotAValue => 0,
            Self::Value { bytes, .. } => bytes.len(),
        }
    }
}

pub(crate) struct Shadow {
    max_bytes: u64,
    max_value_len: usize,
    cache: Cache<SmolStr, Shadowed, ByteWeighter, DefaultHashBuilder>,
    /// The operations in flight, by the hashes of their keys.
    stripes: Box<[Mutex<Stripe>]>,
    hasher: DefaultHashBuilder,
    in_doubt: Mutex<InDoubtKeys<Shadowed>>,
    /// How many keys have writes in doubt: mostly none, and then no lock is taken.
    in_doubt_keys: AtomicUsize,
}

/// How an operation in flight ended.
pub(crate) enum InFlightOutcome {
    /// A read that returned no value.
    Nothing,
    Read(Shadowed),
    /// A write whose outcome was not recorded.
    Unknown,
    Written(Shadowed),
    /// The server did not do the write.
    Failed,
    /// The write is in doubt. If the server did it, it left this.
    InDoubt(Observed),
}

impl InFlightOutcome {
    /// Returns the outcome of an operation until another one is recorded.
    pub(crate) fn unless_recorded(is_write: bool) -> Self {
        if is_write { Self::Unknown } else { Self::Nothing }
    }
}

#[derive(Clone)]
struct ByteWeighter;

impl Weighter<SmolStr, Shadowed> for ByteWeighter {
    fn weight(&self, key: &SmolStr, shadowed: &Shadowed) -> u64 {
        OVERHEAD + (key.len() + shadowed.value_len()) as u64
    }
}

impl Shadow {
    pub(crate) fn new(bytes: u64) -> Self {
        // About a hundred bytes an entry is only a guess: if entries are smaller, the cache's tables grow.
        let entries = usize::try_from(bytes / (OVERHEAD + 100)).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self {
            max_bytes: bytes,
            max_value_len: usize::try_from(bytes / MAX_SHARE).unwrap_or(usize::MAX),
            cache: Cache::with(
                entries,
                bytes,
                ByteWeighter,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            in_doubt: Mutex::default(),
            in_doubt_keys: AtomicUsize::new(0),
        }
    }

    /// Returns how much the shadow may take.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Returns whether the shadow keeps nothing. Operations in flight are not tracked then.
    pub(crate) fn is_off(&self) -> bool {
        self.max_value_len == 0
    }

    /// Returns what is known of a key. An expired value is absent.
    pub(crate) fn get(&self, key: &str, now: &Now<'_>) -> Option<Shadowed> {
        match self.cache.get(key)? {
            Shadowed::Value { deadline: Some(deadline), .. } if deadline.has_passed(now) => {
                Some(Shadowed::Absent)
            }
            shadowed @ (Shadowed::Absent | Shadowed::Value { .. } | Shadowed::NotAValue) => Some(shadowed),
        }
    }

    /// Returns all keys of which something is known.
    pub(crate) fn all(&self) -> impl Iterator<Item = (SmolStr, Shadowed)> {
        self.cache.iter()
    }

    /// Forgets all keys. The operations that are in flight now will record no value.
    pub(crate) fn clear(&self) {
        for stripe in &self.stripes {
            stripe.lock().overlap_all();
        }
        self.cache.clear();
    }

    /// Returns what the next write to a key will find on the server, as far as that is known, and whether everything
    /// about the key is known.
    pub(crate) fn observed(&self, key: &str, now: &Now<'_>) -> (Observed, bool) {
        if let Some(shadowed) = self.get(key, now) {
            return (shadowed.observed(), shadowed.is_complete());
        }
        let in_doubt = self.in_doubt.lock();
        (in_doubt.get(key).map_or(Observed::Nothing, |writes| writes.observed.clone()), false)
    }

    /// Returns what is known of a key, or else what was known of it before the writes in doubt.
    pub(crate) fn before_in_doubt(&self, key: &str, now: &Now<'_>) -> Option<Shadowed> {
        self.get(key, now).or_else(|| self.in_doubt.lock().get(key)?.before.clone())
    }

    /// Returns whether writes to a key are in doubt.
    pub(crate) fn has_in_doubt(&self, key: &str) -> bool {
        self.in_doubt_keys.load(Ordering::Acquire) > 0 && self.in_doubt.lock().get(key).is_some()
    }

    /// Forgets the writes in doubt.
    pub(crate) fn forget_in_doubt(&self) {
        let mut in_doubt = self.in_doubt.lock();
        *in_doubt = InDoubtKeys::default();
        self.in_doubt_keys.store(0, Ordering::Release);
    }

    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(crate) fn stripe(&self, hash: u64) -> &Mutex<Stripe> {
        &self.stripes[(hash >> 32) as usize % STRIPES]
    }

    /// Records how an operation ended. INVARIANT: the caller holds the lock of the key's stripe, so that outcomes of
    /// one key are recorded in the order in which the operations ended.
    pub(crate) fn record_outcome(&self, key: &str, outcome: InFlightOutcome, was_alone: bool) {
        match outcome {
            InFlightOutcome::Read(read) if was_alone && !self.has_same_value(key, &read) => {
                self.insert(key, read);
            }
            InFlightOutcome::Written(written) if was_alone => {
                self.insert(key, written);
                self.settle(key);
            }
            InFlightOutcome::Failed if was_alone => {}
            InFlightOutcome::Nothing | InFlightOutcome::Read(_) => {}
            InFlightOutcome::InDoubt(left) => self.record_in_doubt(key, left),
            InFlightOutcome::Written(_) | InFlightOutcome::Failed | InFlightOutcome::Unknown => {
                self.cache.remove(key);
            }
        }
    }

    /// Records how an operation ended that had ended before: the key is forgotten, unless the shadow holds the value that
    /// was read again. INVARIANT: as for [`Shadow::record_outcome`].
    pub(crate) fn record_repeated(&self, key: &str, outcome: &InFlightOutcome) {
        if !matches!(outcome, InFlightOutcome::Read(read) if self.has_same_value(key, read)) {
            self.cache.remove(key);
        }
    }

    fn record_in_doubt(&self, key: &str, left: Observed) {
        let before = self.cache.remove(key).map(|(_, shadowed)| Before {
            observed: shadowed.observed(),
            bytes: shadowed.value_len(),
            known: shadowed,
        });
        let mut in_doubt = self.in_doubt.lock();
        in_doubt.note(key, before, left, self.max_bytes);
        self.in_doubt_keys.store(in_doubt.len(), Ordering::Release);
    }

    /// Forgets the writes in doubt to a key: a later write has replaced what they left.
    fn settle(&self, key: &str) {
        if self.in_doubt_keys.load(Ordering::Acquire) > 0 {
            let mut in_doubt = self.in_doubt.lock();
            in_doubt.remove(key);
            self.in_doubt_keys.store(in_doubt.len(), Ordering::Release);
        }
    }

    fn has_same_value(&self, key: &str, read: &Shadowed) -> bool {
        let cached = self.cache.get(key);
        let (Some(Shadowed::Value { bytes: cached, .. }), Shadowed::Value { bytes: read, .. }) =
            (cached, read)
        else {
            return false;
        };
        cached == *read
    }

    fn insert(&self, key: &str, shadowed: Shadowed) {
        if shadowed.value_len() > self.max_value_len {
            self.cache.remove(key);
        } else {
            self.cache.insert(SmolStr::new(key), shadowed);
        }
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
    fn the_shadow_is_bounded_and_keeps_no_very_long_value() {
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
    fn an_expired_value_is_absent() {
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
}
