//! Outcomes of queued operations that are kept in files until the program asks for them.

use std::path::Path;
use std::thread;

use millpond::{Error, OnConflict, PendingReason, RedisOptions};

use crate::support::child_process::{self, Process};
use crate::support::files::{queue_header, set_queue_header};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    durable, memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

fn options(dir: &Path) -> RedisOptions {
    durable(dir).on_conflict(OnConflict::RemoteWins)
}

/// Queues operations that the server will refuse or that conflict, waits until they are replayed, and is killed
/// before it asks for their outcomes.
fn replay_and_wait(told: &Path) {
    let told = told.to_string_lossy();
    let (url, dir) = told.split_once('|').unwrap();
    let store = open(url, options(Path::new(dir))).unwrap();
    store.incr("list", 5).unwrap();
    store.map_put("list", "f", "x").unwrap_err();
    store.push_back("value", "lost?").unwrap();
    store.put("theirs", "mine").unwrap();
    store.put("fine", 1).unwrap();
    child_process::report("written");
    wait_until_connected(&store);
    child_process::report("connected");
    thread::park();
}

#[test]
fn outcomes_that_nobody_has_asked_for_survive_the_program() {
    if let Some((_, told)) = child_process::job() {
        return replay_and_wait(&told);
    }
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    raw.run::<_, ()>("RPUSH", &["t:list", "1"]);
    raw.set("t:value", "1");
    raw.set("t:theirs", "2");
    let dir = tempfile::tempdir().unwrap();
    proxy.set(Mode::Down);
    let test = "outage::kept_outcomes::outcomes_that_nobody_has_asked_for_survive_the_program";
    let told = format!("{}|{}", proxy.url(), dir.path().display());
    let mut child = Process::start_test(test, "write", &told);
    assert_eq!(child.read_report().as_deref(), Some("written"));
    proxy.set(Mode::Pass);
    assert_eq!(child.read_report().as_deref(), Some("connected"));
    child.kill();
    for _ in 0..2 {
        // They are kept until they are taken, also by a program that does not ask.
        open(&proxy.url(), options(dir.path())).unwrap().close().unwrap();
    }
    let store = open(&proxy.url(), options(dir.path())).unwrap();
    assert_eq!((pending(&store), raw.get("t:fine").as_deref()), (None, Some(&b"1"[..])));
    let rejected = store.take_rejected();
    let told: Vec<_> = rejected.iter().map(|told| (told.key.as_str(), told.operation)).collect();
    assert_eq!(told, [("list", "INCRBY"), ("value", "RPUSH")]);
    assert_eq!(rejected[0].value.as_deref(), Some(&b"5"[..]));
    assert_eq!(rejected[1].value.as_deref(), Some(&b"\"lost?\""[..]));
    assert!(rejected.iter().all(|told| matches!(told.error, Error::WrongType { .. })), "{rejected:?}");
    let conflicts = store.take_conflicts();
    assert_eq!(conflicts.len(), 1);
    let conflict = &conflicts[0];
    assert_eq!((conflict.key.as_str(), conflict.applied), ("theirs", false));
    assert_eq!(conflict.local.as_deref(), Some(&b"\"mine\""[..]));
    assert_eq!(conflict.remote.as_deref(), Some(&b"2"[..]));
    drop(store);
    let store = open(&proxy.url(), options(dir.path())).unwrap();
    assert!(store.take_rejected().is_empty() && store.take_conflicts().is_empty(), "they were taken");
}

/// A user who may use this pattern of keys, and those of the store itself.
fn set_user(raw: &RawClient, pattern: &str) {
    let rights = ["reset", "on", ">secret", "+@all", "~t:__millpond:*", pattern];
    raw.run::<_, ()>("ACL", &[&["SETUSER", "app"][..], &rights].concat());
}

#[test]
fn a_right_that_is_missing_for_all_operations_keeps_the_store_disconnected() {
    for count in [1, 3] {
        let server = RedisServer::start();
        let raw = RawClient::connect(&server.url(0));
        let dir = tempfile::tempdir().unwrap();
        let proxy = Proxy::to(server.port());
        let url = proxy.url().replace("redis://", "redis://app:secret@");
        set_user(&raw, "~t:*");
        let store = open(&url, durable(dir.path())).unwrap();
        proxy.set(Mode::Down);
        notice_disconnect(&store);
        for n in 0..count {
            store.put(format!("k{n}"), n).unwrap();
        }
        set_user(&raw, "~other:*");
        let tried = proxy.tried();
        proxy.set(Mode::Pass);
        wait_for("the store tries several times", || proxy.tried() > tried + 4);
        assert_eq!((pending(&store), store.stats().outages.rejected), (Some(count), 0));
        set_user(&raw, "~t:*");
        wait_until_connected(&store);
        assert_eq!(store.stats().outages.rejected, 0);
        assert!((0..count).all(|n| raw.exists(&format!("t:k{n}"))));
    }
}

#[test]
fn an_operation_that_alone_lacks_a_right_is_set_aside() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let proxy = Proxy::to(server.port());
    let url = proxy.url().replace("redis://", "redis://app:secret@");
    set_user(&raw, "~t:*");
    let store = open(&url, memory()).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    store.put("closed", 1).unwrap();
    store.put("open", 1).unwrap();
    set_user(&raw, "~t:open");
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    let rejected = store.take_rejected();
    assert_eq!(rejected.iter().map(|told| told.key.as_str()).collect::<Vec<_>>(), ["closed"]);
    assert!(raw.exists("t:open"));
}

/// The program was killed after it had sent the increment, and the server has lost the marker.
#[test]
fn an_uncertain_operation_is_told_by_the_next_program_too() {
    let server = RedisServer::start();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(server.port());
    proxy.set(Mode::Down);
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    store.incr("n", 1).unwrap();
    store.close().unwrap();
    let header = queue_header(dir.path());
    let sent = header.replace("\"sent\":0,\"has_marker\":false", "\"sent\":1,\"has_marker\":true");
    assert_ne!(sent, header);
    set_queue_header(dir.path(), &sent);
    proxy.set(Mode::Pass);
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    assert_eq!(store.stats().outages.uncertain, 1);
    store.close().unwrap();
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    let told = store.pending(100);
    assert_eq!((told[0].key.as_str(), told[0].reason), ("n", PendingReason::Uncertain));
    store.close().unwrap();
    let store = open(&proxy.url(), durable(dir.path())).unwrap();
    assert!(store.pending(100).is_empty(), "the program before this one has seen it");
    assert!(!RawClient::connect(&server.url(0)).exists("t:n"));
}
