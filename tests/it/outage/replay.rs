//! The replay: each queued operation is applied on the server once, whatever happens to replies and to the
//! server.

use std::sync::{Arc, Mutex};
use std::thread;

use millpond::{Event, PendingReason, StateStore};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

/// Queues one operation of each kind, each of which must be applied exactly once.
fn queue_all(store: &StateStore, n: i64) {
    store.put("a", n).unwrap();
    store.incr("n", 1).unwrap();
    store.push_back("q", n).unwrap();
    store.map_incr("m", "n", 1).unwrap();
    store.batch_put([("b", n), ("c", n)]).unwrap();
}

/// Checks the state after [`queue_all`] was called so many times.
fn check_all(raw: &RawClient, times: i64, n: i64) {
    let text = n.to_string().into_bytes();
    for key in ["t:a", "t:b", "t:c"] {
        assert_eq!(raw.get(key).as_deref(), Some(&text[..]), "{key}");
    }
    let counts: (i64, i64, i64) =
        (raw.run("GET", &["t:n"]), raw.run("LLEN", &["t:q"]), raw.run("HGET", &["t:m", "n"]));
    assert_eq!(counts, (times, times, times));
}

fn markers(raw: &RawClient) -> Vec<String> {
    raw.run("KEYS", &["*marker*"])
}

/// The kill list, the marker, the chunk: cut at every byte with `MILLPOND_TEST_EVERY_BYTE` set, otherwise at
/// every byte of the replies and at some bytes of the requests, which consist mostly of the text of one
/// script.
#[test]
fn the_replay_may_be_cut_at_any_byte() {
    let every = std::env::var_os("MILLPOND_TEST_EVERY_BYTE").is_some();
    for (way, step) in [(Way::Answer, 1), (Way::Request, if every { 1 } else { 29 })] {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let store = open(&proxy.url(), memory()).unwrap();
        let raw = RawClient::connect(&server.url(0));
        let (mut times, mut whole) = (0, 0);
        for bytes in (0..).step_by(step) {
            proxy.set(Mode::Down);
            times += 1;
            queue_all(&store, times);
            proxy.cut(way, bytes);
            proxy.set(Mode::Pass);
            wait_until_connected(&store);
            let was_cut = proxy.cancel_cut();
            check_all(&raw, times, times);
            // Some replays take more bytes than others: one more connection is put in quarantine.
            whole += u32::from(!was_cut);
            if whole == 50 {
                break;
            }
        }
        assert!(times > 100, "{times} cuts");
        let stats = store.stats().outages;
        assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0));
        assert_eq!(markers(&raw).len(), 1);
    }
}

/// It freezes in the middle of the replay.
#[test]
fn a_server_that_freezes_and_thaws_applies_each_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.incr("n", 0).unwrap();
    for round in 1..4_i64 {
        proxy.set(Mode::Down);
        notice_disconnect(&store);
        for n in 0..5_000 {
            store.push_back("q", n).unwrap();
            store.incr(format!("n{}", n % 10), 1).unwrap();
        }
        let waiting = pending(&store).unwrap();
        proxy.set(Mode::Pass);
        wait_for("the replay has begun", || pending(&store).is_none_or(|left| left < waiting));
        server.pause();
        let tried = proxy.tried();
        if pending(&store).is_some() {
            wait_for("other connections failed", || proxy.tried() > tried + 1);
        }
        server.resume();
        wait_until_connected(&store);
        assert_eq!(raw.run::<_, i64>("LLEN", &["t:q"]), round * 5_000);
        for n in 0..10 {
            assert_eq!(raw.run::<_, i64>("GET", &[format!("t:n{n}")]), round * 500);
        }
    }
    let found: Vec<i64> = raw.run("LRANGE", &["t:q", "0", "4999"]);
    assert!(found.into_iter().eq(0..5_000), "values in order");
    assert_eq!(store.stats().outages.uncertain, 0);
}

