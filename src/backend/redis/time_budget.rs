//! Owns the one limit of an operation: until when its waits, retries and exchanges may go on. Knows nothing
//! of what is waited for.

use std::time::{Duration, Instant};

/// What is below this is not worth a change of a socket's time-outs.
const SLACK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBudget {
    /// When the operation began.
    pub(crate) begun: Instant,
    /// When it has to be over.
    pub(crate) end: Instant,
}

impl TimeBudget {
    pub(crate) fn new(length: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: begun + length }
    }

    /// What is left; `None` where nothing is.
    pub(crate) fn left(&self) -> Option<Duration> {
        Some(self.end.saturating_duration_since(Instant::now()))
            .filter(|left| *left >= Duration::from_millis(1))
    }

    /// The part of this limit that one step may take.
    pub(crate) fn within(&self, most: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: self.end.min(begun + most) }
    }
}

/// Which time-out a socket needs that has `armed` now, with `left` to go: `None` is the one that it has.
pub(crate) fn timeout_to_set(armed: Duration, left: Duration, usual: Duration) -> Option<Duration> {
    let wanted = left.min(usual);
    (armed > wanted + SLACK || armed + SLACK < wanted).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_rearmed_only_where_it_matters() {
        let ms = Duration::from_millis;
        for (armed, left, usual, wanted) in [
            (3000, 3000, 3000, None),
            (3000, 2999, 3000, None),
            (3000, 1000, 3000, Some(1000)),
            (1000, 3000, 3000, Some(3000)),
            (1000, 9000, 3000, Some(3000)),
            (3000, 9000, 3000, None),
        ] {
            assert_eq!(
                timeout_to_set(ms(armed), ms(left), ms(usual)),
                wanted.map(ms),
                "{armed} {left} {usual}"
            );
        }
    }
}
