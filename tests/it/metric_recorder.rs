//! The feature `metrics`: a recorder that the program has installed gets the metrics that Prometheus would read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use millpond::{StateConfig, StateStore};

use crate::support::exposition::Exposition;

/// Keeps the last value of each series, and of a histogram the number of its values.
#[derive(Default)]
struct Kept(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(String, Arc<Mutex<BTreeMap<String, f64>>>);

impl Cell {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut all = self.1.lock().unwrap();
        let value = all.entry(self.0.clone()).or_insert(0.0);
        *value = change(*value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.change(|before| before + f64::from(u32::try_from(by).unwrap()));
    }

    fn absolute(&self, value: u64) {
        self.change(|_| f64::from(u32::try_from(value).unwrap()));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, by: f64) {
        self.change(|before| before + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|before| before - by);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.change(|before| before + 1.0);
    }
}

impl Kept {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        let cell = Cell(format!("{}{{{}}}", key.name(), labels.join(",")), Arc::clone(&self.0));
        cell.change(|before| before);
        Arc::new(cell)
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

#[test]
fn a_recorder_gets_what_prometheus_reads() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let config = StateConfig::from_url(&format!("file:{}?name=shop", dir.path().display())).unwrap();
    let store = metrics::with_local_recorder(&kept, || StateStore::with_config(config)).unwrap();
    for round in 0..3 {
        store.put("k", round).unwrap();
        store.get::<i64>("k").unwrap();
        let _ = store.push_back("k", 1).unwrap_err();
        let text = store.stats().to_prometheus();
        Exposition::parse(&text).unwrap();
        let kept = kept.0.lock().unwrap();
        let mut shown = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let series = series.replace("_seconds_count", "_seconds");
            if !series.contains("_seconds_") {
                assert_eq!(kept.get(&series).map(ToString::to_string).as_deref(), Some(value), "{line}");
                shown += 1;
            }
        }
        assert_eq!(kept.len(), shown, "each metric is in both");
    }
    assert!(dir.path().exists());
}
