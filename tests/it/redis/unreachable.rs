//! Servers that die, freeze, or cannot be reached: typed errors within the limits, and a store that works
//! again afterwards.

use std::thread;
use std::time::Duration;

use millpond::{Error, Fallback, Status};

use crate::support::chain;
use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    CONNECT_LIMIT, LIMIT, memory, open, options, patient, put_despite_a_broken_connection, run_within,
    wait_for, wait_until_connected,
};

#[test]
fn a_dead_server_at_opening_is_an_error_or_an_outage() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let error = run_within(CONNECT_LIMIT, || open(&url, options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    let store = run_within(CONNECT_LIMIT, || open(&url, options().fallback(Fallback::Memory)).unwrap());
    assert!(matches!(store.status(), Status::Disconnected { pending: 0, .. }));
    store.put("a", 1).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1));
    let named = "redis://no-such-host.invalid";
    assert!(matches!(open(named, options()), Err(Error::Unavailable { .. })));
}

#[test]
fn a_server_that_dies_later_is_an_error_until_it_is_back() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    store.put("a", 1).unwrap();
    server.kill();
    for _ in 0..3 {
        let error = run_within(LIMIT, || store.put("a", 2).unwrap_err());
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    server.restart();
    wait_until_connected(&store);
    store.put("a", 3).unwrap();
    assert_eq!(store.get::<i64>("a").unwrap(), Some(3));
}

#[test]
fn a_frozen_server_costs_no_call_more_than_its_limit() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options().pool_size(2)).unwrap();
    store.put("a", 1).unwrap();
    server.pause();
    thread::scope(|scope| {
        for n in 0..6 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..2 {
                    let limit = LIMIT;
                    assert!(run_within(limit, || store.get::<i64>("a")).is_err());
                    assert!(run_within(limit, || store.put("a", n)).is_err());
                    assert!(run_within(limit, || store.incr("c", n)).is_err());
                    assert!(
                        run_within(limit, || store.batch_put((0..50).map(|k| (k.to_string(), n)))).is_err()
                    );
                    assert!(run_within(limit, || store.keys("")).is_err());
                }
            });
        }
    });
    server.resume();
    wait_for("the store works again", || store.put("a", 9).is_ok());
    assert_eq!(store.get::<i64>("a").unwrap(), Some(9));
}

#[test]
fn a_timed_out_increment_is_not_repeated() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    store.incr("n", 1).unwrap();
    server.pause();
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: true, .. }), "{error:?}");
    let error = store.incr("n", 1).unwrap_err();
    assert!(matches!(error, Error::Unavailable { maybe_applied: false, .. }), "{error:?}");
    server.resume();
    wait_for("the server is back", || store.get::<i64>("n").is_ok());
    assert_eq!(store.incr("n", 1).unwrap(), 3);
}

#[test]
fn killed_connections_are_replaced() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options()).unwrap();
    for n in 0..5 {
        store.put("a", n).unwrap();
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(store.get::<i64>("a").unwrap(), Some(n));
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        put_despite_a_broken_connection(&store, "a", n + 1);
    }
    raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    // The end of the connection is seen before anything is sent over it.
    assert_eq!(store.incr("n", 1).unwrap(), 1);
}

#[test]
fn refused_connections_are_an_error_within_the_limit() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), options()).unwrap();
    store.put("a", 1).unwrap();
    proxy.set(Mode::Refuse);
    assert_eq!(store.get::<i64>("a").unwrap(), Some(1), "an open connection still works");
    let error = run_within(CONNECT_LIMIT, || open(&proxy.url(), options()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[test]
fn without_a_fallback_operations_fail_during_an_outage() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options()).unwrap();
    assert_eq!(store.status(), Status::Connected);
    store.put("a", 1).unwrap();
    for _ in 0..2 {
        server.kill();
        for n in 0..3 {
            run_within(LIMIT, || assert_error!(store.get::<i64>("a"), Error::Unavailable { .. }));
            run_within(LIMIT, || assert_error!(store.put("a", n), Error::Unavailable { .. }));
            run_within(LIMIT, || {
                assert_error!(store.incr("n", 1), Error::Unavailable { maybe_applied: false, .. })
            });
            run_within(LIMIT, || assert_error!(store.keys(""), Error::Unavailable { .. }));
            let batch = [("a", n), ("b", n)];
            run_within(LIMIT, || assert_error!(store.batch_put(batch), Error::Unavailable { .. }));
        }
        server.restart();
        wait_until_connected(&store);
        assert_eq!(store.get::<i64>("a").unwrap(), None, "no memory fallback was used");
        store.put("a", 2).unwrap();
        assert_eq!(store.incr("n", 1).unwrap(), 1);
        assert_eq!(store.get::<i64>("a").unwrap(), Some(2));
    }
}

