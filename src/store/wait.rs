//! Owns when a blocking operation stops waiting. Knows nothing of what it waits for.

use std::time::{Duration, Instant};

/// A timeout that is longer than any wait, and that every clock can still represent.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Returns the end of a wait that begins now.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout.min(LONGEST_WAIT)).unwrap_or(now)
}
