//! How much memory a store takes during an outage and after it, whatever the program and the server do. Memory is
//! measured in a process of its own.

use std::time::Duration;

use millpond::{Error, RedisOptions, StateStore};

use crate::support::child_process::{Process, job, report};
use crate::support::ports::free_port;
use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::Mode;
use crate::support::redis_stores::{memory, notice_disconnect, open, wait_until_connected};
use crate::support::resident;

/// Opens a store whose server is never there.
fn disconnected(options: RedisOptions) -> StateStore {
    open(&format!("redis://127.0.0.1:{}", free_port()), options).unwrap()
}

/// One write of a kind; no two of them are coalesced.
type Write = fn(&StateStore, u64) -> millpond::Result<()>;

/// The kinds of writes.
const WRITES: &[(&str, Write)] = &[
    ("put", |store, n| store.put(format!("key:{n}"), n)),
    ("put of a text", |store, n| store.put(format!("key:{n}"), format!("{n:0300}"))),
    ("put with a long key", |store, n| store.put(format!("{n:0200}"), n)),
    ("put with a TTL", |store, n| store.put_with_ttl(format!("key:{n}"), n, Duration::from_secs(1000))),
    ("put_bytes", |store, n| store.put_bytes(format!("key:{n}"), &n.to_le_bytes())),
    ("delete", |store, n| store.delete(format!("key:{n}")).map(drop)),
    ("incr", |store, n| store.incr(format!("key:{n}"), 1).map(drop)),
    ("push_back", |store, n| store.push_back("queue", n).map(drop)),
    ("push_back to many", |store, n| store.push_back(format!("queue:{n}"), n).map(drop)),
    ("map_put", |store, n| store.map_put("map", format!("field:{n}"), n).map(drop)),
    ("map_put to many", |store, n| store.map_put(format!("map:{n}"), "field", n).map(drop)),
    ("map_incr to many", |store, n| store.map_incr(format!("map:{n}"), "field", 1).map(drop)),
    ("batch_put", |store, n| store.batch_put((0..20).map(|part| (format!("key:{n}:{part}"), n)))),
];

/// Reports how many bytes one write is counted as, and how many it takes.
fn measure(write: Write) {
    const BOUND: u64 = 256 << 10;
    let bounded = disconnected(memory().max_pending_bytes(BOUND));
    let is_refused = |n: &u64| matches!(write(&bounded, *n), Err(Error::Unavailable { .. }));
    let accepted = (0..BOUND).find(is_refused).unwrap();
    drop(bounded);
    let store = disconnected(memory().max_pending_bytes(1 << 40).max_pending(1 << 29));
    let (writes, before) = (20_000, resident());
    (0..writes).for_each(|n| write(&store, n).unwrap());
    report(&format!("{} {}", BOUND / accepted, (resident() - before) / writes));
}

#[test]
fn a_queued_operation_counts_with_the_memory_that_it_takes() {
    const THIS: &str = "outage::memory::a_queued_operation_counts_with_the_memory_that_it_takes";
    if let Some((told, _)) = job() {
        let (_, write) = WRITES.iter().find(|(name, _)| *name == told).expect("a kind of write");
        return measure(*write);
    }
    let mut wrong = Vec::new();
    for (name, _) in WRITES {
        let reports = Process::start_test(THIS, name, "").read_all_reports();
        let numbers: Vec<u64> = reports[0].split(' ').map(|number| number.parse().unwrap()).collect();
        let [counted, taken] = numbers[..] else { panic!("{reports:?}") };
        if taken > counted + counted / 5 || taken < counted / 3 {
            wrong.push(format!("{name}: counted as {counted} bytes, and takes {taken}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A program may look for keys that nobody has.
#[test]
fn reads_of_unknown_keys_take_no_more_memory_than_the_shadow_may() {
    const THIS: &str = "outage::memory::reads_of_unknown_keys_take_no_more_memory_than_the_shadow_may";
    const SHADOW: u64 = 8 << 20;
    if job().is_some() {
        let store = disconnected(memory().shadow_bytes(SHADOW));
        assert_eq!(store.get::<i64>("first").unwrap(), None);
        let before = resident();
        for n in 0..600_000 {
            assert_eq!(store.get::<i64>(&format!("unknown:{n}")).unwrap(), None);
        }
        return report(&(resident() - before).to_string());
    }
    let reports = Process::start_test(THIS, "reads", "").read_all_reports();
    let taken: u64 = reports[0].parse().unwrap();
    assert!(taken < SHADOW + (4 << 20), "{taken} bytes");
}

/// Some of the keys were read before there was no more room to note them, others after it.
#[test]
fn a_put_to_a_key_that_was_assumed_absent_stays_careful_when_there_is_no_room_to_note_keys() {
    for shadow_bytes in [0, 1000, 1 << 20] {
        let server = ProxiedServer::new();
        server.proxy.set(Mode::Down);
        let store = server.store(memory().shadow_bytes(shadow_bytes));
        let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
        for key in &keys {
            assert_eq!(store.get::<i64>(key).unwrap(), None);
            server.raw.run::<_, ()>("SET", &[format!("t:{key}").as_str(), "7"]);
        }
        for key in &keys {
            store.put(key, 1).unwrap();
            assert_eq!(store.get::<i64>(key).unwrap(), Some(1), "{key}");
        }
        store.put("nobody has it", 1).unwrap();
        server.proxy.set(Mode::Pass);
        wait_until_connected(&store);
        assert_eq!(store.get::<i64>("nobody has it").unwrap(), Some(1));
        for key in &keys {
            assert_eq!(store.get::<i64>(key).unwrap(), Some(7), "{key} with {shadow_bytes} bytes");
        }
        assert_eq!(store.take_conflicts().len(), keys.len());
    }
}

#[test]
fn refused_operations_are_kept_within_a_bound_and_the_newest_of_them() {
    const REFUSED: u64 = 12_000;
    let server = ProxiedServer::new();
    let store = server.store(memory());
    server.proxy.set(Mode::Down);
    notice_disconnect(&store);
    for n in 0..REFUSED {
        store.map_put("list", format!("f{n}"), format!("{n:02000}")).unwrap();
    }
    server.raw.run::<_, ()>("RPUSH", &["t:list", "1"]);
    server.proxy.set(Mode::Pass);
    wait_until_connected(&store);
    let stats = store.stats().outages;
    let kept = store.take_rejected();
    assert_eq!(stats.rejected, REFUSED);
    assert_eq!(kept.len() as u64 + stats.dropped_outcomes, REFUSED);
    let bytes: usize = kept.iter().map(|rejected| rejected.value.as_ref().unwrap().len()).sum();
    assert!((8 << 20..16 << 20).contains(&bytes), "{bytes} bytes");
    assert_eq!(kept.last().unwrap().field.as_deref(), Some(format!("f{}", REFUSED - 1).as_str()));
}
