//! `process_once`: the effect of each event is applied once, and its receipt is no key of the program.

use std::cell::Cell;
use std::time::Duration;

use millpond::{Error, StateStore};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    an_event_is_processed_once,
    a_failed_event_leaves_nothing_and_may_come_again,
    receipts_are_no_keys_of_the_program,
    a_receipt_lives_as_long_as_it_should,
    clearing_a_namespace_removes_its_receipts,
    each_namespace_has_its_own_events,
    the_id_of_an_event_follows_the_rules_of_keys,
    an_operator_applies_its_closure_once_an_event,
    the_longest_id_and_every_character_work,
];

/// Counts one event, and returns whether it was new.
fn count(store: &StateStore, id: &str) -> bool {
    store.process_once(id, None, |tx| tx.incr("count", 1)).unwrap().is_some()
}

fn an_event_is_processed_once(cx: &Context) {
    assert_eq!(cx.store().process_once("e1", MINUTE, |tx| tx.incr("count", 5)).unwrap(), Some(5));
    assert_eq!(cx.store().process_once("e1", MINUTE, |tx| tx.incr("count", 5)).unwrap(), None);
    assert_eq!(cx.store().process_once("e2", MINUTE, |tx| tx.incr("count", 5)).unwrap(), Some(10));
    assert_eq!(cx.store().get::<i64>("count").unwrap(), Some(10));
    let runs = Cell::new(0);
    let outcome = cx.store().process_once("e3", None, |_| {
        runs.set(runs.get() + 1);
        Ok(())
    });
    assert_eq!((outcome.unwrap(), runs.get()), (Some(()), 1), "an event may change nothing else");
    assert_eq!(cx.store().process_once("e3", None, |_| Ok(())).unwrap(), None);
    // The effect may be of every kind.
    let effect = cx.store().process_once("e4", None, |tx| {
        tx.put("value", "x")?;
        tx.map_incr("map", "f", 2)?;
        tx.push_back("queue", 1)?;
        tx.delete("count")
    });
    assert_eq!(effect.unwrap(), Some(true));
    assert_eq!(cx.store().keys("").unwrap(), ["map", "queue", "value"]);
}

fn a_failed_event_leaves_nothing_and_may_come_again(cx: &Context) {
    let failed = cx.store().process_once("e", None, |tx| {
        tx.incr("count", 1)?;
        Err::<(), _>(Error::abort("no"))
    });
    assert_error!(failed, Error::Aborted(_));
    assert!(cx.store().is_empty().unwrap());
    cx.store().put("text", "x").unwrap();
    let failed = cx.store().process_once("e", None, |tx| {
        tx.incr("count", 1)?;
        tx.incr("text", 1)
    });
    assert_error!(failed, Error::NotAnInteger { .. });
    assert!(count(&cx.store(), "e") && !count(&cx.store(), "e"));
    assert_eq!(cx.store().get::<i64>("count").unwrap(), Some(1));
}

fn receipts_are_no_keys_of_the_program(cx: &Context) {
    for id in ["a", "b:c"] {
        assert!(cx.store().process_once(id, MINUTE, |_| Ok(())).unwrap().is_some());
        assert!(!cx.store().contains(id).unwrap());
    }
    assert!(cx.store().is_empty().unwrap());
    assert_eq!(cx.store().keys("").unwrap(), [""; 0]);
    assert_eq!(cx.store().entries::<String>("").count(), 0);
    assert_eq!(cx.store().count("").unwrap(), 0);
    cx.store().put("a", 1).unwrap();
    assert!(cx.store().delete("a").unwrap());
    assert!(!count(&cx.store(), "a"), "the key of the same name is another thing");
    assert_error!(cx.store().get::<String>("__millpond:receipt:a"), Error::InvalidKey { .. });
}

