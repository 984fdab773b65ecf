//! Every operation of the store, cut at every byte of its requests and replies, with a fallback to memory.
//! Either the cut is the only fault, or an outage follows it.

mod calls;
mod denied;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{Error, Leased, LockGuard, Result, StateStore};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, wait_for, wait_until_connected};

/// How many cases run at a time: they spend most of their time waiting.
const AT_A_TIME: usize = 8;

/// Requests are cut at each of their first bytes, and then at some of the others.
const EACH: usize = 200;
const STEP: usize = 23;

/// An operation, the data on the server before and after it, and its promises.
#[derive(Clone)]
struct Call {
    name: &'static str,
    /// The commands that prepare the server.
    before: &'static [&'static str],
    /// The possible states of the server, from not applied through partly applied to fully applied; `|`
    /// separates two alternatives for one state.
    states: &'static [&'static str],
    /// The result when the operation is applied on the server.
    answer: &'static str,
    again: OnLostReply,
    away: OnOutage,
    run: Run,
}

/// How the operation treats one lost reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnLostReply {
    /// It is repeated, and returns the same result.
    Same,
    /// It is not repeated; if it was applied, the data on the server prove it.
    Proven,
    /// It is repeated; if the result could differ, the call reports a lost reply.
    Reported,
    /// It reports a lost reply, or that it was not applied.
    Never,
}

/// How the operation behaves while the store is disconnected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnOutage {
    /// It is done locally.
    Served,
    /// It is done locally, and its result is based on the local data, which has nothing about an operation in
    /// doubt or a key that was never read.
    Estimated(&'static str),
    /// It is done locally, unless it may already have been applied on the server. Its result may be based on the
    /// local data.
    UnlessInDoubt(&'static str),
    /// It reads data that is not known locally.
    NeedsServer,
    /// It is refused.
    Refused,
}

#[derive(Clone, Copy)]
enum Run {
    Plain(fn(&StateStore) -> Result<String>),
    /// With a value that was taken before.
    Takes(fn(&StateStore, &Leased<i64>) -> Result<bool>),
    /// With a lock, acquired before the call or by it; returns whether a lock is held at the end.
    Locks {
        before: bool,
        run: fn(&StateStore, &mut Option<LockGuard>) -> Result<()>,
    },
}

/// A call that is ready to be made.
type Ready<'s> = Box<dyn FnOnce(&mut Option<LockGuard>) -> Result<String> + 's>;

/// What follows the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Outage,
}

/// One proxy, one database, one store.
struct Setup {
    raw: RawClient,
    proxy: Proxy,
    store: StateStore,
}

impl Setup {
    fn new() -> Self {
        let (server, database) = RedisServer::shared();
        let proxy = Proxy::to(server.port());
        // Nothing in this test is silent, so no call waits for a limit; on a busy machine everything may take
        // long.
        let options = memory().pool_size(1).retry_delay(Duration::from_millis(1));
        let options = options.timeout(Duration::from_secs(8)).connect_timeout(Duration::from_secs(4));
        let store = open(&format!("{}/{database}", proxy.url()), options).unwrap();
        Self { raw: RawClient::connect(&server.url(database)), proxy, store }
    }

    /// Stores the data for the call on the server, makes the store read it, and leaves one open connection.
    fn prepare(&self, call: &Call) {
        const CLEAR: &str = r"
            for _, key in ipairs(redis.call('KEYS', 't:*')) do
                if not string.find(key, '^t:__millpond') then redis.call('DEL', key) end
            end";
        self.raw.run::<_, ()>("EVAL", &[CLEAR, "0"]);
        for command in call.before {
            let words: Vec<&str> = command.split(' ').collect();
            self.raw.run::<_, redis::Value>(words[0], &words[1..]);
        }
        wait_for("the store works again", || {
            wait_until_connected(&self.store);
            ["a", "b", "c"].iter().all(|key| self.store.without_fallback().get_bytes(key).is_ok())
        });
    }

