//! The wording of errors, and which of them are transient.

use std::error::Error as _;
use std::num::ParseIntError;

use millpond::{Bytes, Error, StateConfig, StateStore};

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
        (small.put("k".repeat(513), 1).unwrap_err(), false),
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
fn every_text_but_that_of_a_decoder_quotes_its_source() {
    for (error, _) in samples() {
        let quotes = !matches!(error, Error::Decode { .. });
        let texts = chain(&error);
        for (outer, inner) in texts.iter().zip(texts.iter().skip(1)) {
            assert_eq!(outer.contains(inner.as_str()), quotes, "{outer:?} and {inner:?}");
        }
    }
}

#[test]
fn the_alternate_form_prints_each_text_of_the_chain_once() {
    for (error, _) in samples() {
        let long = format!("{error:#}");
        assert!(long.starts_with(&error.to_string()), "{long}");
        for text in chain(&error) {
            assert_eq!(long.matches(&text).count(), 1, "{text:?} in {long:?}");
        }
    }
}

#[test]
fn the_text_of_a_closed_store_says_that_it_is_closed() {
    let store = StateStore::memory();
    store.close().unwrap();
    let error = store.put("k", 1).unwrap_err();
    assert!(error.is_closed() && error.is_unavailable() && !error.is_busy());
    assert_eq!(error.to_string(), "the store is unavailable: it is closed");
}

#[test]
fn what_is_no_json_is_said_to_be_bytes() {
    let store = StateStore::memory();
    store.put_bytes("b", b"\xff\xd8").unwrap();
    let text = store.get::<String>("b").unwrap_err().to_string();
    assert_eq!(text, "decoding the value under key \"b\": it holds bytes, not JSON: use get_bytes");
    store.put("b", [1]).unwrap();
    let text = store.get::<String>("b").unwrap_err().to_string();
    assert!(text.ends_with("it holds a JSON array, not the type that was asked for"), "{text}");
}

#[test]
fn an_aborted_transaction_gives_back_the_error_of_the_program() {
    let refused = || {
        let parsed = StateStore::memory().transaction(|_| "x".parse::<i64>().map_err(Error::abort));
        parsed.unwrap_err()
    };
    assert_eq!(refused().aborted::<ParseIntError>().unwrap().to_string(), "invalid digit found in string");
    assert!(refused().aborted::<std::io::Error>().is_none());
    assert!(refused().into_aborted::<ParseIntError>().is_ok());
    assert!(refused().into_aborted::<std::io::Error>().unwrap_err().is_aborted());
    assert!(StateStore::memory().put("", 1).unwrap_err().aborted::<ParseIntError>().is_none());
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

#[test]
fn a_store_and_its_handles_can_be_used_where_a_panic_is_caught() {
    fn may_cross<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    may_cross::<StateStore>();
    may_cross::<millpond::LockGuard>();
    may_cross::<millpond::Leased<String>>();
    may_cross::<millpond::Keys>();
    may_cross::<millpond::Entries<String>>();
    may_cross::<millpond::ListenerHandle>();
    may_cross::<millpond::handle::Queue<String>>();
    let store = StateStore::memory();
    std::panic::catch_unwind(|| store.incr("a", 1)).unwrap().unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
}

#[test]
fn the_debug_text_of_a_store_names_its_place() {
    let store = StateStore::memory().namespace("web");
    assert_eq!(format!("{store:?}"), "Memory { namespace: \"web\" }");
}

#[test]
fn bytes_compare_with_bytes_and_text_on_either_side() {
    let bytes = Bytes::from(String::from("ab"));
    assert_eq!(bytes, *"ab");
    assert_eq!(bytes, "ab");
    assert_eq!(bytes, String::from("ab"));
    assert_eq!(bytes, b"ab");
    assert_eq!(bytes, *b"ab");
    assert_eq!(bytes, b"ab"[..]);
    assert_eq!(bytes, &b"ab"[..]);
    assert_eq!(bytes, b"ab".to_vec());
    assert_eq!(*"ab", bytes);
    assert_eq!("ab", bytes);
    assert_eq!(b"ab", bytes);
    assert_eq!(&b"ab"[..], bytes);
    assert_eq!(b"ab".to_vec(), bytes);
    assert!(bytes != "b" && Bytes::default().is_empty());
    let keyed = std::collections::BTreeMap::from([(bytes, 1)]);
    assert_eq!(keyed.get(&b"ab"[..]), Some(&1), "borrowed bytes are ordered as owned ones");
}
