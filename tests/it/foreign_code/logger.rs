//! A logger that uses the store for every line, in a process of its own: a process has one logger.

use std::sync::{Mutex, OnceLock};

use log::{LevelFilter, Log, Metadata, Record};
use millpond::StateStore;

use super::{unless_inside, use_store};
use crate::support::child_process::report;

static STORE: OnceLock<StateStore> = OnceLock::new();
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes each line to the store, and keeps it.
struct ToStore;

impl Log for ToStore {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
        if let Some(store) = STORE.get() {
            unless_inside(|| use_store(store));
        }
    }

    fn flush(&self) {}
}

/// Installs the logger, which uses this store from now on.
pub(super) fn log_to(store: &StateStore) {
    assert!(STORE.set(store.clone()).is_ok(), "a process does one job");
    log::set_logger(&ToStore).unwrap();
    log::set_max_level(LevelFilter::Trace);
}

/// Asserts that a line with this text was logged by now.
pub(super) fn expect_line(text: &str) {
    let lines = LINES.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.contains(text)), "no line with {text:?} in {lines:#?}");
    report(text);
}

/// Returns whether a line with this text was logged by now.
pub(super) fn has_line(text: &str) -> bool {
    LINES.lock().unwrap().iter().any(|line| line.contains(text))
}
