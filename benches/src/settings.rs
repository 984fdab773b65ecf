//! The settings that the environment can change.

use std::time::Duration;

pub fn rounds() -> usize {
    setting("BENCH_ROUNDS", 9).max(1)
}

pub fn slice() -> Duration {
    Duration::from_millis(setting("BENCH_SLICE_MS", 100).max(1) as u64)
}

/// A number from the environment.
pub fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")),
        Err(_) => default,
    }
}
