//! Data loss on the server: it is noticed, reported once, and values that were read before it are forgotten.

use std::sync::{Arc, Mutex};

use millpond::{Error, Event, OnConflict, StateBackend, StateConfig, StateStore};

use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;
use crate::support::redis_stores::{
    memory, notice_disconnect, open, options, patient, pending, put_despite_a_broken_connection, wait_for,
    wait_until_connected,
};
use crate::support::server_program::separates_reads_from_writes;

const EPOCH: &str = "t:__millpond:epoch";

/// The causes of data loss that a store reports.
pub(super) struct Losses(pub(super) Arc<Mutex<Vec<String>>>);

impl Losses {
    pub(super) fn by(store: &StateStore) -> Self {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let mine = Arc::clone(&told);
        store.on_event(move |event| {
            if let Event::DataLost { cause, .. } = event {
                mine.lock().unwrap().push(cause.clone());
            }
        });
        Self(told)
    }

    pub(super) fn times(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until so many reports have come, since a store is connected a moment before it reports; fails if
    /// there are more.
    #[track_caller]
    pub(super) fn is(&self, times: usize) {
        wait_for("the loss is reported", || self.times() >= times);
        assert_eq!(self.times(), times);
    }
}

fn marker(raw: &RawClient) -> Vec<String> {
    raw.run("KEYS", &["*marker*"])
}

/// Makes the store use every connection that it has, and open some more.
pub(super) fn use_many_connections(store: &StateStore) {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for n in 0..20 {
                    put_despite_a_broken_connection(store, &format!("many:{thread}"), n);
                }
            });
        }
    });
}

#[test]
fn a_server_emptied_during_an_outage_is_reported_once() {
    for marked in [false, true] {
        let server = RedisServer::start();
        let proxy = Proxy::to(server.port());
        let raw = RawClient::connect(&server.url(0));
        let store = open(&proxy.url(), patient(memory())).unwrap();
        let told = Losses::by(&store);
        store.put("a", 1).unwrap();
        if marked {
            proxy.set(Mode::Down);
            store.put("a", 2).unwrap();
            proxy.set(Mode::Pass);
            wait_until_connected(&store);
        }
        let epoch = raw.get(EPOCH);
        proxy.set(Mode::Down);
        store.put("b", 1).unwrap();
        raw.run::<&str, ()>("FLUSHALL", &[]);
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        use_many_connections(&store);
        told.is(1);
        assert!(epoch.is_some() && raw.get(EPOCH).is_some_and(|made| Some(made) != epoch));
        assert_eq!((store.get::<i32>("a").unwrap(), store.get::<i32>("b").unwrap()), (None, Some(1)));
        assert_eq!(store.stats().outages.uncertain, 0);
        proxy.set(Mode::Down);
        store.put("b", 2).unwrap();
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        told.is(1);
    }
}

/// A retry on a new connection used to hide the loss.
#[test]
fn one_operation_notices_that_an_idle_server_lost_its_data() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), patient(memory())).unwrap();
    let told = Losses::by(&store);
    for round in 1..4 {
        store.put("a", 1).unwrap();
        assert_eq!(store.get::<i32>("a").unwrap(), Some(1));
        use_many_connections(&store);
        server.restart();
        assert_eq!(store.get::<i32>("a").unwrap(), None);
        told.is(round);
        use_many_connections(&store);
        store.put("b", 2).unwrap();
        assert_eq!((told.times(), store.stats().outages.outages), (round, 0));
        assert!(RawClient::connect(&server.url(0)).get(EPOCH).is_some(), "a new epoch is created");
    }
    // The marker is gone with everything else, and that loss was already reported.
    server.kill();
    store.put("a", 3).unwrap();
    server.restart();
    wait_until_connected(&store);
    told.is(4);
}

#[test]
fn data_loss_is_reported_without_a_fallback_too() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), patient(options())).unwrap();
    let told = Losses::by(&store);
    store.put("a", 1).unwrap();
    server.restart();
    assert_eq!(store.get::<i32>("a").unwrap(), None);
    told.is(1);
}

