//! Owns the pauses between attempts to reconnect. It only decides; the random number is an argument.

use std::time::Duration;

use crate::util::backoff::Backoff;

/// The pause before the second attempt.
const FIRST: Duration = Duration::from_millis(5);

/// If connections are refused, an attempt costs nothing; if they time out, it costs a wait.
const LONGEST_REFUSED: Duration = Duration::from_millis(100);
const LONGEST_TIMED_OUT: Duration = Duration::from_secs(5);

/// Up to this part of each pause is taken off at random, so that many programs do not reconnect at once.
const JITTER: f64 = 0.5;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeFailure {
    /// The failure was quick: refused, reset, not ready.
    Refused,
    /// There was no reply in time.
    TimedOut,
}

/// The pauses between the attempts of one outage.
#[derive(Debug)]
pub(crate) struct ProbeBackoff(Backoff);

impl ProbeBackoff {
    pub(crate) fn new() -> Self {
        Self(Backoff::new(FIRST, LONGEST_TIMED_OUT, JITTER))
    }

    /// Returns the pause after a failure. `chance` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, failure: ProbeFailure, chance: f64) -> Duration {
        let longest = match failure {
            ProbeFailure::Refused => LONGEST_REFUSED,
            ProbeFailure::TimedOut => LONGEST_TIMED_OUT,
        };
        self.0.next_up_to(longest, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_of_the_failure() {
        let pauses = |failure| {
            let mut backoff = ProbeBackoff::new();
            (0..12).map(|_| backoff.next(failure, 0.0).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(ProbeFailure::Refused)[..7], [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pauses(ProbeFailure::TimedOut)[8..], [1280, 2560, 5000, 5000]);
        let mut backoff = ProbeBackoff::new();
        assert_eq!(backoff.next(ProbeFailure::Refused, 1.0), FIRST / 2);
        for _ in 0..12 {
            backoff.next(ProbeFailure::TimedOut, 0.5);
        }
        let pause = backoff.next(ProbeFailure::Refused, 0.0);
        assert!(pause <= LONGEST_REFUSED, "quick again once connections are refused");
    }
}
