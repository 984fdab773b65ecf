//! Servers that have gone back to an earlier state: it is noticed, reported once, and what was seen before is forgotten.

use std::path::PathBuf;

use millpond::{Error, OnConflict, RedisOptions, StateStore};

use super::data_loss::{Losses, use_many_connections};
use crate::support::proxy::{Mode, Proxy};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, options, patient, pending, wait_for, wait_until_connected,
};
use crate::support::server_program::separates_reads_from_writes;

/// The key of the count of writes.
pub(super) const COUNT: &str = "t:writes:__millpond:epoch";

/// A server whose last snapshot holds `x` = 1, and which was killed after `x` = 2.
fn server_that_went_back(options: RedisOptions) -> (RedisServer, StateStore, Losses) {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), options).unwrap();
    let told = Losses::by(&store);
    store.put("x", 1).unwrap();
    RawClient::connect(&server.url(0)).run::<&str, ()>("SAVE", &[]);
    store.put("x", 2).unwrap();
    server.kill();
    (server, store, told)
}

#[test]
fn a_server_that_went_back_to_a_snapshot_is_reported_once() {
    for options in [options(), memory()] {
        let (mut server, store, told) = server_that_went_back(options);
        server.restart();
        assert_eq!(store.get::<i32>("x").unwrap(), Some(1));
        told.is(1);
        assert!(told.0.lock().unwrap()[0].contains("earlier state"));
        use_many_connections(&store);
        store.put("x", 3).unwrap();
        server.restart();
        assert_eq!(store.get::<i32>("x").unwrap(), Some(1), "it has gone back once more");
        told.is(2);
        use_many_connections(&store);
        told.is(2);
    }
}

/// What this process had seen last counted as another's write, so that its newest write was dropped for its own older
/// one.
#[test]
fn the_newest_write_wins_over_an_older_own_one_after_a_rollback() {
    for on_conflict in [OnConflict::RemoteWins, OnConflict::LocalWins] {
        let (mut server, store, told) = server_that_went_back(memory().on_conflict(on_conflict));
        store.put("x", 3).unwrap();
        assert!(pending(&store).is_some());
        server.restart();
        wait_until_connected(&store);
        assert_eq!(store.get::<i32>("x").unwrap(), Some(3));
        assert_eq!(store.stats().outages.conflicts, 0);
        told.is(1);
    }
}

#[test]
fn values_seen_before_a_rollback_are_not_served_in_an_outage() {
    let (mut server, store, told) = server_that_went_back(memory());
    server.restart();
    wait_for("the store is connected again", || store.get::<i32>("other").is_ok());
    told.is(1);
    server.kill();
    notice_disconnect(&store);
    assert_error!(store.get::<i32>("x"), Error::Unavailable { .. });
    server.restart();
    wait_until_connected(&store);
}

/// The process that is back first writes again, until the count is higher than what the others had seen.
#[test]
fn each_process_learns_of_a_rollback_however_much_others_have_written_since() {
    let mut server = RedisServer::start();
    let stores = [(); 3].map(|()| open(&server.url(0), memory()).unwrap());
    let told = stores.each_ref().map(Losses::by);
    for store in &stores {
        store.put("x", 1).unwrap();
    }
    RawClient::connect(&server.url(0)).run::<&str, ()>("SAVE", &[]);
    for store in &stores {
        store.put("x", 2).unwrap();
    }
    server.restart();
    for (store, told) in stores.iter().zip(&told) {
        use_many_connections(store);
        told.is(1);
    }
    stores.iter().for_each(use_many_connections);
    for told in &told {
        told.is(1);
    }
}

#[test]
fn a_server_whose_log_was_cut_is_reported() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url(0), memory()).unwrap();
    let told = Losses::by(&store);
    store.put("x", 1).unwrap();
    let raw = RawClient::connect(&server.url(0));
    let log = log_of(&server);
    let kept = std::fs::metadata(&log).unwrap().len();
    store.put("x", 2).unwrap();
    drop(raw);
    server.kill();
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(kept).unwrap();
    server.restart();
    assert_eq!(store.get::<i32>("x").unwrap(), Some(1));
    told.is(1);
}