#[test]
fn a_server_that_keeps_its_log_has_no_data_loss() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url(0), patient(memory())).unwrap();
    let told = Losses::by(&store);
    for n in 0..3 {
        store.put("a", n).unwrap();
        if n == 1 {
            server.kill();
            store.put("a", 7).unwrap();
        }
        server.restart();
        wait_until_connected(&store);
        assert_eq!(store.get::<i32>("a").unwrap(), Some(if n == 1 { 7 } else { n }));
        use_many_connections(&store);
    }
    told.is(0);
}

#[test]
fn two_stores_with_one_prefix_each_report_the_loss_once() {
    let mut server = RedisServer::start();
    let stores = [(); 2].map(|()| open(&server.url(0), patient(memory())).unwrap());
    let told = stores.each_ref().map(Losses::by);
    for store in &stores {
        store.put("a", 1).unwrap();
    }
    server.restart();
    for _ in 0..2 {
        for (store, told) in stores.iter().zip(&told) {
            use_many_connections(store);
            told.is(1);
        }
    }
    server.kill();
    for store in &stores {
        store.put("b", 1).unwrap();
    }
    server.restart();
    for (store, told) in stores.iter().zip(&told) {
        wait_until_connected(store);
        told.is(2);
    }
}

#[test]
fn a_user_without_access_to_the_epoch_is_served_without_it() {
    let mut users: Vec<&[&str]> = vec![&["~t:a", "+@all"], &["~*", "+@all", "-set"]];
    if separates_reads_from_writes() {
        users.push(&["~t:a", "%R~t:__millpond:*", "+@all"]);
    } else {
        println!("this server has no permission to read a key without writing it: not tested");
    }
    for rights in users {
        let server = RedisServer::start();
        let raw = RawClient::connect(&server.url(0));
        let user = [&["SETUSER", "limited", "on", ">pw"], rights].concat();
        raw.run::<_, ()>("ACL", &user);
        let proxy = Proxy::to(server.port());
        let store = open(&format!("redis://limited:pw@{}", proxy.address()), patient(options())).unwrap();
        let told = Losses::by(&store);
        for round in 1..4 {
            assert_eq!(store.incr("a", 1).unwrap(), round);
            assert!(raw.get(EPOCH).is_none());
        }
        assert_eq!(proxy.tried(), 1, "a refusal is no reason to close a connection");
        raw.run::<&str, ()>("FLUSHALL", &[]);
        assert_eq!(store.incr("a", 1).unwrap(), 1);
        told.is(0);
    }
}

/// Once, every connection was closed after one use, because the server had replied that it is read-only.
#[test]
fn a_read_only_replica_is_read_without_an_epoch() {
    let server = RedisServer::start();
    let replica = RedisServer::start();
    let raw = RawClient::connect(&replica.url(0));
    raw.run::<_, ()>("REPLICAOF", &["127.0.0.1", &server.port().to_string()]);
    wait_for("the replica follows", || {
        raw.run::<_, String>("INFO", &["replication"]).contains("master_link_status:up")
    });
    let proxy = Proxy::to(replica.port());
    let store = open(&proxy.url(), patient(options())).unwrap();
    for _ in 0..10 {
        assert_eq!(store.get::<i32>("a").unwrap(), None);
    }
    assert_eq!(proxy.tried(), 1);
    assert!(!raw.exists(EPOCH));
}

#[test]
fn values_read_before_a_loss_are_not_served_in_an_outage() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), patient(memory())).unwrap();
    store.put("a", 1).unwrap();
    store.put("b", 1).unwrap();
    server.restart();
    put_despite_a_broken_connection(&store, "b", 2);
    server.kill();
    notice_disconnect(&store);
    assert_error!(store.get::<i32>("a"), Error::Unavailable { .. });
    assert_eq!(store.keys("").unwrap().iter().filter(|key| *key == "a").count(), 0);
    server.restart();
    wait_until_connected(&store);
}

