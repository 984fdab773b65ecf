//! Owns the numbers of one store while it counts. Knows nothing of what counts as what.
//!
//! Each thread adds to a stripe of its own, so that threads do not wait for each other's cache lines. A stripe is made
//! when its thread counts for the first time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::stats::counter::{COUNTERS, Counter, Operation, counter_of};
use crate::stats::histogram::Histogram;
use crate::stats::latency::{Latencies, Latency};
use crate::stats::snapshot::{ErrorCounts, LockStats, OperationCounts, PoolStats, Stats, Unlisted};
use crate::stats::thread_stripe::{OWNED, SHARED, chosen_stripe, stripe};

/// Keeps two stripes in different cache lines, also for processors that load lines in pairs.
#[repr(align(128))]
struct CounterStripe([AtomicU64; COUNTERS]);

impl CounterStripe {
    /// INVARIANT: no other thread adds to this stripe, so that nothing is lost between the load and the store.
    #[inline]
    fn add_alone(&self, counter: Counter, count: u64) {
        let total = &self.0[counter as usize];
        total.store(total.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

/// Which duration was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measured {
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a server is read from"))]
    Read,
    Write,
    Sync,
}

/// The numbers of one store.
#[derive(Default)]
pub(crate) struct Recorder {
    owned: Stripes<OWNED>,
    shared: Stripes<SHARED>,
    /// Made at the first duration: a store in memory measures none.
    reads: OnceLock<Box<Histogram>>,
    writes: OnceLock<Box<Histogram>>,
    syncs: OnceLock<Box<Histogram>>,
}

struct Stripes<const COUNT: usize>([OnceLock<Box<CounterStripe>>; COUNT]);

impl<const COUNT: usize> Default for Stripes<COUNT> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; COUNT])
    }
}

