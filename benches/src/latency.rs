//! The latency of single calls, for measurements of the tail.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is recorded as it is.
const MINUTE: Duration = Duration::from_secs(60);

/// The latencies of many calls, to three digits.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(MINUTE.as_nanos() as u64, 3).expect("bounds that go together"))
    }
}

impl Latencies {
    /// Makes one call and records its latency.
    pub fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let before = Instant::now();
        let outcome = call();
        self.add(before.elapsed());
        outcome
    }

    pub fn add(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub fn merge(&mut self, others: &Self) {
        self.0.add(&others.0).expect("the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A percentile, in microseconds.
    pub fn percentile(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }

    /// The longest latency, in milliseconds.
    pub fn longest(&self) -> f64 {
        self.0.max() as f64 / 1e6
    }
}
