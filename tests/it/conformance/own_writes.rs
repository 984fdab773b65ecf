//! What a transaction sees: the stored data, overlaid with its own writes.

use millpond::{Error, Ttl};

use super::MINUTE;
use super::transactions::{fields, prepare};
use crate::support::backends::Context;

promises![
    reads_see_own_writes_of_values,
    reads_see_own_writes_of_maps,
    reads_see_own_writes_of_queues,
    reads_see_own_writes_over_stored_data,
    a_key_may_change_its_kind_within_a_transaction,
    counters_count_on_within_a_transaction,
    times_to_live_are_seen_and_kept_within_a_transaction,
    an_entry_created_in_a_transaction_has_the_default_ttl,
    an_expired_entry_is_absent_in_a_transaction,
];

fn reads_see_own_writes_of_values(cx: &Context) {
    let seen = cx.store().transaction(|tx| {
        assert_eq!(tx.get::<i64>("k")?, None);
        assert!(!tx.update("k", 0)?);
        assert!(!tx.delete("k")?);
        tx.put("k", 1)?;
        assert_eq!(tx.get::<i64>("k")?, Some(1));
        assert!(tx.contains("k")?);
        assert!(tx.update("k", 2)?);
        assert_eq!(tx.get_bytes("k")?.as_deref(), Some(&b"2"[..]));
        assert!(!tx.set_if_not_exists("k", 3, None)?);
        assert!(!tx.compare_and_set("k", Some(&1), &3)?);
        assert!(tx.compare_and_set("k", Some(&2), &3)?);
        assert_eq!(tx.get_and_put::<i64>("k", 4)?, Some(3));
        assert_eq!(tx.modify("k", |found: Option<i64>| found.map(|n| n + 1))?, Some(5));
        assert_eq!(tx.get_and_touch::<i64>("k", MINUTE)?, Some(5));
        assert_eq!(tx.get_and_delete::<i64>("k")?, Some(5));
        assert!(!tx.contains("k")?);
        assert!(tx.compare_and_set("k", None::<&i64>, &6)?);
        assert!(tx.delete("k")?);
        assert!(tx.set_if_not_exists("k", 7, Some(MINUTE))?);
        assert_eq!(tx.modify("k", |_: Option<i64>| None)?, None);
        assert_eq!(tx.get::<i64>("k")?, None);
        tx.put_bytes("k", b"8")?;
        tx.get::<i64>("k")
    });
    assert_eq!(seen.unwrap(), Some(8));
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(8));
    cx.assert_default_ttl("k");
}

fn reads_see_own_writes_of_maps(cx: &Context) {
    let seen = cx.store().transaction(|tx| {
        assert_eq!(tx.map_len("m")?, 0);
        assert_eq!(tx.map_get::<i64>("m", "a")?, None);
        assert!(tx.map_put("m", "a", 1)?);
        assert!(!tx.map_put("m", "a", 2)?);
        assert_eq!(tx.map_put_many("m", [("a", 3), ("c", 4), ("b", 5)])?, 2);
        assert_eq!(tx.map_put_many::<&str, i64>("m", [])?, 0);
        assert_eq!(tx.map_get::<i64>("m", "a")?, Some(3));
        assert_eq!(tx.map_get_many::<i64>("m", ["c", "x", "b"])?, [Some(4), None, Some(5)]);
        assert!(tx.map_contains("m", "b")?);
        assert_eq!(tx.map_keys("m")?, ["a", "b", "c"]);
        assert_eq!(tx.map_len("m")?, 3);
        assert!(tx.map_delete("m", "b")?);
        assert!(!tx.map_delete("m", "b")?);
        assert!(!tx.map_contains("m", "b")?);
        assert_eq!(tx.map_incr("m", "c", 6)?, 10);
        assert_eq!(tx.map_incr("m", "d", 1)?, 1);
        assert!(tx.contains("m")?);
        tx.map_entries::<i64>("m")
    });
    assert_eq!(seen.unwrap(), fields(&[("a", 3), ("c", 10), ("d", 1)]));
    assert_eq!(cx.store().map_entries::<i64>("m").unwrap(), fields(&[("a", 3), ("c", 10), ("d", 1)]));
    let emptied = cx.store().transaction(|tx| {
        for field in tx.map_keys("m")? {
            tx.map_delete("m", &field)?;
        }
        Ok((tx.contains("m")?, tx.ttl("m")?))
    });
    assert_eq!(emptied.unwrap(), (false, None));
    assert!(!cx.store().contains("m").unwrap());
}

