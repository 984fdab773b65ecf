//! The wording of errors, and which of them are transient.

use std::error::Error as _;

use millpond::{Error, StateConfig, StateStore};

use crate::support::chain;

/// One error of each variant that a test can cause without a disk or a server, and whether it is transient.
fn samples() -> Vec<(Error, bool)> {
    let small = StateStore::with_config(StateConfig::default().max_value_bytes(20)).unwrap();
    small.put("text", "x").unwrap();
    small.put("full", i64::MAX).unwrap();
    let closed = StateStore::memory();
    closed.close().unwrap();
    let namespace = small.namespace("n");
    vec![
        (namespace.put("a\nb", 1).unwrap_err(), false),
        (small.put("", 1).unwrap_err(), false),
        (small.put(&"k".repeat(513), 1).unwrap_err(), false),
        (small.put("__millpond", 1).unwrap_err(), false),
        (small.put_with_ttl("k", 1, std::time::Duration::ZERO).unwrap_err(), false),
        (small.put("large", "0123456789 0123456789").unwrap_err(), false),
        (small.incr("text", 1).unwrap_err(), false),
        (small.incr("full", 1).unwrap_err(), false),
        (small.put("k", f64::NAN).unwrap_err(), false),
        (small.get::<i64>("text").unwrap_err(), false),
        (small.batch_incr([("a", 1), ("text", 1)]).unwrap_err(), false),
        (StateStore::open("memory:?no=1").unwrap_err(), false),
        (StateStore::open("http://x").unwrap_err(), false),
        (closed.get::<i64>("k").unwrap_err(), false),
    ]
}

#[test]
fn texts_are_lower_case_without_a_full_stop_and_on_one_line() {
    for (error, _) in samples() {
        for text in chain(&error) {
            assert!(!text.is_empty());
            assert!(!text.ends_with('.'), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        let text = error.to_string();
        assert!(text.starts_with(|first: char| first.is_lowercase()), "{text}");
    }
}

#[test]
fn texts_do_not_repeat_their_sources() {
    for (error, _) in samples() {
        let texts = chain(&error);
        for (outer, inner) in texts.iter().zip(texts.iter().skip(1)) {
            assert!(!outer.contains(inner.as_str()), "{outer:?} repeats {inner:?}");
        }
    }
}

#[test]
fn errors_about_a_key_name_it_in_full() {
    let store = StateStore::memory();
    let namespace = store.namespace("orders");
    namespace.put("text", "x").unwrap();
    namespace.put("full", i64::MAX).unwrap();
    for error in [
        namespace.incr("text", 1).unwrap_err(),
        namespace.get::<i64>("text").unwrap_err(),
        namespace.put("text", f64::NAN).unwrap_err(),
        namespace.put("text\n", 1).unwrap_err(),
    ] {
        assert!(error.to_string().contains("\"orders:text"), "{error}");
    }
    assert!(namespace.incr("full", 1).unwrap_err().to_string().contains("\"orders:full\""));
}

#[test]
fn a_control_character_in_a_key_is_escaped_in_the_text() {
    let text = StateStore::memory().put("a\u{1b}[31m\n", 1).unwrap_err().to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn only_errors_that_may_pass_with_time_are_transient() {
    for (error, transient) in samples() {
        assert_eq!(error.is_transient(), transient, "{error}");
    }
}

#[test]
fn errors_with_a_cause_return_it() {
    for (error, _) in samples() {
        let has_cause = matches!(
            error,
            Error::Encode { .. } | Error::Decode { .. } | Error::Unavailable { .. } | Error::Partial { .. }
        );
        assert_eq!(error.source().is_some(), has_cause, "{error:?}");
    }
}

#[test]
fn an_error_can_cross_threads_and_be_boxed() {
    fn sent<T: std::error::Error + Send + Sync + 'static>(error: T) -> Box<dyn std::error::Error> {
        Box::new(error)
    }
    assert!(sent(StateStore::memory().put("", 1).unwrap_err()).downcast_ref::<Error>().is_some());
}
