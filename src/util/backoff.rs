//! Owns the backoff of this crate: pauses that double up to a longest one, shortened at random. It neither
//! sleeps nor rolls dice, and knows nothing of the operations that are repeated.

use std::time::Duration;

/// Pauses between attempts, each twice as long as the one before.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    pause: Duration,
    longest: Duration,
    jitter: f64,
}

impl Backoff {
    /// Begins with the pause `first`, even if that exceeds `longest`; later pauses double up to `longest`.
    ///
    /// `jitter` is the part of each pause that chance may take away, from 0 (fixed pauses) to 1 (a pause
    /// between nothing and its full length). It spreads out callers that failed at the same moment.
    pub(crate) fn new(first: Duration, longest: Duration, jitter: f64) -> Self {
        Self { pause: first, longest, jitter }
    }

    /// Returns the next pause. `chance` is a random number from 0 to 1: at 0 the pause has its full length.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        self.next_up_to(Duration::MAX, chance)
    }

    /// As [`next`](Self::next), for callers whose longest pause depends on the last failure: neither this
    /// pause nor the one that follows it exceeds `limit`.
    pub(crate) fn next_up_to(&mut self, limit: Duration, chance: f64) -> Duration {
        let pause = self.pause.min(limit);
        self.pause = pause.saturating_mul(2).min(limit).min(self.longest);
        pause.mul_f64(1.0 - self.jitter * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(millis(5), millis(50), 0.5);
        let pauses: Vec<_> = (0..6).map(|_| backoff.next(0.0)).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 50, 50].map(millis));
    }

    #[test]
    fn the_first_pause_may_exceed_the_longest() {
        let mut backoff = Backoff::new(millis(80), millis(50), 0.5);
        assert_eq!([backoff.next(0.0), backoff.next(0.0)], [80, 50].map(millis));
    }

    #[test]
    fn chance_takes_away_at_most_the_jitter() {
        for (jitter, chance, pause) in
            [(0.5, 0.0, 100), (0.5, 0.5, 75), (0.5, 1.0, 50), (1.0, 0.25, 75), (1.0, 1.0, 0), (0.0, 1.0, 100)]
        {
            let mut backoff = Backoff::new(millis(100), millis(400), jitter);
            assert_eq!(backoff.next(chance), millis(pause), "{jitter} {chance}");
            assert_eq!(backoff.next(0.0), millis(200), "chance shortens one pause only");
        }
        assert_eq!(Backoff::new(millis(100), millis(400), 1.0).next(7.0), Duration::ZERO);
        assert_eq!(Backoff::new(millis(100), millis(400), 1.0).next(-7.0), millis(100));
    }

    #[test]
    fn a_limit_also_holds_back_the_pause_that_follows() {
        let mut backoff = Backoff::new(millis(5), millis(5000), 0.5);
        for _ in 0..12 {
            backoff.next(0.5);
        }
        assert_eq!(backoff.next_up_to(millis(100), 0.0), millis(100));
        assert_eq!(backoff.next_up_to(millis(5000), 0.0), millis(100));
        assert_eq!(backoff.next_up_to(millis(5000), 0.0), millis(200));
    }
}