    /// The data on the server.
    fn state(&self) -> String {
        const STATE: &str = r"
            local found = {}
            local keys = redis.call('KEYS', 't:*')
            table.sort(keys)
            for _, key in ipairs(keys) do
                local kind, name, shown = redis.call('TYPE', key).ok, string.sub(key, 3), nil
                if not string.find(name, '__millpond') then
                    if kind == 'string' then
                        shown = name .. '=' .. redis.call('GET', key)
                    elseif kind == 'list' then
                        shown = name .. '=[' .. table.concat(redis.call('LRANGE', key, 0, -1), ',') .. ']'
                    else
                        local fields, all = redis.call('HKEYS', key), {}
                        table.sort(fields)
                        for at, field in ipairs(fields) do
                            all[at] = field .. ':' .. redis.call('HGET', key, field)
                        end
                        shown = name .. '={' .. table.concat(all, ',') .. '}'
                    end
                elseif string.find(name, ':leased$') then
                    shown = string.gsub(name, '__millpond:', '') .. '=' .. redis.call('HLEN', key)
                elseif string.find(name, ':delayed$') then
                    shown = string.gsub(name, '__millpond:', '') .. '=' .. redis.call('ZCARD', key)
                elseif string.find(name, ':lock$') then
                    shown = string.gsub(name, '__millpond:', '')
                end
                if shown then
                    local left = redis.call('PTTL', key)
                    if left > 3600000 then shown = shown .. ' >1h' elseif left >= 0 then shown = shown .. ' <=1h' end
                    found[#found + 1] = shown
                end
            end
            return table.concat(found, ' ')";
        self.raw.run("EVAL", &[STATE, "0"])
    }
}

impl Call {
    /// Does the preparation of the call.
    fn ready<'s>(&self, store: &'s StateStore, guard: &mut Option<LockGuard>) -> Result<Ready<'s>> {
        Ok(match self.run {
            Run::Plain(run) => Box::new(move |_| run(store)),
            Run::Takes(run) => {
                let taken = store.lease("q", HOUR)?.unwrap();
                Box::new(move |_| run(store, &taken).map(|done| format!("{done:?}")))
            }
            Run::Locks { before, run } => {
                if before {
                    *guard = store.try_lock("l", HOUR)?;
                }
                Box::new(move |guard| run(store, guard).map(|()| format!("{:?}", guard.is_some())))
            }
        })
    }

    /// Makes the call while the connection is cut, and returns whether it was cut.
    fn cut(&self, setup: &Setup, way: Way, at: usize, then: Then) -> bool {
        let mut guard = None;
        let mut ready = None;
        wait_for("everything is ready", || {
            guard = None;
            setup.prepare(self);
            ready = self.ready(&setup.store, &mut guard).ok();
            ready.is_some()
        });
        let outages = setup.store.stats().outages.outages;
        match then {
            Then::Nothing => setup.proxy.cut(way, at),
            Then::Outage => setup.proxy.cut_and_set(way, at, Mode::Down),
        }
        let outcome = ready.unwrap()(&mut guard);
        let was_cut = setup.proxy.cancel_cut();
        setup.proxy.set(Mode::Pass);
        let was_away = setup.store.stats().outages.outages > outages;
        wait_until_connected(&setup.store);
        let found = setup.state();
        let what = format!("{}, {way:?} cut at {at}, then {then:?}: {outcome:?}, found {found:?}", self.name);
        self.check(&outcome, &found, was_away, &what);
        if was_away || then == Then::Outage {
            self.check_after_outage(&outcome, &what);
        } else {
            self.check_after_cut(&outcome, was_cut.then_some(way), &what);
        }
        was_cut
    }

    /// Compares the result of the call with the data on the server.
    fn check(&self, outcome: &Result<String>, found: &str, was_away: bool, what: &str) {
        let is_found = |state: &&str| state.split('|').any(|state| state == found);
        let place = self
            .states
            .iter()
            .position(is_found)
            .unwrap_or_else(|| panic!("applied in part or twice: {what}"));
        match outcome {
            Ok(answer) => {
                assert_eq!(place, self.states.len() - 1, "it was not applied: {what}");
                let is_estimate = matches!(
                    self.away,
                    OnOutage::Estimated(any) | OnOutage::UnlessInDoubt(any)
                        if was_away && any.split('|').any(|one| one == answer)
                );
                assert!(answer == self.answer || is_estimate, "a wrong answer: {what}");
            }
            Err(Error::Unavailable { maybe_applied: false, .. }) => {
                assert_eq!(place, 0, "it was applied after all: {what}");
            }
            Err(Error::Unavailable { maybe_applied: true, .. }) => {
                assert!(self.states.len() > 1, "a read applies nothing: {what}");
            }
            Err(Error::Partial { done, source, .. }) => {
                assert!(self.states.len() > 2, "it must be atomic: {what}");
                assert!(
                    (1..=place).contains(&usize::try_from(*done).unwrap()),
                    "the reported number is too high: {what}"
                );
                assert!(matches!(**source, Error::Unavailable { .. }), "{what}");
            }
            Err(other) => panic!("{other}: {what}"),
        }
    }

    /// Checks the promises of a call whose connection was cut, if the next connection works.
    fn check_after_cut(&self, outcome: &Result<String>, cut: Option<Way>, what: &str) {
        match (outcome, self.again) {
            (Err(_), _) if cut.is_none() => panic!("there was no cut: {what}"),
            (Err(_), OnLostReply::Proven) if cut == Some(Way::Answer) => panic!("it was applied: {what}"),
            (Err(_), OnLostReply::Same) => panic!("it could have been repeated: {what}"),
            (Err(Error::Unavailable { maybe_applied: false, .. }), OnLostReply::Reported) => {
                panic!("an operation that was not applied could have been repeated: {what}");
            }
            (Ok(_), _) | (Err(_), OnLostReply::Proven | OnLostReply::Reported | OnLostReply::Never) => {}
        }
    }

    /// Checks the promises of a call that an outage follows.
    fn check_after_outage(&self, outcome: &Result<String>, what: &str) {
        match (outcome, self.away) {
            (Ok(_) | Err(Error::Partial { .. }), _) | (Err(_), OnOutage::NeedsServer | OnOutage::Refused) => {
            }
            (Err(_), OnOutage::Served | OnOutage::Estimated(_)) => {
                panic!("it could have been served: {what}")
            }
            (Err(Error::Unavailable { maybe_applied: false, .. }), OnOutage::UnlessInDoubt(_)) => {
                panic!("an operation that was not applied could have been served: {what}");
            }
            (Err(_), OnOutage::UnlessInDoubt(_)) => {}
        }
    }

    /// Cuts the connection after every byte.
    fn cut_everywhere(&self, then: Then) {
        let setup = Setup::new();
        let every = std::env::var_os("MILLPOND_TEST_EVERY_BYTE").is_some();
        for way in [Way::Request, Way::Answer] {
            let mut at = 0;
            while self.cut(&setup, way, at, then) {
                at += if every || way == Way::Answer || at < EACH { 1 } else { STEP };
            }
            assert!(at > 3, "{}: there was something to cut", self.name);
        }
        let stats = setup.store.stats().outages;
        assert!(then == Then::Nothing || stats.outages > 0, "{}: {stats:?}", self.name);
        assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0), "{}", self.name);
    }
}

