//! Times to live: which operations set, keep and create them, and how operations treat an expired entry.

use std::time::Duration;

use millpond::{Error, Ttl, WriteBatch};

use super::MINUTE;
use crate::support::backends::Context;

const YEAR: Duration = Duration::from_secs(31_557_600);

promises![
    zero_and_more_than_a_thousand_years_are_refused,
    a_thousand_years_are_accepted,
    a_ttl_is_rounded_up_to_milliseconds_and_never_zero,
    operations_that_replace_an_entry_replace_its_ttl,
    operations_that_change_an_entry_keep_its_ttl,
    operations_that_create_an_entry_give_it_the_default_ttl,
    an_expired_entry_is_absent_for_every_read,
    an_expired_entry_is_absent_for_every_write,
    an_expired_entry_is_absent_for_every_listing,
    a_ttl_runs_down_and_the_entry_expires_at_its_end,
    expire_sets_a_ttl_on_existing_entries_only,
    persist_returns_whether_it_removed_a_ttl,
    get_and_touch_reads_and_renews_the_ttl,
    an_entry_without_a_ttl_stays,
    many_expired_entries_are_gone_at_once,
];

fn zero_and_more_than_a_thousand_years_are_refused(cx: &Context) {
    cx.store().put("k", 1).unwrap();
    for ttl in [Duration::ZERO, 1000 * YEAR + Duration::from_nanos(1), Duration::MAX] {
        assert_error!(cx.store().put_with_ttl("k", 2, ttl), Error::InvalidTtl { ttl: told, .. } if *told == ttl);
        assert_error!(cx.store().put_bytes_with_ttl("k", b"2", ttl), Error::InvalidTtl { .. });
        assert_error!(cx.store().set_if_not_exists("new", 2, Some(ttl)), Error::InvalidTtl { .. });
        assert_error!(cx.store().incr_with_ttl("k", 1, ttl), Error::InvalidTtl { .. });
        assert_error!(cx.store().expire("k", ttl), Error::InvalidTtl { .. });
        assert_error!(cx.store().expire("absent", ttl), Error::InvalidTtl { .. });
        assert_error!(cx.store().get_and_touch::<i64>("k", ttl), Error::InvalidTtl { .. });
        assert_error!(cx.store().batch_put_with_ttl([("k", 2)], ttl), Error::InvalidTtl { .. });
        assert_error!(WriteBatch::new().put_with_ttl("k", 2, ttl), Error::InvalidTtl { .. });
    }
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    assert_eq!(cx.store().len().unwrap(), 1);
    cx.assert_default_ttl("k");
}

fn a_thousand_years_are_accepted(cx: &Context) {
    cx.store().put_with_ttl("a", 1, 1000 * YEAR).unwrap();
    cx.assert_ttl("a", 1000 * YEAR);
    cx.store().put("b", 1).unwrap();
    assert!(cx.store().expire("b", 1000 * YEAR).unwrap());
    cx.assert_ttl("b", 1000 * YEAR);
    cx.store().incr_with_ttl("c", 1, 1000 * YEAR).unwrap();
    cx.assert_ttl("c", 1000 * YEAR);
    assert_eq!(cx.store().get_and_touch::<i64>("c", 1000 * YEAR).unwrap(), Some(1));
    cx.advance(999 * YEAR);
    assert_eq!(cx.store().len().unwrap(), 3);
    cx.assert_ttl("a", YEAR);
}

fn a_ttl_is_rounded_up_to_milliseconds_and_never_zero(cx: &Context) {
    cx.store().put_with_ttl("k", 1, MINUTE + Duration::from_nanos(1)).unwrap();
    cx.assert_ttl("k", MINUTE + Duration::from_millis(1));
    cx.store().put_with_ttl("k", 1, Duration::from_nanos(1)).unwrap();
    // On a server the millisecond may be over before the store asks for it; but the server never returns
    // zero.
    match cx.store().ttl("k").unwrap() {
        Some(Ttl::In(left)) => assert_eq!(left, Duration::from_millis(1)),
        other => assert!(other.is_none() && !cx.clock_is_manual(), "{other:?}"),
    }
    cx.advance(Duration::from_millis(1));
    assert!(!cx.store().contains("k").unwrap());
}

