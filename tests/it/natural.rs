//! Calls as people write them without having read the documentation: they compile, and do what they look like.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use millpond::{Error, ErrorKind, Kind, StateConfig, StateStore};

const MINUTE: Duration = Duration::from_secs(60);

/// An error of the program's own.
#[derive(Debug)]
enum Failure {
    Store(Error),
    Number(std::num::ParseIntError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<std::num::ParseIntError> for Failure {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::Number(error)
    }
}

#[test]
fn keys_are_any_kind_of_text() {
    let store = StateStore::memory();
    let (user, owned) = (7, String::from("owned"));
    assert_eq!(store.incr(format!("visits:{user}"), 1).unwrap(), 1);
    store.put(&owned, 1).unwrap();
    store.put(owned.clone(), 2).unwrap();
    store.put("borrowed", 3).unwrap();
    store.namespace(owned).map_put(format!("m{user}"), String::from("f"), 4).unwrap();
    assert_eq!(store.keys(String::from("o")).unwrap(), ["owned", "owned:m7"]);
}

#[test]
fn a_time_to_live_that_may_be_none_is_given_as_it_is() {
    let store = StateStore::memory();
    assert!(store.set_if_not_exists("a", 1, MINUTE).unwrap());
    assert!(store.set_if_not_exists("b", 1, None).unwrap());
    assert!(store.set_if_not_exists("c", 1, Some(MINUTE)).unwrap());
}

#[test]
fn an_error_of_the_program_ends_a_transaction() {
    let store = StateStore::memory();
    let add = |text: &str| {
        store.try_transaction(|tx| -> Result<i64, Failure> {
            tx.put("begun", true)?;
            Ok(tx.incr("sum", text.parse()?)?)
        })
    };
    assert!(matches!(add("12a"), Err(Failure::Number(error)) if error.to_string().contains("digit")));
    assert!(!store.contains("begun").unwrap());
    assert_eq!(add("12").unwrap(), 12);
    store.put("sum", "text").unwrap();
    assert!(matches!(add("12"), Err(Failure::Store(Error::NotAnInteger { .. }))));
}

#[test]
fn handles_take_values_and_references() {
    let store = StateStore::memory();
    assert!(store.map::<i64>("m").put("a", 5).unwrap());
    assert!(!store.map::<i64>("m").put("a", 6).unwrap());
    let names = store.queue::<String>("names");
    names.push_back("anna".to_owned()).unwrap();
    names.push_back("ben".to_owned()).unwrap();
    assert_eq!(store.map::<i64>("m").get("a").unwrap(), Some(6));
}

#[test]
fn an_upsert_changes_what_is_there_or_the_default() {
    let store = StateStore::memory();
    assert_eq!(store.upsert("n", || 0, |n| *n += 1).unwrap(), 1);
    assert_eq!(store.upsert("n", || 0, |n| *n += 1).unwrap(), 2);
    let seen = store.transaction(|tx| tx.upsert("seen", Vec::new, |seen| seen.push(7)));
    assert_eq!(seen.unwrap(), [7]);
}

#[test]
fn a_lock_that_was_not_got_is_an_error() {
    let run = |store: &StateStore| -> millpond::Result<u64> {
        let guard = store.lock("l", MINUTE, Duration::ZERO)?;
        Ok(guard.token())
    };
    let store = StateStore::memory();
    assert!(run(&store).is_ok());
    let _held = store.try_lock("l", MINUTE).unwrap().expect("the lock is free");
    assert_error!(run(&store), Error::Busy { .. });
    assert_error!(store.with_lock("l", MINUTE, Duration::ZERO, |_| ()), Error::Busy { .. });
}

#[test]
fn entries_are_a_loop() {
    let store = StateStore::memory();
    store.put("p1", 1).unwrap();
    store.put("p2", 2).unwrap();
    let mut sum = 0;
    for entry in store.entries::<i64>("p") {
        let (_, value) = entry.unwrap();
        sum += value;
    }
    assert_eq!(sum, 3);
}

#[test]
fn nothing_is_expected_without_a_type() {
    let store = StateStore::memory();
    assert!(store.compare_and_set("k", None, &1).unwrap());
    assert!(store.compare_and_set("k", Some(&1), &2).unwrap());
    assert!(store.compare_and_set("text", None, "a").unwrap());
}

#[test]
fn a_panic_in_a_closure_leaves_a_store_that_works() {
    let store = StateStore::memory();
    let outcome = catch_unwind(AssertUnwindSafe(|| store.modify("a", |_: Option<i64>| panic!("on purpose"))));
    assert!(outcome.is_err());
    assert_eq!(store.incr("a", 1).unwrap(), 1);
}

#[test]
fn the_kind_of_a_key_is_asked_without_an_error() {
    let store = StateStore::memory();
    store.put("v", 1).unwrap();
    store.push_back("q", 1).unwrap();
    let kinds = ["v", "q", "nothing"].map(|key| store.kind(key).unwrap());
    assert_eq!(kinds, [Some(Kind::Value), Some(Kind::Queue), None]);
}

#[test]
fn a_store_may_fail_on_purpose() {
    let store = StateStore::failing(ErrorKind::MaybeApplied);
    let error = assert_error!(store.put("a", 1), Error::Unavailable { maybe_applied: true, .. });
    assert!(error.maybe_applied() && error.is_transient());
    assert_error!(StateStore::failing(ErrorKind::StorageFull).get::<i64>("a"), Error::StorageFull { .. });
    assert_error!(StateStore::failing(ErrorKind::Conflict).transaction(|_| Ok(())), Error::Conflict { .. });
    store.close().unwrap();
    assert_error!(store.put("a", 1), Error::Unavailable { permanent: true, .. });
}

#[test]
fn the_modules_hold_the_types() {
    let _: millpond::config::StateConfig = StateConfig::default();
    let _: fn(&millpond::outage::Event) = |_| ();
    let _: Option<millpond::file::Repair> = None;
    let _: millpond::handle::Counter = StateStore::memory().counter("c");
}
