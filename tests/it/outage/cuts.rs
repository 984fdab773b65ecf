//! Every operation of the store, cut at every byte of what it says and hears, with memory that serves in the
//! server's place: the cut is the only one, or an outage follows it.

mod calls;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{Error, LockGuard, Result, StateStore, Taken};

use crate::support::backends::HOUR;
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{connected, memory, open, until};

/// So many cases run at a time: most of their time they wait.
const AT_A_TIME: usize = 8;

/// Requests are cut at each of their first bytes, and then at some.
const EACH: usize = 200;
const STEP: usize = 23;

/// An operation, what lies on the server before and after it, and what it promises.
#[derive(Clone)]
struct Call {
    name: &'static str,
    /// The commands that prepare the server.
    before: &'static [&'static str],
    /// What the server holds from not done, over what is done in part, to done; `|` stands between two of
    /// which either may be.
    states: &'static [&'static str],
    /// What it returns when it is done on the server.
    answer: &'static str,
    again: Again,
    away: Away,
    run: Run,
}

/// What becomes of it after one lost answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is repeated, and the answer is the same.
    Same,
    /// It is repeated, and where the answer may be another it is told as lost.
    Told,
    /// It is told as lost, or as not done.
    Never,
}

/// What becomes of it while the server is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    /// It is done here.
    Served,
    /// It is done here, and answers by what is known here: after a lost answer, and of what was never read,
    /// that is nothing.
    Estimated(&'static str),
    /// It is done here, but not where it may be done there.
    Once,
    /// It reads what is not known here.
    Asked,
    /// It is refused.
    Refused,
}

#[derive(Clone, Copy)]
enum Run {
    Plain(fn(&StateStore) -> Result<String>),
    /// With a value that was taken before.
    Takes(fn(&Taken<i64>) -> Result<bool>),
    /// With a lock, which was taken `before` or is taken now; answers whether there is one in the end.
    Locks {
        before: bool,
        run: fn(&StateStore, &mut Option<LockGuard>) -> Result<()>,
    },
}

/// A call that is about to be made.
type Ready<'s> = Box<dyn FnOnce(&mut Option<LockGuard>) -> Result<String> + 's>;

/// What comes after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Outage,
}

/// One proxy, one database, one store.
struct Lab {
    raw: RawClient,
    proxy: Proxy,
    store: StateStore,
}

impl Lab {
    fn new() -> Self {
        let (server, database) = RedisServer::shared();
        let proxy = Proxy::to(server.port());
        // Nothing here is silent, and so nobody waits for a limit; on a busy machine all may take long.
        let options = memory().pool_size(1).retry_delay(Duration::from_millis(1));
        let options = options.timeout(Duration::from_secs(8)).connect_timeout(Duration::from_secs(4));
        let store = open(&format!("{}/{database}", proxy.url()), options).unwrap();
        Self { raw: RawClient::connect(&server.url(database)), proxy, store }
    }