fn a_receipt_lives_as_long_as_it_should(cx: &Context) {
    let process = |id: &str, ttl: Option<Duration>| {
        cx.store().process_once(id, ttl, |tx| tx.incr("count", 1)).unwrap().is_some()
    };
    assert!(process("mortal", Some(MINUTE)) && process("other", None));
    cx.advance(MINUTE / 2);
    assert!(!process("mortal", Some(MINUTE)) && !process("other", None));
    cx.advance(MINUTE / 2);
    assert!(process("mortal", Some(MINUTE)), "a duplicate does not renew the receipt");
    assert!(!process("other", None));
    if let Some(default_ttl) = cx.case().default_ttl {
        cx.advance(default_ttl);
        assert!(process("other", None), "without a time of its own it has the default one");
    }
    assert_error!(cx.store().process_once("x", Duration::ZERO, |_| Ok(())), Error::InvalidTtl { .. });
}

fn clearing_a_namespace_removes_its_receipts(cx: &Context) {
    let begin = || {
        let store = cx.store();
        for (name, id) in [("", "1"), ("a", "1"), ("a:b", "1"), ("c", "a")] {
            count(&store.namespace(name), id);
        }
    };
    let new = || {
        let store = cx.store();
        [("", "1"), ("a", "1"), ("a:b", "1"), ("c", "a")].map(|(name, id)| count(&store.namespace(name), id))
    };
    begin();
    // A prefix that does not cover a namespace leaves the receipts.
    for prefix in ["1", "count", "a:1", "_", "a:count"] {
        cx.store().delete_prefix(prefix).unwrap();
    }
    assert_eq!(new(), [false; 4]);
    cx.store().namespace("a").clear().unwrap();
    assert_eq!(new(), [false, true, true, false]);
    cx.store().delete_prefix("a:b:").unwrap();
    assert_eq!(new(), [false, false, true, false]);
    assert!(cx.store().clear().unwrap() > 0);
    assert_eq!(new(), [true; 4]);
    assert_eq!(cx.store().clear().unwrap(), 4, "receipts are not counted");
    assert_eq!(cx.store().clear().unwrap(), 0);
}

fn each_namespace_has_its_own_events(cx: &Context) {
    for name in ["a", "b", "a:b", ""] {
        let store = cx.store().namespace(name);
        assert!(count(&store, "1") && !count(&store, "1"), "{name}");
    }
    // A handle from within the transaction is one of the same events' effects.
    let effect = cx.store().namespace("a").process_once("2", None, |tx| tx.namespace("deep").put("k", 1));
    assert_eq!(effect.unwrap(), Some(()));
    assert_eq!(cx.store().get::<i64>("a:deep:k").unwrap(), Some(1));
}

fn the_id_of_an_event_follows_the_rules_of_keys(cx: &Context) {
    for id in ["", "a\nb", "__millpond", "a:__millpond:b", &"k".repeat(513)] {
        let never = cx.store().process_once(id, None, |_| -> millpond::Result<()> { panic!("it ran") });
        assert_error!(never, Error::InvalidKey { .. });
    }
}

fn an_operator_applies_its_closure_once_an_event(cx: &Context) {
    let store = cx.store();
    let spent = store.operator(MINUTE, |tx, (customer, cents): &(&str, i64)| {
        tx.incr("orders", 1)?;
        tx.incr(format!("spent:{customer}"), *cents)
    });
    let same = spent.clone();
    let order = ("anna", 250);
    assert_eq!(spent.apply("17", &order).unwrap(), Some(250));
    assert_eq!(same.apply("17", &order).unwrap(), None);
    assert_eq!(same.apply("18", &order).unwrap(), Some(500));
    assert_eq!(store.get::<i64>("orders").unwrap(), Some(2));
    assert!(!count(&store, "18"), "it has the events of its store");
}

fn the_longest_id_and_every_character_work(cx: &Context) {
    for id in ["k".repeat(512), "*?[]\\^ é:ключ::".to_owned()] {
        assert!(count(&cx.store(), &id) && !count(&cx.store(), &id), "{id:?}");
    }
}
