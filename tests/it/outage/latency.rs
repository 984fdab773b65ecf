//! The time that an outage costs: only the first operation waits, and none waits twice.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, Event, Fallback, StateStore, Status};

use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    CONNECT_LIMIT, LIMIT, memory, open, options, pending, put_despite_a_broken_connection, run_within,
    wait_for, wait_until_connected,
};
use crate::support::server_program::{DEBUG_COMMAND, since_7};

/// The time that an operation without network access may take.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Does many operations of all kinds and checks that most of them take less than [`AT_ONCE`]: other processes
/// may keep this machine busy.
fn assert_operations_are_fast(store: &StateStore) {
    let mut late = 0;
    for n in 0..200 {
        let begun = Instant::now();
        match n % 5 {
            0 => store.put("a", n).unwrap(),
            1 => assert_eq!(store.get::<i32>("a").unwrap(), Some(n - 1)),
            2 => _ = store.incr("n", 1).unwrap(),
            3 => store.batch_put((0..20).map(|k| (format!("b{k}"), n))).unwrap(),
            _ => _ = store.keys("").unwrap(),
        }
        late += usize::from(begun.elapsed() > AT_ONCE);
    }
    assert!(late < 100, "{late} of 200 took longer than {AT_ONCE:?}");
}

/// The server dies, freezes, or never existed.
#[test]
fn only_the_first_operation_of_an_outage_waits() {
    let gone = format!("redis://127.0.0.1:{}", free_port());
    let never = run_within(CONNECT_LIMIT, || open(&gone, memory()).unwrap());
    assert_operations_are_fast(&never);

    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory()).unwrap();
    store.put("a", 0).unwrap();
    server.kill();
    run_within(LIMIT, || store.put("a", 1).unwrap());
    assert_operations_are_fast(&store);

    let frozen = RedisServer::start();
    let store = open(&frozen.url(0), memory()).unwrap();
    store.put("a", 0).unwrap();
    frozen.pause();
    run_within(LIMIT, || store.put("a", 1).unwrap());
    assert_operations_are_fast(&store);
    frozen.resume();
    wait_until_connected(&store);
    assert_eq!(store.get::<i32>("a").unwrap(), Some(195));
    assert_eq!(store.incr("n", 0).unwrap(), 40);
}

#[test]
fn opening_without_a_server_behaves_like_a_later_outage() {
    let mut server = RedisServer::start();
    server.kill();
    let store = open(&server.url(0), memory()).unwrap();
    assert!(matches!(store.status(), Status::Disconnected { pending: 0, .. }));
    assert_eq!(store.get::<i32>("a").unwrap(), None, "absent until the server was seen");
    store.put("b", 1).unwrap();
    server.restart();
    wait_until_connected(&store);
    let raw = RawClient::connect(&server.url(0));
    assert_eq!(raw.get("t:b").as_deref(), Some(&b"1"[..]));
    server.kill();
    store.put("b", 2).unwrap();
    assert_error!(store.get::<i32>("a"), Error::Unavailable { maybe_applied: false, .. });
    assert_eq!(store.get::<i32>("b").unwrap(), Some(2));
    server.restart();
    wait_until_connected(&store);
    assert_eq!(store.get::<i32>("b").unwrap(), Some(2));
    assert_eq!(store.stats().outages.outages, 2);
}

/// No operation does.
#[test]
fn only_one_probe_at_a_time_uses_the_network() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.put("a", 0).unwrap();
    server.pause();
    store.put("a", 1).unwrap();
    wait_for("the earlier connections are closed", || proxy.open() <= 1);
    proxy.most_open();
    let tried = proxy.tried();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert_operations_are_fast(&store);
    }
    let tried = proxy.tried() - tried;
    // The proxy may see the end of one connection after the beginning of the next.
    assert!(proxy.most_open() <= 2, "one probe at a time");
    // Each of them waits for CONNECT_LIMIT.
    assert!(
        tried <= 2 + (begun.elapsed().as_millis() / CONNECT_LIMIT.as_millis()) as usize,
        "{tried} probes"
    );
    server.resume();
    wait_until_connected(&store);
}

