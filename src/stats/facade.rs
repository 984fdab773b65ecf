//! Owns the handles on the metrics of one store in the recorder that the program has installed. Knows nothing of what
//! the metrics mean.

use std::time::Duration;

use metrics::{Counter as MetricCounter, Gauge, Histogram as MetricHistogram, Label};
use parking_lot::Mutex;

use crate::stats::histogram::Buckets;
use crate::stats::series::{METRICS, MetricKind, Reading, Series};
use crate::stats::snapshot::Stats;

/// The handles on all series of a store.
pub(crate) struct MetricHandles(Vec<MetricHandle>);

enum MetricHandle {
    Counter(MetricCounter),
    Gauge(Gauge),
    /// With the durations that the recorder has been told of.
    Histogram(MetricHistogram, Mutex<Buckets>),
}

impl MetricHandles {
    /// Registers all series. The recorder is code of the program: the caller holds no lock.
    pub(crate) fn register(store: Option<&str>, backend: &'static str) -> Self {
        let labels_of = |series: &Series| {
            let of_store = [
                Label::new("store", store.unwrap_or_default().to_owned()),
                Label::from_static_parts("backend", backend),
            ];
            let own = series.labels.iter().map(|(label, value)| Label::from_static_parts(label, value));
            of_store.into_iter().chain(own).collect::<Vec<Label>>()
        };
        let mut handles = Vec::new();
        for metric in METRICS {
            let name = metric.name;
            match metric.kind {
                MetricKind::Counter => metrics::describe_counter!(name, metric.help),
                MetricKind::Gauge => metrics::describe_gauge!(name, metric.help),
                MetricKind::Histogram => metrics::describe_histogram!(name, metric.help),
            }
            handles.extend(metric.series.iter().map(|series| {
                let labels = labels_of(series);
                match series.read {
                    Reading::Count(_) => MetricHandle::Counter(metrics::counter!(name, labels)),
                    Reading::Level(_) => MetricHandle::Gauge(metrics::gauge!(name, labels)),
                    Reading::Durations(_) => {
                        MetricHandle::Histogram(metrics::histogram!(name, labels), Mutex::default())
                    }
                }
            }));
        }
        Self(handles)
    }

    /// Tells the recorder the numbers of a snapshot. The recorder is code of the program: the caller holds no lock.
    pub(crate) fn publish(&self, stats: &Stats) {
        let series = METRICS.iter().flat_map(|metric| metric.series);
        for (handle, series) in self.0.iter().zip(series) {
            match (handle, &series.read) {
                (MetricHandle::Counter(counter), Reading::Count(read)) => counter.absolute(read(stats)),
                (MetricHandle::Gauge(gauge), Reading::Level(read)) => gauge.set(read(stats)),
                (MetricHandle::Histogram(histogram, told), Reading::Durations(read)) => {
                    for (duration, count) in take_new(told, &read(&stats.latency).buckets) {
                        histogram.record_many(duration.as_secs_f64(), count);
                    }
                }
                // A handle is made for its series.
                (
                    MetricHandle::Counter(_) | MetricHandle::Gauge(_) | MetricHandle::Histogram(..),
                    Reading::Count(_) | Reading::Level(_) | Reading::Durations(_),
                ) => {}
            }
        }
    }
}

/// Returns the durations since the last ones that were told. Of two threads, the one that comes later may have the older
/// snapshot, of which nothing is new.
fn take_new(told: &Mutex<Buckets>, now: &Buckets) -> Vec<(Duration, usize)> {
    let mut told = told.lock();
    let new = now.since(&told);
    if now.count() > told.count() {
        now.clone_into(&mut told);
    }
    new.durations()
}
