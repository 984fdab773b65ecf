//! Owns the names of the metrics, and which number of a snapshot each of their series shows. Knows nothing of how
//! metrics leave the program.

use std::time::Duration;

use crate::stats::latency::{Latencies, Latency};
use crate::stats::snapshot::Stats;

/// What a metric is to a program that collects metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: MetricKind,
    pub(crate) help: &'static str,
    pub(crate) series: &'static [Series],
}

/// Labels, besides those of the store.
pub(crate) type Labels = &'static [(&'static str, &'static str)];

/// One line of a metric: its labels, and the number of a snapshot that it shows.
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) read: Reading,
}

pub(crate) enum Reading {
    /// A number that only grows.
    Count(fn(&Stats) -> u64),
    /// How something is now.
    Level(fn(&Stats) -> f64),
    Durations(fn(&Latencies) -> &Latency),
}

const fn counter(name: &'static str, help: &'static str, series: &'static [Series]) -> Metric {
    Metric { name, kind: MetricKind::Counter, help, series }
}

const fn gauge(name: &'static str, help: &'static str, series: &'static [Series]) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help, series }
}

const fn count(labels: Labels, read: fn(&Stats) -> u64) -> Series {
    Series { labels, read: Reading::Count(read) }
}

const fn level(labels: Labels, read: fn(&Stats) -> f64) -> Series {
    Series { labels, read: Reading::Level(read) }
}

const fn durations(labels: Labels, read: fn(&Latencies) -> &Latency) -> Series {
    Series { labels, read: Reading::Durations(read) }
}

#[expect(clippy::cast_precision_loss, reason = "a collector keeps all numbers as floats")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The upper limits of the buckets in which durations are shown.
pub(crate) const BUCKET_LIMITS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

/// The series of one kind of operation: those that succeeded, and those that failed.
macro_rules! outcomes {
    ($($operation:literal: $count:ident),+ $(,)?) => {
        &[$(
            count(
                &[("operation", $operation), ("outcome", "ok")],
                |stats| stats.operations.$count.saturating_sub(stats.unlisted.failed.$count),
            ),
            count(
                &[("operation", $operation), ("outcome", "error")],
                |stats| stats.unlisted.failed.$count,
            ),
        )+]
    };
}

/// All metrics.
pub(crate) const METRICS: &[Metric] = &[
    counter(
        "millpond_operations_total",
        "Operations that ended.",
        outcomes! {
            "get": gets,
            "put": puts,
            "delete": deletes,
            "increment": increments,
            "batch": batches,
            "transaction": transactions,
            "other": other,
        },
    ),
    Metric {
        name: "millpond_operation_seconds",
        kind: MetricKind::Histogram,
        help: "How long the disk or the network took: exchanges with the server, lines of the journal and its syncs.",
        series: &[
            durations(&[("operation", "read")], |latencies| &latencies.read),
            durations(&[("operation", "write")], |latencies| &latencies.write),
            durations(&[("operation", "sync")], |latencies| &latencies.sync),
        ],
    },
    counter(
        "millpond_errors_total",
        "Operations that failed.",
        &[
            count(&[("kind", "unavailable")], |stats| stats.errors.unavailable),
            count(&[("kind", "denied")], |stats| stats.errors.denied),
            count(&[("kind", "wrong_type")], |stats| stats.errors.wrong_type),
            count(&[("kind", "conflict")], |stats| stats.errors.conflict),
            count(&[("kind", "other")], |stats| stats.errors.other),
        ],
    ),
    counter("millpond_hits_total", "Reads that found something.", &[count(&[], |stats| stats.hits)]),
    counter("millpond_misses_total", "Reads that found nothing.", &[count(&[], |stats| stats.misses)]),
    counter(
        "millpond_retries_total",
        "Attempts of an exchange with the server behind the first.",
        &[count(&[], |stats| stats.retries)],
    ),
    counter(
        "millpond_bytes_total",
        "Bytes that came from the server, and bytes that were sent to it or written to the journal.",
        &[
            count(&[("direction", "read")], |stats| stats.bytes_read),
            count(&[("direction", "written")], |stats| stats.bytes_written),
        ],
    ),
    gauge(
        "millpond_pool_connections",
        "Connections to the server that are open.",
        &[
            level(&[("state", "in_use")], |stats| float(stats.pool.in_use)),
            level(&[("state", "idle")], |stats| float(stats.pool.open.saturating_sub(stats.pool.in_use))),
        ],
    ),
    counter(
        "millpond_pool_waits_total",
        "Operations that had to wait for a connection.",
        &[count(&[], |stats| stats.pool.waited)],
    ),
    gauge(
        "millpond_entries",
        "Entries of Memory and File.",
        &[level(&[], |stats| float(stats.entries.total))],
    ),
    gauge(
        "millpond_bytes",
        "Bytes of the keys and values of Memory and File, about.",
        &[level(&[], |stats| float(stats.entries.bytes))],
    ),
    counter(
        "millpond_expired_total",
        "Entries of Memory and File that were removed because they had expired.",
        &[count(&[], |stats| stats.entries.expired)],
    ),
    counter(
        "millpond_evicted_total",
        "Entries of Memory that were removed to make room for others.",
        &[count(&[], |stats| stats.entries.evicted)],
    ),
    gauge(
        "millpond_pending_operations",
        "Operations that are queued for the server.",
        &[level(&[], |stats| float(stats.outages.pending))],
    ),
    counter("millpond_outages_total", "Outages that began.", &[count(&[], |stats| stats.outages.outages)]),
    gauge(
        "millpond_disconnected_seconds",
        "How long the outage has lasted that goes on now; 0 if there is none.",
        &[level(&[], |stats| stats.outages.disconnected.as_secs_f64())],
    ),
    counter(
        "millpond_replay_conflicts_total",
        "Queued writes that met a value that another client had written.",
        &[count(&[], |stats| stats.outages.conflicts)],
    ),
    counter(
        "millpond_replay_rejected_total",
        "Queued operations that the server refused for good.",
        &[count(&[], |stats| stats.outages.rejected)],
    ),
    gauge(
        "millpond_checkpoint_seconds",
        "How long the last checkpoint took; 0 if there was none.",
        &[level(&[], |stats| stats.checkpoints.last_took.as_secs_f64())],
    ),
    counter(
        "millpond_locks_acquired_total",
        "Locks that were taken.",
        &[count(&[], |stats| stats.locks.acquired)],
    ),
    counter(
        "millpond_locks_refused_total",
        "Attempts that found a lock taken.",
        &[count(&[], |stats| stats.locks.refused)],
    ),
    counter(
        "millpond_locks_lost_total",
        "Locks that were found to be lost.",
        &[count(&[], |stats| stats.locks.lost)],
    ),
    gauge(
        "millpond_locks_held",
        "Guards of locks that exist.",
        &[level(&[], |stats| float(stats.locks.held))],
    ),
];