#[test]
fn threads_that_an_outage_interrupts_do_not_wait_twice() {
    for size in [2, 16] {
        let server = RedisServer::start();
        let store = open(&server.url(0), memory().pool_size(size)).unwrap();
        store.put("k", 0).unwrap();
        server.pause();
        let together = Barrier::new(12);
        thread::scope(|scope| {
            for n in 0..12 {
                let (store, together) = (&store, &together);
                scope.spawn(move || {
                    together.wait();
                    run_within(LIMIT, || store.put(format!("k{n}"), n).unwrap());
                    run_within(Duration::ZERO, || store.put(format!("l{n}"), n).unwrap());
                    assert_eq!(store.get::<i32>(&format!("k{n}")).unwrap(), Some(n));
                });
            }
        });
        assert_eq!(pending(&store), Some(24));
        server.resume();
        wait_until_connected(&store);
        assert_eq!(store.get::<i32>("l3").unwrap(), Some(3));
        assert_eq!(
            (store.stats().outages.outages, store.stats().outages.conflicts),
            (1, 0),
            "its own writes are no conflict"
        );
    }
}

/// The same holds for strict handles.
#[test]
fn without_a_fallback_an_outage_is_an_error_at_once() {
    let mut server = RedisServer::start();
    let none = open(&server.url(0), options()).unwrap();
    let store = open(&server.url(0), memory()).unwrap();
    let strict = store.without_fallback();
    none.put("a", 1).unwrap();
    strict.put("b", 1).unwrap();
    strict.put("c", 1).unwrap();
    server.kill();
    run_within(LIMIT, || assert_error!(none.put("a", 2), Error::Unavailable { .. }));
    run_within(LIMIT, || assert_error!(strict.put("b", 2), Error::Unavailable { .. }));
    for handle in [&none, &strict] {
        for _ in 0..50 {
            run_within(Duration::ZERO, || {
                assert_error!(handle.get::<i32>("a"), Error::Unavailable { maybe_applied: false, .. });
                assert_error!(handle.put("c", 2), Error::Unavailable { maybe_applied: false, .. });
            });
        }
    }
    assert_eq!(store.get::<i32>("c").unwrap(), Some(1));
    // The connection was seen to be closed before anything was sent, so the value is the old one.
    assert_eq!(store.get::<i32>("b").unwrap(), Some(1));
    assert_eq!((pending(&store), none.stats().outages.queued), (Some(0), 0));
    server.restart();
    wait_until_connected(&none);
    wait_until_connected(&store);
    none.put("a", 3).unwrap();
    strict.put("b", 3).unwrap();
    assert!(open("redis://127.0.0.1:1", options()).is_err());
}

/// A caller that gets `maybe_applied: false` may do the operation in another way.
#[test]
fn without_a_fallback_a_lost_reply_is_reported_as_such() {
    let server = RedisServer::start();
    for store in
        [open(&server.url(0), options()).unwrap(), open(&server.url(0), memory()).unwrap().without_fallback()]
    {
        store.put("a", 1).unwrap();
        server.pause();
        assert_error!(store.put("a", 2), Error::Unavailable { maybe_applied: true, .. });
        assert_error!(store.put("a", 2), Error::Unavailable { maybe_applied: false, .. });
        server.resume();
        wait_until_connected(&store);
    }
}

