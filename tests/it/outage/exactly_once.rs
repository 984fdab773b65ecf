//! `exactly_once` with a fallback to memory: increments, pushes and pops whose replies are lost. None of them
//! reports that it may have been applied, and the server holds what was acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use millpond::{Error, RedisOptions, Result, StateStore, WriteBatch};

use crate::support::Ending;
use crate::support::backends::HOUR;
use crate::support::proxied_server::{ProxiedServer, exactly_once, without_retries};
use crate::support::proxy::{Mode, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{open, pending, wait_for, wait_until_connected};

/// The results that were acknowledged so far.
struct Acknowledged<'l> {
    setup: &'l ProxiedServer,
    times: i64,
    queue: VecDeque<i64>,
}

type Step = fn(&StateStore, &mut Acknowledged<'_>) -> Result<()>;

fn incr(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    store.incr("n", 1)?;
    told.times += 1;
    let held: Option<i64> = told.setup.raw.run("GET", &["t:n"]);
    assert!(held.unwrap_or(0) <= told.times);
    Ok(())
}

fn incr_with_ttl(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    store.incr_with_ttl("n", 1, HOUR)?;
    told.times += 1;
    Ok(())
}

fn map_incr(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    store.map_incr("m", "n", 1)?;
    told.times += 1;
    Ok(())
}

fn batch_incr(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    let keys = ["n0", "n1", "n2", "n3", "n4"];
    assert_eq!(store.batch_incr(keys.map(|key| (key, 1)))?.len(), keys.len());
    told.times += 1;
    Ok(())
}

fn put(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    store.put("n", told.times)
}

fn update(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    if told.times == 1 {
        return store.put("n", told.times);
    }
    store.update("n", told.times)?;
    Ok(())
}

fn map_put(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    store.map_put("m", "n", told.times)?;
    Ok(())
}

fn write(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    let mut batch = WriteBatch::new();
    for key in ["n0", "n1", "n2", "n3", "n4"] {
        batch.put(key, told.times)?;
    }
    store.write(&batch)
}

fn push(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    store.push_back("q", told.times)?;
    told.queue.push_back(told.times);
    Ok(())
}

fn push_many(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    store.push_back_many("q", [told.times, -told.times])?;
    told.queue.extend([told.times, -told.times]);
    Ok(())
}

fn pop(store: &StateStore, told: &mut Acknowledged<'_>) -> Result<()> {
    told.times += 1;
    let popped = match told.times % 3 {
        0 => store.pop_front::<i64>("q"),
        1 => store.pop_back("q"),
        _ => store.pop_front_wait("q", Duration::from_millis(20)),
    };
    // A refused pop leaves the value in the queue.
    let popped = match popped {
        Err(Error::Unavailable { maybe_applied: false, .. }) => return Ok(()),
        popped => popped?,
    };
    let expected = if told.times % 3 == 1 { told.queue.pop_back() } else { told.queue.pop_front() };
    assert_eq!(popped, expected);
    Ok(())
}

/// Compares the data on the server with the acknowledged results.
fn assert_server_holds(step: Step, told: &Acknowledged<'_>) {
    let raw = &told.setup.raw;
    let same = |one: Step| std::ptr::fn_addr_eq(step, one);
    if same(incr) || same(incr_with_ttl) || same(put) || same(update) {
        assert_eq!(raw.run::<_, Option<i64>>("GET", &["t:n"]).unwrap_or(0), told.times);
        let ttl: i64 = raw.run("PTTL", &["t:n"]);
        assert!(ttl == -2 || (ttl > 0) == same(incr_with_ttl), "{ttl}");
    } else if same(map_incr) || same(map_put) {
        assert_eq!(raw.run::<_, Option<i64>>("HGET", &["t:m", "n"]).unwrap_or(0), told.times);
    } else if same(batch_incr) || same(write) {
        let held: Vec<Option<i64>> = raw.run("MGET", &["t:n0", "t:n1", "t:n2", "t:n3", "t:n4"]);
        assert_eq!(held.into_iter().map(|held| held.unwrap_or(0)).collect::<Vec<_>>(), [told.times; 5]);
    } else {
        assert_eq!(told.setup.queue(), told.queue);
    }
}

/// Cuts at every byte of the replies, and at some bytes of the requests: at every one with
/// `MILLPOND_TEST_EVERY_BYTE` set. The server knows the script in one case, and does not in the other.
fn cut_everywhere(step: Step, options: &RedisOptions, mode: Mode) {
    let every = std::env::var_os("MILLPOND_TEST_EVERY_BYTE").is_some();
    let setup = ProxiedServer::new();
    let mut told = Acknowledged { setup: &setup, times: 0, queue: VecDeque::new() };
    if std::ptr::fn_addr_eq(step, pop as Step) {
        told.queue = (0..3_000).collect();
        setup.raw.run::<_, ()>(
            "RPUSH",
            &[&["t:q".to_owned()][..], &(0..3_000).map(|n: i64| n.to_string()).collect::<Vec<_>>()].concat(),
        );
    }
    for (way, stride) in [(Way::Answer, 1), (Way::Request, if every { 1 } else { 37 })] {
        for is_known in [true, false] {
            let store = setup.store(options.clone());
            // What was observed before is no conflict.
            for key in ["n", "n0", "n1", "n2", "n3", "n4"] {
                store.get_bytes(key).unwrap();
            }
            let (mut cuts, mut whole) = (0, 0);
            for at in (0..).step_by(if is_known { 1 } else { stride }) {
                if !is_known {
                    setup.raw.run::<_, ()>("SCRIPT", &["FLUSH"]);
                }
                setup.proxy.cut_and_set(way, at, mode);
                if let Err(error) = step(&store, &mut told) {
                    panic!("{way:?} cut at {at}: {error:?}");
                }
                let was_cut = setup.proxy.cancel_cut();
                cuts += u32::from(was_cut);
                setup.proxy.set(Mode::Pass);
                wait_until_connected(&store);
                assert_server_holds(step, &told);
                // A cut after the last byte is noticed only by the next operation.
                wait_for("the store works again", || store.get_bytes("noticed").is_ok());
                whole += u32::from(!was_cut);
                if whole == 3 {
                    break;
                }
            }
            assert!(cuts > 7, "{cuts} cuts");
            let stats = store.stats().outages;
            assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0));
            store.close().unwrap();
        }
    }
}

