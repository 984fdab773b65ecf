//! Batches in the middle of which the server goes away: what was done stays done, and the rest is done here.

use millpond::{Error, RedisOptions, StateStore, Status};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{connected, memory, open, until};

const KEYS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

struct Lab {
    raw: RawClient,
    proxy: Proxy,
    store: StateStore,
    _server: RedisServer,
}

impl Lab {
    /// Three chunks make a batch of [`KEYS`].
    fn new() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let store = open(&proxy.url(), options()).unwrap();
        Self { raw: RawClient::connect(&server.url(0)), proxy, store, _server: server }
    }

    /// Runs `batch` with the server gone from one byte on, and hands out whether it was.
    fn cut<T>(&self, way: Way, bytes: usize, batch: impl FnOnce(&StateStore) -> T) -> (T, bool) {
        self.proxy.cut_and_set(way, bytes, Mode::Refuse);
        let outcome = batch(&self.store);
        let was_cut = self.proxy.was_cut();
        let is_away = matches!(self.store.status(), Status::Away { .. });
        assert!(was_cut || !is_away);
        self.proxy.set(Mode::Pass);
        connected(&self.store);
        // A cut behind the last byte is noticed by who comes next.
        until("the store works again", || self.store.get_bytes("noticed").is_ok());
        (outcome, was_cut)
    }

    fn numbers(&self) -> Vec<Option<i64>> {
        self.raw.run("MGET", &KEYS.map(|key| format!("t:{key}")))
    }
}

fn options() -> RedisOptions {
    memory().pipeline_batch_size(3).max_retries(0).pool_size(1)
}

#[test]
fn puts_and_deletes_that_begin_on_the_server_end_locally() {
    let lab = Lab::new();
    for way in [Way::Request, Way::Answer] {
        let step = if way == Way::Answer { 1 } else { 7 };
        let mut round = 0;
        for at in (0..).step_by(step) {
            round += 1;
            let (outcome, _) = lab.cut(way, at, |store| store.batch_put(KEYS.map(|key| (key, round))));
            outcome.unwrap();
            assert_eq!(lab.numbers(), [Some(round); 7], "{way:?} at {at}");
            let (outcome, was_cut) = lab.cut(way, at, |store| store.batch_delete(&KEYS[..5]));
            let removed = outcome.unwrap_or_else(|error| match error {
                // Who deletes again is not told what the first time has found.
                Error::Unavailable { maybe_applied: true, .. } | Error::Partial { .. } => 5,
                other => panic!("{other:?}"),
            });
            assert!(removed <= 5);
            assert_eq!(lab.numbers()[..5], [None; 5], "{way:?} at {at}");
            if !was_cut {
                break;
            }
        }
        assert!(round > 10);
    }
    assert_eq!(lab.store.stats().conflicts, 0);
}

#[test]
fn reads_that_begin_on_the_server_end_locally() {
    let lab = Lab::new();
    let mut at = 0;
    loop {
        lab.store.batch_put(KEYS.map(|key| (key, at))).unwrap();
        let (found, was_cut) = lab.cut(Way::Answer, at, |store| store.batch_get::<usize>(KEYS));
        assert_eq!(found.unwrap(), [Some(at); 7]);
        if !was_cut {
            break;
        }
        at += 1;
    }
    assert!(at > 10);
}

/// The increments whose answers are lost are told as such, and those behind them are not made.
#[test]
fn increments_that_are_in_doubt_are_not_made_locally() {
    let lab = Lab::new();
    let mut at = 0;
    loop {
        lab.raw.run::<_, ()>("DEL", &KEYS.map(|key| format!("t:{key}")));
        let (outcome, was_cut) = lab.cut(Way::Answer, at, |store| store.batch_incr(KEYS.map(|key| (key, 1))));
        let made = lab.numbers().iter().flatten().sum::<i64>();
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

/// What was surely not sent is made here: only the chunk under way is in doubt.
#[test]
fn increments_that_were_not_sent_are_made_locally() {
    let lab = Lab::new();
    lab.store.put("warm", 1).unwrap();
    lab.proxy.set(Mode::Down);
    let numbers = lab.store.batch_incr(KEYS.map(|key| (key, 1)));
    if let Err(error) = numbers {
        // The connection was not yet seen to be gone.
        assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
        until("it is away", || matches!(lab.store.status(), Status::Away { .. }));
        assert_eq!(lab.store.batch_incr(KEYS.map(|key| (key, 1))).unwrap(), [1; 7]);
    }
    lab.proxy.set(Mode::Pass);
    connected(&lab.store);
    assert_eq!(lab.numbers(), [Some(1); 7]);
}
