//! Exactly once: what waited is done on the server, whatever happens to the answers and to the server.

use std::sync::{Arc, Mutex};
use std::thread;

use millpond::{Event, PendingReason, StateStore};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{connected, memory, notices, open, pending, until};

/// Queues one operation of each kind, none of which may be done twice or not at all.
fn queue_all(store: &StateStore, n: i64) {
    store.put("a", n).unwrap();
    store.incr("n", 1).unwrap();
    store.push_back("q", n).unwrap();
    store.map_incr("m", "n", 1).unwrap();
    store.batch_put([("b", n), ("c", n)]).unwrap();
}

/// Compares with what [`queue_all`] leaves after so many times.
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

/// The kill list, the marker, the chunk: cut at every byte with `MILLPOND_TEST_EVERY_BYTE` set, and else at
/// every byte of the answers and at some of the requests, most of which are the text of one script.
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
            connected(&store);
            let was_cut = proxy.was_cut();
            check_all(&raw, times, times);
            // Some ways back are longer than others: one more connection is buried.
            whole += u32::from(!was_cut);
            if whole == 50 {
                break;
            }
        }
        assert!(times > 100, "{times} cuts");
        let stats = store.stats();
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
        notices(&store);
        for n in 0..5_000 {
            store.push_back("q", n).unwrap();
            store.incr(&format!("n{}", n % 10), 1).unwrap();
        }
        let waiting = pending(&store).unwrap();
        proxy.set(Mode::Pass);
        until("it has begun", || pending(&store).is_none_or(|left| left < waiting));
        server.pause();
        let tried = proxy.tried();
        if pending(&store).is_some() {
            until("others were tried in vain", || proxy.tried() > tried + 1);
        }
        server.resume();
        connected(&store);
        assert_eq!(raw.run::<_, i64>("LLEN", &["t:q"]), round * 5_000);
        for n in 0..10 {
            assert_eq!(raw.run::<_, i64>("GET", &[format!("t:n{n}")]), round * 500);
        }
    }
    let found: Vec<i64> = raw.run("LRANGE", &["t:q", "0", "4999"]);
    assert!(found.into_iter().eq(0..5_000), "in order");
    assert_eq!(store.stats().uncertain, 0);
}

/// What was written to its log survives the server's death, synced or not. With `everysec` it answers without
/// writing while an earlier sync goes on: what it loses then has to be told.
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
            notices(&store);
            for n in 0..5_000 {
                store.push_back("q", n).unwrap();
            }
            let waiting = pending(&store).unwrap();
            let told = *lost.lock().unwrap();
            server.restart();
            until("it has begun", || pending(&store).is_none_or(|left| left < waiting));
            server.restart();
            until("all is done", || pending(&store).is_none_or(|left| left == 0));
            connected(&store);
            expected += 5_000;
            let found: i64 = RawClient::connect(&server.url(0)).run("LLEN", &["t:q"]);
            if found < expected && sync == "everysec" {
                until("the loss is told", || *lost.lock().unwrap() > told);
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
        assert!(store.stats().uncertain == 0 || *lost.lock().unwrap() > 0, "{sync}");
    }
}

/// Counts how often it is told that the server has lost data.
fn count_losses(store: &StateStore) -> Arc<Mutex<u64>> {
    let lost: Arc<Mutex<u64>> = Arc::default();
    let mine = Arc::clone(&lost);
    store.on_event(move |event| {
        *mine.lock().unwrap() += u64::from(matches!(event, Event::HistoryLost { .. }));
    });
    lost
}

/// It comes back empty each time: what waits is done all the same, and the loss is told.
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
        connected(&store);
        check_all(&RawClient::connect(&server.url(0)), 1, 7);
        until("it is told", || *lost.lock().unwrap() == round + 1);
    }
    assert_eq!(store.stats().uncertain, 0);
}

/// Operations that could be applied twice are reported as uncertain.
#[test]
fn without_the_marker_repeatable_operations_are_repeated() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let mut uncertain = 0;
    // Where the answer to the chunk lies depends on whether a connection is to be buried first.
    for bytes in 300..1200 {
        if uncertain == 3 {
            break;
        }
        raw.flush();
        proxy.set(Mode::Pass);
        let store = open(&proxy.url(), memory()).unwrap();
        proxy.set(Mode::Down);
        queue_all(&store, 5);
        proxy.cut_and_set(Way::Answer, bytes, Mode::Refuse);
        proxy.set(Mode::Pass);
        until("it was cut, or is back", || pending(&store).is_none() || proxy.is_cut());
        let is_done = raw.exists("t:n");
        // What came through of the answers is heeded before the server is tried anew, and refuses.
        let tried = proxy.tried();
        until("it is tried anew, or is back", || {
            pending(&store).is_none() || !is_done || proxy.tried() > tried + 1
        });
        if pending(&store).is_none() {
            proxy.was_cut();
            continue;
        }
        if is_done {
            until("only its answer was lost", || pending(&store) == Some(6));
            raw.run::<_, ()>("DEL", &[markers(&raw).as_slice(), &["t:b".to_owned()]].concat());
        }
        proxy.was_cut();
        proxy.set(Mode::Pass);
        connected(&store);
        check_all(&raw, 1, 5);
        if is_done {
            let told = store.pending();
            assert!(told.iter().all(|told| told.reason == PendingReason::Uncertain));
            let told: Vec<_> = told.iter().map(|told| (told.key.as_str(), told.operation)).collect();
            assert_eq!(told, [("n", "INCRBY"), ("q", "RPUSH"), ("m", "HINCRBY")]);
            uncertain += 1;
        }
        assert_eq!(store.stats().uncertain, if is_done { 3 } else { 0 });
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
    until("it was tried in vain", || proxy.tried() > tried + 3);
    assert_eq!(pending(&store), Some(6));
    raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
    connected(&store);
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
        store.incr(&format!("open:{n}"), 1).unwrap();
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
    connected(&store);
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
    assert_eq!((store.stats().rejected, raw.exists("t:closed")), (2, false));
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
                    notices(store);
                    for n in 0..200 {
                        store.incr("n", 1).unwrap();
                        store.push_back("q", n).unwrap();
                        store.incr(&format!("n{thread}"), 1).unwrap();
                    }
                });
            }
        });
        proxy.set(Mode::Pass);
        stores.iter().for_each(connected);
        assert_eq!(raw.run::<_, i64>("GET", &["t:n"]), round * 1_600);
        assert_eq!(raw.run::<_, i64>("LLEN", &["t:q"]), round * 1_600);
        assert_eq!(raw.run::<_, i64>("GET", &["t:n5"]), round * 200);
    }
    assert_eq!(markers(&raw).len(), 2);
}
