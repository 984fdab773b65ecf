//! Renewed locks and permits on a server: processes that are stopped, killed and forked, outages.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fork::Fork;
use millpond::{Error, LockLoss, StateStore};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::child_process::{Process, job, report};
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, options, patient, wait_for, wait_until_connected};
use crate::support::shared_server::SharedServer;

const LOCK: &str = "t:l:__millpond:lock";
const TTL: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

const STOPPED: &str = "redis::renewed_locks::a_stopped_holder_loses_its_lock_and_is_told";
const PERMITS: &str = "redis::renewed_locks::at_most_so_many_permits_are_held_while_holders_are_killed";
const FORKED: &str = "redis::renewed_locks::a_forked_child_does_not_disturb_the_renewals_of_its_parent";

#[test]
fn a_stopped_holder_loses_its_lock_and_is_told() {
    if let Some((_, url)) = job() {
        let store = open(url.to_str().unwrap(), options()).unwrap();
        let (sender, told) = mpsc::channel();
        let guard = store.lock_renewed("l", TTL, move |error| sender.send(error).unwrap()).unwrap();
        report("held");
        let error = told.recv_timeout(PATIENCE).unwrap();
        report(&format!("lost: {error}"));
        report(&format!("{} {}", guard.is_held().unwrap(), guard.release().unwrap_err()));
        return;
    }
    let server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    let mut child = Process::start_test(STOPPED, "holder", &server.url(0));
    assert_eq!(child.read_report().as_deref(), Some("held"));
    let begun = Instant::now();
    wait_for("the lock outlives its time", || {
        assert!(store.try_lock("l", MINUTE).unwrap().is_none());
        begun.elapsed() > 2 * TTL
    });
    let pid = Pid::from_child(&child.child);
    kill_process(pid, Signal::STOP).unwrap();
    let guard = store.lock("l", MINUTE, PATIENCE).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let lost = "the lock \"l\" was lost";
    let told = child.read_all_reports();
    assert!(told[0].starts_with("lost: ") && told[0].contains("\"l\""), "{told:?} is not like {lost}");
    assert!(told[1].starts_with("false ") && told[1].contains("\"l\""), "{told:?}");
    assert!(guard.is_held().unwrap(), "the late release did not release the lock of another");
}

/// Nanoseconds by the clock that all processes of the machine share.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Holds permits for moments, and says when.
fn hold_permits(url: &str) {
    let store = open(url, patient(options())).unwrap();
    let permits = store.permits("p", 3, TTL / 2);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Ok(permit) = permits.acquire(PATIENCE) else { continue };
                    report(&format!("{} taken {}", permit.token(), now()));
                    thread::sleep(Duration::from_millis(fastrand::u64(0..8)));
                    report(&format!("{} given {}", permit.token(), now()));
                    permit.release().unwrap();
                }
            });
        }
    });
}

#[test]
fn at_most_so_many_permits_are_held_while_holders_are_killed() {
    if let Some((_, url)) = job() {
        return hold_permits(url.to_str().unwrap());
    }
    let server = RedisServer::start();
    let mut moments = BTreeMap::new();
    let read = |line: String, moments: &mut BTreeMap<u128, (u64, bool)>| {
        let mut words = line.split(' ');
        let token: u64 = words.next().unwrap().parse().unwrap();
        let is_taken = words.next() == Some("taken");
        moments.insert(words.next().unwrap().parse().unwrap(), (token, is_taken));
    };
    let mut kills = 0;
    let mut children = [(); 2].map(|()| Process::start_test(PERMITS, "holder", &server.url(0)));
    for round in 0..6 {
        for child in &mut children {
            for _ in 0..40 {
                read(child.read_report().expect("the child goes on"), &mut moments);
            }
        }
        let next = Process::start_test(PERMITS, "holder", &server.url(0));
        let killed = std::mem::replace(&mut children[round % 2], next);
        // A line may be cut off by the kill.
        let mut lines = killed.kill();
        lines.pop();
        for line in lines {
            read(line, &mut moments);
        }
        kills += 1;
    }
    drop(children);
    // A permit whose end is not known counts for its first moment only: its holder was killed.
    let given: Vec<u64> = moments.values().filter(|(_, taken)| !taken).map(|(token, _)| *token).collect();
    let (mut held, mut most) = (0, 0);
    for (token, is_taken) in moments.values() {
        let has_end = given.contains(token);
        if *is_taken {
            most = most.max(held + 1);
            held += usize::from(has_end);
        } else {
            held = held.saturating_sub(1);
        }
    }
    assert!((1..=3).contains(&most), "{most} permits were held at a time");
    assert!(kills == 6 && given.len() > 200, "{kills} {}", given.len());
    let store = open(&server.url(0), options()).unwrap();
    let all: Vec<_> =
        (0..3).map(|_| store.permits("p", 3, MINUTE).acquire(PATIENCE).expect("it comes back")).collect();
    assert!(store.permits("p", 3, MINUTE).try_acquire().unwrap().is_none());
    drop(all);
}

