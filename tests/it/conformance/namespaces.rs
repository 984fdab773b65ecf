//! Namespaces: views of one store under a name.

use millpond::WriteBatch;

use crate::support::backends::Context;

promises![
    a_namespace_is_a_prefix_with_a_colon,
    namespaces_nest_and_a_parent_sees_its_children,
    an_empty_name_means_the_store_itself,
    clearing_a_namespace_leaves_the_rest,
    every_listing_of_a_namespace_omits_its_name,
    one_write_batch_may_be_written_in_two_namespaces,
];

fn a_namespace_is_a_prefix_with_a_colon(cx: &Context) {
    cx.store().namespace("orders").put("17", "paid").unwrap();
    assert_eq!(cx.store().get::<String>("orders:17").unwrap().as_deref(), Some("paid"));
    assert_eq!(cx.store().keys("").unwrap(), ["orders:17"]);
    cx.store().put("orders:18", "new").unwrap();
    assert_eq!(cx.store().namespace("orders").get::<String>("18").unwrap().as_deref(), Some("new"));
    assert_eq!(cx.store().namespace("orders").incr("n", 1).unwrap(), 1);
    assert!(cx.store().namespace("orders").delete("17").unwrap());
    assert!(!cx.store().contains("orders:17").unwrap());
    assert_eq!(cx.store().get::<i64>("17").unwrap(), None);
}

fn namespaces_nest_and_a_parent_sees_its_children(cx: &Context) {
    cx.store().namespace("a").namespace("b").put("k", 1).unwrap();
    assert_eq!(cx.store().namespace("a:b").get::<i64>("k").unwrap(), Some(1));
    assert_eq!(cx.store().namespace("a").keys("").unwrap(), ["b:k"]);
    assert_eq!(cx.store().keys("").unwrap(), ["a:b:k"]);
    assert_eq!(cx.store().namespace("a").len().unwrap(), 1);
    assert_eq!(cx.store().namespace("a").get::<i64>("b:k").unwrap(), Some(1));
    assert!(cx.store().namespace("b").is_empty().unwrap());
    assert_eq!(cx.store().namespace("a").clear().unwrap(), 1);
    assert!(cx.store().is_empty().unwrap());
}

fn an_empty_name_means_the_store_itself(cx: &Context) {
    cx.store().namespace("").put("k", 1).unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["k"]);
    cx.store().namespace("a").namespace("").namespace("b").put("k", 2).unwrap();
    assert_eq!(cx.store().get::<i64>("a:b:k").unwrap(), Some(2));
}

fn clearing_a_namespace_leaves_the_rest(cx: &Context) {
    cx.store().batch_put(["a", "a:1", "a:b:2", "ab", "ab:1", "b:a:1", "aa:1"].map(|key| (key, 1))).unwrap();
    assert_eq!(cx.store().namespace("a").clear().unwrap(), 2);
    assert_eq!(cx.store().keys("").unwrap(), ["a", "aa:1", "ab", "ab:1", "b:a:1"]);
    assert_eq!(cx.store().namespace("a").clear().unwrap(), 0);
}

/// It lists only the keys of the namespace.
fn every_listing_of_a_namespace_omits_its_name(cx: &Context) {
    cx.store().batch_put([("n:a:1", 1), ("n:a:2", 2), ("n:b", 3), ("a:1", 4), ("nn:a:1", 5)]).unwrap();
    let namespace = || cx.store().namespace("n");
    assert_eq!(namespace().keys("").unwrap(), ["a:1", "a:2", "b"]);
    assert_eq!(namespace().keys("a:").unwrap(), ["a:1", "a:2"]);
    assert_eq!(namespace().keys_page("", Some("a:1"), 1).unwrap(), ["a:2"]);
    assert_eq!(namespace().count("a").unwrap(), 2);
    assert_eq!(namespace().len().unwrap(), 3);
    let mut entries: Vec<(String, i64)> = namespace().entries("").map(Result::unwrap).collect();
    entries.sort();
    assert_eq!(entries, [("a:1".into(), 1), ("a:2".into(), 2), ("b".into(), 3)]);
    let mut scanned: Vec<String> = namespace().scan("a").map(Result::unwrap).collect();
    scanned.sort();
    assert_eq!(scanned, ["a:1", "a:2"]);
    assert_eq!(namespace().delete_prefix("a").unwrap(), 2);
    assert_eq!(cx.store().keys("").unwrap(), ["a:1", "n:b", "nn:a:1"]);
}

fn one_write_batch_may_be_written_in_two_namespaces(cx: &Context) {
    let mut batch = WriteBatch::new();
    batch.put("k", 1).unwrap().delete("old").unwrap();
    cx.store().batch_put([("a:old", 0), ("b:old", 0), ("old", 0)]).unwrap();
    cx.store().namespace("a").write(&batch).unwrap();
    cx.store().namespace("b").write(&batch).unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["a:k", "b:k", "old"]);
    assert_eq!(batch.len(), 2, "writing does not consume the batch");
}