/// Keys that were lost on the server once counted as changed by another program, and queued operations for
/// them were dropped.
#[test]
fn a_key_that_the_server_lost_is_no_conflict() {
    let mut server = RedisServer::start();
    let store = open(&server.url(0), patient(memory().on_conflict(OnConflict::RemoteWins))).unwrap();
    let told = Losses::by(&store);
    store.batch_put([("a", 1), ("b", 1), ("c", 1)]).unwrap();
    server.kill();
    store.put("a", 2).unwrap();
    store.delete("b").unwrap();
    assert_eq!(store.get::<i32>("c").unwrap(), Some(1));
    server.restart();
    wait_until_connected(&store);
    assert_eq!(store.batch_get::<i32>(["a", "b", "c"]).unwrap(), [Some(2), None, None]);
    assert_eq!(store.stats().outages.conflicts, 0);
    told.is(1);
}

/// The values that were read before are kept.
#[test]
fn the_loss_of_the_marker_alone_is_reported() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), patient(memory())).unwrap();
    let told = Losses::by(&store);
    store.put("a", 1).unwrap();
    for round in 0..3 {
        proxy.set(Mode::Down);
        store.put("b", round).unwrap();
        if round > 0 {
            raw.run::<_, ()>("DEL", &marker(&raw));
        }
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        told.is(round);
        assert!(told.0.lock().unwrap().iter().all(|cause| cause.contains("marker")));
    }
    proxy.set(Mode::Down);
    notice_disconnect(&store);
    assert_eq!(store.get::<i32>("a").unwrap(), Some(1));
}

/// Marker and epoch disappear during the replay. Once, both checks reported the loss, one after the other.
#[test]
fn a_server_emptied_during_the_replay_is_reported_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let raw = RawClient::connect(&server.url(0));
    let store = open(&proxy.url(), patient(memory())).unwrap();
    let told = Losses::by(&store);
    store.put("a", 1).unwrap();
    let (mut emptied, mut whole) = (0, 0);
    for bytes in (0..).step_by(50) {
        if whole == 3 {
            break;
        }
        proxy.set(Mode::Down);
        store.put("b", bytes).unwrap();
        proxy.cut_and_set(Way::Answer, bytes, Mode::Refuse);
        proxy.set(Mode::Pass);
        wait_for("the connection was cut, or the store is connected", || {
            pending(&store).is_none() || proxy.is_cut()
        });
        if pending(&store).is_some() {
            raw.run::<&str, ()>("FLUSHALL", &[]);
            emptied += 1;
        }
        whole += u32::from(!proxy.cancel_cut());
        proxy.set(Mode::Pass);
        wait_until_connected(&store);
        use_many_connections(&store);
        told.is(emptied);
    }
    assert!(emptied > 5, "{emptied}");
}

/// Without a prefix, its key has no prefix either.
#[test]
fn the_epoch_is_never_listed_nor_cleared() {
    let server = RedisServer::start();
    let raw = RawClient::connect(&server.url(0));
    for (key_prefix, key) in [("t", EPOCH), ("", "__millpond:epoch"), ("a:b", "a:b:__millpond:epoch")] {
        let backend = StateBackend::redis(server.url(0)).key_prefix(key_prefix);
        let store = StateStore::with_config(StateConfig::default().backend(backend)).unwrap();
        let epoch = raw.get(key);
        assert!(epoch.as_ref().is_some_and(|epoch| epoch.len() == 32), "{key}: {epoch:?}");
        assert!(store.keys("").unwrap().is_empty() && store.is_empty().unwrap());
        if !key_prefix.is_empty() {
            store.put("k", 1).unwrap();
            assert_eq!(store.clear().unwrap(), 1);
        }
        assert_error!(store.get::<i32>("__millpond:epoch"), Error::InvalidKey { .. });
        assert_eq!(raw.get(key), epoch);
        assert_eq!(raw.run::<_, i64>("PTTL", &[key]), -1, "the epoch never expires");
    }
}