/// Everything in the server's log survives a kill, synced or not. With `everysec` the server replies before
/// it writes to the log while an earlier sync is running; the loss of such writes must be reported.
#[test]
fn a_killed_server_that_keeps_its_log_applies_each_once() {
    for sync in ["always", "everysec"] {
        let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", sync]);
        let store = open(&server.url(0), memory()).unwrap();
        let lost = count_losses(&store);
        store.incr("n", 0).unwrap();
        let (mut whole, mut expected) = (0, 0);
        for _ in 0..10 {
            server.kill();
            notice_disconnect(&store);
            for n in 0..5_000 {
                store.push_back("q", n).unwrap();
            }
            let waiting = pending(&store).unwrap();
            let told = *lost.lock().unwrap();
            server.restart();
            wait_for("the replay has begun", || pending(&store).is_none_or(|left| left < waiting));
            server.restart();
            wait_for("the replay has ended", || pending(&store).is_none_or(|left| left == 0));
            wait_until_connected(&store);
            expected += 5_000;
            let found: i64 = RawClient::connect(&server.url(0)).run("LLEN", &["t:q"]);
            if found < expected && sync == "everysec" {
                wait_for("the data loss is reported", || *lost.lock().unwrap() > told);
                expected = found;
                continue;
            }
            assert_eq!(found, expected, "{sync}");
            whole += 1;
            if whole == 3 {
                break;
            }
        }
        assert_eq!(whole, 3, "{sync}");
        assert!(store.stats().outages.uncertain == 0 || *lost.lock().unwrap() > 0, "{sync}");
    }
}

/// Counts the reports of data loss.
fn count_losses(store: &StateStore) -> Arc<Mutex<u64>> {
    let lost: Arc<Mutex<u64>> = Arc::default();
    let mine = Arc::clone(&lost);
    store.on_event(move |event| {
        *mine.lock().unwrap() += u64::from(matches!(event, Event::DataLost { .. }));
    });
    lost
}

/// The server comes back empty each time: the queue is replayed nevertheless, and the loss is reported.
#[test]
fn data_loss_is_reported_and_the_queue_is_replayed() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), memory()).unwrap();
    let lost = count_losses(&store);
    for round in 0..3 {
        if round == 2 {
            RawClient::connect(&server.url(0)).run::<&str, ()>("FLUSHALL", &[]);
        }
        server.kill();
        queue_all(&store, 7);
        server.restart();
        wait_until_connected(&store);
        check_all(&RawClient::connect(&server.url(0)), 1, 7);
        wait_for("the loss is reported", || *lost.lock().unwrap() == round + 1);
    }
    assert_eq!(store.stats().outages.uncertain, 0);
}

/// Operations that could be applied twice are reported as uncertain.
#[test]
fn without_the_marker_repeatable_operations_are_repeated() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let (mut uncertain, mut whole) = (0, 0);
    // The position of the reply to the chunk depends on whether a connection must be put in quarantine first,
    // and on the length of the server's reply to HELLO.
    for bytes in 300.. {
        if uncertain == 3 || whole == 3 {
            break;
        }
        raw.flush();
        proxy.set(Mode::Pass);
        let store = open(&proxy.url(), memory()).unwrap();
        proxy.set(Mode::Down);
        queue_all(&store, 5);
        proxy.cut_and_set(Way::Answer, bytes, Mode::Refuse);
        proxy.set(Mode::Pass);
        wait_for("the connection was cut, or the store is connected", || {
            pending(&store).is_none() || proxy.is_cut()
        });
        let is_done = raw.exists("t:n");
        // The store handles the part of the reply that arrived before it tries to connect again, and is
        // refused.
        let tried = proxy.tried();
        wait_for("the store tries again, or is connected", || {
            pending(&store).is_none() || !is_done || proxy.tried() > tried + 1
        });
        if pending(&store).is_none() {
            whole += u32::from(!proxy.cancel_cut());
            continue;
        }
        if is_done {
            wait_for("only the reply was lost", || pending(&store) == Some(6));
            raw.run::<_, ()>("DEL", &[markers(&raw).as_slice(), &["t:b".to_owned()]].concat());
        }
        proxy.cancel_cut();
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        check_all(&raw, 1, 5);
        if is_done {
            let told = store.pending(1000);
            assert!(told.iter().all(|told| told.reason == PendingReason::Uncertain));
            let told: Vec<_> = told.iter().map(|told| (told.key.as_str(), told.command)).collect();
            assert_eq!(told, [("n", "INCRBY"), ("q", "RPUSH"), ("m", "HINCRBY")]);
            uncertain += 1;
        }
        assert_eq!(store.stats().outages.uncertain, if is_done { 3 } else { 0 });
    }
    assert_eq!(uncertain, 3);
}