macro_rules! cut_everywhere {
    ($($name:ident, $step:ident;)*) => {
        $(
            #[test]
            fn $name() {
                cut_everywhere($step, &exactly_once(), Mode::Pass);
                cut_everywhere($step, &without_retries(), Mode::Refuse);
            }
        )*
    };
}

cut_everywhere! {
    an_increment_that_is_cut_anywhere_is_done_once, incr;
    an_increment_with_a_ttl_that_is_cut_anywhere_is_done_once, incr_with_ttl;
    an_increment_in_a_map_that_is_cut_anywhere_is_done_once, map_incr;
    a_batch_of_increments_that_is_cut_anywhere_is_done_once, batch_incr;
    a_put_that_is_cut_anywhere_is_done, put;
    an_update_that_is_cut_anywhere_is_done, update;
    a_put_in_a_map_that_is_cut_anywhere_is_done, map_put;
    an_atomic_batch_that_is_cut_anywhere_is_done, write;
    a_push_that_is_cut_anywhere_is_done_once, push;
    a_push_of_many_that_is_cut_anywhere_is_done_once, push_many;
    a_pop_that_is_cut_anywhere_loses_nothing, pop;
}

/// Only this one reply is lost, and the server answers everything else: that is an outage until the store has
/// asked the server.
#[test]
fn a_call_without_a_reply_is_settled_by_asking_the_server() {
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries());
    store.incr("n", 1).unwrap();
    for times in 2..20_i64 {
        assert_eq!(store.get::<i64>("n").unwrap(), Some(times - 1));
        setup.proxy.cut(Way::Answer, 0);
        assert_eq!(store.incr("n", 1).unwrap(), times, "the estimate is based on the last known value");
        wait_until_connected(&store);
        assert_eq!(setup.raw.run::<_, i64>("GET", &["t:n"]), times);
    }
    assert_eq!(store.stats().outages.uncertain, 0);
}

