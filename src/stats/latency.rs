//! Owns how long operations took, as the program sees it. Knows nothing of what was measured.

use std::fmt;
use std::ops::Sub;
use std::time::Duration;

use crate::stats::histogram::Buckets;

/// How long it took to reach the disk or the network, where that was necessary. On Memory nothing is measured.
///
/// During an outage operations are served from memory, and are not measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Latencies {
    /// Redis: one exchange with the server that reads, from asking the pool for a connection to the last reply, with
    /// all of its attempts. A chunk of a batch is one exchange. File: nothing, since reads do not touch the disk.
    pub read: Latency,
    /// Redis: one exchange that writes. File with `sync = "always"`: one line of the journal, from the call to the moment
    /// at which it is on the disk. With another `sync` a write does not wait for the disk, and is not measured.
    ///
    /// Not measured are waits for a value or a lock: only the attempts of such a wait are.
    pub write: Latency,
    /// File: one sync of the journal. Operations of several threads may wait for the same one. Redis: nothing.
    pub sync: Latency,
}

/// The distribution of some durations. The quantiles are at most 6 % off; the rest is exact.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Latency {
    /// How many durations were measured.
    pub count: u64,
    /// Their mean; zero if there are none.
    pub mean: Duration,
    /// Half of them were not longer.
    pub p50: Duration,
    /// 95 of 100 were not longer.
    pub p95: Duration,
    /// 99 of 100 were not longer.
    pub p99: Duration,
    /// 999 of 1000 were not longer.
    pub p999: Duration,
    /// The longest one. In the difference of two snapshots it is at most 6 % off.
    pub max: Duration,
    pub(crate) buckets: Buckets,
}

impl Latency {
    pub(crate) fn new(buckets: Buckets) -> Self {
        Self {
            count: buckets.count(),
            mean: buckets.mean(),
            p50: buckets.quantile(500),
            p95: buckets.quantile(950),
            p99: buckets.quantile(990),
            p999: buckets.quantile(999),
            max: buckets.max(),
            buckets,
        }
    }
}

/// The numbers, without the buckets that they come from.
impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count)
            .field("mean", &self.mean)
            .field("p50", &self.p50)
            .field("p95", &self.p95)
            .field("p99", &self.p99)
            .field("p999", &self.p999)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// The durations that were measured between two snapshots.
impl Sub for &Latency {
    type Output = Latency;

    fn sub(self, earlier: Self) -> Latency {
        Latency::new(self.buckets.since(&earlier.buckets))
    }
}

impl Sub for &Latencies {
    type Output = Latencies;

    fn sub(self, earlier: Self) -> Latencies {
        Latencies {
            read: &self.read - &earlier.read,
            write: &self.write - &earlier.write,
            sync: &self.sync - &earlier.sync,
        }
    }
}