/// Cuts all calls, several at a time.
fn cut_all(then: Then) {
    let calls = calls::all();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    call.cut_everywhere(then);
                }
            });
        }
    });
}

#[test]
fn a_call_that_is_cut_once_is_applied_or_reports_the_truth() {
    cut_all(Then::Nothing);
}

#[test]
fn a_call_cut_by_an_outage_is_applied_once_or_reports_truth() {
    cut_all(Then::Outage);
}

/// The fallback refused these operations and reported them as not applied, although only the reply was lost
/// and the server had applied them.
#[test]
fn a_refused_call_with_a_lost_reply_may_have_been_applied() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory().max_pending(2)).unwrap();
    store.push_back_many("q", [1, 2]).unwrap();
    let [first, taken] = [(); 2].map(|()| store.lease::<i64>("q", HOUR).unwrap().unwrap());
    assert!(first.ack().unwrap(), "the server knows the script now");
    proxy.cut_and_set(Way::Answer, 0, Mode::Down);
    assert_error!(taken.ack(), Error::Unavailable { maybe_applied: true, .. });
    assert_error!(taken.ack(), Error::Unavailable { maybe_applied: false, .. });
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(!taken.ack().unwrap(), "the server had applied it");

    // There is room for two of three entries.
    proxy.cut_and_set(Way::Answer, 0, Mode::Down);
    let error = store.batch_put([("a", 1), ("b", 2), ("c", 3)]).unwrap_err();
    let Error::Partial { done: 2, source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Unavailable { maybe_applied: true, .. }), "{source:?}");
    assert_eq!(RawClient::connect(&server.url(0)).get("t:c").as_deref(), Some(&b"3"[..]));
}