impl Recorder {
    #[inline]
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        if let Some(stripe) = self.owned.0.get(stripe()).and_then(OnceLock::get) {
            stripe.add_alone(counter, count);
        } else {
            self.add_slowly(counter, count);
        }
    }

    /// As [`Recorder::add`], for the first time or to a stripe that threads share.
    #[inline(never)]
    fn add_slowly(&self, counter: Counter, count: u64) {
        let number = chosen_stripe();
        let make = || Box::new(CounterStripe([const { AtomicU64::new(0) }; COUNTERS]));
        if let Some(slot) = self.owned.0.get(number) {
            slot.get_or_init(make).add_alone(counter, count);
        } else if let Some(slot) = self.shared.0.get(number - OWNED) {
            slot.get_or_init(make).0[counter as usize].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Counts an operation that failed.
    #[cold]
    pub(crate) fn count_failed(&self, operation: Operation, error: &Error) {
        self.add(operation.failed(), 1);
        if let Some(counter) = counter_of(error) {
            self.add(counter, 1);
        }
    }

    /// Counts the keys of a batch that were read.
    pub(crate) fn count_batch<'v, V: 'v>(&self, found: impl Iterator<Item = &'v Option<V>>) {
        let (hits, reads) =
            found.fold((0, 0), |(hits, reads), found| (hits + u64::from(found.is_some()), reads + 1));
        self.add(Counter::BatchHits, hits);
        self.add(Counter::BatchMisses, reads - hits);
    }

    /// Counts an attempt to take a lock.
    pub(crate) fn count_lock(&self, is_granted: bool) {
        self.add(if is_granted { Counter::LocksAcquired } else { Counter::LocksRefused }, 1);
    }

    pub(crate) fn record(&self, measured: Measured, duration: Duration) {
        let histogram = match measured {
            Measured::Read => &self.reads,
            Measured::Write => &self.writes,
            Measured::Sync => &self.syncs,
        };
        histogram.get_or_init(Box::default).record(duration);
    }

    fn total(&self, counter: Counter) -> u64 {
        let made = self.owned.0.iter().chain(&self.shared.0).filter_map(OnceLock::get);
        made.fold(0, |total, stripe| total.wrapping_add(stripe.0[counter as usize].load(Ordering::Relaxed)))
    }

    /// Returns how many things began and have not ended. The end is read first, so that it is never ahead.
    fn open(&self, begun: Counter, ended: Counter) -> u64 {
        let ended = self.total(ended);
        self.total(begun).saturating_sub(ended)
    }

    /// Returns the numbers at this moment. Other threads may count meanwhile.
    pub(crate) fn read(&self) -> Stats {
        let total = |counter| self.total(counter);
        let both = |done, failed| total(done) + total(failed);
        let latency =
            |measured: &OnceLock<Box<Histogram>>| measured.get().map(|counted| Latency::new(counted.read()));
        let (hits, misses) = (total(Counter::Hits), total(Counter::Misses));
        Stats {
            operations: OperationCounts {
                gets: hits + misses + total(Counter::FailedGets),
                puts: both(Counter::Puts, Counter::FailedPuts),
                deletes: both(Counter::Deletes, Counter::FailedDeletes),
                increments: both(Counter::Increments, Counter::FailedIncrements),
                batches: both(Counter::Batches, Counter::FailedBatches),
                pipelines: total(Counter::Pipelines),
                transactions: both(Counter::Transactions, Counter::FailedTransactions),
                scripts: total(Counter::Scripts),
                other: both(Counter::Other, Counter::FailedOther),
            },
            hits: hits + total(Counter::BatchHits),
            misses: misses + total(Counter::BatchMisses),
            errors: ErrorCounts {
                unavailable: total(Counter::Unavailable),
                denied: total(Counter::Denied),
                wrong_type: total(Counter::WrongType),
                conflict: total(Counter::Conflicts),
                other: total(Counter::OtherErrors),
            },
            retries: total(Counter::Retries),
            bytes_read: total(Counter::BytesRead),
            bytes_written: total(Counter::BytesWritten),
            latency: Latencies {
                read: latency(&self.reads).unwrap_or_default(),
                write: latency(&self.writes).unwrap_or_default(),
                sync: latency(&self.syncs).unwrap_or_default(),
            },
            pool: PoolStats {
                open: self.open(Counter::Opened, Counter::Closed),
                in_use: self.open(Counter::CheckedOut, Counter::Returned),
                waited: total(Counter::Waited),
            },
            locks: LockStats {
                acquired: total(Counter::LocksAcquired),
                refused: total(Counter::LocksRefused),
                lost: total(Counter::LocksLost),
                held: self.open(Counter::LocksAcquired, Counter::LocksEnded),
            },
            unlisted: Unlisted {
                failed: OperationCounts {
                    gets: total(Counter::FailedGets),
                    puts: total(Counter::FailedPuts),
                    deletes: total(Counter::FailedDeletes),
                    increments: total(Counter::FailedIncrements),
                    batches: total(Counter::FailedBatches),
                    transactions: total(Counter::FailedTransactions),
                    other: total(Counter::FailedOther),
                    ..OperationCounts::default()
                },
                ..Unlisted::default()
            },
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::stats::thread_stripe::STRIPES;

    #[test]
    fn no_count_is_lost_among_more_threads_than_stripes() {
        let recorder = Recorder::default();
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..STRIPES + 40 {
                    scope.spawn(|| (0..1000).for_each(|_| recorder.add(Counter::Puts, 1)));
                }
            });
        }
        assert_eq!(recorder.read().operations.puts, 3 * 1000 * (STRIPES as u64 + 40));
    }

    #[test]
    fn a_failed_operation_is_one_operation_and_one_error() {
        let recorder = Recorder::default();
        recorder.count_failed(Operation::Batch, &Error::partial(1, Error::closed()));
        recorder.count_failed(Operation::Transaction, &Error::abort("enough"));
        let stats = recorder.read();
        assert_eq!((stats.operations.batches, stats.operations.transactions), (1, 1));
        assert_eq!((stats.errors.unavailable, stats.errors.other, stats.error_rate()), (1, 0, 0.5));
    }
}
