//! Sliding windows and limits of a rate.

use std::time::{Duration, SystemTime};

use millpond::{Error, Kind, Ttl};

use super::MINUTE;
use crate::support::backends::{Context, HOUR};

promises![
    a_window_sums_up_what_was_added,
    events_count_at_their_own_time,
    a_window_is_a_map_that_ends_with_its_last_event,
    a_window_on_another_kind_is_an_error_and_changes_nothing,
    a_bucket_that_is_no_integer_or_would_overflow_is_an_error,
    fields_of_the_program_are_left_alone,
    invalid_arguments_of_a_window_are_refused,
    a_limit_holds_and_says_when_there_is_room,
    a_limit_of_zero_allows_nothing,
    windows_belong_to_their_namespace,
];

/// The time that the store goes by, as nearly as the test knows it.
fn now(cx: &Context) -> SystemTime {
    if cx.clock_is_manual() { cx.now() } else { SystemTime::now() }
}

fn a_window_sums_up_what_was_added(cx: &Context) {
    let window = || cx.store().window("w", HOUR);
    assert_eq!(window().sum().unwrap(), 0);
    assert!(!cx.store().contains("w").unwrap(), "a sum creates nothing");
    assert_eq!(window().add(2).unwrap(), 2);
    assert_eq!(window().add(3).unwrap(), 5);
    assert_eq!(window().add(-1).unwrap(), 4);
    assert_eq!(window().add(0).unwrap(), 4);
    assert_eq!(window().sum().unwrap(), 4);
    assert!(window().reset().unwrap());
    assert!(!window().reset().unwrap());
    assert_eq!(window().sum().unwrap(), 0);
    if cx.clock_is_manual() {
        for (step, sum) in [(0, 1), (30, 2), (29, 3), (1, 3), (29, 4), (1, 4), (60, 1)] {
            cx.advance(HOUR / 60 * step);
            assert_eq!(window().add(1).unwrap(), sum, "{step}");
        }
        cx.advance(HOUR);
        assert_eq!(window().sum().unwrap(), 0);
        assert!(!cx.store().contains("w").unwrap());
    }
}

fn events_count_at_their_own_time(cx: &Context) {
    let window = || cx.store().window("w", HOUR);
    assert_eq!(window().add_at(now(cx) - HOUR / 2, 1).unwrap(), 1);
    assert_eq!(window().add_at(now(cx), 2).unwrap(), 3);
    assert_eq!(window().add_at(now(cx) - 2 * HOUR, 4).unwrap(), 3, "too old");
    assert_eq!(window().add_at(SystemTime::UNIX_EPOCH - HOUR, 4).unwrap(), 3, "far too old");
    assert_eq!(window().add_at(now(cx) + HOUR / 2, 8).unwrap(), 3, "not yet");
    assert_eq!(window().sum().unwrap(), 3);
    if cx.clock_is_manual() {
        cx.advance(HOUR / 2);
        assert_eq!(window().sum().unwrap(), 10, "the first has left, and the last counts now");
        cx.advance(HOUR / 2);
        assert_eq!(window().sum().unwrap(), 8);
        cx.advance(HOUR / 2);
        assert_eq!(window().sum().unwrap(), 0);
    }
}

fn a_window_is_a_map_that_ends_with_its_last_event(cx: &Context) {
    let window = || cx.store().window("w", HOUR);
    let ends_within = |width: Duration| {
        let Some(Ttl::In(left)) = cx.store().ttl("w").unwrap() else { panic!("no time to live") };
        assert!(left <= width && left + HOUR / 60 + MINUTE >= width, "{left:?}");
    };
    window().add_at(now(cx) - HOUR / 4, 1).unwrap();
    ends_within(HOUR / 4 * 3);
    window().add(1).unwrap();
    ends_within(HOUR);
    window().add_at(now(cx) - HOUR / 2, 1).unwrap();
    ends_within(HOUR);
    assert_eq!(cx.store().kind("w").unwrap(), Some(Kind::Map));
    assert_eq!(cx.store().map_entries::<i64>("w").unwrap().into_values().sum::<i64>(), 3);
    assert!(cx.store().map_len("w").unwrap() >= 3);
    assert_eq!(cx.store().keys("").unwrap(), ["w"]);
}

fn a_window_on_another_kind_is_an_error_and_changes_nothing(cx: &Context) {
    cx.store().put("value", 7).unwrap();
    cx.store().push_back("queue", 7).unwrap();
    for key in ["value", "queue"] {
        let window = || cx.store().window(key, HOUR);
        assert_error!(window().add(1), Error::WrongType { .. });
        assert_error!(window().sum(), Error::WrongType { .. });
        assert_error!(cx.store().rate_limit(key, 5, HOUR), Error::WrongType { .. });
        cx.assert_default_ttl(key);
    }
    assert_eq!(cx.store().get::<i64>("value").unwrap(), Some(7));
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [7]);
}

