//! Sliding windows and limits of a rate on a server: what they cost, real time, several processes, and replies that
//! are lost.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use millpond::{Error, StateStore};

use crate::support::backends::HOUR;
use crate::support::child_process::{Process, job, report};
use crate::support::proxied_server::{ProxiedServer, exactly_once};
use crate::support::proxy::Way;
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{memory, open, options, patient};

#[test]
fn an_addition_a_sum_and_a_decision_are_one_round_trip_each() {
    let server = ProxiedServer::new();
    let store = server.store(patient(options()).pool_size(1));
    let window = store.window("w", HOUR);
    // The first call sends the text of the script.
    window.add(1).unwrap();
    let runs: [&dyn Fn(); 4] = [
        &|| _ = window.add(1).unwrap(),
        &|| _ = window.add_at(SystemTime::now(), 1).unwrap(),
        &|| _ = window.sum().unwrap(),
        &|| _ = store.rate_limit("w", 9, HOUR).unwrap(),
    ];
    for run in runs {
        let before = server.proxy.requests();
        run();
        assert_eq!(server.proxy.requests() - before, 1);
    }
    assert_eq!(window.sum().unwrap(), 4);
    let left: i64 = server.raw.run("PTTL", &["t:w"]);
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
}

/// The server's clock cannot be stopped: what is surely within the window counts, and what has surely left it does not.
#[test]
fn a_window_slides_with_the_time_of_the_server() {
    let server = RedisServer::start();
    let store = open(&server.url(0), patient(options())).unwrap();
    let width = Duration::from_millis(600);
    let window = store.window("w", width);
    let begun = Instant::now();
    let mut added: Vec<(Instant, Instant)> = Vec::new();
    while begun.elapsed() < 4 * width {
        let before = Instant::now();
        let sum = usize::try_from(window.add(1).unwrap()).unwrap();
        let after = Instant::now();
        added.push((before, after));
        let slack = Duration::from_millis(2);
        let surely = added.iter().filter(|(begin, _)| after - *begin + slack < width / 60 * 59).count();
        let perhaps = added.iter().filter(|(_, end)| before.duration_since(*end) <= width + slack).count();
        assert!((surely..=perhaps).contains(&sum), "{surely} <= {sum} <= {perhaps}");
        thread::sleep(Duration::from_millis(3));
    }
    let raw = RawClient::connect(&server.url(0));
    assert!(raw.run::<_, i64>("HLEN", &["t:w"]) <= 61, "what has left the window is dropped");
    thread::sleep(width + Duration::from_millis(20));
    assert!(!store.contains("w").unwrap());
}

const LIMIT: u64 = 40;
const TEST: &str = "redis::windows::two_processes_never_exceed_a_limit_together";

/// Asks as often as it can, and reports when each allowed call was asked for and answered.
fn ask(url: &str) {
    let store = open(url, patient(options())).unwrap();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        let before = now();
        if store.rate_limit("calls", LIMIT, Duration::from_millis(500)).unwrap().allowed {
            report(&format!("{before} {}", now()));
        }
    }
}

#[test]
fn two_processes_never_exceed_a_limit_together() {
    if let Some((_, url)) = job() {
        return ask(&url.to_string_lossy());
    }
    let server = RedisServer::start();
    let processes = [(); 2].map(|()| Process::start_test(TEST, "ask", &server.url(0)));
    let told: Vec<String> = processes.into_iter().flat_map(Process::read_all_reports).collect();
    let mut calls: Vec<(u64, u64)> = told
        .iter()
        .map(|line| {
            let (before, after) = line.split_once(' ').unwrap();
            (before.parse().unwrap(), after.parse().unwrap())
        })
        .collect();
    calls.sort_unstable();
    let span = 500_000 / 60 * 59 - 2000;
    for (begin, _) in &calls {
        let within = calls.iter().filter(|(from, to)| from >= begin && *to < begin + span).count();
        assert!(within as u64 <= LIMIT, "{within} calls within {span} µs");
    }
    assert!(calls.len() as u64 >= 2 * LIMIT, "only {} calls were allowed", calls.len());
}

#[test]
fn many_threads_never_exceed_a_limit_together() {
    let server = RedisServer::start();
    let stores: [StateStore; 2] = [(); 2].map(|()| open(&server.url(0), patient(options())).unwrap());
    let allowed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let store = &stores[number % 2];
                scope.spawn(move || {
                    (0..100).filter(|_| store.rate_limit("calls", 50, HOUR).unwrap().allowed).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(allowed, 50);
    assert_eq!(stores[0].window("calls", HOUR).sum().unwrap(), 50);
}

#[test]
fn a_lost_reply_is_in_doubt_or_recovered() {
    for options in [options(), memory()] {
        let server = ProxiedServer::new();
        let store = server.store(options);
        store.window("w", HOUR).add(1).unwrap();
        server.proxy.cut(Way::Answer, 0);
        assert_error!(store.window("w", HOUR).add(1), Error::Unavailable { maybe_applied: true, .. });
        // The next write closes the connection without a reply on the server.
        store.put("next", 1).unwrap();
        server.proxy.cut(Way::Answer, 0);
        let lost = store.rate_limit("w", 5, HOUR);
        assert_error!(lost, Error::Unavailable { maybe_applied: true, .. });
        store.put("next", 1).unwrap();
        server.proxy.cut(Way::Answer, 0);
        assert_eq!(store.window("w", HOUR).sum().unwrap(), 3, "a read is made again");
    }
    let server = ProxiedServer::new();
    let store = server.store(exactly_once());
    assert_eq!(store.window("w", HOUR).add(1).unwrap(), 1);
    server.proxy.cut(Way::Answer, 0);
    assert_eq!(store.window("w", HOUR).add(1).unwrap(), 2);
    server.proxy.cut(Way::Answer, 0);
    let decision = store.rate_limit("w", 5, HOUR).unwrap();
    assert_eq!((decision.allowed, decision.remaining), (true, 2));
    assert_eq!(store.window("w", HOUR).sum().unwrap(), 3);
}

#[test]
fn a_map_of_any_size_is_a_window() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for first in ["1", "9000000000000"] {
        let fill = format!(
            "for n = 0, 19999 do redis.call('HSET', 't:w', string.format('%.0f', {first} + n), 1) end"
        );
        raw.run::<_, ()>("EVAL", &[&fill, "0"]);
    }
    let store = open(&server.url(0), patient(options())).unwrap();
    assert_eq!(store.window("w", HOUR).add(7).unwrap(), 7);
    assert_eq!(raw.run::<_, i64>("HLEN", &["t:w"]), 20_001, "those of long ago are dropped");
}

#[test]
fn a_denied_command_changes_nothing() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for denied in ["hdel", "pexpireat", "hincrby", "hget", "hgetall", "time"] {
        let mut rules = vec!["SETUSER", "u", "on", ">p", "~*", "+@all"];
        let rule = format!("-{denied}");
        rules.push(&rule);
        raw.run::<_, ()>("ACL", &rules);
        raw.run::<_, ()>("DEL", &["t:w"]);
        raw.run::<_, ()>("HSET", &["t:w", "1", "5"]);
        let url = server.url(0).replace("redis://", "redis://u:p@");
        let store = open(&url, patient(options())).unwrap();
        assert_error!(store.window("w", HOUR).add(1), Error::Denied { .. });
        let held: Vec<(String, String)> = raw.run("HGETALL", &["t:w"]);
        assert!(held.iter().all(|(bucket, _)| bucket == "1"), "{denied}: {held:?}");
    }
}
