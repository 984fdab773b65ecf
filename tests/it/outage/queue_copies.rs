//! Two copies of one queue directory that are both in use.

use std::path::Path;
use std::sync::Barrier;
use std::thread;

use millpond::{Error, StateStore, Status};
use tempfile::TempDir;

use crate::outage::durable::copy;
use crate::support::child_process::{self, Process};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{durable, open, pending, wait_for, wait_until_connected};

const ROUNDS: usize = 20;
const WRITES: usize = 300;

/// Opens a queue directory, writes to it and is killed.
fn write_and_wait(told: &Path) {
    let told = told.to_string_lossy();
    let (url, dir) = told.split_once('|').unwrap();
    let store = open(url, durable(Path::new(dir))).unwrap();
    store.incr("common", 1).unwrap();
    store.put("before", 1).unwrap();
    child_process::report("written");
    thread::park();
}

fn is_refused(store: &StateStore) -> Option<String> {
    match store.get::<i64>("common") {
        Err(Error::InvalidConfig { field, reason, .. }) => {
            assert_eq!(field, "redis.fallback");
            Some(reason)
        }
        _ => None,
    }
}

#[test]
fn of_two_live_copies_of_a_queue_one_is_served_and_keeps_all_its_writes() {
    if let Some((_, told)) = child_process::job() {
        return write_and_wait(&told);
    }
    for round in 0..ROUNDS {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let raw = RawClient::connect(&server.url(0));
        proxy.set(Mode::Down);
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let told = format!("{}|{}", proxy.url(), dirs[0].path().display());
        let test =
            "outage::queue_copies::of_two_live_copies_of_a_queue_one_is_served_and_keeps_all_its_writes";
        let mut child = Process::start_test(test, "write", &told);
        assert_eq!(child.read_report().as_deref(), Some("written"));
        if round % 2 == 0 {
            child.kill();
            copy(dirs[0].path(), dirs[1].path());
        } else {
            // The copy is made while the program runs, as a snapshot of its disk.
            copy(dirs[0].path(), dirs[1].path());
            child.kill();
        }
        let stores = dirs.each_ref().map(|dir: &TempDir| open(&proxy.url(), durable(dir.path())).unwrap());
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for (own, store) in stores.iter().enumerate() {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for n in 0..WRITES {
                        if store.put(format!("{own}:{n}"), n).is_err() {
                            break;
                        }
                    }
                });
            }
            start.wait();
            proxy.set(Mode::Pass);
        });
        let connected = |store: &StateStore| store.status() == Status::Connected;
        wait_for("one is connected and the other one is refused", || {
            stores.iter().filter(|store| connected(store)).count() == 1
                && stores.iter().filter(|store| is_refused(store).is_some()).count() == 1
        });
        let winner = stores.iter().position(connected).unwrap();
        let loser = 1 - winner;
        for n in 0..WRITES {
            assert!(raw.exists(&format!("t:{winner}:{n}")), "write {n} in round {round}");
            assert!(!raw.exists(&format!("t:{loser}:{n}")), "write {n} in round {round}");
        }
        assert_eq!(raw.get("t:common").as_deref(), Some(&b"1"[..]));
        let path = dirs[loser].path().display().to_string();
        assert!(is_refused(&stores[loser]).unwrap().contains(&path));
        assert_error!(stores[loser].put("more", 1), Error::InvalidConfig { .. });
        assert_error!(stores[loser].reconnect(), Error::InvalidConfig { .. });
        let kept = pending(&stores[loser]).unwrap();
        assert!(kept >= 2, "{kept}");
        stores[loser].close().unwrap();
        // Its files still hold everything, and are refused again.
        let error =
            assert_error!(open(&proxy.url(), durable(dirs[loser].path())), Error::InvalidConfig { .. });
        assert!(error.to_string().contains(&path), "{error}");
        proxy.set(Mode::Down);
        let again = open(&proxy.url(), durable(dirs[loser].path())).unwrap();
        assert_eq!(pending(&again), Some(kept));
    }
}

#[test]
fn a_directory_that_is_opened_again_and_again_goes_on() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let dir = tempfile::tempdir().unwrap();
    proxy.set(Mode::Down);
    for run in 0..5 {
        let store = open(&proxy.url(), durable(dir.path())).unwrap();
        store.incr("n", 1).unwrap();
        if run % 2 == 1 {
            // It claims the marker, and cannot finish: the server takes no writes.
            raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "1"]);
            proxy.set(Mode::Pass);
            let tried = proxy.tried();
            wait_for("the store tries to connect", || proxy.tried() > tried + 1);
            proxy.set(Mode::Down);
            raw.run::<_, ()>("CONFIG", &["SET", "maxmemory", "0"]);
        }
        store.close().unwrap();
    }
    proxy.set(Mode::Pass);
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    wait_until_connected(&store);
    assert_eq!(raw.get("t:n").as_deref(), Some(&b"5"[..]));
}