fn a_bucket_that_is_no_integer_or_would_overflow_is_an_error(cx: &Context) {
    let at = now(cx);
    let window = || cx.store().window("w", HOUR);
    assert_eq!(window().add_at(at, i64::MAX).unwrap(), i64::MAX);
    assert_error!(window().add_at(at, 1), Error::Overflow { .. });
    assert_eq!(window().sum().unwrap(), i64::MAX);
    assert_eq!(window().add_at(at - HOUR / 2, 5).unwrap(), i64::MAX, "a sum stays at the end of its range");
    assert_eq!(window().add_at(at, -9).unwrap(), i64::MAX - 4);
    let bucket = cx.store().map_keys("w").unwrap().pop().unwrap();
    cx.store().map_put("w", &bucket, "x").unwrap();
    assert_error!(window().add(1), Error::NotAnInteger { .. });
    assert_error!(window().sum(), Error::NotAnInteger { .. });
    assert_eq!(cx.store().map_get::<String>("w", &bucket).unwrap().as_deref(), Some("x"));
}

fn fields_of_the_program_are_left_alone(cx: &Context) {
    cx.store().map_put("w", "note", "kept").unwrap();
    cx.store().map_put("w", "007", 7).unwrap();
    cx.store().map_put("w", "12", 99).unwrap();
    assert_eq!(cx.store().window("w", HOUR).add(1).unwrap(), 1);
    assert_eq!(cx.store().map_get::<String>("w", "note").unwrap().as_deref(), Some("kept"));
    assert_eq!(cx.store().map_get::<i64>("w", "007").unwrap(), Some(7));
    assert_eq!(cx.store().map_get::<i64>("w", "12").unwrap(), None, "a bucket of long ago");
}

fn invalid_arguments_of_a_window_are_refused(cx: &Context) {
    let never = cx.store().window("w", Duration::ZERO);
    assert_error!(never.add(1), Error::InvalidTtl { .. });
    assert_error!(never.add_at(SystemTime::now(), 1), Error::InvalidTtl { .. });
    assert_error!(never.sum(), Error::InvalidTtl { .. });
    drop(never);
    assert_error!(cx.store().rate_limit("w", 1, Duration::ZERO), Error::InvalidTtl { .. });
    assert_error!(cx.store().window("", HOUR).add(1), Error::InvalidKey { .. });
    assert_error!(cx.store().rate_limit("a\n", 1, HOUR), Error::InvalidKey { .. });
    assert!(cx.store().is_empty().unwrap());
    // The narrowest and the widest window.
    assert!(cx.store().window("narrow", Duration::from_millis(1)).add(1).unwrap() <= 1);
    let year = Duration::from_secs(365 * 86_400);
    assert_eq!(cx.store().window("wide", 999 * year).add(1).unwrap(), 1);
    assert_eq!(cx.store().window("wide", 999 * year).sum().unwrap(), 1);
}

fn a_limit_holds_and_says_when_there_is_room(cx: &Context) {
    let ask = || cx.store().rate_limit("calls", 3, HOUR).unwrap();
    for remaining in [2, 1, 0] {
        let decision = ask();
        assert_eq!((decision.allowed, decision.remaining), (true, remaining));
        assert_eq!(decision.retry_after, Duration::ZERO);
        if cx.clock_is_manual() {
            cx.advance(HOUR / 60 * 10);
        }
    }
    let denied = ask();
    assert_eq!((denied.allowed, denied.remaining), (false, 0));
    assert!(denied.retry_after <= HOUR && !denied.retry_after.is_zero(), "{denied:?}");
    assert_eq!(cx.store().window("calls", HOUR).sum().unwrap(), 3, "a refused call is not counted");
    assert!(cx.store().rate_limit("calls", 4, HOUR).unwrap().allowed, "another limit of the same window");
    assert!(cx.store().window("calls", HOUR).reset().unwrap());
    assert!(ask().allowed);
    if cx.clock_is_manual() {
        ask();
        ask();
        let denied = ask();
        cx.advance(denied.retry_after.saturating_sub(Duration::from_millis(1)));
        assert!(!ask().allowed);
        cx.advance(Duration::from_millis(1));
        let allowed = ask();
        assert_eq!((allowed.allowed, allowed.remaining), (true, 2));
    }
}

fn a_limit_of_zero_allows_nothing(cx: &Context) {
    let denied = cx.store().rate_limit("calls", 0, HOUR).unwrap();
    assert_eq!((denied.allowed, denied.remaining, denied.retry_after), (false, 0, HOUR));
    assert!(cx.store().is_empty().unwrap());
    assert!(cx.store().rate_limit("calls", u64::MAX, HOUR).unwrap().allowed);
}

fn windows_belong_to_their_namespace(cx: &Context) {
    for name in ["a", "b"] {
        let store = cx.store().namespace(name);
        assert_eq!(store.window("w", HOUR).add(1).unwrap(), 1);
        assert_eq!(store.rate_limit("calls", 1, HOUR).unwrap().remaining, 0);
    }
    assert_eq!(cx.store().keys("").unwrap(), ["a:calls", "a:w", "b:calls", "b:w"]);
    assert_eq!(cx.store().window("a:w", HOUR).sum().unwrap(), 1);
}
