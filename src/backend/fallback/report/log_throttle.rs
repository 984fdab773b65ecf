//! Owns how often the log repeats that an outage goes on. Knows nothing of the log's texts.

use std::time::{Duration, Instant};

/// The least time between two lines about one outage, from the second line on.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// The time after which an unchanged cause is logged again.
const FIRST_REMINDER: Duration = Duration::from_secs(60);

/// How the time between two lines about an unchanged cause grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reminders {
    /// It stays a minute.
    EachMinute,
    /// It doubles with each line, up to ten minutes.
    Rarer,
}

/// Decides when a line is due: soon if the cause has changed, rarely if it has not.
pub(crate) struct LogThrottle {
    logged: Instant,
    cause: String,
    reminder: Duration,
    reminders: Reminders,
    /// Whether the next line may follow at once.
    is_second: bool,
}

impl LogThrottle {
    /// Begins right after `cause` was logged.
    pub(crate) fn new(cause: String, reminders: Reminders) -> Self {
        // The first cause of an outage is often that one connection was cut; the second one says why. The failure to
        // open a store says why at once.
        let is_second = reminders == Reminders::Rarer;
        Self { logged: Instant::now(), cause, reminder: FIRST_REMINDER, reminders, is_second }
    }

    /// Returns whether a line is due now. The caller must log it then.
    pub(crate) fn is_due(&mut self, cause: &str) -> bool {
        self.is_due_after(self.logged.elapsed(), cause)
    }

    fn is_due_after(&mut self, elapsed: Duration, cause: &str) -> bool {
        let has_changed = cause != self.cause;
        let is_due = match (has_changed, self.is_second) {
            (true, true) => true,
            (true, false) => elapsed >= MIN_INTERVAL,
            (false, _) => elapsed >= self.reminder,
        };
        if is_due {
            cause.clone_into(&mut self.cause);
            self.logged = Instant::now();
            self.is_second = false;
            self.reminder = match self.reminders {
                Reminders::EachMinute => FIRST_REMINDER,
                Reminders::Rarer => (self.reminder * 2).min(FIRST_REMINDER * 10),
            };
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
        let mut throttle = LogThrottle::new("end of file".to_owned(), Reminders::Rarer);
        assert!(!throttle.is_due_after(second, "end of file"));
        assert!(throttle.is_due_after(Duration::ZERO, "refused"));
        assert!(!throttle.is_due_after(second, "no memory"));
        assert!(throttle.is_due_after(10 * second, "no memory"));
        assert!(!throttle.is_due_after(60 * second, "no memory"), "rarer and rarer");
        assert!(throttle.is_due_after(600 * second, "no memory"));
    }

    #[test]
    fn a_server_that_was_never_reached_is_logged_each_minute() {
        let second = Duration::from_secs(1);
        let mut throttle = LogThrottle::new("refused".to_owned(), Reminders::EachMinute);
        for _ in 0..5 {
            assert!(!throttle.is_due_after(59 * second, "refused"));
            assert!(throttle.is_due_after(60 * second, "refused"));
        }
    }
}