#[test]
fn a_killed_server_that_keeps_its_log_applies_each_call_once() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url(0), exactly_once()).unwrap();
    let (ended, times, pushed) = (AtomicBool::new(false), AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        let ending = Ending(&ended);
        for thread in 0..4 {
            let (store, ended, times, pushed) = (&store, &ended, &times, &pushed);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    store.incr("n", 1).unwrap();
                    times.fetch_add(1, Ordering::Relaxed);
                    store.push_back(format!("q{thread}"), 1).unwrap();
                    pushed.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        for _ in 0..5 {
            let enough = times.load(Ordering::Relaxed) + 300;
            wait_for("the threads write", || times.load(Ordering::Relaxed) > enough);
            server.kill();
            wait_for("the calls are queued", || pending(&store).is_some_and(|waiting| waiting > 3));
            server.restart();
            wait_until_connected(&store);
        }
        drop(ending);
    });
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), times.into_inner());
    let lengths: i64 = (0..4).map(|thread| raw.run::<_, i64>("LLEN", &[format!("t:q{thread}")])).sum();
    assert_eq!(lengths, pushed.into_inner());
    assert_eq!(store.stats().outages.uncertain, 0);
}

/// Commands that were sent to a frozen server are applied once, whenever the server continues.
#[test]
fn a_server_that_thaws_late_applies_each_call_once() {
    let setup = ProxiedServer::new();
    let store = setup.store(exactly_once());
    setup.raw.run::<_, ()>("RPUSH", &["t:jobs", "1", "2", "3"]);
    store.incr("n", 1).unwrap();
    for round in 1..4_i64 {
        setup.server.pause();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| store.incr("n", 1).unwrap());
                scope.spawn(|| store.push_back("q", 1).unwrap());
                scope.spawn(|| match store.pop_front::<i64>("jobs") {
                    Err(Error::Unavailable { maybe_applied: false, .. }) => {}
                    other => panic!("{other:?}"),
                });
            }
        });
        assert!(pending(&store).is_some());
        setup.server.resume();
        wait_until_connected(&store);
        assert_eq!(setup.raw.run::<_, i64>("GET", &["t:n"]), 1 + 3 * round);
        assert_eq!(setup.raw.run::<_, i64>("LLEN", &["t:q"]), 3 * round);
        assert_eq!(setup.raw.run::<_, Vec<i64>>("LRANGE", &["t:jobs", "0", "-1"]), [1, 2, 3]);
    }
    assert_eq!(store.stats().outages.uncertain, 0);
}

#[test]
fn a_pop_with_a_lost_reply_restores_its_value_and_the_ttl() {
    let setup = ProxiedServer::new();
    for (front, left) in [(true, vec![1, 2, 3]), (false, vec![1, 2, 3]), (true, vec![1])] {
        let store = setup.store(without_retries());
        setup.raw.run::<_, ()>("DEL", &["t:q"]);
        store.push_back_many("q", &left).unwrap();
        store.expire("q", HOUR).unwrap();
        let ttl: i64 = setup.raw.run("PTTL", &["t:q"]);
        setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
        let popped = if front { store.pop_front::<i64>("q") } else { store.pop_back("q") };
        assert_error!(popped, Error::Unavailable { maybe_applied: false, .. });
        assert_eq!(setup.queue().len(), left.len() - 1, "the server had popped the value");
        setup.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_eq!(setup.queue(), left);
        let now: i64 = setup.raw.run("PTTL", &["t:q"]);
        assert!(now > 0 && now <= ttl, "{now} of {ttl}");
    }
}

#[test]
fn a_value_that_would_have_expired_is_not_restored() {
    const SHORT: Duration = Duration::from_millis(200);
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries());
    let mut was_popped = false;
    while !was_popped {
        store.push_back("q", 1).unwrap();
        store.expire("q", SHORT).unwrap();
        // A key of the test expires a moment later.
        setup.raw.run::<_, ()>("SET", &["timer", "1", "PX", &SHORT.as_millis().to_string()]);
        setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
        assert_error!(store.pop_front::<i64>("q"), Error::Unavailable { maybe_applied: false, .. });
        // On a slow machine the value may have expired before the pop.
        was_popped = setup.raw.exists("timer");
        wait_for("the value would have expired", || !setup.raw.exists("timer"));
        setup.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert!(!setup.raw.exists("t:q"));
    }
    assert_eq!(store.stats().outages.uncertain, 0);
}

