//! Owns the snapshot of all numbers that a store has counted, as the program sees it. Knows nothing of how they are
//! counted.

use std::ops::Sub;
use std::time::{Duration, SystemTime};

use crate::stats::latency::Latencies;
use crate::stats::outages::OutageStats;

/// What a store has counted since it was opened: see [`StateStore::stats`](crate::StateStore::stats).
///
/// [What is counted](crate::stats) as which operation is the same on every backend. Two snapshots subtract: the
/// difference holds what was counted in between. Numbers that tell how something is at the moment (such as
/// [`pool.in_use`](PoolStats::in_use)) are those of the later snapshot.
///
/// ```
/// let store = millpond::StateStore::memory();
/// store.put("price:apples", 3)?;
///
/// let before = store.stats();
/// assert_eq!(store.get("price:apples")?, Some(3));
/// assert_eq!(store.get::<u32>("price:pears")?, None);
/// let between = store.stats() - before;
/// assert_eq!((between.operations.gets, between.operations.puts), (2, 0));
/// assert_eq!((between.hits, between.misses, between.hit_rate()), (1, 1, 0.5));
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The operations that ended, also those that failed.
    pub operations: OperationCounts,
    /// Reads that found a value or a field: one for each of [`gets`](OperationCounts::gets), and one for each key of a
    /// `batch_get`.
    pub hits: u64,
    /// As [`hits`](Self::hits), of those that found nothing.
    pub misses: u64,
    /// The operations that failed.
    pub errors: ErrorCounts,
    /// Redis: attempts of an exchange with the server behind the first.
    pub retries: u64,
    /// Always 0: this version follows no redirections of a Redis Cluster.
    pub redirects: u64,
    /// Redis: bytes that came from the server, those of logins and of probes included. 0 on Memory and File: File reads
    /// its files only when it is opened.
    pub bytes_read: u64,
    /// Redis: bytes that were sent to the server. File: bytes of the lines of the journal.
    pub bytes_written: u64,
    /// How long the disk or the network took.
    pub latency: Latencies,
    /// The connections to the server.
    pub pool: PoolStats,
    /// The entries of a local table.
    pub entries: EntryStats,
    /// All of them are zero: this version makes no checkpoints.
    pub checkpoints: CheckpointStats,
    /// The locks that this process takes.
    pub locks: LockStats,
    /// Outages of the Redis server, and what became of queued operations.
    pub outages: OutageStats,
    pub(crate) unlisted: Unlisted,
}

/// What metrics show besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Unlisted {
    /// The operations that failed, of those that are counted.
    pub(crate) failed: OperationCounts,
    /// What the program calls the store.
    pub(crate) store: Option<String>,
    pub(crate) backend: &'static str,
}

/// How many operations ended. [What counts as which](crate::stats) is the same on every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OperationCounts {
    /// Reads of one value or field.
    pub gets: u64,
    /// Writes of values, maps and queues, also those that found nothing to change.
    pub puts: u64,
    /// Removals, also those that found nothing to remove.
    pub deletes: u64,
    /// Additions to counters.
    pub increments: u64,
    /// Batches, each of which counts once.
    pub batches: u64,
    /// Redis: chunks of batches that were sent as one pipeline. They are a part of [`batches`](Self::batches) and not
    /// operations of their own.
    pub pipelines: u64,
    /// Transactions.
    pub transactions: u64,
    /// Redis: calls of Lua scripts that were sent, those of attempts and of replays included; a script that the server
    /// does not know yet is sent twice. They are a part of the operations that need them and not operations of their
    /// own.
    pub scripts: u64,
    /// All other operations.
    pub other: u64,
}