    /// Leaves on the server what the call needs, lets the store see its values, and leaves a connection.
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
        until("the store works again", || {
            connected(&self.store);
            ["a", "b", "c"].iter().all(|key| self.store.strict().get_bytes(key).is_ok())
        });
    }

    /// What lies on the server.
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
    /// Does what comes before the call itself.
    fn ready<'s>(&self, store: &'s StateStore, guard: &mut Option<LockGuard>) -> Result<Ready<'s>> {
        Ok(match self.run {
            Run::Plain(run) => Box::new(move |_| run(store)),
            Run::Takes(run) => {
                let taken = store.take("q", HOUR)?.unwrap();
                Box::new(move |_| run(&taken).map(|done| format!("{done:?}")))
            }
            Run::Locks { before, run } => {
                if before {
                    *guard = store.lock("l", HOUR)?;
                }
                Box::new(move |guard| run(store, guard).map(|()| format!("{:?}", guard.is_some())))
            }
        })
    }

    /// Makes the call with the connection cut, and tells whether it was.
    fn cut(&self, lab: &Lab, way: Way, at: usize, then: Then) -> bool {
        let mut guard = None;
        let mut ready = None;
        until("all is ready", || {
            guard = None;
            lab.prepare(self);
            ready = self.ready(&lab.store, &mut guard).ok();
            ready.is_some()
        });
        let outages = lab.store.stats().outages;
        match then {
            Then::Nothing => lab.proxy.cut(way, at),
            Then::Outage => lab.proxy.cut_and_set(way, at, Mode::Down),
        }
        let outcome = ready.unwrap()(&mut guard);
        let was_cut = lab.proxy.was_cut();
        lab.proxy.set(Mode::Pass);
        let was_away = lab.store.stats().outages > outages;
        connected(&lab.store);
        let found = lab.state();
        let what = format!("{}, {way:?} cut at {at}, then {then:?}: {outcome:?}, found {found:?}", self.name);
        self.judge(&outcome, &found, was_away, &what);
        if was_away || then == Then::Outage {
            self.judge_outage(&outcome, &what);
        } else {
            self.judge_cut(&outcome, was_cut, &what);
        }
        was_cut
    }

    /// Holds what the call said to what the server holds.
    fn judge(&self, outcome: &Result<String>, found: &str, was_away: bool, what: &str) {
        let is_found = |state: &&str| state.split('|').any(|state| state == found);
        let place = self.states.iter().position(is_found).unwrap_or_else(|| panic!("half or twice: {what}"));
        match outcome {
            Ok(answer) => {
                assert_eq!(place, self.states.len() - 1, "it was not done: {what}");
                let is_estimate = matches!(self.away, Away::Estimated(any) if was_away && any.split('|').any(|one| one == answer));
                assert!(answer == self.answer || is_estimate, "a wrong answer: {what}");
            }
            Err(Error::Unavailable { maybe_applied: false, .. }) => {
                assert_eq!(place, 0, "it was done after all: {what}");
            }
            Err(Error::Unavailable { maybe_applied: true, .. }) => {
                assert!(self.states.len() > 1, "a read applies nothing: {what}");
            }
            Err(Error::Partial { done, source, .. }) => {
                assert!(self.states.len() > 2, "it is done as one: {what}");
                assert!((1..=place).contains(&usize::try_from(*done).unwrap()), "not so many are: {what}");
                assert!(matches!(**source, Error::Unavailable { .. }), "{what}");
            }
            Err(other) => panic!("{other}: {what}"),
        }
    }

    /// What a call promises whose connection was cut, and the next one was not.
    fn judge_cut(&self, outcome: &Result<String>, was_cut: bool, what: &str) {
        match (outcome, self.again) {
            (Err(_), _) if !was_cut => panic!("nothing stood in its way: {what}"),
            (Err(_), Again::Same) => panic!("it could have been repeated: {what}"),
            (Err(Error::Unavailable { maybe_applied: false, .. }), Again::Told) => {
                panic!("what was not done could have been repeated: {what}");
            }
            (Ok(_), _) | (Err(_), Again::Told | Again::Never) => {}
        }
    }

    /// What a call promises while the server is away.
    fn judge_outage(&self, outcome: &Result<String>, what: &str) {
        match (outcome, self.away) {
            (Ok(_) | Err(Error::Partial { .. }), _) | (Err(_), Away::Asked | Away::Refused) => {}
            (Err(_), Away::Served | Away::Estimated(_)) => panic!("it could have been served: {what}"),
            (Err(Error::Unavailable { maybe_applied: false, .. }), Away::Once) => {
                panic!("what was not done could have been served: {what}");
            }
            (Err(_), Away::Once) => {}
        }
    }

    /// Cuts the connection after every byte.
    fn cut_everywhere(&self, then: Then) {
        let lab = Lab::new();
        let every = std::env::var_os("MILLPOND_TEST_EVERY_BYTE").is_some();
        for way in [Way::Request, Way::Answer] {
            let mut at = 0;
            while self.cut(&lab, way, at, then) {
                at += if every || way == Way::Answer || at < EACH { 1 } else { STEP };
            }
            assert!(at > 3, "{}: there was something to cut", self.name);
        }
        let stats = lab.store.stats();
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

/// What was refused here was told as not done, though only its answer was lost and it was done there.
#[test]
fn a_refused_call_with_a_lost_reply_may_have_been_applied() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory().max_pending(2)).unwrap();
    store.push_back_many("q", [1, 2]).unwrap();
    let [first, taken] = [(); 2].map(|()| store.take::<i64>("q", HOUR).unwrap().unwrap());
    assert!(first.done().unwrap(), "the server knows the script now");
    proxy.cut_and_set(Way::Answer, 0, Mode::Down);
    assert_error!(taken.done(), Error::Unavailable { maybe_applied: true, .. });
    assert_error!(taken.done(), Error::Unavailable { maybe_applied: false, .. });
    proxy.set(Mode::Pass);
    connected(&store);
    assert!(!taken.done().unwrap(), "it was done");

    // There is room for two of three.
    proxy.cut_and_set(Way::Answer, 0, Mode::Down);
    let error = store.batch_put([("a", 1), ("b", 2), ("c", 3)]).unwrap_err();
    let Error::Partial { done: 2, source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Unavailable { maybe_applied: true, .. }), "{source:?}");
    assert_eq!(RawClient::connect(&server.url(0)).get("t:c").as_deref(), Some(&b"3"[..]));
}