fn operations_that_replace_an_entry_replace_its_ttl(cx: &Context) {
    let before = || cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    before();
    cx.store().put("k", 2).unwrap();
    cx.assert_default_ttl("k");
    before();
    cx.store().put_bytes("k", b"2").unwrap();
    cx.assert_default_ttl("k");
    before();
    cx.store().get_and_put::<i64>("k", 2).unwrap();
    cx.assert_default_ttl("k");
    before();
    cx.store().batch_put([("k", 2)]).unwrap();
    cx.assert_default_ttl("k");
    before();
    let mut batch = WriteBatch::new();
    cx.store().write(batch.put("k", 2).unwrap()).unwrap();
    cx.assert_default_ttl("k");
    cx.store().delete("k").unwrap();
    cx.store().set_if_not_exists("k", 2, None).unwrap();
    cx.assert_default_ttl("k");
    cx.store().delete("k").unwrap();
    cx.store().set_if_not_exists("k", 2, Some(MINUTE)).unwrap();
    cx.assert_ttl("k", MINUTE);
    cx.store().batch_put_with_ttl([("k", 2)], 2 * MINUTE).unwrap();
    cx.assert_ttl("k", 2 * MINUTE);
    cx.store().write(WriteBatch::new().put_with_ttl("k", 2, 3 * MINUTE).unwrap()).unwrap();
    cx.assert_ttl("k", 3 * MINUTE);
}

fn operations_that_change_an_entry_keep_its_ttl(cx: &Context) {
    let change_all = || {
        assert!(cx.store().update("k", 1).unwrap());
        assert_eq!(cx.store().modify("k", |n: Option<i64>| n.map(|n| n + 1)).unwrap(), Some(2));
        assert!(cx.store().compare_and_set("k", Some(&2), &3).unwrap());
        let number = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert!(cx.store().compare_and_set("k", Some(&number("3.0")), &number("4")).unwrap());
        assert_eq!(cx.store().incr("k", 1).unwrap(), 5);
        assert_eq!(cx.store().decr("k", 1).unwrap(), 4);
        assert_eq!(cx.store().incr_with_ttl("k", 1, 9 * MINUTE).unwrap(), 5);
        assert_eq!(cx.store().batch_incr([("k", 1)]).unwrap(), [6]);
        assert!(!cx.store().set_if_not_exists("k", 0, Some(9 * MINUTE)).unwrap());
    };
    cx.store().put_with_ttl("k", 0, MINUTE).unwrap();
    change_all();
    cx.assert_ttl("k", MINUTE);
    cx.store().persist("k").unwrap();
    change_all();
    cx.assert_ttl("k", None);
}

fn operations_that_create_an_entry_give_it_the_default_ttl(cx: &Context) {
    cx.store().incr("incr", 1).unwrap();
    cx.store().decr("decr", 1).unwrap();
    cx.store().batch_incr([("batch_incr", 1)]).unwrap();
    cx.store().modify("modify", |_: Option<i64>| Some(1)).unwrap();
    assert!(cx.store().compare_and_set("compare", None::<&i64>, &1).unwrap());
    for key in ["incr", "decr", "batch_incr", "modify", "compare"] {
        cx.assert_default_ttl(key);
    }
    cx.store().incr_with_ttl("named", 1, MINUTE).unwrap();
    cx.assert_ttl("named", MINUTE);
}

fn put_expired(cx: &Context, keys: &[&str]) {
    for key in keys {
        cx.store().put_with_ttl(key, 7, MINUTE).unwrap();
    }
    cx.advance(MINUTE);
}

fn an_expired_entry_is_absent_for_every_read(cx: &Context) {
    put_expired(cx, &["k"]);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), None);
    assert_eq!(cx.store().get::<String>("k").unwrap(), None, "an absent value cannot fail to decode");
    assert_eq!(cx.store().get_bytes("k").unwrap(), None);
    assert!(!cx.store().contains("k").unwrap());
    assert_eq!(cx.store().ttl("k").unwrap(), None);
    assert_eq!(cx.store().batch_get::<i64>(["k"]).unwrap(), [None]);
}

fn an_expired_entry_is_absent_for_every_write(cx: &Context) {
    let again = || put_expired(cx, &["k"]);
    again();
    assert!(!cx.store().delete("k").unwrap());
    again();
    assert!(!cx.store().update("k", 1).unwrap());
    assert!(!cx.store().expire("k", MINUTE).unwrap());
    assert!(!cx.store().persist("k").unwrap());
    assert_eq!(cx.store().get_and_touch::<i64>("k", MINUTE).unwrap(), None);
    assert_eq!(cx.store().get_and_delete::<i64>("k").unwrap(), None);
    assert!(!cx.store().compare_and_set("k", Some(&7), &8).unwrap());
    assert_eq!(cx.store().batch_delete(["k"]).unwrap(), 0);
    assert_eq!(cx.store().delete_prefix("k").unwrap(), 0);
    assert!(!cx.store().contains("k").unwrap());
    assert_eq!(cx.store().get_and_put::<i64>("k", 1).unwrap(), None);
    cx.assert_default_ttl("k");
    again();
    assert!(cx.store().set_if_not_exists("k", 1, None).unwrap());
    cx.assert_default_ttl("k");
    again();
    assert_eq!(cx.store().incr("k", 1).unwrap(), 1);
    cx.assert_default_ttl("k");
    again();
    assert_eq!(cx.store().incr_with_ttl("k", 1, 2 * MINUTE).unwrap(), 1);
    cx.assert_ttl("k", 2 * MINUTE);
    again();
    assert!(cx.store().compare_and_set("k", None::<&i64>, &1).unwrap());
    cx.assert_default_ttl("k");
    again();
    let mut seen = Some(0);
    cx.store()
        .modify("k", |found: Option<i64>| {
            seen = found;
            Some(1)
        })
        .unwrap();
    assert_eq!(seen, None);
    cx.assert_default_ttl("k");
}

