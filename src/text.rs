//! Owns how log lines and error texts count things and show durations. Knows nothing of what they are about.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A number of things, in the right number: `1 operation`, `2 operations`.
pub(crate) struct Count(u64, &'static str);

/// Counts things. `thing` is the word for one of them, whose plural ends in `s`.
pub(crate) fn count(number: u64, thing: &'static str) -> Count {
    Count(number, thing)
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, thing) = self;
        let ending = if *number == 1 { "" } else { "s" };
        write!(f, "{number} {thing}{ending}")
    }
}

/// A duration, as exact as a reader needs it: `250ms`, `1.5s`, `2m 5s`.
pub(crate) struct Shown(Duration);

/// Shows a duration.
pub(crate) fn shown(duration: Duration) -> Shown {
    Shown(duration)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(duration) = *self;
        match duration.as_secs() {
            0 if duration.is_zero() => f.write_str("0s"),
            0 if duration.subsec_millis() == 0 => f.write_str("less than 1ms"),
            0 => write!(f, "{}ms", duration.subsec_millis()),
            1..10 if duration.subsec_millis() >= 100 => {
                write!(f, "{}.{}s", duration.as_secs(), duration.subsec_millis() / 100)
            }
            seconds => write!(f, "{}", humantime::format_duration(Duration::from_secs(seconds))),
        }
    }
}

/// A moment in UTC, to the second.
pub(crate) struct Moment(SystemTime);

/// Shows a moment.
pub(crate) fn moment(time: SystemTime) -> Moment {
    Moment(time)
}

/// The beginning of the year 10000, which the format has no digits for.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.duration_since(UNIX_EPOCH) {
            Ok(since) if since < YEAR_10000 => write!(f, "{}", humantime::format_rfc3339_seconds(self.0)),
            Ok(_) => f.write_str("a time after the year 9999"),
            Err(_) => f.write_str("a time before 1970"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        let texts = [0, 1, 2].map(|number| count(number, "operation").to_string());
        assert_eq!(texts, ["0 operations", "1 operation", "2 operations"]);
    }

    #[test]
    fn every_moment_has_a_text() {
        for (time, text) in [
            (UNIX_EPOCH, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + YEAR_10000, "a time after the year 9999"),
            (UNIX_EPOCH - Duration::from_secs(1), "a time before 1970"),
        ] {
            assert_eq!(moment(time).to_string(), text);
        }
    }

    #[test]
    fn durations_are_as_exact_as_a_reader_needs_them() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_micros(382), "less than 1ms"),
            (Duration::from_micros(250_382), "250ms"),
            (Duration::from_nanos(1_500_382_123), "1.5s"),
            (Duration::from_millis(2_050), "2s"),
            (Duration::from_millis(59_999), "59s"),
            (Duration::from_millis(125_382), "2m 5s"),
        ] {
            assert_eq!(shown(duration).to_string(), text);
        }
    }
}
