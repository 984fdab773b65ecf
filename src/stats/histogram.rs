//! Owns how durations are counted: in buckets whose width grows with the duration, as `HdrHistogram` (Gil Tene) does.
//! Knows nothing of what was measured.
//!
//! Each power of two of nanoseconds has 16 buckets of equal width. What is read back is the middle of a bucket, so it
//! is at most 1/32 off, which is about 3 %.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many buckets a power of two has, as a power of two.
const SUB_BITS: u32 = 4;
const SUB_BUCKETS: usize = 1 << SUB_BITS;

/// Durations of 2^40 nanoseconds, which is 18 minutes, and more share the last bucket.
const MOST: u64 = (1 << 40) - 1;

const BUCKETS: usize = bucket_of(MOST) + 1;

/// Durations that threads count.
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// All durations together, in nanoseconds.
    sum: AtomicU64,
    max: AtomicU64,
}

/// A copy of the counts, in nanoseconds. Without the buckets at the end that are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Buckets {
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: u64,
    pub(crate) max: u64,
}

/// Returns the number of the bucket of a duration.
#[expect(clippy::cast_possible_truncation, reason = "the number of a bucket is small")]
const fn bucket_of(nanos: u64) -> usize {
    let nanos = if nanos > MOST { MOST } else { nanos };
    if nanos < SUB_BUCKETS as u64 {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (nanos >> shift) as usize
}

/// Returns the least duration of a bucket, and the width of the bucket.
fn range_of(bucket: usize) -> (u64, u64) {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let within = bucket - (shift << SUB_BITS);
    ((within as u64) << shift, 1 << shift)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = nanos(duration);
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Buckets {
        let mut counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        trim(&mut counts);
        Buckets { counts, sum: self.sum.load(Ordering::Relaxed), max: self.max.load(Ordering::Relaxed) }
    }
}

fn trim(counts: &mut Vec<u64>) {
    let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    counts.truncate(used);
}

impl Buckets {
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum.checked_div(self.count()).unwrap_or_default())
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// Returns the duration that `per_mille` of all durations do not exceed.
    pub(crate) fn quantile(&self, per_mille: u64) -> Duration {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        });
        let middle = bucket.map_or(0, |bucket| {
            let (least, width) = range_of(bucket);
            least + width / 2
        });
        Duration::from_nanos(middle.min(self.max))
    }

    /// Returns how many durations are at most `limit`, but for those that share its bucket.
    pub(crate) fn count_up_to(&self, limit: Duration) -> u64 {
        let behind = bucket_of(nanos(limit)).min(self.counts.len());
        self.counts[..behind].iter().sum()
    }

    /// Returns the durations, each as the middle of its bucket, and how often it was counted.
    #[cfg(feature = "metrics")]
    pub(crate) fn durations(&self) -> Vec<(Duration, usize)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let middle = |(bucket, count): (usize, &u64)| {
            let (least, width) = range_of(bucket);
            (Duration::from_nanos(least + width / 2), usize::try_from(*count).unwrap_or(usize::MAX))
        };
        counted.map(middle).collect()
    }

    /// Returns what was counted since an earlier copy. The longest duration is known to be in the last bucket.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().chain(std::iter::repeat(&0));
        let mut counts: Vec<u64> =
            self.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect();
        trim(&mut counts);
        let max = counts.len().checked_sub(1).map_or(0, |last| {
            let (least, width) = range_of(last);
            // If it is the longest of all, it is known exactly.
            if bucket_of(self.max) == last { self.max } else { least + width / 2 }
        });
        Self { counts, sum: self.sum.saturating_sub(earlier.sum), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_cover_all_durations_without_a_gap() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (least, width) = range_of(bucket);
            assert_eq!(least, next, "{bucket}");
            assert_eq!((bucket_of(least), bucket_of(least + width - 1)), (bucket, bucket));
            next = least + width;
        }
        assert_eq!(next, MOST + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(size_of::<Histogram>() < 6 << 10, "{} bytes", size_of::<Histogram>());
    }

    /// Draws durations over many orders of magnitude, and compares with the sorted list of them.
    #[test]
    fn quantiles_are_within_six_per_cent_of_the_exact_ones() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let histogram = Histogram::default();
            let mut exact: Vec<u64> = (0..10_000).map(|_| random.u64(..) >> random.u32(24..60)).collect();
            for nanos in &exact {
                histogram.record(Duration::from_nanos(*nanos));
            }
            exact.sort_unstable();
            let read = histogram.read();
            assert_eq!(read.count(), 10_000);
            assert_eq!(read.max(), Duration::from_nanos(*exact.last().unwrap()));
            assert_eq!(read.mean(), Duration::from_nanos(exact.iter().sum::<u64>() / 10_000));
            for per_mille in [0, 1, 500, 950, 990, 999, 1000] {
                let rank = (10 * usize::try_from(per_mille).unwrap()).max(1);
                let (found, right) = (nanos(read.quantile(per_mille)), exact[rank - 1]);
                let most_off = right * 6 / 100;
                assert!(found.abs_diff(right) <= most_off, "seed {seed}: {per_mille}: {found}, not {right}");
            }
        }
    }

    #[test]
    fn what_was_counted_since_a_copy_has_its_own_quantiles() {
        let histogram = Histogram::default();
        (0..100).for_each(|_| histogram.record(Duration::from_secs(1)));
        let before = histogram.read();
        (0..10).for_each(|_| histogram.record(Duration::from_micros(10)));
        let since = histogram.read().since(&before);
        assert_eq!((since.count(), since.mean()), (10, Duration::from_micros(10)));
        for nanos in [nanos(since.quantile(500)), nanos(since.max())] {
            assert!(nanos.abs_diff(10_000) <= 600, "{nanos}");
        }
        assert_eq!(since.since(&since), Buckets::default());
        assert_eq!(Buckets::default().quantile(999), Duration::ZERO);
    }

    #[test]
    fn a_very_long_duration_is_the_longest() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(3600));
        let read = histogram.read();
        assert_eq!((read.max(), read.count_up_to(Duration::from_secs(1))), (Duration::from_secs(3600), 0));
        histogram.record(Duration::from_millis(1));
        assert_eq!(histogram.read().count_up_to(Duration::from_secs(1)), 1);
    }
}
