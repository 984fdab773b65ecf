//! Owns when it is tried again whether the server is back. It only decides; the time is given to it.

use std::time::{Duration, Instant};

/// The pause before the first try, which doubles.
const FIRST: Duration = Duration::from_millis(5);

/// Where connections are refused, a try costs nothing; where they time out, it costs a wait.
const LONGEST_REFUSED: Duration = Duration::from_millis(100);
const LONGEST_SILENT: Duration = Duration::from_secs(5);

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeFailure {
    /// The answer was quick: refused, reset, not ready.
    Refused,
    /// There was none in time.
    TimedOut,
}

/// The pauses between tries.
#[derive(Debug)]
pub(crate) struct ProbeBackoff {
    pause: Duration,
}

impl ProbeBackoff {
    pub(crate) fn new() -> Self {
        Self { pause: FIRST }
    }

    /// The pause after a try that failed so; `chance` is between 0 and 1 and takes up to half of it away, so
    /// that many programs do not come at once.
    pub(crate) fn next(&mut self, silence: ProbeFailure, chance: f64) -> Duration {
        let longest = match silence {
            ProbeFailure::Refused => LONGEST_REFUSED,
            ProbeFailure::TimedOut => LONGEST_SILENT,
        };
        let pause = self.pause.min(longest);
        self.pause = (pause * 2).min(longest);
        pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// How far apart the lines of the log about one outage are at least, from the second on; later they grow rarer.
const LINES_APART: Duration = Duration::from_secs(10);
const REMINDER: Duration = Duration::from_secs(60);

/// When the log is told again that an outage goes on, and why.
pub(crate) struct LogThrottle {
    told: Instant,
    cause: String,
    pause: Duration,
}

impl LogThrottle {
    /// The cause was told just now.
    pub(crate) fn new(cause: String) -> Self {
        Self { told: Instant::now(), cause, pause: REMINDER }
    }

    /// Whether it is time for a line: soon where the cause is another, rarely where it is not.
    pub(crate) fn is_due(&mut self, cause: &str) -> bool {
        self.is_due_after(self.told.elapsed(), cause)
    }

    fn is_due_after(&mut self, elapsed: Duration, cause: &str) -> bool {
        let is_new = cause != self.cause;
        // The first cause is often that one connection was cut: the next tells what is the matter.
        let wait = if is_new && self.pause == REMINDER { Duration::ZERO } else { LINES_APART };
        let is_due = if is_new { elapsed >= wait } else { elapsed >= self.pause };
        if is_due {
            cause.clone_into(&mut self.cause);
            self.told = Instant::now();
            self.pause = (self.pause * 2).min(REMINDER * 10);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let pauses = |silence| {
            let mut breaker = ProbeBackoff::new();
            (0..12).map(|_| breaker.next(silence, 0.0).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(ProbeFailure::Refused)[..7], [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pauses(ProbeFailure::TimedOut)[8..], [1280, 2560, 5000, 5000]);
        let mut breaker = ProbeBackoff::new();
        assert_eq!(breaker.next(ProbeFailure::Refused, 1.0), FIRST / 2);
        for _ in 0..12 {
            breaker.next(ProbeFailure::TimedOut, 0.5);
        }
        assert!(breaker.next(ProbeFailure::Refused, 0.0) <= LONGEST_REFUSED, "refused again: quick again");
    }

    #[test]
    fn the_log_is_told_again_when_the_cause_changes_and_rarely_otherwise() {
        let second = Duration::from_secs(1);
        let mut reminder = LogThrottle::new("end of file".to_owned());
        assert!(!reminder.is_due_after(second, "end of file"));
        assert!(reminder.is_due_after(Duration::ZERO, "refused"));
        assert!(!reminder.is_due_after(second, "no memory"));
        assert!(reminder.is_due_after(10 * second, "no memory"));
        assert!(!reminder.is_due_after(60 * second, "no memory"), "rarer and rarer");
        assert!(reminder.is_due_after(600 * second, "no memory"));
    }
}