/// How many operations failed, by what a program does about them. Errors of the program itself are not counted: what
/// the closure of a transaction returns, refused arguments, and values that are not of the type that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ErrorCounts {
    /// [`Unavailable`](crate::Error::Unavailable).
    pub unavailable: u64,
    /// [`Denied`](crate::Error::Denied).
    pub denied: u64,
    /// [`WrongType`](crate::Error::WrongType).
    pub wrong_type: u64,
    /// [`Conflict`](crate::Error::Conflict).
    pub conflict: u64,
    /// All others, such as [`NotAnInteger`](crate::Error::NotAnInteger) or [`Io`](crate::Error::Io).
    pub other: u64,
}

/// The connections to the Redis server, those for waits included. All numbers are zero on Memory and File.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that are open now.
    pub open: u64,
    /// Connections that operations use now.
    pub in_use: u64,
    /// Operations that had to wait for a connection, because all of them were in use.
    pub waited: u64,
}

/// The entries of the local table of Memory and File. All numbers are zero on Redis, where only
/// [`len`](crate::StateStore::len) knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EntryStats {
    /// Entries that the store holds now, in all namespaces.
    pub total: u64,
    /// Entries that were removed because they had expired. An entry is absent from its deadline on, and removed some
    /// writes later; one that is written again before that is not counted.
    pub expired: u64,
    /// Entries that were removed to make room for others: see [`MemoryStore`](crate::MemoryStore#bounds).
    pub evicted: u64,
    /// The bytes of keys and values, about.
    pub(crate) bytes: u64,
}

/// Checkpoints. All numbers are zero: this version makes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// Checkpoints that were made.
    pub made: u64,
    /// Checkpoints that could not be made.
    pub failed: u64,
    /// Checkpoints that were restored.
    pub restored: u64,
    /// When the last one was made.
    pub last: Option<SystemTime>,
    /// How long the last one took.
    pub last_took: Duration,
    /// The size of the last one.
    pub bytes: u64,
}

/// The locks and permits that this process takes on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockStats {
    /// Locks that were taken.
    pub acquired: u64,
    /// Attempts that found the lock taken: `None` of `try_lock` and `try_acquire`, and [`Busy`](crate::Error::Busy) of `lock` and `acquire`.
    pub refused: u64,
    /// Locks that were found to be lost: [`LockLost`](crate::Error::LockLost).
    pub lost: u64,
    /// Guards that exist now. The lock of a guard may have expired.
    pub held: u64,
}

/// Returns what was counted between two snapshots: the counts named are subtracted, and all other fields are those of
/// the later one.
macro_rules! difference {
    ($later:expr, $earlier:expr, $($count:ident),+) => {{
        let mut between = $later.clone();
        $(between.$count = $later.$count.saturating_sub($earlier.$count);)+
        between
    }};
}

impl OperationCounts {
    fn since(&self, earlier: &Self) -> Self {
        difference!(
            self,
            earlier,
            gets,
            puts,
            deletes,
            increments,
            batches,
            pipelines,
            transactions,
            scripts,
            other
        )
    }
}

impl Sub for &Stats {
    type Output = Stats;

    fn sub(self, earlier: Self) -> Stats {
        Stats {
            operations: self.operations.since(&earlier.operations),
            errors: difference!(
                self.errors,
                earlier.errors,
                unavailable,
                denied,
                wrong_type,
                conflict,
                other
            ),
            latency: &self.latency - &earlier.latency,
            pool: difference!(self.pool, earlier.pool, waited),
            entries: difference!(self.entries, earlier.entries, expired, evicted),
            checkpoints: difference!(self.checkpoints, earlier.checkpoints, made, failed, restored),
            locks: difference!(self.locks, earlier.locks, acquired, refused, lost),
            outages: self.outages.since(&earlier.outages),
            unlisted: Unlisted {
                failed: self.unlisted.failed.since(&earlier.unlisted.failed),
                ..self.unlisted.clone()
            },
            ..difference!(self, earlier, hits, misses, retries, redirects, bytes_read, bytes_written)
        }
    }
}

impl Sub for Stats {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        &self - &earlier
    }
}

