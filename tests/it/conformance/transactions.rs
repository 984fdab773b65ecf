//! Transactions: they happen as a whole or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::{Error, Result, StateStore, Transaction, WriteBatch};

use super::MINUTE;
use crate::support::backends::Context;
use crate::support::chain;

promises![
    a_transaction_writes_every_kind_at_once,
    a_transaction_returns_the_result_of_its_closure,
    an_aborted_transaction_changes_nothing_and_has_its_cause,
    an_error_of_an_operation_changes_nothing,
    an_error_that_the_closure_ignores_keeps_the_other_writes,
    invalid_arguments_are_refused_within_a_transaction,
    a_decode_error_within_a_transaction_carries_the_value,
    a_transaction_that_only_reads_changes_nothing,
    a_transaction_may_be_empty,
    a_transaction_belongs_to_its_namespace,
    a_transaction_may_be_large,
    transactions_and_batches_may_follow_each_other,
];

pub(super) fn fields(fields: &[(&str, i64)]) -> BTreeMap<String, i64> {
    fields.iter().map(|(field, number)| ((*field).to_owned(), *number)).collect()
}

/// Stores one entry of each kind.
pub(super) fn prepare(cx: &Context) {
    cx.store().put("value", 7).unwrap();
    cx.store().map_put_many("map", [("a", 1), ("b", 2)]).unwrap();
    cx.store().push_back_many("queue", [1, 2, 3]).unwrap();
}

#[track_caller]
fn assert_as_prepared(cx: &Context) {
    assert_eq!(cx.store().keys("").unwrap(), ["map", "queue", "value"]);
    assert_eq!(cx.store().get::<i64>("value").unwrap(), Some(7));
    assert_eq!(cx.store().map_entries::<i64>("map").unwrap(), fields(&[("a", 1), ("b", 2)]));
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [1, 2, 3]);
    for key in ["value", "map", "queue"] {
        cx.assert_default_ttl(key);
    }
}

/// Writes new and existing entries of every kind.
fn write_everything(tx: &mut Transaction<'_>) -> Result<()> {
    tx.put("value", "new")?;
    tx.put_bytes("bytes", b"\xff")?;
    tx.put_with_ttl("mortal", 1, MINUTE)?;
    tx.incr("counter", 3)?;
    tx.map_put("map", "c", 3)?;
    tx.map_delete("map", "a")?;
    tx.map_incr("map", "b", 5)?;
    tx.map_put_many("new map", [("x", 1), ("y", 2)])?;
    tx.push_back("queue", 4)?;
    tx.push_front("queue", 0)?;
    tx.pop_front::<i64>("queue")?;
    tx.push_back_many("new queue", [5, 6])?;
    Ok(())
}

fn a_transaction_writes_every_kind_at_once(cx: &Context) {
    prepare(cx);
    cx.store().transaction(write_everything).unwrap();
    assert_eq!(cx.store().get::<String>("value").unwrap().as_deref(), Some("new"));
    assert_eq!(cx.store().get_bytes("bytes").unwrap().as_deref(), Some(&b"\xff"[..]));
    cx.assert_ttl("mortal", MINUTE);
    assert_eq!(cx.store().get::<i64>("counter").unwrap(), Some(3));
    assert_eq!(cx.store().map_entries::<i64>("map").unwrap(), fields(&[("b", 7), ("c", 3)]));
    assert_eq!(cx.store().map_entries::<i64>("new map").unwrap(), fields(&[("x", 1), ("y", 2)]));
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [1, 2, 3, 4]);
    assert_eq!(cx.store().queue_range::<i64>("new queue", ..).unwrap(), [5, 6]);
    assert_eq!(cx.store().len().unwrap(), 8);
}

fn a_transaction_returns_the_result_of_its_closure(cx: &Context) {
    cx.store().put("k", "text").unwrap();
    let read = cx.store().transaction(|tx| Ok((tx.get::<String>("k")?, tx.contains("absent")?)));
    assert_eq!(read.unwrap(), (Some("text".to_owned()), false));
}

#[derive(Debug, thiserror::Error)]
#[error("not enough money")]
struct NotEnough {
    missing: i64,
}

fn an_aborted_transaction_changes_nothing_and_has_its_cause(cx: &Context) {
    prepare(cx);
    let outcome = cx.store().transaction(|tx| {
        write_everything(tx)?;
        tx.delete("queue")?;
        Err::<(), _>(Error::abort(NotEnough { missing: 3 }))
    });
    let error = assert_error!(outcome, Error::Aborted(_));
    assert!(!error.is_transient());
    assert_eq!(chain(&error).last().map(String::as_str), Some("not enough money"));
    let Error::Aborted(cause) = error else { unreachable!() };
    assert_eq!(cause.downcast_ref::<NotEnough>().map(|cause| cause.missing), Some(3));
    assert_as_prepared(cx);
    let outcome = cx.store().transaction(|_| Err::<(), _>(Error::abort("a text")));
    assert!(matches!(outcome, Err(Error::Aborted(cause)) if cause.to_string() == "a text"));
}

