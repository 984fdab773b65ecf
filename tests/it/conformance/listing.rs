//! Listings: complete, sorted where that is documented, and safe to keep.

use std::collections::BTreeSet;

use millpond::{Entries, Keys};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    keys_are_sorted_by_their_bytes_and_listed_once,
    a_prefix_means_all_keys_that_begin_with_it,
    pages_cover_everything_once,
    a_page_may_begin_after_an_absent_key,
    a_scan_of_thousands_of_keys_is_complete,
    iterators_outlive_the_handle_and_move_to_other_threads,
    a_scan_tolerates_changes_between_its_items,
    delete_prefix_removes_and_counts_the_matching_keys,
    clear_removes_everything_and_counts,
];

fn keys_are_sorted_by_their_bytes_and_listed_once(cx: &Context) {
    let mut keys = ["b", "a", "B", "a:b", "a b", "ä", "z", "🦀", "10", "9", "a:", "aa"];
    for key in keys {
        cx.store().put(key, 1).unwrap();
        cx.store().put_with_ttl(key, 2, MINUTE).unwrap();
    }
    keys.sort_unstable();
    assert_eq!(cx.store().keys("").unwrap(), keys);
    assert_eq!(cx.store().len().unwrap(), keys.len() as u64);
}

fn a_prefix_means_all_keys_that_begin_with_it(cx: &Context) {
    cx.store().batch_put(["a", "a:1", "a:2", "ab", "b", "a*", "ä"].map(|key| (key, 1))).unwrap();
    for (prefix, expected) in [
        ("a", &["a", "a*", "a:1", "a:2", "ab"][..]),
        ("a:", &["a:1", "a:2"]),
        ("a:1", &["a:1"]),
        ("a:1x", &[]),
        ("a*", &["a*"]),
        ("*", &[]),
        ("?", &[]),
        ("ä", &["ä"]),
        ("A", &[]),
    ] {
        assert_eq!(cx.store().keys(prefix).unwrap(), expected, "{prefix}");
        assert_eq!(cx.store().count(prefix).unwrap(), expected.len() as u64, "{prefix}");
        let scanned: BTreeSet<String> = cx.store().scan(prefix).map(Result::unwrap).collect();
        assert_eq!(scanned, expected.iter().map(ToString::to_string).collect(), "{prefix}");
        let entries: BTreeSet<String> =
            cx.store().entries::<i64>(prefix).map(|entry| entry.unwrap().0).collect();
        assert_eq!(entries, scanned, "{prefix}");
    }
}

fn pages_cover_everything_once(cx: &Context) {
    cx.store().batch_put((0..25).map(|n| (format!("k:{n:02}"), n))).unwrap();
    cx.store().put("other", 1).unwrap();
    let all = cx.store().keys("k:").unwrap();
    for limit in [1, 7, 24, 25, 26, usize::MAX] {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = cx.store().keys_page("k:", seen.last().map(String::as_str), limit).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, all, "{limit}");
    }
    assert_eq!(cx.store().keys_page("k:", None, 0).unwrap(), [""; 0]);
}

fn a_page_may_begin_after_an_absent_key(cx: &Context) {
    cx.store().batch_put([("b", 1), ("d", 1), ("f", 1)]).unwrap();
    for (after, expected) in [
        ("", &["b", "d", "f"][..]),
        ("a", &["b", "d", "f"]),
        ("b", &["d", "f"]),
        ("c", &["d", "f"]),
        ("ba", &["d", "f"]),
        ("f", &[]),
        ("z", &[]),
    ] {
        assert_eq!(cx.store().keys_page("", Some(after), 10).unwrap(), expected, "{after:?}");
    }
    assert_eq!(
        cx.store().keys_page("d", Some("a"), 10).unwrap(),
        ["d"],
        "the given key is before the prefix"
    );
    assert_eq!(
        cx.store().keys_page("d", Some("e"), 10).unwrap(),
        [""; 0],
        "the given key is after the prefix"
    );
    let namespace = cx.store().namespace("n");
    namespace.batch_put([("a", 1), ("b", 1)]).unwrap();
    assert_eq!(namespace.keys_page("", Some("a"), 10).unwrap(), ["b"]);
}