#[test]
fn a_lock_taken_by_another_is_told() {
    let server = SharedServer::new();
    let store = server.store("t");
    let (sender, told) = mpsc::channel();
    let guard = store.lock_renewed("l", TTL, move |error| sender.send(error).unwrap()).unwrap();
    server.raw.set(LOCK, "7");
    let error = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(error, Error::LockLost { how: LockLoss::TakenByAnother, .. }), "{error:?}");
    assert!(told.recv().is_err());
    assert!(matches!(guard.release(), Err(Error::LockLost { how: LockLoss::TakenByAnother, .. })));
    assert_eq!(server.raw.get(LOCK).unwrap(), b"7", "the lock of another stays");
}

fn away(proxy: &Proxy, store: &StateStore) {
    proxy.set(Mode::Down);
    wait_for("the store is disconnected", || store.put("k", 1).is_ok() && store.stats().outages.outages > 0);
}

#[test]
fn an_outage_is_survived_if_it_is_shorter_than_the_time() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let (sender, told) = mpsc::channel();
    let guard = store.lock_renewed("l", MINUTE, move |error| sender.send(error).unwrap()).unwrap();
    away(&proxy, &store);
    assert!(guard.is_held().unwrap());
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(guard.is_held().unwrap() && told.try_recv().is_err());
    guard.release().unwrap();
    let (sender, told) = mpsc::channel();
    let guard = store.lock_renewed("l", TTL, move |error| sender.send(error).unwrap()).unwrap();
    away(&proxy, &store);
    let error = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(error, Error::LockLost { how: LockLoss::Expired, .. }), "{error:?}");
    assert!(!guard.is_held().unwrap());
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert!(!guard.is_held().unwrap(), "a lost lock is not held again");
    assert!(matches!(guard.extend(TTL), Err(Error::LockLost { .. })));
    assert!(matches!(guard.release(), Err(Error::LockLost { .. })));
}

#[test]
fn a_forked_child_does_not_disturb_the_renewals_of_its_parent() {
    if let Some((_, url)) = job() {
        let store = open(url.to_str().unwrap(), options()).unwrap();
        let guard = store.lock_renewed("l", TTL, |error| report(&format!("lost: {error}"))).unwrap();
        match fork::fork().unwrap() {
            Fork::Child => {
                let refused = guard.extend(MINUTE).is_err_and(|error| error.is_unavailable());
                let again = store.lock_renewed("other", TTL, |_| ()).is_err();
                drop(guard);
                std::process::exit(i32::from(!(refused && again)));
            }
            Fork::Parent(child) => report(&format!("{:?}", fork::waitpid(child).unwrap())),
        }
        let begun = Instant::now();
        wait_for("the lock outlives its time", || {
            assert!(guard.is_held().unwrap());
            begun.elapsed() > 2 * TTL
        });
        guard.release().unwrap();
        return report("released");
    }
    let server = RedisServer::start();
    let told = Process::start_test(FORKED, "parent", &server.url(0)).read_all_reports();
    assert_eq!(told, ["0", "released"]);
}
