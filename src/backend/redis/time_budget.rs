//! Owns the time budget of an operation: when its waits, retries and exchanges must end. Knows nothing of what they
//! wait for.

use std::time::{Duration, Instant};

/// A smaller difference is not worth changing a socket's timeouts.
const SLACK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBudget {
    /// When the operation began.
    pub(crate) begun: Instant,
    /// When it must be over.
    pub(crate) end: Instant,
}

impl TimeBudget {
    pub(crate) fn new(length: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: begun + length }
    }

    /// Returns the time that is left; `None` if it is less than a millisecond.
    pub(crate) fn left(&self) -> Option<Duration> {
        Some(self.end.saturating_duration_since(Instant::now()))
            .filter(|left| *left >= Duration::from_millis(1))
    }

    /// Returns a budget for one step, of at most `most` and of at most what is left.
    pub(crate) fn within(&self, most: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: self.end.min(begun + most) }
    }
}

/// Returns the timeout to set on a socket that has `current` now, with `left` to go; `None` if `current` is close
/// enough.
pub(crate) fn timeout_to_set(current: Duration, left: Duration, usual: Duration) -> Option<Duration> {
    let wanted = left.min(usual);
    (current > wanted + SLACK || current + SLACK < wanted).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_set_only_if_they_differ_enough() {
        let ms = Duration::from_millis;
        for (current, left, usual, wanted) in [
            (3000, 3000, 3000, None),
            (3000, 2999, 3000, None),
            (3000, 1000, 3000, Some(1000)),
            (1000, 3000, 3000, Some(3000)),
            (1000, 9000, 3000, Some(3000)),
            (3000, 9000, 3000, None),
        ] {
            assert_eq!(
                timeout_to_set(ms(current), ms(left), ms(usual)),
                wanted.map(ms),
                "{current} {left} {usual}"
            );
        }
    }
}