type Failing = (&'static str, fn(&mut Transaction<'_>) -> Result<()>, fn(&Error) -> bool);

fn an_error_of_an_operation_changes_nothing(cx: &Context) {
    prepare(cx);
    let failing: [Failing; 6] = [
        ("wrong kind", |tx| tx.get::<i64>("map").map(drop), |e| matches!(e, Error::WrongType { .. })),
        ("no integer", |tx| tx.incr("value", 1).map(drop), |e| matches!(e, Error::NotAnInteger { .. })),
        ("overflow", |tx| tx.incr("counter", i64::MAX).map(drop), |e| matches!(e, Error::Overflow { .. })),
        ("invalid key", |tx| tx.put("", 1), |e| matches!(e, Error::InvalidKey { .. })),
        ("not finite", |tx| tx.put("k", f64::NAN), |e| matches!(e, Error::Encode { .. })),
        ("decode", |tx| tx.get::<i64>("value").map(drop), |e| matches!(e, Error::Decode { .. })),
    ];
    for (name, fails, expected) in failing {
        let outcome = cx.store().transaction(|tx| {
            write_everything(tx)?;
            fails(tx)
        });
        let error = outcome.expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
        assert_as_prepared(cx);
    }
}

fn an_error_that_the_closure_ignores_keeps_the_other_writes(cx: &Context) {
    prepare(cx);
    let done = cx.store().transaction(|tx| {
        tx.put("value", "text")?;
        assert_error!(tx.incr("value", 1), Error::NotAnInteger { .. });
        assert_error!(tx.pop_front::<i64>("map"), Error::WrongType { .. });
        assert_error!(tx.map_put_many("map", [("c", 1.0), ("d", f64::NAN)]), Error::Encode { .. });
        assert_error!(tx.push_back_many("queue", [1.0, f64::NAN]), Error::Encode { .. });
        assert_eq!(tx.get::<String>("value")?.as_deref(), Some("text"));
        tx.push_back("queue", 4).map(drop)
    });
    done.unwrap();
    assert_eq!(cx.store().get::<String>("value").unwrap().as_deref(), Some("text"));
    assert_eq!(cx.store().map_len("map").unwrap(), 2);
    assert_eq!(cx.store().queue_range::<i64>("queue", ..).unwrap(), [1, 2, 3, 4]);
}

fn invalid_arguments_are_refused_within_a_transaction(cx: &Context) {
    prepare(cx);
    let field = "f".repeat(513);
    let done = cx.store().transaction(|tx| {
        for key in ["", "a\nb", "x:__millpond"] {
            assert_error!(tx.put(key, 1), Error::InvalidKey { .. });
            assert_error!(tx.get::<i64>(key), Error::InvalidKey { .. });
            assert_error!(tx.map_len(key), Error::InvalidKey { .. });
            assert_error!(tx.push_back(key, 1), Error::InvalidKey { .. });
        }
        assert_error!(tx.map_put("map", &field, 1), Error::InvalidKey { .. });
        assert_error!(tx.map_get::<i64>("map", &field), Error::InvalidKey { .. });
        for ttl in [Duration::ZERO, Duration::MAX] {
            assert_error!(tx.put_with_ttl("value", 1, ttl), Error::InvalidTtl { .. });
            assert_error!(tx.expire("value", ttl), Error::InvalidTtl { .. });
            assert_error!(tx.incr_with_ttl("value", 1, ttl), Error::InvalidTtl { .. });
            assert_error!(tx.get_and_touch::<i64>("value", ttl), Error::InvalidTtl { .. });
        }
        Ok(())
    });
    done.unwrap();
    assert_as_prepared(cx);
    let small = cx.open_another(|config| config.max_value_bytes(10));
    let refused = small.store().transaction(|tx| {
        assert_error!(tx.push_back("q", "123456789"), Error::TooLarge { .. });
        assert_error!(tx.map_put("m", "f", "123456789"), Error::TooLarge { .. });
        tx.put("k", "123456789")
    });
    assert_error!(refused, Error::TooLarge { bytes: 11, limit: 10, .. });
    assert!(small.store().is_empty().unwrap());
}