#[test]
fn one_slow_command_or_killed_connection_is_no_outage() {
    let server = RedisServer::start_with(since_7(DEBUG_COMMAND));
    let store = open(&server.url(0), memory()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.put("a", 1).unwrap();
    for _ in 0..5 {
        raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        put_despite_a_broken_connection(&store, "a", 2);
    }
    raw.run::<_, ()>("CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert_eq!(store.incr("n", 1).unwrap(), 1, "the end of the connection is seen before anything is sent");
    let other = RawClient::connect(&server.url(0));
    // Longer than the operation waits, but over before the store must decide.
    for sleep in ["0.2", "0.45"] {
        thread::scope(|scope| {
            scope.spawn(|| other.run::<_, ()>("DEBUG", &["SLEEP", sleep]));
            // Both results are correct; the test is about whether they count as an outage.
            for _ in 0..3 {
                let _ = store.incr("n", 1);
                let _ = store.get::<i32>("a");
            }
        });
    }
    assert_eq!((store.status(), store.stats().outages.outages), (Status::Connected, 0));
}

/// A listener that called the store used to wait for itself if the server had lost data.
#[test]
fn listeners_may_use_the_store() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (mine, asked) = (Arc::clone(&told), store.without_fallback());
    store.on_event(move |event| {
        let _ = (asked.status(), asked.pending(10), asked.get::<i32>("a"), asked.reconnect());
        mine.lock().unwrap().push(event.clone());
    });
    for n in 0..2 {
        proxy.set(Mode::Down);
        store.put("a", n).unwrap();
        if n == 1 {
            RawClient::connect(&server.url(0)).flush();
        }
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
    }
    let shape = |event: &Event| match event {
        Event::Disconnected { .. } => 'a',
        Event::Reconnected { .. } => 'c',
        Event::DataLost { .. } => 'h',
        _ => '?',
    };
    wait_for("all events have come", || told.lock().unwrap().len() == 5);
    let told: String = told.lock().unwrap().iter().map(shape).collect();
    assert!(told == "acahc" || told == "acach", "{told}");
    assert!(open(&proxy.url(), options().fallback(Fallback::None)).is_ok());
}

/// Such a write would be acknowledged, and no thread would be left to apply it on the server.
#[test]
fn nothing_is_acknowledged_once_the_store_is_closed() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let listener = store.clone();
    store.on_event(move |event| {
        if matches!(event, Event::Disconnected { .. }) {
            listener.close().unwrap();
        }
    });
    store.put("a", 1).unwrap();
    proxy.set(Mode::Down);
    assert_error!(store.put("a", 2), Error::Unavailable { .. });
    assert_error!(store.put("a", 3), Error::Unavailable { maybe_applied: false, .. });
}

#[test]
fn a_panic_of_a_listener_does_not_affect_the_operation() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    store.on_event(|_| panic!("a listener that panics"));
    proxy.set(Mode::Down);
    store.put("a", 1).unwrap();
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(store.get("a").unwrap(), Some(1));
}

/// The error is not transient, since closing again cannot help.
#[test]
fn closing_reports_the_operations_that_are_still_queued() {
    let store = open("redis://127.0.0.1:1", memory()).unwrap();
    store.put("a", 1).unwrap();
    let error = store.close_within(std::time::Duration::from_millis(50)).unwrap_err();
    assert!(
        !error.is_transient() && crate::support::chain(&error).concat().contains("1 write is lost"),
        "{error:?}"
    );
}

/// The network held back the reply to this put until the outage was over. By then others may have written.
#[test]
fn a_put_interrupted_by_an_outage_that_is_over_stays_in_doubt() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory().max_retries(0)).unwrap();
    store.put("k", 1).unwrap();
    let before = proxy.requests();
    proxy.hold_old();
    thread::scope(|scope| {
        let caught = scope.spawn(|| store.put("k", 2));
        wait_for("the put is on its way", || proxy.requests() > before);
        proxy.set(Mode::Refuse);
        store.put("other", 1).unwrap();
        assert!(matches!(store.status(), Status::Disconnected { .. }));
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert!(!caught.is_finished(), "the reply never comes");
        assert_error!(caught.join().unwrap(), Error::Unavailable { maybe_applied: true, .. });
    });
    assert_eq!(store.get::<i32>("k").unwrap(), Some(1), "it never reached the server");
    let stats = store.stats().outages;
    assert_eq!((stats.outages, stats.conflicts), (1, 0));
}
