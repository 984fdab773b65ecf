//! Owns how often the log repeats that an outage goes on. Knows nothing of the log's texts.

use std::time::{Duration, Instant};

/// The least time between two lines about one outage, from the second line on.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// The time after which an unchanged cause is logged again. It doubles with each line, up to ten times this.
const FIRST_REMINDER: Duration = Duration::from_secs(60);

/// Decides when a line is due: soon if the cause has changed, rarely if it has not.
pub(crate) struct LogThrottle {
    logged: Instant,
    cause: String,
    reminder: Duration,
}

impl LogThrottle {
    /// Begins right after `cause` was logged.
    pub(crate) fn new(cause: String) -> Self {
        Self { logged: Instant::now(), cause, reminder: FIRST_REMINDER }
    }

    /// Returns whether a line is due now. The caller must log it then.
    pub(crate) fn is_due(&mut self, cause: &str) -> bool {
        self.is_due_after(self.logged.elapsed(), cause)
    }

    fn is_due_after(&mut self, elapsed: Duration, cause: &str) -> bool {
        let has_changed = cause != self.cause;
        // The first cause is often that one connection was cut; the second one says why.
        let is_second = self.reminder == FIRST_REMINDER;
        let is_due = match (has_changed, is_second) {
            (true, true) => true,
            (true, false) => elapsed >= MIN_INTERVAL,
            (false, _) => elapsed >= self.reminder,
        };
        if is_due {
            cause.clone_into(&mut self.cause);
            self.logged = Instant::now();
            self.reminder = (self.reminder * 2).min(FIRST_REMINDER * 10);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cause_is_logged_soon_and_an_old_one_rarely() {
        let second = Duration::from_secs(1);
        let mut throttle = LogThrottle::new("end of file".to_owned());
        assert!(!throttle.is_due_after(second, "end of file"));
        assert!(throttle.is_due_after(Duration::ZERO, "refused"));
        assert!(!throttle.is_due_after(second, "no memory"));
        assert!(throttle.is_due_after(10 * second, "no memory"));
        assert!(!throttle.is_due_after(60 * second, "no memory"), "rarer and rarer");
        assert!(throttle.is_due_after(600 * second, "no memory"));
    }
}
