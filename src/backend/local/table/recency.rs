//! Owns when keys were last used, as far as an eviction must know it. Knows nothing of entries.
//!
//! Time is counted in writes, two steps each, so that a read is later than the write before it. The last use of a key is
//! noted in a table of fixed size, so that an entry needs no room for it, and a note needs no lock. The table is that of a
//! set-associative cache: the hash of a key yields a bucket, in which the key takes the place that was used longest ago. So
//! a key that is not noted was used before all that are in its bucket.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many keys a bucket notes: as many as fill a cache line.
const WAYS: usize = 8;

/// The table has twice as many places as there may be entries, from this many on, and up to this many.
const LEAST_PLACES: u64 = 1 << 10;
const MOST_PLACES: u64 = 1 << 20;

pub(crate) struct Recency {
    time: AtomicU32,
    buckets: Box<[Bucket]>,
}

/// The last uses of some keys: the high half of a word has a part of the hash, the low half the time.
#[repr(align(64))]
#[derive(Default)]
struct Bucket([AtomicU64; WAYS]);

impl Recency {
    /// A table for about `entries` entries.
    pub(crate) fn new(entries: u64) -> Self {
        let places = entries.saturating_mul(2).clamp(LEAST_PLACES, MOST_PLACES).next_power_of_two();
        let buckets = (0..places / WAYS as u64).map(|_| Bucket::default()).collect();
        Self { time: AtomicU32::new(0), buckets }
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits of a hash count")]
    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[hash as usize % self.buckets.len()]
    }

    /// Notes that a key was read.
    pub(crate) fn note_read(&self, hash: u64) {
        self.bucket(hash).note(hash, self.time.load(Ordering::Relaxed).wrapping_add(1));
    }

    /// Notes that a key was written.
    pub(crate) fn note_write(&self, hash: u64) {
        let now = self.time.fetch_add(2, Ordering::Relaxed).wrapping_add(2);
        self.bucket(hash).note(hash, now);
    }

    /// Returns how long ago a key was used; the greatest number if that is not noted.
    pub(crate) fn age(&self, hash: u64) -> u32 {
        let now = self.time.load(Ordering::Relaxed).wrapping_add(1);
        let mut uses = self.bucket(hash).0.iter().map(|place| place.load(Ordering::Relaxed));
        uses.find(|noted| is_of(*noted, hash)).map_or(u32::MAX, |noted| now.wrapping_sub(time_of(noted)))
    }
}

impl Bucket {
    fn note(&self, hash: u64, time: u32) {
        let mut oldest = (0, None);
        for place in &self.0 {
            let noted = place.load(Ordering::Relaxed);
            let age = time.wrapping_sub(time_of(noted));
            if is_of(noted, hash) {
                oldest = (age, Some(place));
                break;
            }
            if oldest.1.is_none() || age > oldest.0 {
                oldest = (age, Some(place));
            }
        }
        if let (_, Some(place)) = oldest {
            place.store(hash >> 32 << 32 | u64::from(time), Ordering::Relaxed);
        }
    }
}

fn is_of(noted: u64, hash: u64) -> bool {
    noted >> 32 == hash >> 32
}

#[expect(clippy::cast_possible_truncation, reason = "the time is the low half")]
fn time_of(noted: u64) -> u32 {
    noted as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that belongs to the first bucket.
    fn hash(number: u64) -> u64 {
        (number + 1) << 32
    }

    #[test]
    fn the_age_of_a_key_is_counted_in_writes() {
        let recency = Recency::new(10);
        for number in 0..5 {
            recency.note_write(hash(number));
        }
        recency.note_read(hash(1));
        assert_eq!([0, 1, 2, 3, 4].map(|number| recency.age(hash(number))), [9, 0, 5, 3, 1]);
        assert_eq!(recency.age(hash(5)), u32::MAX);
        assert_eq!(Recency::new(u64::MAX).buckets.len() as u64 * 8, MOST_PLACES);
    }

    #[test]
    fn a_full_bucket_forgets_the_key_that_was_used_longest_ago() {
        let recency = Recency::new(10);
        for number in 0..8 {
            recency.note_write(hash(number));
        }
        recency.note_read(hash(0));
        recency.note_write(hash(8));
        assert_eq!(recency.age(hash(1)), u32::MAX);
        assert!([0, 2, 3, 4, 5, 6, 7, 8].iter().all(|number| recency.age(hash(*number)) < 20));
    }
}