fn reads_see_own_writes_of_queues(cx: &Context) {
    let seen = cx.store().transaction(|tx| {
        assert_eq!(tx.queue_len("q")?, 0);
        assert_eq!(tx.pop_front::<i64>("q")?, None);
        assert_eq!(tx.push_back("q", 1)?, 1);
        assert_eq!(tx.push_front("q", 0)?, 2);
        assert_eq!(tx.push_back_many("q", [2, 3, 4])?, 5);
        assert_eq!(tx.push_back_many::<i64>("q", [])?, 5);
        assert_eq!(tx.queue_range::<i64>("q", ..)?, [0, 1, 2, 3, 4]);
        assert_eq!(tx.queue_range::<i64>("q", 1..=2)?, [1, 2]);
        assert_eq!(tx.pop_front::<i64>("q")?, Some(0));
        assert_eq!(tx.pop_back::<i64>("q")?, Some(4));
        assert_eq!(tx.queue_trim("q", 2)?, 1);
        assert_eq!(tx.queue_len("q")?, 2);
        tx.queue_range::<i64>("q", 0..9)
    });
    assert_eq!(seen.unwrap(), [2, 3]);
    assert_eq!(cx.store().queue_range::<i64>("q", ..).unwrap(), [2, 3]);
    let emptied = cx.store().transaction(|tx| {
        assert_eq!((tx.pop_back::<i64>("q")?, tx.pop_back::<i64>("q")?), (Some(3), Some(2)));
        Ok((tx.contains("q")?, tx.pop_back::<i64>("q")?))
    });
    assert_eq!(emptied.unwrap(), (false, None));
    assert!(!cx.store().contains("q").unwrap());
}

fn reads_see_own_writes_over_stored_data(cx: &Context) {
    prepare(cx);
    let seen = cx.store().transaction(|tx| {
        assert_eq!(tx.push_front("queue", 0)?, 4);
        assert_eq!(tx.push_back("queue", 4)?, 5);
        assert_eq!(tx.queue_range::<i64>("queue", ..)?, [0, 1, 2, 3, 4]);
        assert_eq!(tx.pop_front::<i64>("queue")?, Some(0));
        assert_eq!(tx.pop_front::<i64>("queue")?, Some(1));
        assert_eq!(tx.pop_back::<i64>("queue")?, Some(4));
        assert_eq!(tx.pop_back::<i64>("queue")?, Some(3));
        assert_eq!(tx.push_back("queue", 9)?, 2);
        assert!(!tx.map_put("map", "b", 20)?);
        assert!(tx.map_put("map", "c", 30)?);
        assert!(tx.map_delete("map", "a")?);
        assert_eq!(tx.map_get_many::<i64>("map", ["a", "b", "c"])?, [None, Some(20), Some(30)]);
        assert_eq!(tx.map_keys("map")?, ["b", "c"]);
        assert_eq!(tx.incr("value", 1)?, 8);
        Ok((tx.queue_range::<i64>("queue", ..)?, tx.map_entries::<i64>("map")?))
    });
    let expected = (vec![2, 9], fields(&[("b", 20), ("c", 30)]));
    assert_eq!(seen.unwrap(), expected);
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), expected.0);
    assert_eq!(cx.store().map_entries::<i64>("map").unwrap(), expected.1);
    assert_eq!(cx.store().get::<i64>("value").unwrap(), Some(8));
    for key in ["value", "map", "queue"] {
        cx.assert_default_ttl(key);
    }
}

