//! Owns the arithmetic of sliding windows: which bucket a moment belongs to, what the buckets of a map sum up to, and
//! when there is room again. Knows nothing of where the map is stored.

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::value::counter;

/// How many buckets a window has.
const BUCKETS: u64 = 60;

/// An addition to a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowAdd {
    pub(crate) width: Millis,
    /// The time that it counts for, in milliseconds since 1970; `None` is now.
    pub(crate) at: Option<u64>,
    /// Not 0.
    pub(crate) by: i64,
    /// What the sum must not exceed: otherwise nothing is added.
    pub(crate) limit: Option<u64>,
}

/// What became of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowSum {
    /// Whether it was added. If not, it was too late for the window, or over the limit.
    pub(crate) is_added: bool,
    /// The sum of the window now.
    pub(crate) sum: i64,
    /// If it was over the limit: in how many milliseconds there is room for it at the earliest.
    pub(crate) retry_after: u64,
}

/// The bucket of a window that a time belongs to.
pub(crate) fn bucket_at(width: Millis, time: u64) -> u64 {
    u64::try_from(u128::from(time) * u128::from(BUCKETS) / u128::from(width.get())).unwrap_or(u64::MAX)
}

/// The first time at which a bucket no longer counts.
pub(crate) fn end_of(width: Millis, bucket: u64) -> u64 {
    let end = (u128::from(bucket) + u128::from(BUCKETS)) * u128::from(width.get());
    u64::try_from(end.div_ceil(u128::from(BUCKETS))).unwrap_or(u64::MAX)
}

/// The name of the field of a bucket.
pub(crate) fn field_of(bucket: u64) -> SmolStr {
    SmolStr::new(itoa::Buffer::new().format(bucket))
}

/// Returns the bucket that a field stands for; `None` for a field that the program has put into the map itself.
pub(crate) fn bucket_of(field: &str) -> Option<u64> {
    field.parse().ok().filter(|bucket| field_of(*bucket) == field)
}

/// The buckets of a window at one moment.
#[derive(Debug)]
pub(crate) struct WindowBuckets {
    width: Millis,
    now: u64,
    /// Those that count now or later, by their numbers.
    live: Vec<(u64, i64)>,
    /// Whether there are others, which count no more.
    pub(crate) has_expired: bool,
}

impl WindowBuckets {
    /// Reads the fields of a map; `None` if one of the buckets is no integer.
    pub(crate) fn read(width: Millis, now: u64, fields: &[(SmolStr, Bytes)]) -> Option<Self> {
        let mut buckets = Self { width, now, live: Vec::new(), has_expired: false };
        for (field, value) in fields {
            match bucket_of(field) {
                Some(bucket) if buckets.is_live(bucket) => buckets.live.push((bucket, counter(value)?)),
                Some(_) => buckets.has_expired = true,
                None => {}
            }
        }
        buckets.live.sort_unstable();
        Some(buckets)
    }

    fn current(&self) -> u64 {
        bucket_at(self.width, self.now)
    }

    /// Returns whether a bucket counts now or later.
    pub(crate) fn is_live(&self, bucket: u64) -> bool {
        bucket.saturating_add(BUCKETS) > self.current()
    }

    /// The buckets that count now.
    fn counting(&self) -> impl Iterator<Item = (u64, i64)> {
        let current = self.current();
        self.live.iter().copied().filter(move |(bucket, _)| *bucket <= current)
    }

    fn exact_sum(&self) -> i128 {
        self.counting().map(|(_, value)| i128::from(value)).sum()
    }

