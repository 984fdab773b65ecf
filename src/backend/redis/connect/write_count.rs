//! Owns what the count of writes on the server looks like, and how often a store raises it. Knows nothing of what a
//! lower count means.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redis::Value;

/// The number on the server is the id of the count, times this, plus the writes. `INCR` makes a key that is gone, and
/// that count has no id.
const IDS_BEGIN: u64 = 1_000_000_000_000;

/// The largest id. With it, the number has room for all writes.
const LAST_ID: u64 = 9_000_000;

/// After so many microseconds another write may be counted.
const INTERVAL: u64 = 2000;

/// So many writes are counted one after the other if the store was idle before.
const BURST: u64 = 1000;

/// What the server has counted. Two counts can be compared if they have the same id: if the key was evicted or deleted,
/// a new count has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteCount(u64);

impl WriteCount {
    /// Returns a count of no writes, with an id of its own.
    pub(crate) fn begin() -> Self {
        Self(fastrand::u64(1..=LAST_ID) * IDS_BEGIN)
    }

    /// Reads the reply to `INCR`.
    pub(crate) fn from_number(number: i64) -> Self {
        Self(number.unsigned_abs())
    }

    /// Reads the reply to `GET`; `None` if it holds no count with an id.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    pub(crate) fn from_text(reply: &Value) -> Option<Self> {
        match reply {
            Value::BulkString(text) => {
                std::str::from_utf8(text).ok()?.parse().ok().map(Self).filter(|count| count.has_id())
            }
            _ => None,
        }
    }

    /// Returns how the server stores it.
    pub(crate) fn to_text(self) -> String {
        self.0.to_string()
    }

    /// Returns whether the key existed when it was counted, and is a count of this crate.
    pub(crate) fn has_id(self) -> bool {
        self.0 >= IDS_BEGIN
    }

    /// Returns whether both are the same count, earlier or later.
    pub(crate) fn is_same_as(self, other: Self) -> bool {
        self.has_id() && self.0 / IDS_BEGIN == other.0 / IDS_BEGIN
    }

    /// Returns whether this is the same count as an earlier one, with more writes.
    pub(crate) fn is_above(self, earlier: Self) -> bool {
        self.is_same_as(earlier) && self.0 > earlier.0
    }

    /// Returns whether this is the same count as an earlier one, with fewer writes.
    pub(crate) fn is_below(self, earlier: Self) -> bool {
        self.is_same_as(earlier) && self.0 < earlier.0
    }
}

/// Which writes are counted: each one of a store that writes now and then, and one in two milliseconds of a store that
/// writes all the time, which makes the count cost next to nothing.
pub(crate) struct CountPace {
    begun: Instant,
    /// Up to when the writes that were counted use the time up, one interval for each: in microseconds.
    used: AtomicU64,
}

impl CountPace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { begun: now, used: AtomicU64::new(0) }
    }

    /// Returns whether a write at this time is counted.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        let used = self.used.load(Ordering::Relaxed);
        if used > now.saturating_add(INTERVAL * (BURST - 1)) {
            return false;
        }
        // If another thread counts at the same moment, its count shows as much.
        let next = used.max(now).saturating_add(INTERVAL);
        self.used.compare_exchange(used, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_write_is_counted_unless_there_are_too_many() {
        let start = Instant::now();
        let pace = CountPace::new(start);
        let allowed = |micros: u64, writes: u32| {
            let at = start + Duration::from_micros(micros);
            (0..writes).filter(|_| pace.allows(at)).count()
        };
        assert_eq!(allowed(0, 2000), 1000);
        assert_eq!(allowed(INTERVAL / 2, 100), 0);
        assert_eq!(allowed(INTERVAL, 100), 1);
        assert_eq!(allowed(4 * INTERVAL, 100), 3);
        assert_eq!(allowed(3_600_000_000, 2000), 1000);
    }

    #[test]
    fn only_counts_with_the_same_id_are_compared() {
        let count = |id: u64, writes: u64| WriteCount(id * IDS_BEGIN + writes);
        assert!(count(7, 5).is_below(count(7, 6)) && count(7, 6).is_above(count(7, 5)));
        assert!(!count(7, 5).is_below(count(7, 5)) && !count(7, 5).is_above(count(7, 5)));
        for (one, other) in
            [(count(6, 5), count(7, 6)), (count(7, 5), count(0, 6)), (count(0, 5), count(0, 6))]
        {
            assert!(!one.is_same_as(other) && !one.is_below(other) && !other.is_above(one));
        }
    }

    #[test]
    fn a_count_is_stored_as_a_number_with_room_for_more() {
        for _ in 0..100 {
            let text = WriteCount::begin().to_text();
            let number: i64 = text.parse().unwrap();
            let last = WriteCount::from_number(number + 999_999_999_999);
            let stored = WriteCount::from_text(&Value::BulkString(text.into_bytes())).unwrap();
            assert!(last.is_above(stored));
        }
        for text in ["", "x", "-1", "1", "999999999999"] {
            assert_eq!(WriteCount::from_text(&Value::BulkString(text.into())), None, "{text}");
        }
    }
}
