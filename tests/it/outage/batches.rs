//! Batches during which the server fails: chunks that were applied stay applied, and the rest is done
//! locally.

use std::time::{Duration, Instant};

use millpond::{Error, RedisOptions, StateStore, Status};

use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{memory, wait_for, wait_until_connected};

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

struct Setup {
    server: ProxiedServer,
    store: StateStore,
}

impl Setup {
    /// [`KEYS`] make three chunks.
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: RedisOptions) -> Self {
        let server = ProxiedServer::new();
        let store = server.store(options);
        Self { server, store }
    }

    /// Runs `batch` while the server fails after so many bytes; returns the result and whether the connection
    /// was cut.
    fn cut<T>(&self, way: Way, bytes: usize, batch: impl FnOnce(&StateStore) -> T) -> (T, bool) {
        self.server.proxy.cut_and_set(way, bytes, Mode::Refuse);
        let outcome = batch(&self.store);
        let was_cut = self.server.proxy.cancel_cut();
        let is_away = matches!(self.store.status(), Status::Disconnected { .. });
        assert!(was_cut || !is_away);
        self.server.proxy.set(Mode::Pass);
        wait_until_connected(&self.store);
        // A cut after the last byte is noticed only by the next operation.
        wait_for("the store works again", || self.store.get_bytes("noticed").is_ok());
        (outcome, was_cut)
    }

    fn numbers(&self) -> Vec<Option<i64>> {
        self.server.raw.run("MGET", &KEYS.map(|key| format!("t:{key}")))
    }
}

fn options() -> RedisOptions {
    memory().pipeline_batch_size(3).max_retries(0).pool_size(1)
}

#[test]
fn puts_and_deletes_that_begin_on_the_server_end_locally() {
    let setup = Setup::new();
    for way in [Way::Request, Way::Answer] {
        let step = if way == Way::Answer { 1 } else { 7 };
        let mut round = 0;
        for at in (0..).step_by(step) {
            round += 1;
            let (outcome, _) = setup.cut(way, at, |store| store.batch_put(KEYS.map(|key| (key, round))));
            outcome.unwrap();
            assert_eq!(setup.numbers(), [Some(round); 7], "{way:?} at {at}");
            let (outcome, was_cut) = setup.cut(way, at, |store| store.batch_delete(&KEYS[..5]));
            let removed = outcome.unwrap_or_else(|error| match error {
                // A repeated delete does not know what the first attempt found.
                Error::Unavailable { maybe_applied: true, .. } | Error::Partial { .. } => 5,
                other => panic!("{other:?}"),
            });
            assert!(removed <= 5);
            assert_eq!(setup.numbers()[..5], [None; 5], "{way:?} at {at}");
            if !was_cut {
                break;
            }
        }
        assert!(round > 10);
    }
    assert_eq!(setup.store.stats().outages.conflicts, 0);
}

#[test]
fn reads_that_begin_on_the_server_end_locally() {
    let setup = Setup::new();
    let mut at = 0;
    loop {
        setup.store.batch_put(KEYS.map(|key| (key, at))).unwrap();
        let (found, was_cut) = setup.cut(Way::Answer, at, |store| store.batch_get::<usize>(KEYS));
        assert_eq!(found.unwrap(), [Some(at); 7]);
        if !was_cut {
            break;
        }
        at += 1;
    }
    assert!(at > 10);
}

/// Increments whose replies are lost are reported as possibly applied, and later increments are not made.
#[test]
fn increments_that_are_in_doubt_are_not_made_locally() {
    let setup = Setup::new();
    let mut at = 0;
    loop {
        setup.server.raw.run::<_, ()>("DEL", &KEYS.map(|key| format!("t:{key}")));
        let (outcome, was_cut) =
            setup.cut(Way::Answer, at, |store| store.batch_incr(KEYS.map(|key| (key, 1))));
        let made = setup.numbers().iter().flatten().sum::<i64>();
        match outcome {
            Ok(numbers) => assert_eq!((numbers, made), (vec![1; 7], 7)),
            Err(Error::Partial { done, .. }) => {
                assert!((3..=7).contains(&made) && done <= made.unsigned_abs());
            }
            Err(Error::Unavailable { maybe_applied: true, .. }) => assert!(made <= 3),
            Err(other) => panic!("{other:?}"),
        }
        if !was_cut {
            break;
        }
        at += 1;
    }
    assert!(at > 10);
}

/// Marks whose replies are lost are in doubt, and no later mark of the batch is set.
#[test]
fn marks_that_are_in_doubt_are_set_at_most_once() {
    let setup = Setup::new();
    let mut at = 0;
    loop {
        setup.server.raw.run::<_, ()>("DEL", &KEYS.map(|key| format!("t:{key}")));
        let mark = |store: &StateStore| store.batch_set_if_not_exists(KEYS.map(|key| (key, 1)), None);
        let (outcome, was_cut) = setup.cut(Way::Answer, at, mark);
        let set = setup.numbers().iter().flatten().count();
        match outcome {
            Ok(marks) => assert_eq!((marks, set), (vec![true; 7], 7)),
            Err(Error::Partial { done, source, .. }) => {
                assert!(source.maybe_applied() || source.is_unavailable(), "{source:?}");
                assert!((3..=7).contains(&set) && done <= set as u64, "{done} of {set} at {at}");
            }
            Err(Error::Unavailable { .. }) => assert!(set <= 3, "{set} at {at}"),
            Err(other) => panic!("{other:?}"),
        }
        if !was_cut {
            break;
        }
        at += 1;
    }
    assert!(at > 10);
}