    /// Returns the sum of the window. Beyond the ends of `i64` it stays there.
    pub(crate) fn sum(&self) -> i64 {
        let sum = self.exact_sum();
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    /// Returns the largest bucket that counts now or later, or `bucket` if that is larger.
    pub(crate) fn newest(&self, bucket: u64) -> u64 {
        self.live.last().map_or(bucket, |(newest, _)| bucket.max(*newest))
    }

    /// Returns whether an addition stays within its limit.
    pub(crate) fn has_room(&self, add: &WindowAdd) -> bool {
        add.limit.is_none_or(|limit| self.exact_sum() + i128::from(add.by) <= i128::from(limit))
    }

    /// Returns the value of a bucket after an addition; `None` if it leaves `i64`.
    pub(crate) fn value_after(&self, bucket: u64, by: i64) -> Option<i64> {
        let before = self.live.iter().find(|(known, _)| *known == bucket).map_or(0, |(_, value)| *value);
        before.checked_add(by)
    }

    /// Sets the value of a bucket.
    pub(crate) fn set(&mut self, bucket: u64, value: i64) {
        self.live.retain(|(known, _)| *known != bucket);
        self.live.push((bucket, value));
        self.live.sort_unstable();
    }

    /// Returns in how many milliseconds there is room for an addition, if nothing else is added.
    fn retry_after(&self, add: &WindowAdd) -> u64 {
        let Some(limit) = add.limit else { return 0 };
        let mut left = self.exact_sum() + i128::from(add.by) - i128::from(limit);
        for (bucket, value) in self.counting() {
            left -= i128::from(value);
            if left <= 0 {
                return end_of(self.width, bucket).saturating_sub(self.now);
            }
        }
        self.width.get()
    }

    /// Returns what became of an addition; `self` are the buckets after it.
    pub(crate) fn outcome(&self, add: &WindowAdd, is_added: bool) -> WindowSum {
        let is_over = !is_added && !self.has_room(add);
        let retry_after = if is_over { self.retry_after(add) } else { 0 };
        WindowSum { is_added, sum: self.sum(), retry_after }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn width(millis: u64) -> Millis {
        Millis::new(Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn a_bucket_counts_for_exactly_the_buckets_of_a_window() {
        for width in [1, 7, 59, 60, 61, 1000, 60_000, 3_600_000, 31_536_000_000_000].map(width) {
            for time in [0, 1, 59, 999, 1_700_000_000_123, 1_700_000_000_124] {
                let bucket = bucket_at(width, time);
                let end = end_of(width, bucket);
                assert!(end > time && end <= time + width.get(), "{width:?} {time}");
                assert!(bucket_at(width, end) >= bucket + BUCKETS);
                assert!(bucket_at(width, end - 1) < bucket + BUCKETS);
                assert_eq!(bucket_at(width, time + width.get()), bucket + BUCKETS);
            }
        }
    }

    #[test]
    fn a_field_that_is_no_bucket_is_passed_over() {
        for field in ["", "x", "01", "+1", "-1", "1 ", "99999999999999999999"] {
            assert_eq!(bucket_of(field), None, "{field:?}");
        }
        assert_eq!(bucket_of("0"), Some(0));
        let fields = [("5".into(), Bytes::from("2")), ("note".into(), Bytes::from("x"))];
        assert_eq!(WindowBuckets::read(width(60), 5, &fields).unwrap().sum(), 2);
        assert!(WindowBuckets::read(width(60), 5, &[("5".into(), Bytes::from("x"))]).is_none());
    }

    #[test]
    fn there_is_room_again_when_enough_has_left_the_window() {
        let fields: Vec<_> = [(10, "2"), (20, "1"), (30, "3")]
            .map(|(bucket, value)| (field_of(bucket), Bytes::from(value)))
            .to_vec();
        let buckets = WindowBuckets::read(width(60), 30, &fields).unwrap();
        for (limit, retry_after) in [(7, 0), (6, 40), (5, 40), (4, 50), (3, 60), (1, 60), (0, 60)] {
            let add = WindowAdd { width: width(60), at: None, by: 1, limit: Some(limit) };
            assert_eq!(buckets.has_room(&add), limit == 7);
            assert_eq!(buckets.outcome(&add, limit == 7).retry_after, retry_after, "{limit}");
        }
    }

    #[test]
    fn a_sum_beyond_the_range_stays_at_its_end() {
        let most = Bytes::from(i64::MAX.to_string());
        let fields = [(field_of(1), most.clone()), (field_of(2), most)];
        let buckets = WindowBuckets::read(width(60), 2, &fields).unwrap();
        assert_eq!((buckets.sum(), buckets.value_after(2, 1)), (i64::MAX, None));
    }
}