#[test]
fn the_replay_waits_for_a_server_that_is_out_of_memory() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let raw = RawClient::connect(&server.url(0));
    store.put("a", 0).unwrap();
    proxy.set(Mode::Down);
    queue_all(&store, 3);
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
    let tried = proxy.tried();
    proxy.set(Mode::Pass);
    wait_for("several attempts failed", || proxy.tried() > tried + 3);
    assert_eq!(pending(&store), Some(6));
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
    wait_until_connected(&store);
    check_all(&raw, 1, 3);
    assert!(store.take_rejected().is_empty());
}

/// The rest of the queue is applied.
#[test]
fn permanently_refused_operations_are_set_aside() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    let user = ["SETUSER", "limited", "on", ">pw", "~t:*", "+@all"];
    raw.run::<_, ()>("ACL", &user);
    let url = format!("redis://limited:pw@{}", proxy.address());
    let store = open(&url, memory()).unwrap();
    store.put("a", 0).unwrap();
    proxy.set(Mode::Down);
    for n in 0..20 {
        queue_all(&store, n);
        store.incr(format!("open:{n}"), 1).unwrap();
    }
    store.incr("alist", 1).unwrap();
    store.put("closed", 1).unwrap();
    store.put("nosets", 1).unwrap();
    let permitted: Vec<String> = ["a", "b", "c", "n", "q", "m", "open:*", "alist", "nosets", "*marker*"]
        .iter()
        .map(|key| format!("~t:{key}"))
        .collect();
    let mut user = vec!["SETUSER", "limited", "resetkeys"];
    user.extend(permitted.iter().map(String::as_str));
    raw.run::<_, ()>("ACL", &user);
    raw.run::<_, ()>("RPUSH", &["t:alist", "x"]);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    check_all(&raw, 20, 19);
    for n in 0..20 {
        assert_eq!(raw.get(&format!("t:open:{n}")).as_deref(), Some(&b"1"[..]));
    }
    let mut rejected = store.take_rejected();
    rejected.sort_by(|one, other| one.key.cmp(&other.key));
    let told: Vec<_> = rejected.iter().map(|told| (told.key.as_str(), told.operation)).collect();
    assert_eq!(told, [("alist", "INCRBY"), ("closed", "SET")]);
    assert_eq!(rejected[1].value.as_deref(), Some(&b"1"[..]));
    assert!(store.take_rejected().is_empty());
    assert_eq!((store.stats().outages.rejected, raw.exists("t:closed")), (2, false));
}

#[test]
fn two_stores_with_many_threads_each_replay_their_own_queue() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let stores = [open(&proxy.url(), memory()).unwrap(), open(&proxy.url(), memory()).unwrap()];
    let raw = RawClient::connect(&server.url(0));
    for store in &stores {
        store.incr("n", 0).unwrap();
    }
    for round in 1..4_i64 {
        proxy.set(Mode::Down);
        thread::scope(|scope| {
            for thread in 0..8 {
                let store = &stores[thread % 2];
                scope.spawn(move || {
                    notice_disconnect(store);
                    for n in 0..200 {
                        store.incr("n", 1).unwrap();
                        store.push_back("q", n).unwrap();
                        store.incr(format!("n{thread}"), 1).unwrap();
                    }
                });
            }
        });
        proxy.set(Mode::Pass);
        stores.iter().for_each(wait_until_connected);
        assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), round * 1_600);
        assert_eq!(raw.run::<_, i64>("LLEN", &["t:q"]), round * 1_600);
        assert_eq!(raw.run::<_, i64>("GET", &["t:n5"]), round * 200);
    }
    assert_eq!(markers(&raw).len(), 2);
}