fn a_key_may_change_its_kind_within_a_transaction(cx: &Context) {
    prepare(cx);
    let done = cx.store().transaction(|tx| {
        tx.put("map", 1)?;
        assert_error!(tx.map_put("map", "a", 1), Error::WrongType { .. });
        assert!(tx.delete("map")?);
        assert_eq!(tx.map_len("map")?, 0, "the earlier fields do not come back");
        assert_eq!(tx.push_back("map", 1)?, 1);
        assert!(tx.delete("queue")?);
        assert!(tx.map_put("queue", "f", 1)?);
        assert!(tx.map_delete("queue", "f")?);
        assert_eq!(tx.incr("queue", 5)?, 5);
        assert!(tx.delete("value")?);
        tx.push_back_many("value", [1, 2])?;
        assert_eq!(tx.queue_trim("value", 0)?, 2);
        assert!(tx.map_put("value", "only", 1)?);
        tx.put("k", 1)?;
        tx.delete("k")?;
        tx.map_put("k", "f", 1)?;
        tx.put("k", 2)
    });
    done.unwrap();
    assert_eq!(cx.store().queue_range::<i64>("map", ..).unwrap(), [1]);
    assert_eq!(cx.store().get::<i64>("queue").unwrap(), Some(5));
    assert_eq!(cx.store().map_entries::<i64>("value").unwrap(), fields(&[("only", 1)]));
    assert_eq!(cx.store().get::<i64>("k").unwrap(), Some(2));
}

fn counters_count_on_within_a_transaction(cx: &Context) {
    cx.store().put("k", 10).unwrap();
    let counted = cx.store().transaction(|tx| {
        assert_eq!(tx.incr("k", 1)?, 11);
        assert_eq!(tx.incr("k", 1)?, 12);
        assert_eq!(tx.decr("k", 5)?, 7);
        assert_eq!(tx.incr("new", 2)?, 2);
        assert_eq!(tx.incr_with_ttl("new", 2, MINUTE)?, 4);
        assert_eq!(tx.incr_with_ttl("mortal", 1, MINUTE)?, 1);
        assert_eq!(tx.incr_with_ttl("mortal", 1, 2 * MINUTE)?, 2);
        tx.put("end", i64::MAX)?;
        assert_error!(tx.incr("end", 1), Error::Overflow { key, .. } if key == "end");
        assert_error!(tx.decr("end", i64::MIN), Error::Overflow { .. });
        tx.map_put("map", "text", "x")?;
        assert_error!(tx.map_incr("map", "text", 1), Error::NotAnInteger { .. });
        tx.get::<i64>("k")
    });
    assert_eq!(counted.unwrap(), Some(7));
    assert_eq!(cx.store().batch_get::<i64>(["k", "new", "end"]).unwrap(), [Some(7), Some(4), Some(i64::MAX)]);
    cx.assert_ttl("mortal", MINUTE);
    cx.assert_default_ttl("new");
}

