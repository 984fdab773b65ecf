//! Which keys, prefixes and namespaces a store accepts.

use std::time::Duration;

use millpond::{Error, Result, StateStore, WriteBatch};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    every_operation_refuses_an_invalid_key,
    every_listing_refuses_a_prefix_that_no_key_can_have,
    a_key_has_at_most_512_bytes_with_its_namespace,
    unreserved_characters_have_no_meaning_in_keys,
    unreserved_characters_have_no_meaning_in_prefixes,
    operations_report_a_namespace_that_allows_no_valid_key,
    keys_that_differ_in_case_or_form_are_different_keys,
    an_invalid_key_in_a_batch_stops_its_chunk,
];

const ORDINARY: [&str; 20] = [
    "*",
    "?",
    "[a-z]",
    "a\\*b",
    "^",
    "[^a]",
    "a b",
    " ",
    "a/b/../c",
    "a:b::c",
    ":",
    "::",
    "a:",
    "__millpondx",
    "x__millpond",
    "__MILLPOND",
    "ключ:значение",
    "日本語 🦀",
    "\"quoted\"{}",
    "%41%zz",
];

type Operation = (&'static str, fn(&StateStore, &str) -> Result<()>);

/// Every operation on one key.
pub(super) const ON_A_KEY: [Operation; 53] = [
    ("put", |s, k| s.put(k, 1)),
    ("put_with_ttl", |s, k| s.put_with_ttl(k, 1, MINUTE)),
    ("get", |s, k| s.get::<i64>(k).map(drop)),
    ("update", |s, k| s.update(k, 1).map(drop)),
    ("delete", |s, k| s.delete(k).map(drop)),
    ("contains", |s, k| s.contains(k).map(drop)),
    ("put_bytes", |s, k| s.put_bytes(k, b"x")),
    ("put_bytes_with_ttl", |s, k| s.put_bytes_with_ttl(k, b"x", MINUTE)),
    ("get_bytes", |s, k| s.get_bytes(k).map(drop)),
    ("set_if_not_exists", |s, k| s.set_if_not_exists(k, 1, None).map(drop)),
    ("compare_and_set", |s, k| s.compare_and_set(k, None::<&i64>, &1).map(drop)),
    ("compare_and_set to another", |s, k| s.compare_and_set(k, Some(&1), &2).map(drop)),
    ("get_and_delete", |s, k| s.get_and_delete::<i64>(k).map(drop)),
    ("get_and_put", |s, k| s.get_and_put::<i64>(k, 1).map(drop)),
    ("modify", |s, k| s.modify::<i64>(k, |_| Some(1)).map(drop)),
    ("incr", |s, k| s.incr(k, 1).map(drop)),
    ("decr", |s, k| s.decr(k, 1).map(drop)),
    ("incr_with_ttl", |s, k| s.incr_with_ttl(k, 1, MINUTE).map(drop)),
    ("batch_incr", |s, k| s.batch_incr([(k, 1)]).map(drop)),
    ("ttl", |s, k| s.ttl(k).map(drop)),
    ("expire", |s, k| s.expire(k, MINUTE).map(drop)),
    ("persist", |s, k| s.persist(k).map(drop)),
    ("get_and_touch", |s, k| s.get_and_touch::<i64>(k, MINUTE).map(drop)),
    ("batch_get", |s, k| s.batch_get::<i64>([k]).map(drop)),
    ("batch_put", |s, k| s.batch_put([(k, 1)])),
    ("batch_delete", |s, k| s.batch_delete([k]).map(drop)),
    ("map_put", |s, k| s.map_put(k, "f", 1).map(drop)),
    ("map_put_many", |s, k| s.map_put_many(k, [("f", 1)]).map(drop)),
    ("map_put_many of none", |s, k| s.map_put_many::<&str, i64>(k, []).map(drop)),
    ("map_get", |s, k| s.map_get::<i64>(k, "f").map(drop)),
    ("map_get_many", |s, k| s.map_get_many::<i64>(k, ["f"]).map(drop)),
    ("map_delete", |s, k| s.map_delete(k, "f").map(drop)),
    ("map_contains", |s, k| s.map_contains(k, "f").map(drop)),
    ("map_entries", |s, k| s.map_entries::<i64>(k).map(drop)),
    ("map_keys", |s, k| s.map_keys(k).map(drop)),
    ("map_len", |s, k| s.map_len(k).map(drop)),
    ("map_incr", |s, k| s.map_incr(k, "f", 1).map(drop)),
    ("push_back", |s, k| s.push_back(k, 1).map(drop)),
    ("push_front", |s, k| s.push_front(k, 1).map(drop)),
    ("push_back_many", |s, k| s.push_back_many(k, [1]).map(drop)),
    ("push_back_many of none", |s, k| s.push_back_many::<i64>(k, []).map(drop)),
    ("pop_front", |s, k| s.pop_front::<i64>(k).map(drop)),
    ("pop_back", |s, k| s.pop_back::<i64>(k).map(drop)),
    ("pop_front_wait", |s, k| s.pop_front_wait::<i64>(k, MINUTE).map(drop)),
    ("take", |s, k| s.lease::<i64>(k, MINUTE).map(drop)),
    ("take_wait", |s, k| s.lease_wait::<i64>(k, MINUTE, MINUTE).map(drop)),
    ("queue_len", |s, k| s.queue_len(k).map(drop)),
    ("queue_range", |s, k| s.queue_range::<i64>(k, ..).map(drop)),
    ("queue_trim", |s, k| s.queue_trim(k, 0).map(drop)),
    ("lock", |s, k| s.try_lock(k, MINUTE).map(drop)),
    ("lock_wait", |s, k| s.lock(k, MINUTE, MINUTE).map(drop)),
    ("transaction", |s, k| s.transaction(|tx| tx.put(k, 1))),
    ("get_or_insert_with", |s, k| s.value::<i64>(k).get_or_insert_with(|| 1).map(drop)),
];

/// Every operation on a prefix.
pub(super) const ON_A_PREFIX: [Operation; 6] = [
    ("keys", |s, p| s.keys(p).map(drop)),
    ("keys_page", |s, p| s.keys_page(p, None, 3).map(drop)),
    ("scan", |s, p| s.scan(p).collect::<Result<Vec<_>>>().map(drop)),
    ("entries", |s, p| s.entries::<i64>(p).collect::<Result<Vec<_>>>().map(drop)),
    ("count", |s, p| s.count(p).map(drop)),
    ("delete_prefix", |s, p| s.delete_prefix(p).map(drop)),
];

fn invalid_keys() -> Vec<(String, &'static str)> {
    let mut keys: Vec<(String, &'static str)> = [
        ("", "empty"),
        ("a\nb", "control"),
        ("a\0", "control"),
        ("\u{1f}", "control"),
        ("a\u{7f}", "control"),
        ("a\u{85}b", "control"),
        ("__millpond", "reserved"),
        ("__millpond:x", "reserved"),
        ("x:__millpond", "reserved"),
        ("x:__millpond:y", "reserved"),
    ]
    .map(|(key, word)| (key.to_owned(), word))
    .into();
    keys.push(("k".repeat(513), "512"));
    keys.push(("é".repeat(257), "512"));
    keys
}

/// It does nothing else.
fn every_operation_refuses_an_invalid_key(cx: &Context) {
    cx.store().put("there", 7).unwrap();
    let store = cx.store();
    for (key, word) in invalid_keys() {
        for (name, operation) in ON_A_KEY {
            let error = assert_error!(operation(&store, &key), Error::InvalidKey { .. });
            let Error::InvalidKey { key: named, reason, .. } = &error else { unreachable!() };
            assert!(reason.contains(word), "{name} {key:?}: {reason}");
            assert_eq!(*named, key, "{name}");
        }
        let mut batch = WriteBatch::new();
        batch.put("ok", 1).unwrap();
        assert_error!(batch.put(&key, 1), Error::InvalidKey { .. });
        assert_error!(batch.put_with_ttl(&key, 1, MINUTE), Error::InvalidKey { .. });
        assert_error!(batch.delete(&key), Error::InvalidKey { .. });
        assert_eq!(batch.len(), 1);
    }
    drop(store);
    assert_eq!(cx.store().keys("").unwrap(), ["there"]);
    assert_eq!(cx.store().get::<i64>("there").unwrap(), Some(7));
}

fn every_listing_refuses_a_prefix_that_no_key_can_have(cx: &Context) {
    let store = cx.store();
    for (prefix, word) in [("a\nb", "control"), ("\u{85}", "control"), (&*"p".repeat(513), "512")] {
        for (name, operation) in ON_A_PREFIX {
            let error = assert_error!(operation(&store, prefix), Error::InvalidKey { .. });
            assert!(error.to_string().contains(word), "{name}: {error}");
        }
    }
    let mut scan = store.scan("a\n");
    assert!(scan.next().is_some_and(|item| item.is_err()));
    assert!(scan.next().is_none(), "a scan ends after its first error");
}

fn a_key_has_at_most_512_bytes_with_its_namespace(cx: &Context) {
    let longest = "k".repeat(512);
    cx.store().put(&longest, 1).unwrap();
    assert_eq!(cx.store().get::<i64>(&longest).unwrap(), Some(1));
    assert_eq!(cx.store().keys(&longest).unwrap(), [longest.as_str()]);
    let (fits, too_long) = ("k".repeat(505), "k".repeat(506));
    cx.store().namespace("orders").put(&fits, 2).unwrap();
    assert_eq!(cx.store().get::<i64>(&format!("orders:{fits}")).unwrap(), Some(2));
    let error = assert_error!(cx.store().namespace("orders").put(&too_long, 2), Error::InvalidKey { .. });
    assert!(error.to_string().contains(&format!("orders:{too_long}")), "{error}");
    let nested = cx.store().namespace("a").namespace("b");
    assert_error!(nested.put("k".repeat(509), 1), Error::InvalidKey { .. });
    nested.put("k".repeat(508), 1).unwrap();
}

fn unreserved_characters_have_no_meaning_in_keys(cx: &Context) {
    for (number, key) in ORDINARY.iter().enumerate() {
        cx.store().put(key, number).unwrap();
    }
    for (number, key) in ORDINARY.iter().enumerate() {
        assert_eq!(cx.store().get::<usize>(key).unwrap(), Some(number), "{key:?}");
        assert!(cx.store().contains(key).unwrap(), "{key:?}");
    }
    let mut sorted = ORDINARY;
    sorted.sort_unstable();
    assert_eq!(cx.store().keys("").unwrap(), sorted);
    for key in ORDINARY {
        assert!(cx.store().delete(key).unwrap(), "{key:?}");
    }
    assert!(cx.store().is_empty().unwrap());
}

/// Nor have they one in namespaces.
fn unreserved_characters_have_no_meaning_in_prefixes(cx: &Context) {
    for name in ORDINARY {
        cx.store().namespace(name).put("k", name).unwrap();
        cx.store().put(format!("{name}~"), 0).unwrap();
    }
    for name in ORDINARY {
        assert_eq!(cx.store().namespace(name).get::<String>("k").unwrap().as_deref(), Some(name));
        assert_eq!(cx.store().get::<String>(&format!("{name}:k")).unwrap().as_deref(), Some(name));
        let expected: Vec<String> = {
            let all = ORDINARY.iter().flat_map(|n| [format!("{n}:k"), format!("{n}~")]);
            let mut all: Vec<String> = all.filter(|key| key.starts_with(name)).collect();
            all.sort();
            all
        };
        assert_eq!(cx.store().keys(name).unwrap(), expected, "{name:?}");
        assert_eq!(cx.store().count(name).unwrap(), expected.len() as u64, "{name:?}");
    }
    for name in ["*", "?", "[a-z]", "[^a]", "a\\*b"] {
        assert_eq!(cx.store().delete_prefix(format!("{name}:")).unwrap(), 1, "{name:?}");
        assert_eq!(cx.store().delete_prefix(name).unwrap(), 1, "{name:?}");
    }
    assert_eq!(cx.store().namespace("ключ:значение").clear().unwrap(), 1);
    assert_eq!(cx.store().len().unwrap(), 2 * (ORDINARY.len() as u64 - 5) - 1);
}

fn operations_report_a_namespace_that_allows_no_valid_key(cx: &Context) {
    for name in ["a\nb", "__millpond", "x:__millpond", &"n".repeat(512)] {
        let namespace = cx.store().namespace(name);
        assert_error!(namespace.put("k", 1), Error::InvalidKey { .. });
        assert_error!(namespace.get::<i64>("k"), Error::InvalidKey { .. });
        let mut batch = WriteBatch::new();
        batch.put("k", 1).unwrap();
        assert_error!(namespace.write(&batch), Error::InvalidKey { .. });
    }
    assert!(cx.store().is_empty().unwrap());
}

fn keys_that_differ_in_case_or_form_are_different_keys(cx: &Context) {
    let keys = ["É", "E\u{301}", "é", "e\u{301}", "K", "k", "k ", " k"];
    for (number, key) in keys.iter().enumerate() {
        cx.store().put(key, number).unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(cx.store().get::<usize>(key).unwrap(), Some(number), "{key:?}");
    }
    assert_eq!(cx.store().len().unwrap(), keys.len() as u64);
}

/// Nothing of the chunk is done.
fn an_invalid_key_in_a_batch_stops_its_chunk(cx: &Context) {
    assert_error!(cx.store().batch_put([("a", 1), ("", 2), ("b", 3)]), Error::InvalidKey { .. });
    let too_short = cx.store().batch_put_with_ttl([("a", 1)], Duration::ZERO);
    assert_error!(too_short, Error::InvalidTtl { .. });
    assert_error!(cx.store().batch_incr([("a", 1), ("a\n", 2)]), Error::InvalidKey { .. });
    assert!(cx.store().is_empty().unwrap());
    cx.store().put("a", 1).unwrap();
    assert_error!(cx.store().batch_delete(["a", ""]), Error::InvalidKey { .. });
    assert_error!(cx.store().batch_get::<i64>(["a", ""]), Error::InvalidKey { .. });
    assert_eq!(cx.store().get::<i64>("a").unwrap(), Some(1));
}
