//! Owns the text in which Prometheus reads metrics. Knows nothing of where the numbers come from.

use std::fmt::Write as _;

use crate::stats::latency::Latency;
use crate::stats::series::{BUCKET_LIMITS, METRICS, MetricKind, Reading, Series, float};
use crate::stats::snapshot::Stats;

impl Stats {
    /// Returns the numbers in the [text format](https://prometheus.io/docs/instrumenting/exposition_formats/) that
    /// Prometheus reads, version 0.0.4, for a program that serves it itself: `examples/metrics.rs` does. The content type
    /// is `text/plain; version=0.0.4`.
    ///
    /// The labels of every line are `store`, the option [`name`](crate::StateConfig::name) or nothing, and `backend`,
    /// which is `memory`, `file` or `redis`. The metrics of a difference of two snapshots mean nothing to Prometheus.
    /// For several stores see [`to_prometheus`].
    ///
    /// ```
    /// use millpond::{StateConfig, StateStore};
    ///
    /// let store = StateStore::with_config(StateConfig::default().name("orders"))?;
    /// store.put("order:17", "paid")?;
    /// let text = store.stats().to_prometheus();
    /// let line = r#"millpond_operations_total{store="orders",backend="memory",operation="put",outcome="ok"} 1"#;
    /// assert!(text.lines().any(|found| found == line), "{text}");
    /// # Ok::<(), millpond::Error>(())
    /// ```
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        to_prometheus([self])
    }
}

/// Writes the snapshots of several stores into one text: see [`Stats::to_prometheus`]. Each store should have a
/// [`name`](crate::StateConfig::name) of its own, since Prometheus takes lines with the same labels for the same thing.
///
/// ```
/// use millpond::{StateConfig, StateStore, stats};
///
/// let open = |name| StateStore::with_config(StateConfig::default().name(name));
/// let (orders, sessions) = (open("orders")?, open("sessions")?);
/// let text = stats::to_prometheus([&orders.stats(), &sessions.stats()]);
/// assert_eq!(text.matches("\nmillpond_entries{").count(), 2);
/// # Ok::<(), millpond::Error>(())
/// ```
pub fn to_prometheus<'s>(stats: impl IntoIterator<Item = &'s Stats>) -> String {
    let stores: Vec<(String, &Stats)> = stats.into_iter().map(|stats| (labels_of(stats), stats)).collect();
    let mut text = String::new();
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
        for (store_labels, stats) in &stores {
            for series in metric.series {
                write_series(&mut text, metric.name, store_labels, series, stats);
            }
        }
    }
    text
}

fn labels_of(stats: &Stats) -> String {
    let store = escape(stats.unlisted.store.as_deref().unwrap_or_default());
    format!("store=\"{store}\",backend=\"{}\"", stats.unlisted.backend)
}

/// Writes the value of a label so that it can stand between quotes.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

fn write_series(text: &mut String, name: &str, store_labels: &str, series: &Series, stats: &Stats) {
    let mut labels = store_labels.to_owned();
    for (label, value) in series.labels {
        let _ = write!(labels, ",{label}=\"{value}\"");
    }
    let _ = match series.read {
        Reading::Count(read) => writeln!(text, "{name}{{{labels}}} {}", read(stats)),
        Reading::Level(read) => writeln!(text, "{name}{{{labels}}} {}", read(stats)),
        Reading::Durations(read) => {
            write_histogram(text, name, &labels, read(&stats.latency));
            Ok(())
        }
    };
}

fn write_histogram(text: &mut String, name: &str, labels: &str, latency: &Latency) {
    let buckets = &latency.buckets;
    for limit in BUCKET_LIMITS {
        let count = buckets.count_up_to(limit);
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {count}", limit.as_secs_f64());
    }
    let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", latency.count);
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", float(buckets.sum) / 1e9);
    let _ = writeln!(text, "{name}_count{{{labels}}} {}", latency.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
        assert_eq!(escape("Bestellungen – größte"), "Bestellungen – größte");
    }

    #[test]
    fn no_name_and_no_labels_come_twice() {
        let text = Stats::default().to_prometheus();
        let mut lines: Vec<&str> = text.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        let count = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count);
    }
}