/// An exclusive store is served during an outage, and a pop whose reply was lost is undone before the next
/// one.
#[test]
fn an_exclusive_store_undoes_a_lost_pop_before_the_next_pop() {
    let setup = ProxiedServer::new();
    let store = setup.store(without_retries().exclusive(true));
    store.push_back_many("q", [1, 2]).unwrap();
    setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
    // The values of the queue are not known locally.
    assert_error!(store.pop_front::<i64>("q"), Error::Unavailable { maybe_applied: false, .. });
    store.push_back("q", 3).unwrap();
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(setup.queue(), [1, 2, 3]);
    store.delete("q").unwrap();
    setup.proxy.cut_and_set(Way::Answer, 0, Mode::Refuse);
    let popped = store.pop_front::<i64>("q");
    assert!(matches!(popped, Ok(None) | Err(Error::Unavailable { maybe_applied: false, .. })), "{popped:?}");
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(!setup.raw.exists("t:q"));
}

/// Many cuts while threads write.
#[test]
fn calls_of_many_threads_under_many_cuts_are_applied_once() {
    let setup = ProxiedServer::new();
    let store = setup.store(exactly_once().pool_size(8));
    let ended = AtomicBool::new(false);
    let [sum, pushed, popped] = [const { AtomicI64::new(0) }; 3];
    let begun = std::time::Instant::now();
    thread::scope(|scope| {
        let ending = Ending(&ended);
        for thread in 0..6_i64 {
            let (store, ended) = (&store, &ended);
            let (sum, pushed, popped) = (&sum, &pushed, &popped);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread.unsigned_abs());
                while !ended.load(Ordering::Relaxed) {
                    let by = random.i64(1..10);
                    match random.u8(..5) {
                        0 => drop(store.incr("n", by).unwrap()),
                        1 => drop(store.map_incr("m", "n", by).unwrap()),
                        2 => drop(store.batch_incr([("n", by - 1), ("n1", 1)]).unwrap()),
                        3 => {
                            store.push_back("q", by).unwrap();
                            pushed.fetch_add(by, Ordering::Relaxed);
                            continue;
                        }
                        _ => {
                            match store.pop_front::<i64>("q") {
                                Ok(found) => popped.fetch_add(found.unwrap_or(0), Ordering::Relaxed),
                                Err(Error::Unavailable { maybe_applied: false, .. }) => 0,
                                Err(other) => panic!("{other:?}"),
                            };
                            continue;
                        }
                    }
                    sum.fetch_add(by, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(50));
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(7);
        while begun.elapsed() < Duration::from_secs(2) || store.stats().outages.outages <= 10 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", store.stats());
            let way = if random.bool() { Way::Request } else { Way::Answer };
            let mode = if random.u8(..4) == 0 { Mode::Down } else { Mode::Pass };
            setup.proxy.cut_and_set(way, random.usize(..4000), mode);
            wait_for("the connection is cut", || setup.proxy.is_cut());
            thread::sleep(Duration::from_millis(random.u64(..10)));
            setup.proxy.set(Mode::Pass);
        }
        drop(ending);
        setup.proxy.cancel_cut();
    });
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    let n: Vec<Option<i64>> = setup.raw.run("MGET", &["t:n", "t:n1"]);
    let m: Option<i64> = setup.raw.run("HGET", &["t:m", "n"]);
    assert_eq!(n.into_iter().flatten().sum::<i64>() + m.unwrap_or(0), sum.into_inner());
    let left: i64 = setup.queue().iter().sum();
    assert_eq!(popped.into_inner() + left, pushed.into_inner());
    let stats = store.stats().outages;
    println!("{stats:?}");
    assert!(stats.outages > 3 && stats.uncertain == 0);
}