/// The log that a server is writing.
fn log_of(server: &RedisServer) -> PathBuf {
    let of_6 = server.dir().join("appendonly.aof");
    let of_7 = std::fs::read_dir(server.dir().join("appendonlydir")).into_iter().flatten().flatten();
    let mut of_7 = of_7.map(|file| file.path());
    of_7.find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap_or(of_6)
}

/// Makes a server a replica of another one.
pub(super) fn follow(from: &RedisServer, to: &RedisServer) {
    let raw = RawClient::connect(&to.url(0));
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &from.port().to_string()]);
    wait_for("the replica is in step", || {
        let told: String = raw.run("INFO", &["replication"]);
        told.contains("master_link_status:up") && told.contains("master_sync_in_progress:0")
    });
}

/// Makes a server a copy of another one, and independent again.
pub(super) fn copy(from: &RedisServer, to: &RedisServer) {
    follow(from, to);
    RawClient::connect(&to.url(0)).run::<_, ()>("REPLICAOF", &["NO", "ONE"]);
}

#[test]
fn an_older_replica_that_takes_over_is_reported() {
    let (server, older) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::to(server.port());
    let store = open(&proxy.url(), memory()).unwrap();
    let told = Losses::by(&store);
    store.put("x", 1).unwrap();
    copy(&server, &older);
    store.put("x", 2).unwrap();
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    copy(&older, &server);
    proxy.set(Mode::Pass);
    wait_until_connected(&store);
    assert_eq!(store.get::<i32>("x").unwrap(), Some(1));
    told.is(1);
}

/// A user without the right to count learns of a rollback from the others.
#[test]
fn a_user_who_may_not_count_is_served_and_sees_what_others_count() {
    let mut users = vec![vec!["~t:x", "~t:__millpond:*"]];
    if separates_reads_from_writes() {
        users.push(vec!["~t:x", "~t:__millpond:*", "%R~t:writes:*"]);
    } else {
        println!("this server has no permission to read a key without writing it: not tested");
    }
    for keys in users {
        let mut server = RedisServer::start();
        let rights = [&["SETUSER", "limited", "on", ">pw", "+@all"], &keys[..]].concat();
        let grant = |server: &RedisServer| RawClient::connect(&server.url(0)).run::<_, ()>("ACL", &rights);
        grant(&server);
        let url = format!("redis://limited:pw@127.0.0.1:{}", server.port());
        let other = open(&server.url(0), patient(memory())).unwrap();
        let store = open(&url, memory()).unwrap();
        let told = Losses::by(&store);
        for n in 0..100 {
            store.put("x", n).unwrap();
        }
        let raw = RawClient::connect(&server.url(0));
        other.put("x", 1).unwrap();
        raw.run::<&str, ()>("SAVE", &[]);
        let before = raw.get(COUNT);
        store.put("x", 2).unwrap();
        assert_eq!(raw.get(COUNT), before, "it may not count");
        other.put("x", 3).unwrap();
        server.restart();
        // The snapshot does not hold the users of the server.
        grant(&server);
        use_many_connections(&other);
        wait_until_connected(&store);
        wait_for("the store writes again", || store.put("x", 4).is_ok());
        told.is(1);
        assert_eq!(store.stats().outages.rejected, 0);
    }
}

#[test]
fn a_server_that_is_emptied_while_connected_is_noticed_by_the_next_write() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    let store = open(&server.url(0), memory()).unwrap();
    let told = Losses::by(&store);
    for round in 1..4 {
        store.put("x", 1).unwrap();
        store.put("x", 2).unwrap();
        raw.run::<&str, ()>("FLUSHALL", &[]);
        // After many writes, only some are counted.
        wait_for("a write is counted", || {
            store.put("x", 3).unwrap();
            told.times() == round
        });
        use_many_connections(&store);
        told.is(round);
    }
}