fn an_expired_entry_is_absent_for_every_listing(cx: &Context) {
    put_expired(cx, &["a", "b"]);
    assert!(cx.store().is_empty().unwrap());
    cx.store().put("c", 7).unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["c"]);
    assert_eq!(cx.store().keys_page("", None, 1).unwrap(), ["c"], "expired keys do not fill a page");
    assert_eq!(cx.store().count("").unwrap(), 1);
    assert_eq!(cx.store().count("a").unwrap(), 0);
    assert_eq!(cx.store().len().unwrap(), 1);
    assert!(!cx.store().is_empty().unwrap());
    assert_eq!(cx.store().scan("").map(Result::unwrap).collect::<Vec<_>>(), ["c"]);
    assert_eq!(cx.store().entries("").map(Result::unwrap).collect::<Vec<(String, i64)>>(), [("c".into(), 7)]);
    assert_eq!(cx.store().clear().unwrap(), 1);
}

fn a_ttl_runs_down_and_the_entry_expires_at_its_end(cx: &Context) {
    cx.store().put_with_ttl("k", 1, 3 * MINUTE).unwrap();
    for left in [2, 1] {
        cx.advance(MINUTE);
        cx.assert_ttl("k", left * MINUTE);
        assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    }
    cx.advance(MINUTE);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), None);
    assert!(cx.store().is_empty().unwrap());
}

fn expire_sets_a_ttl_on_existing_entries_only(cx: &Context) {
    assert!(!cx.store().expire("k", MINUTE).unwrap());
    assert!(!cx.store().contains("k").unwrap());
    cx.store().put("k", 1).unwrap();
    assert!(cx.store().expire("k", MINUTE).unwrap());
    cx.assert_ttl("k", MINUTE);
    assert!(cx.store().expire("k", 5 * MINUTE).unwrap());
    cx.assert_ttl("k", 5 * MINUTE);
    assert!(cx.store().expire("k", MINUTE).unwrap());
    cx.assert_ttl("k", MINUTE);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
}

fn persist_returns_whether_it_removed_a_ttl(cx: &Context) {
    assert!(!cx.store().persist("k").unwrap(), "there is no entry");
    cx.store().put_with_ttl("k", 1, MINUTE).unwrap();
    assert!(cx.store().persist("k").unwrap());
    cx.assert_ttl("k", None);
    assert!(!cx.store().persist("k").unwrap(), "there is no ttl left to remove");
    cx.advance(10 * MINUTE);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
}

fn get_and_touch_reads_and_renews_the_ttl(cx: &Context) {
    assert_eq!(cx.store().get_and_touch::<i64>("k", MINUTE).unwrap(), None);
    assert!(!cx.store().contains("k").unwrap());
    cx.store().put("k", 1).unwrap();
    for _ in 0..3 {
        assert_eq!(cx.store().get_and_touch::<i64>("k", 2 * MINUTE).unwrap(), Some(1));
        cx.assert_ttl("k", 2 * MINUTE);
        cx.advance(MINUTE);
    }
    cx.assert_ttl("k", MINUTE);
    cx.advance(MINUTE);
    assert_eq!(cx.store().get_and_touch::<i64>("k", MINUTE).unwrap(), None);
}

fn an_entry_without_a_ttl_stays(cx: &Context) {
    cx.store().put("k", 1).unwrap();
    cx.store().persist("k").unwrap();
    cx.advance(2000 * YEAR);
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(1));
    cx.assert_ttl("k", None);
}

fn many_expired_entries_are_gone_at_once(cx: &Context) {
    cx.store().batch_put_with_ttl((0..2500).map(|n| (format!("dead:{n}"), n)), MINUTE).unwrap();
    cx.store().batch_put_with_ttl((0..10).map(|n| (format!("alive:{n}"), n)), 2 * MINUTE).unwrap();
    cx.advance(MINUTE);
    assert_eq!(cx.store().len().unwrap(), 10);
    assert_eq!(cx.store().count("dead:").unwrap(), 0);
    assert_eq!(cx.store().keys("").unwrap().len(), 10);
    for n in 0..200 {
        cx.store().namespace("new").put(n.to_string(), n).unwrap();
    }
    assert_eq!(cx.store().len().unwrap(), 210);
    assert_eq!(cx.store().delete_prefix("alive:").unwrap(), 10);
}