fn a_decode_error_within_a_transaction_carries_the_value(cx: &Context) {
    cx.store().push_back_many("n:queue", ["text", "other"]).unwrap();
    let done = cx.store().namespace("n").transaction(|tx| {
        let error = assert_error!(tx.pop_front::<i64>("queue"), Error::Decode { .. });
        let Error::Decode { key, raw, .. } = error else { unreachable!() };
        assert_eq!((key.as_str(), raw.as_ref()), ("n:queue", &br#""text""#[..]));
        assert_eq!(tx.queue_len("queue")?, 1, "the value was removed");
        assert_error!(tx.queue_range::<i64>("queue", ..), Error::Decode { .. });
        Ok(())
    });
    done.unwrap();
    assert_eq!(cx.store().queue_range::<String>("n:queue", ..).unwrap(), ["other"]);
    let given_up = cx.store().transaction(|tx| tx.pop_front::<i64>("n:queue"));
    assert_error!(given_up, Error::Decode { .. });
    assert_eq!(cx.store().queue_len("n:queue").unwrap(), 1, "an error leaves the queue unchanged");
}

fn a_transaction_that_only_reads_changes_nothing(cx: &Context) {
    prepare(cx);
    let read = cx.store().transaction(|tx| {
        let value = tx.get::<i64>("value")?.unwrap_or_default();
        let fields: i64 = tx.map_entries::<i64>("map")?.into_values().sum();
        let items: i64 = tx.queue_range::<i64>("queue", ..)?.into_iter().sum();
        assert_eq!(tx.map_get::<i64>("absent", "f")?, None);
        Ok(value + fields + items)
    });
    assert_eq!(read.unwrap(), 7 + 3 + 6);
    assert_as_prepared(cx);
}

fn a_transaction_may_be_empty(cx: &Context) {
    assert_eq!(cx.store().transaction(|_| Ok(5)).unwrap(), 5);
    let undone = cx.store().transaction(|tx| {
        tx.put("k", 1)?;
        tx.push_back("q", 1)?;
        tx.pop_back::<i64>("q")?;
        tx.delete("k")
    });
    assert!(undone.unwrap());
    assert!(cx.store().is_empty().unwrap());
}

fn a_transaction_belongs_to_its_namespace(cx: &Context) {
    cx.store().put("k", "outside").unwrap();
    let done = cx.store().namespace("a").namespace("b").transaction(|tx| {
        assert_eq!(tx.get::<String>("k")?, None);
        tx.put("k", 1)?;
        tx.map_put("m", "f", 1)?;
        assert_error!(tx.put("k".repeat(509), 1), Error::InvalidKey { .. });
        assert_error!(tx.incr("m", 1), Error::WrongType { key, .. } if key == "a:b:m");
        tx.push_back("q", 1).map(drop)
    });
    done.unwrap();
    assert_eq!(cx.store().keys("").unwrap(), ["a:b:k", "a:b:m", "a:b:q", "k"]);
    assert_eq!(cx.store().transaction(|tx| tx.get::<i64>("a:b:k")).unwrap(), Some(1));
    assert_eq!(cx.store().get::<String>("k").unwrap().as_deref(), Some("outside"));
}

fn large(tx: &mut Transaction<'_>) -> Result<()> {
    for number in 0..2500_i64 {
        tx.put(format!("k:{number}"), number)?;
        assert_eq!(tx.map_incr("map", format!("f:{}", number % 1200), 1)?, 1 + number / 1200);
    }
    tx.push_back_many("queue", 0..9000)?;
    for number in 0..1500 {
        assert_eq!(tx.pop_front::<i64>("queue")?, Some(number));
    }
    tx.map_put_many("wide", (0..9000).map(|n| (n.to_string(), n)))?;
    for number in 0..100 {
        assert_eq!(tx.get::<i64>(&format!("k:{number}"))?, Some(number));
        assert!(tx.delete(format!("k:{number}"))?);
    }
    Ok(())
}

fn a_transaction_may_be_large(cx: &Context) {
    cx.store().transaction(large).unwrap();
    assert_eq!(cx.store().count("k:").unwrap(), 2400);
    assert_eq!(cx.store().get::<i64>("k:2499").unwrap(), Some(2499));
    let counted: i64 = cx.store().map_entries::<i64>("map").unwrap().into_values().sum();
    assert_eq!(counted, 2500);
    assert!(cx.store().queue_range::<i64>("queue", ..).unwrap().into_iter().eq(1500..9000));
    assert_eq!(cx.store().map_len("wide").unwrap(), 9000);
    cx.assert_default_ttl("queue");
}

fn transactions_and_batches_may_follow_each_other(cx: &Context) {
    let store: StateStore = cx.store();
    let mut batch = WriteBatch::new();
    batch.put("a", 1).unwrap().put("b", 1).unwrap().delete("gone").unwrap();
    store.push_back("gone", 1).unwrap();
    store.write(&batch).unwrap();
    let done = store.transaction(|tx| {
        assert!(!tx.contains("gone")?);
        tx.incr("a", 1)?;
        tx.delete("b")?;
        tx.push_back("b", 2).map(drop)
    });
    done.unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
    store.write(&batch).unwrap();
    assert_eq!(
        store.batch_get::<i64>(["a", "b"]).unwrap(),
        [Some(1), Some(1)],
        "a put also replaces a queue"
    );
}
