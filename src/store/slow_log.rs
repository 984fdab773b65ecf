//! Owns the log lines about slow operations: which operations are slow, and how many lines there are. Knows nothing of
//! what an operation does.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::text::{count, shown};
use crate::util::log_later::{FlushOnDrop, log_later};

/// The least time between two lines.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Logs the slow operations of one store.
pub(crate) struct SlowLog {
    /// An operation that takes at least this long is slow.
    threshold: Duration,
    /// What the program calls the store.
    store: String,
    throttle: Mutex<Throttle>,
}

#[derive(Default)]
struct Throttle {
    logged: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Returns how many operations were left out since the last line, if a line is due `now`. The caller must log it
    /// then.
    fn next_line(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < MIN_INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What a log line says of an operation.
pub(crate) struct SlowOperation<'a> {
    pub(crate) name: &'static str,
    /// Empty for an operation on many keys.
    pub(crate) key: &'a str,
    pub(crate) took: Duration,
    pub(crate) attempts: u64,
}

impl SlowLog {
    pub(crate) fn new(threshold: Duration, store: Option<&str>) -> Self {
        let store = store.map_or_else(String::new, |name| format!(" of the store {name:?}"));
        Self { threshold, store, throttle: Mutex::default() }
    }

    /// Logs an operation if it is slow, and if there was no line in the last second. The caller holds no lock.
    pub(crate) fn note(&self, operation: &SlowOperation<'_>) {
        if operation.took < self.threshold {
            return;
        }
        let Some(left_out) = self.throttle.lock().next_line(Instant::now()) else {
            return;
        };
        let SlowOperation { name, key, took, attempts } = operation;
        let key = if key.is_empty() { String::new() } else { format!(" of the key {key:?}") };
        let before = if left_out == 0 {
            String::new()
        } else {
            format!("; not logged since the last such line: {}", count(left_out, "slow operation"))
        };
        let _lines = FlushOnDrop;
        log_later!(
            Warn,
            "slow operation{}: {name}{key} took {} in {}{before}",
            self.store,
            shown(*took),
            count(*attempts, "attempt")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_line_a_second_and_then_a_count() {
        let (mut throttle, begun) = (Throttle::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!(throttle.next_line(at(0)), Some(0));
        assert_eq!([1, 500, 999].map(|millis| throttle.next_line(at(millis))), [None; 3]);
        assert_eq!(throttle.next_line(at(1000)), Some(3));
        assert_eq!(throttle.next_line(at(1001)), None);
        assert_eq!(throttle.next_line(at(9000)), Some(1));
    }
}