fn a_scan_of_thousands_of_keys_is_complete(cx: &Context) {
    let expected: BTreeSet<String> = (0..2500).map(|n| format!("k:{n}")).collect();
    cx.store().batch_put(expected.iter().map(|key| (key, key.len()))).unwrap();
    cx.store().batch_put((0..500).map(|n| (format!("other:{n}"), 1))).unwrap();
    let scanned: BTreeSet<String> = cx.store().scan("k:").map(Result::unwrap).collect();
    assert_eq!(scanned, expected);
    let mut entries = BTreeSet::new();
    for entry in cx.store().entries::<usize>("k:") {
        let (key, value) = entry.unwrap();
        assert_eq!(value, key.len());
        entries.insert(key);
    }
    assert_eq!(entries, expected);
    assert_eq!(cx.store().count("k:").unwrap(), 2500);
    assert_eq!(cx.store().len().unwrap(), 3000);
    assert!(cx.store().keys("k:").unwrap().iter().eq(expected.iter()));
    assert!(cx.store().keys_page("k:", None, 1500).unwrap().iter().eq(expected.iter().take(1500)));
}

fn iterators_outlive_the_handle_and_move_to_other_threads(cx: &Context) {
    fn owned<T: Send + 'static>(iterator: T) -> T {
        iterator
    }
    cx.store().batch_put((0..2500).map(|n| (n.to_string(), n))).unwrap();
    let store = cx.store();
    let mut keys: Keys = owned(store.scan(""));
    let entries: Entries<i64> = owned(store.entries(""));
    assert!(keys.next().unwrap().is_ok());
    drop(store);
    let walked = std::thread::spawn(move || {
        let keys: BTreeSet<String> = keys.map(Result::unwrap).collect();
        let entries: BTreeSet<String> = entries.map(|entry| entry.unwrap().0).collect();
        (keys.len(), entries.len())
    });
    let (keys, entries) = walked.join().unwrap();
    assert!(keys >= 2499, "{keys}");
    assert_eq!(entries, 2500);
}

fn a_scan_tolerates_changes_between_its_items(cx: &Context) {
    let store = cx.store();
    store.batch_put((0..2500).map(|n| (format!("stays:{n}"), n))).unwrap();
    store.batch_put((0..500).map(|n| (format!("goes:{n}"), n))).unwrap();
    let mut seen = BTreeSet::new();
    for (number, key) in store.scan("").enumerate() {
        seen.insert(key.unwrap());
        if number < 500 {
            assert!(store.delete(format!("goes:{number}")).unwrap());
            store.put(format!("comes:{number}"), number).unwrap();
        }
    }
    let stayed = seen.iter().filter(|key| key.starts_with("stays:")).count();
    assert_eq!(stayed, 2500, "keys that exist all the time are listed");
}

fn delete_prefix_removes_and_counts_the_matching_keys(cx: &Context) {
    cx.store().batch_put((0..2500).map(|n| (format!("a:{n}"), n))).unwrap();
    cx.store().batch_put([("a", 1), ("ab", 1), ("b:1", 1)]).unwrap();
    assert_eq!(cx.store().delete_prefix("c").unwrap(), 0);
    assert_eq!(cx.store().delete_prefix("a:").unwrap(), 2500);
    assert_eq!(cx.store().keys("").unwrap(), ["a", "ab", "b:1"]);
    assert_eq!(cx.store().delete_prefix("a").unwrap(), 2);
    assert_eq!(cx.store().delete_prefix("").unwrap(), 1);
    assert!(cx.store().is_empty().unwrap());
}

fn clear_removes_everything_and_counts(cx: &Context) {
    cx.store().batch_put((0..2500).map(|n| (n.to_string(), n))).unwrap();
    cx.store().put_with_ttl("mortal", 1, MINUTE).unwrap();
    assert_eq!(cx.store().clear().unwrap(), 2501);
    assert!(cx.store().is_empty().unwrap());
    assert_eq!(cx.store().len().unwrap(), 0);
    assert_eq!(cx.store().clear().unwrap(), 0);
    cx.store().put("k", 1).unwrap();
    assert_eq!(cx.store().len().unwrap(), 1);
}