fn times_to_live_are_seen_and_kept_within_a_transaction(cx: &Context) {
    prepare(cx);
    cx.store().expire("map", 3 * MINUTE).unwrap();
    cx.store().persist("value").unwrap();
    let told = |told: Option<Ttl>, expected: Ttl| assert!(cx.is_ttl(told, Some(expected)), "{told:?}");
    let done = cx.store().transaction(|tx| {
        assert_eq!(tx.ttl("absent")?, None);
        assert!(!tx.expire("absent", MINUTE)?);
        assert!(!tx.persist("absent")?);
        told(tx.ttl("map")?, Ttl::In(3 * MINUTE));
        assert!(tx.expire("queue", MINUTE)?);
        told(tx.ttl("queue")?, Ttl::In(MINUTE));
        assert!(tx.expire("queue", 2 * MINUTE)?);
        tx.push_back("queue", 4)?;
        tx.pop_front::<i64>("queue")?;
        told(tx.ttl("queue")?, Ttl::In(2 * MINUTE));
        tx.map_put("map", "c", 1)?;
        told(tx.ttl("map")?, Ttl::In(3 * MINUTE));
        assert_eq!(tx.get_and_touch::<i64>("value", MINUTE)?, Some(7));
        assert!(tx.update("value", 8)?);
        tx.incr("value", 1)?;
        told(tx.ttl("value")?, Ttl::In(MINUTE));
        assert!(tx.persist("value")?);
        assert!(!tx.persist("value")?);
        told(tx.ttl("value")?, Ttl::Never);
        tx.put_with_ttl("k", 1, MINUTE)?;
        assert!(tx.persist("k")?);
        tx.put_bytes_with_ttl("k", b"1", 2 * MINUTE)?;
        told(tx.ttl("k")?, Ttl::In(2 * MINUTE));
        assert!(tx.modify("k", |found: Option<i64>| found)?.is_some());
        tx.compare_and_set("k", Some(&1), &2)
    });
    assert!(done.unwrap());
    cx.assert_ttl("queue", 2 * MINUTE);
    cx.assert_ttl("map", 3 * MINUTE);
    cx.assert_ttl("value", None);
    cx.assert_ttl("k", 2 * MINUTE);
}

fn an_entry_created_in_a_transaction_has_the_default_ttl(cx: &Context) {
    let done = cx.store().transaction(|tx| {
        tx.put("put", 1)?;
        tx.get_and_put::<i64>("get_and_put", 1)?;
        tx.set_if_not_exists("set_if_not_exists", 1, None)?;
        tx.compare_and_set("compare_and_set", None::<&i64>, &1)?;
        tx.modify("modify", |_: Option<i64>| Some(1))?;
        tx.incr("incr", 1)?;
        tx.map_put("map_put", "f", 1)?;
        tx.map_incr("map_incr", "f", 1)?;
        tx.push_back("push_back", 1)?;
        tx.push_front("push_front", 1)?;
        for key in ["put", "modify", "incr", "map_incr", "push_front"] {
            let expected = cx.case().default_ttl.map_or(Ttl::Never, Ttl::In);
            assert!(cx.is_ttl(tx.ttl(key)?, Some(expected)), "{key}");
        }
        tx.put_with_ttl("replaced", 1, MINUTE)?;
        tx.put("replaced", 2)?;
        tx.put_with_ttl("reborn", 1, MINUTE)?;
        tx.delete("reborn")?;
        tx.push_back("reborn", 1).map(drop)
    });
    done.unwrap();
    let keys = cx.store().keys("").unwrap();
    assert_eq!(keys.len(), 12);
    for key in keys {
        cx.assert_default_ttl(&key);
    }
}

fn an_expired_entry_is_absent_in_a_transaction(cx: &Context) {
    prepare(cx);
    for key in ["value", "map", "queue"] {
        cx.store().expire(key, MINUTE).unwrap();
    }
    cx.advance(MINUTE);
    let seen = cx.store().transaction(|tx| {
        assert_eq!(tx.get::<i64>("value")?, None);
        assert_eq!(tx.map_len("map")?, 0);
        assert_eq!(tx.queue_len("queue")?, 0);
        assert!(!tx.delete("value")?);
        assert_eq!(tx.incr("map", 1)?, 1, "an expired entry has no kind");
        assert!(tx.map_put("queue", "f", 1)?);
        tx.push_back("value", 9)
    });
    assert_eq!(seen.unwrap(), 1);
    assert_eq!(cx.store().queue_range::<i64>("value", ..).unwrap(), [9]);
    cx.assert_default_ttl("value");
}