/// A chunk of large values is sent in several parts, and is cut in each of them. What the replies that came before the
/// cut say counts, and the rest is done locally.
#[test]
fn a_chunk_of_several_parts_that_is_cut_ends_locally() {
    let setup = Setup::with(options().pipeline_batch_size(7));
    let value = |round: usize| format!("{round:05}").repeat(1800);
    let text = |value: &str| Some(format!("\"{value}\""));
    let mut round = 0;
    for (way, step) in [(Way::Request, 3001), (Way::Answer, 5)] {
        for at in (0..).step_by(step) {
            round += 1;
            let new = value(round);
            let (outcome, was_cut) = setup.cut(way, at, |store| store.batch_put(KEYS.map(|key| (key, &new))));
            outcome.unwrap();
            let held: Vec<Option<String>> = setup.server.raw.run("MGET", &KEYS.map(|key| format!("t:{key}")));
            assert_eq!(held, vec![text(&new); 7], "{way:?} at {at}");
            if !was_cut {
                break;
            }
        }
        let mut at = 0;
        loop {
            let (found, was_cut) = setup.cut(Way::Answer, at, |store| store.batch_get::<String>(KEYS));
            assert_eq!(found.unwrap(), vec![Some(value(round)); 7], "{at}");
            if !was_cut {
                break;
            }
            at += 9001;
        }
    }
    assert!(round > 20, "{round}");
    assert_eq!(setup.store.stats().outages.conflicts, 0);
}

/// Of a chunk that is cut in the middle of a part, only the marks without a reply are in doubt.
#[test]
fn marks_of_several_parts_are_reported_as_far_as_they_were_acknowledged() {
    let setup = Setup::with(options().pipeline_batch_size(7));
    let value = "x".repeat(9000);
    let mut at = 0;
    loop {
        setup.server.raw.run::<_, ()>("DEL", &KEYS.map(|key| format!("t:{key}")));
        let mark = |store: &StateStore| store.batch_set_if_not_exists(KEYS.map(|key| (key, &value)), None);
        let (outcome, was_cut) = setup.cut(Way::Request, at, mark);
        let set = setup.server.raw.run::<_, usize>("EXISTS", &KEYS.map(|key| format!("t:{key}")));
        match outcome {
            // Nothing of the chunk had been sent if it was done locally.
            Ok(marks) => assert_eq!((marks, set), (vec![true; 7], 7), "cut at {at}"),
            Err(Error::Partial { done, source, .. }) => {
                assert!(source.maybe_applied(), "{source:?}");
                assert!(done <= set as u64 && set <= at / 9000, "{done} of {set} at {at}");
            }
            Err(Error::Unavailable { maybe_applied, .. }) => {
                assert!(maybe_applied && set <= at / 9000, "{set} at {at}");
            }
            Err(other) => panic!("{other:?}"),
        }
        if !was_cut {
            break;
        }
        at += 2501;
    }
    assert!(at > 60_000);
}

/// A server that stops to reply in the middle of a batch costs one limit of time, however many parts there are.
#[test]
fn a_frozen_server_holds_a_batch_up_for_one_time_limit() {
    let limit = Duration::from_millis(300);
    let setup = Setup::with(options().pipeline_batch_size(7).timeout(limit).connect_timeout(limit));
    let value = "x".repeat(40_000);
    setup.store.put("warm", 1).unwrap();
    setup.server.proxy.set(Mode::Hold);
    let begun = Instant::now();
    let outcome = setup.store.batch_set_if_not_exists(KEYS.map(|key| (key, &value)), None);
    assert!(begun.elapsed() < 5 * limit, "{:?}", begun.elapsed());
    assert!(matches!(outcome, Err(Error::Unavailable { maybe_applied: true, .. })), "{outcome:?}");
    setup.server.proxy.set(Mode::Pass);
    wait_until_connected(&setup.store);
    assert_eq!(setup.store.get::<i64>("warm").unwrap(), Some(1));
    let lengths = KEYS.map(|key| setup.server.raw.run::<_, usize>("STRLEN", &[format!("t:{key}")]));
    assert!(lengths.iter().all(|length| [0, value.len() + 2].contains(length)), "{lengths:?}");
}

/// With `exactly_once` every mark is set once, and each reply is that of the call that set it.
#[test]
fn marks_are_exact_if_the_server_recognises_them() {
    let server = ProxiedServer::new();
    let store = server.store(options().exactly_once(true).max_retries(10));
    let mut at = 0;
    loop {
        server.raw.run::<_, ()>("DEL", &KEYS.map(|key| format!("t:{key}")));
        server.proxy.cut_and_set(Way::Answer, at, Mode::Pass);
        let marks = store.batch_set_if_not_exists(KEYS.map(|key| (key, 1)), None).unwrap();
        let was_cut = server.proxy.cancel_cut();
        assert_eq!(marks, [true; 7], "cut at {at}");
        if !was_cut {
            break;
        }
        at += 7;
    }
    assert!(at > 10);
    assert!(matches!(store.status(), Status::Connected));
}

/// Increments that were certainly not sent are made locally: only the chunk in progress is in doubt.
#[test]
fn increments_that_were_not_sent_are_made_locally() {
    let setup = Setup::new();
    setup.store.put("warm", 1).unwrap();
    setup.server.proxy.set(Mode::Down);
    let numbers = setup.store.batch_incr(KEYS.map(|key| (key, 1)));
    if let Err(error) = numbers {
        // The store had not yet noticed that the connection was gone.
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        wait_for("the store is disconnected", || matches!(setup.store.status(), Status::Disconnected { .. }));
        assert_eq!(setup.store.batch_incr(KEYS.map(|key| (key, 1))).unwrap(), [1; 7]);
    }
    setup.server.proxy.set(Mode::Pass);
    wait_until_connected(&setup.store);
    assert_eq!(setup.numbers(), [Some(1); 7]);
}
