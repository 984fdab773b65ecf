//! The seeds of random histories.

use std::time::{Duration, Instant};

/// The seeds of so many histories, beginning with `first`; with `MILLPOND_TEST_SECONDS` set, of as many as
/// begin within that time; with `MILLPOND_SEED` set, only that one. Each seed is printed, so that a failure
/// shows its seed.
pub(crate) fn seeds(first: u64, few: u64) -> impl Iterator<Item = u64> {
    let seconds = std::env::var("MILLPOND_TEST_SECONDS").ok().map(|set| set.parse().unwrap());
    let begun = Instant::now();
    let given = std::env::var("MILLPOND_SEED").ok().map(|set| set.parse().unwrap());
    let first: u64 = given.unwrap_or(first);
    let goes_on = move |at: &u64| match seconds {
        _ if given.is_some() => *at == 0,
        Some(seconds) => begun.elapsed() < Duration::from_secs(seconds),
        None => *at < few,
    };
    (0..).take_while(goes_on).map(move |at| first + at).inspect(|seed| println!("MILLPOND_SEED={seed}"))
}

/// Like [`seeds`], with other seeds in each run.
pub(crate) fn any_seeds(few: u64) -> impl Iterator<Item = u64> {
    seeds(fastrand::u64(..1 << 40), few)
}
