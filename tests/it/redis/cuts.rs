//! Connections that are cut at every byte of a request and of a reply, and replies that arrive in small
//! pieces.

use std::time::Duration;

use millpond::{Error, RedisOptions, Result, StateStore, WriteBatch};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, options, wait_for};

const KEYS: [&str; 3] = ["t:a", "t:b", "t:c"];

/// The values of [`KEYS`].
type State = [Option<&'static str>; 3];

/// An operation, and its effect on the data.
#[derive(Clone, Copy)]
struct Case {
    before: State,
    after: State,
    /// It is atomic.
    whole: bool,
    /// After which cuts it succeeds all the same, if further attempts are made.
    survives: Survives,
    /// How many of its commands are sent at a time.
    chunk: usize,
    run: fn(&StateStore) -> Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Survives {
    No,
    /// It changes nothing and is repeated.
    AnyCut,
    /// If it was applied, the data on the server prove it.
    LostReply,
}

const ONE: Case = Case {
    before: [None; 3],
    after: [Some("1"), None, None],
    whole: true,
    survives: Survives::No,
    chunk: 1000,
    run: |_| Ok(()),
};

struct Setup {
    raw: RawClient,
    proxy: Proxy,
    database: u32,
}

impl Setup {
    fn new() -> Self {
        let (server, database) = RedisServer::shared();
        Self { raw: RawClient::connect(&server.url(database)), proxy: Proxy::to(server.port()), database }
    }

    fn store(&self, options: RedisOptions) -> StateStore {
        open(&format!("{}/{}", self.proxy.url(), self.database), options).unwrap()
    }

    fn prepare(&self, state: &State) {
        for (key, value) in KEYS.iter().zip(state) {
            match value {
                Some(value) => self.raw.set(key, value),
                None => self.raw.run("DEL", &[key]),
            }
        }
    }

    fn state(&self) -> Vec<Option<String>> {
        self.raw.run("MGET", &KEYS)
    }
}

/// How many entries an operation has changed, and how many it should change.
fn changed(case: &Case, found: &[Option<String>]) -> (u64, u64) {
    let (mut done, mut all) = (0, 0);
    for ((before, after), found) in case.before.iter().zip(case.after).zip(found) {
        let found = found.as_deref();
        assert!(found == *before || found == after, "{found:?} is neither {before:?} nor {after:?}");
        if *before != after {
            all += 1;
            done += u64::from(found == after);
        }
    }
    assert!(!case.whole || done == 0 || done == all, "it was applied in part: {found:?}");
    (done, all)
}

/// Compares the result of an operation with the data on the server.
fn check(case: &Case, outcome: &Result<()>, found: &[Option<String>]) {
    let (done, all) = changed(case, found);
    match outcome {
        Ok(()) => assert_eq!(done, all, "it was not applied"),
        Err(Error::Unavailable { maybe_applied: false, .. }) => assert_eq!(done, 0, "it was applied"),
        Err(Error::Unavailable { maybe_applied: true, .. }) => assert!(all > 0, "a read applies nothing"),
        Err(Error::Partial { done: told, source, .. }) => {
            assert!((1..=done).contains(told), "{told} reported, {done} applied");
            assert!(matches!(**source, Error::Unavailable { .. }), "{source:?}");
        }
        Err(other) => panic!("{other:?}"),
    }
    assert_eq!(outcome.as_ref().is_err_and(Error::is_transient), outcome.is_err());
}

/// Cuts the connection after every single byte of the request and of the reply.
fn cut_everywhere(case: &Case) {
    let setup = Setup::new();
    for retries in [0, 2] {
        let options = options().pool_size(1).max_retries(retries).retry_delay(Duration::from_millis(1));
        let store = setup.store(options.pipeline_batch_size(case.chunk));
        setup.prepare(&case.before);
        (case.run)(&store).unwrap();
        for way in [Way::Request, Way::Answer] {
            let mut all_done = Vec::new();
            loop {
                setup.prepare(&case.before);
                // Whatever the previous cut left behind, the store still works.
                wait_for("the store works again", || store.put("warm", 1).is_ok());
                let at = all_done.len();
                setup.proxy.cut(way, at);
                let outcome = (case.run)(&store);
                let was_cut = setup.proxy.cancel_cut();
                let found = setup.state();
                check(case, &outcome, &found);
                if !was_cut {
                    outcome.unwrap();
                    break;
                }
                let (done, all) = changed(case, &found);
                let survives = match case.survives {
                    Survives::No => false,
                    Survives::AnyCut => true,
                    Survives::LostReply => way == Way::Answer && done == all,
                };
                if retries > 0 && survives {
                    assert!(outcome.is_ok(), "{way:?} cut at {at}: {outcome:?}");
                }
                all_done.push(done == all);
            }
            assert!(all_done.len() > 3, "there was something to cut");
            if retries == 0 && case.whole && case.before != case.after {
                // A reply comes after the effect, and an effect after the last byte of the request.
                let last = all_done.len() - 1;
                let expected = |at| way == Way::Answer || at == last;
                assert!(all_done.iter().enumerate().all(|(at, done)| *done == expected(at)), "{all_done:?}");
            }
        }
    }
}

#[test]
fn a_get_that_is_cut_returns_the_value_or_an_error() {
    let before = [Some("17"), None, None];
    let run = |store: &StateStore| store.get::<i64>("a").map(|found| assert_eq!(found, Some(17)));
    cut_everywhere(&Case { before, after: before, survives: Survives::AnyCut, run, ..ONE });
}

#[test]
fn a_put_that_is_cut_is_applied_or_returns_an_error() {
    let run = |store: &StateStore| store.put("a", 1);
    cut_everywhere(&Case { before: [Some("0"), None, None], survives: Survives::LostReply, run, ..ONE });
}

#[test]
fn an_increment_that_is_cut_is_never_applied_twice() {
    let run = |store: &StateStore| store.incr("a", 1).map(|number| assert_eq!(number, 6));
    cut_everywhere(&Case { before: [Some("5"), None, None], after: [Some("6"), None, None], run, ..ONE });
}

#[test]
fn an_increment_with_a_ttl_that_is_cut_is_never_applied_twice() {
    let run = |store: &StateStore| store.incr_with_ttl("a", 1, HOUR).map(|number| assert_eq!(number, 1));
    cut_everywhere(&Case { run, ..ONE });
}

#[test]
fn a_set_if_not_exists_that_is_cut_never_claims_too_much() {
    let run = |store: &StateStore| store.set_if_not_exists("a", 1, None).map(|set| assert!(set));
    cut_everywhere(&Case { run, ..ONE });
}

#[test]
fn a_compare_and_set_that_is_cut_never_claims_too_much() {
    let run = |store: &StateStore| store.compare_and_set("a", Some(&0), &1).map(|swapped| assert!(swapped));
    cut_everywhere(&Case { before: [Some("0"), None, None], run, ..ONE });
}

#[test]
fn a_removal_that_is_cut_returns_the_value_or_an_error() {
    let run = |store: &StateStore| store.get_and_delete::<i64>("a").map(|found| assert_eq!(found, Some(7)));
    cut_everywhere(&Case { before: [Some("7"), None, None], after: [None; 3], run, ..ONE });
}

#[test]
fn a_write_batch_that_is_cut_is_applied_fully_or_not_at_all() {
    let run = |store: &StateStore| store.write(WriteBatch::new().put("a", 1)?.delete("b")?.put("c", 3)?);
    let (before, after) = ([Some("0"), Some("2"), None], [Some("1"), None, Some("3")]);
    cut_everywhere(&Case { before, after, survives: Survives::LostReply, run, ..ONE });
}

#[test]
fn a_batch_put_that_is_cut_reports_no_more_than_was_applied() {
    let run = |store: &StateStore| store.batch_put([("a", 1), ("b", 2), ("c", 3)]);
    let after = [Some("1"), Some("2"), Some("3")];
    for chunk in [2, 1000] {
        cut_everywhere(&Case { after, whole: false, survives: Survives::LostReply, chunk, run, ..ONE });
    }
}

#[test]
fn a_batch_incr_that_is_cut_applies_no_increment_twice() {
    let run = |store: &StateStore| {
        store.batch_incr([("a", 1), ("b", 1), ("c", 1)]).map(|numbers| assert_eq!(numbers, [6, 1, 10]))
    };
    let (before, after) = ([Some("5"), None, Some("9")], [Some("6"), Some("1"), Some("10")]);
    for chunk in [2, 1000] {
        cut_everywhere(&Case { before, after, whole: false, chunk, run, ..ONE });
    }
}

/// The request is too large for the socket buffers: the connection ends while it is still being sent.
#[test]
fn a_large_batch_that_is_cut_leaves_no_partial_value() {
    const LENGTH: usize = 1_300_000;
    let setup = Setup::new();
    let value = "x".repeat(LENGTH);
    for retries in [0, 2] {
        let store = setup.store(options().max_retries(retries));
        for at in (1..3 * LENGTH).step_by(650_000) {
            setup.prepare(&[None; 3]);
            wait_for("the store works again", || store.put("warm", 1).is_ok());
            setup.proxy.cut(Way::Request, at);
            let outcome = store.batch_put([("a", &value), ("b", &value), ("c", &value)]);
            assert!(setup.proxy.cancel_cut());
            let lengths = KEYS.map(|key| setup.raw.run::<_, usize>("STRLEN", &[key]));
            assert!(lengths.iter().all(|length| [0, LENGTH + 2].contains(length)), "{lengths:?}");
            let done = lengths.iter().filter(|length| **length > 0).count();
            let error = outcome.unwrap_err();
            assert_eq!(done, at / (LENGTH + 100), "every complete command is applied");
            // The reply to the first value may arrive before the last value is cut.
            match error {
                Error::Unavailable { maybe_applied: true, .. } => {}
                Error::Partial { done: told, source, .. } => {
                    assert!((1..=done as u64).contains(&told), "{told} reported, {done} applied");
                    assert!(matches!(*source, Error::Unavailable { maybe_applied: true, .. }), "{source:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn replies_that_arrive_byte_by_byte_are_read_completely() {
    let setup = Setup::new();
    let patient = || options().connect_timeout(Duration::from_secs(10)).timeout(Duration::from_secs(10));
    let store = setup.store(patient());
    let text = "ü\r\n$5\r\n".repeat(10);
    store.put("text", &text).unwrap();
    setup.proxy.set(Mode::Drip(Duration::from_micros(200)));
    assert_eq!(store.get::<String>("text").unwrap().as_deref(), Some(&*text));
    assert_eq!(store.get::<String>("none").unwrap(), None);
    store.put("a", 1).unwrap();
    assert_eq!(store.incr("a", 9).unwrap(), 10);
    assert!(store.compare_and_set("a", Some(&10), &11).unwrap());
    assert_eq!(store.batch_incr([("a", 1), ("b", 1)]).unwrap(), [12, 1]);
    assert_eq!(store.batch_get::<i64>(["a", "none", "b"]).unwrap(), [Some(12), None, Some(1)]);
    store.write(WriteBatch::new().put("c", 1).unwrap().delete("text").unwrap()).unwrap();
    assert_eq!(store.keys("").unwrap(), ["a", "b", "c"]);
    assert_eq!(
        setup.store(patient()).get::<i64>("a").unwrap(),
        Some(12),
        "the replies of a handshake are read too"
    );
}