/// A server that does not read still accepts some megabytes: they remain in the socket buffers.
#[test]
fn a_huge_value_that_is_cut_is_never_visible_in_part() {
    // A busy machine may need a while for a huge value.
    const LIMIT: Duration = Duration::from_secs(3);
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), options().timeout(LIMIT)).unwrap();
    let huge = vec![b'x'; 8 << 20];
    for old in [None, Some(&b"old"[..])] {
        if let Some(old) = old {
            raw.set("t:huge", old);
        }
        server.pause();
        let outcome = run_within(LIMIT, || store.put_bytes("huge", &huge));
        assert_error!(outcome, Error::Unavailable { maybe_applied: false, .. });
        run_within(LIMIT, || assert_error!(store.put("later", 1), Error::Unavailable { .. }));
        server.resume();
        wait_for("the store works again", || store.put("later", 2).is_ok());
        store.put("last", 3).unwrap();
        assert_eq!(raw.get("t:huge").as_deref(), old);
        assert_eq!(raw.get("t:later").as_deref(), Some(&b"2"[..]));
        assert_eq!(raw.get("t:last").as_deref(), Some(&b"3"[..]));
    }
    let store = open(&server.url(0), patient(options())).unwrap();
    store.put_bytes("huge", &huge).unwrap();
    assert!(store.get_bytes("huge").unwrap().unwrap() == huge[..]);
}

/// A process that opens and drops stores would otherwise accumulate threads.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_of_a_store_end_with_it() {
    const ALONE: &str = "MILLPOND_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // The threads are counted in a process in which no other test runs.
        let this = ["--exact", "redis::unreachable::the_threads_of_a_store_end_with_it"];
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(this).env(ALONE, "yes").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("millpond")).count()
    };
    let server = RedisServer::start();
    let stores: Vec<_> = (0..3).map(|_| open(&server.url(0), options()).unwrap()).collect();
    for store in &stores {
        store.incr("n", 1).unwrap();
    }
    assert_eq!(threads(), 3, "one for the pool of each store");
    drop(stores);
    wait_for("the threads have ended", || threads() == 0);
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let stores: Vec<_> = (0..3).map(|_| open(&nobody, memory()).unwrap()).collect();
    wait_for("there is one for each pool and one for each outage", || threads() == 6);
    drop(stores);
    wait_for("the threads have ended", || threads() == 0);
}

#[test]
fn a_pool_without_a_free_connection_is_an_error_in_time() {
    let server = RedisServer::start();
    let store = open(&server.url(0), options().pool_size(1)).unwrap();
    store.put_bytes("slow", &[b'x'; 20]).unwrap();
    // A transaction keeps the connection on which it reads.
    store
        .transaction(|tx| {
            tx.get_bytes("slow")?;
            let error = thread::scope(|scope| {
                let other = scope.spawn(|| {
                    run_within(LIMIT, || {
                        assert_error!(store.incr("n", 1), Error::Unavailable { maybe_applied: false, .. })
                    })
                });
                other.join().unwrap()
            });
            assert!(chain(&error)[1].contains("in use"), "{:?}", chain(&error));
            Ok(())
        })
        .unwrap();
    assert_eq!(store.incr("n", 1).unwrap(), 1);
}