impl Stats {
    /// Returns which part of the reads found something, from 0 to 1; 0 if nothing was read.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put("a", 1)?;
    /// let _: Vec<Option<u32>> = store.batch_get(["a", "b", "c", "d"])?;
    /// assert_eq!(store.stats().hit_rate(), 0.25);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        ratio(self.hits, self.hits.saturating_add(self.misses))
    }

    /// Returns which part of the operations failed, from 0 to 1; 0 if there were none.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.put("name", "anna")?;
    /// assert!(store.incr("name", 1).is_err());
    /// assert_eq!(store.stats().error_rate(), 0.5);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        let ErrorCounts { unavailable, denied, wrong_type, conflict, other } = self.errors;
        ratio(unavailable + denied + wrong_type + conflict + other, self.total_operations())
    }

    /// Returns how many operations ended. Pipelines and scripts are not added: they are parts of operations.
    ///
    /// ```
    /// let store = millpond::StateStore::memory();
    /// store.batch_put([("a", 1), ("b", 2)])?;
    /// assert!(store.contains("a")?);
    /// assert_eq!(store.stats().total_operations(), 2);
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn total_operations(&self) -> u64 {
        let OperationCounts { gets, puts, deletes, increments, batches, transactions, other, .. } =
            self.operations;
        gets + puts + deletes + increments + batches + transactions + other
    }

    /// Returns the mean of all reads and writes that were measured; zero on Memory, where nothing is measured.
    ///
    /// ```
    /// let stats = millpond::StateStore::memory().stats();
    /// assert!(stats.avg_latency().is_zero());
    /// ```
    #[must_use]
    pub fn avg_latency(&self) -> Duration {
        let (read, write) = (&self.latency.read.buckets, &self.latency.write.buckets);
        let count = read.count() + write.count();
        Duration::from_nanos(read.sum.saturating_add(write.sum).checked_div(count).unwrap_or_default())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits than a float has")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram::Histogram;
    use crate::stats::latency::Latency;

    #[test]
    fn counts_subtract_and_states_stay() {
        let counts = |n| {
            let histogram = Histogram::default();
            (0..n).for_each(|_| histogram.record(Duration::from_micros(n)));
            Stats {
                operations: OperationCounts { gets: n, other: 2 * n, ..OperationCounts::default() },
                hits: n,
                errors: ErrorCounts { denied: n, ..ErrorCounts::default() },
                latency: Latencies { read: Latency::new(histogram.read()), ..Latencies::default() },
                pool: PoolStats { open: n, in_use: n, waited: n },
                entries: EntryStats { total: n, expired: n, evicted: n, bytes: 0 },
                checkpoints: CheckpointStats { made: n, bytes: n, ..CheckpointStats::default() },
                locks: LockStats { acquired: n, held: n, ..LockStats::default() },
                outages: OutageStats { queued: n, pending: n, ..OutageStats::default() },
                ..Stats::default()
            }
        };
        let between = counts(5) - counts(3);
        assert_eq!((between.operations.gets, between.operations.other, between.hits), (2, 4, 2));
        assert_eq!((between.errors.denied, between.latency.read.count), (2, 5));
        assert_eq!(between.pool, PoolStats { open: 5, in_use: 5, waited: 2 });
        assert_eq!(between.entries, EntryStats { total: 5, expired: 2, evicted: 2, bytes: 0 });
        assert_eq!((between.checkpoints.made, between.checkpoints.bytes), (2, 5));
        assert_eq!((between.locks.acquired, between.locks.held), (2, 5));
        assert_eq!((between.outages.queued, between.outages.pending), (2, 5));
        assert_eq!((between.total_operations(), between.hit_rate(), between.misses), (6, 1.0, 0));
        assert_eq!(counts(3) - counts(5), Stats { ..counts(3) - counts(5) }, "never below zero");
    }

    #[test]
    fn rates_of_nothing_are_zero() {
        let nothing = Stats::default();
        assert_eq!((nothing.hit_rate(), nothing.error_rate()), (0.0, 0.0));
        assert_eq!((nothing.total_operations(), nothing.avg_latency()), (0, Duration::ZERO));
    }
}
