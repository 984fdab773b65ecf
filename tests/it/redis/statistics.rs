//! Statistics of a store on a server: retries, pipelines, scripts, connections and bytes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millpond::stats::{ErrorCounts, PoolStats};
use millpond::{RedisOptions, StateStore, Stats};

use crate::support::proxied_server::ProxiedServer;
use crate::support::proxy::{Mode, Way};
use crate::support::redis_stores::{
    memory, notice_disconnect, options, patient, wait_for, wait_until_connected,
};

fn options_with(change: fn(RedisOptions) -> RedisOptions) -> RedisOptions {
    change(patient(options()))
}

fn counted<R>(store: &StateStore, history: impl FnOnce(&StateStore) -> R) -> (R, Stats) {
    let before = store.stats();
    let returned = history(store);
    (returned, store.stats() - before)
}

#[test]
fn an_attempt_behind_the_first_is_a_retry() {
    let setup = ProxiedServer::new();
    let store = setup.store(patient(options()));
    store.put("k", 1).unwrap();
    setup.proxy.cut(Way::Answer, 0);
    let (found, stats) = counted(&store, |store| store.get::<i64>("k").unwrap());
    assert!(setup.proxy.is_cut());
    assert_eq!((found, stats.retries, stats.operations.gets, stats.hits), (Some(1), 1, 1, 1));
    assert_eq!((stats.errors, stats.latency.read.count), (ErrorCounts::default(), 1));
    // A write that was cut off before a byte of it was sent is tried again too.
    setup.proxy.cut(Way::Request, 0);
    let (sent, stats) = counted(&store, |store| store.incr("n", 1));
    assert!(setup.proxy.is_cut());
    // Nobody knows whether the server has it, so it is not sent twice.
    assert!(sent.unwrap_err().maybe_applied());
    assert_eq!((stats.retries, stats.errors.unavailable, stats.error_rate()), (0, 1, 1.0));
}

#[test]
fn chunks_of_batches_are_pipelines() {
    let setup = ProxiedServer::new();
    let store = setup.store(options_with(|options| options.pipeline_batch_size(2)));
    let (_, stats) = counted(&store, |store| {
        store.batch_put((0..5).map(|n| (n.to_string(), n))).unwrap();
        store.batch_get::<i64>((0..5).map(|n| n.to_string())).unwrap()
    });
    assert_eq!((stats.operations.batches, stats.operations.pipelines, stats.hits), (2, 6, 5));
    assert_eq!((stats.latency.read.count, stats.latency.write.count), (3, 3));
    assert_eq!(stats.total_operations(), 2, "a pipeline is no operation of its own");
}

#[test]
fn calls_of_scripts_are_counted() {
    let setup = ProxiedServer::new();
    let store = setup.store(patient(options()));
    store.put("k", 1).unwrap();
    // The server does not know the script yet.
    let (_, first) = counted(&store, |store| store.compare_and_set("k", Some(&1), &2).unwrap());
    let (_, second) = counted(&store, |store| store.compare_and_set("k", Some(&2), &3).unwrap());
    assert_eq!((first.operations.scripts, second.operations.scripts), (2, 1));
    assert_eq!((first.operations.puts, second.operations.puts), (1, 1));
    assert_eq!(second.total_operations(), 1, "a script is no operation of its own");
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let setup = ProxiedServer::new();
    let store = setup.store(options_with(|options| options.pool_size(1)));
    store.put("k", 1).unwrap();
    let idle = store.stats().pool;
    assert_eq!((idle.open, idle.in_use, idle.waited), (1, 0, 0));
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        store
            .transaction(|tx| {
                tx.get::<i64>("k")?;
                let pool = store.stats().pool;
                assert_eq!((pool.open, pool.in_use, pool.waited), (1, 1, 0));
                // The only connection is in use, so another thread waits for it.
                let (sender, store) = (sender.clone(), &store);
                scope.spawn(move || {
                    sender.send(()).unwrap();
                    store.get::<i64>("k").unwrap();
                });
                receiver.recv().unwrap();
                wait_for("the other thread waits", || store.stats().pool.waited == 1);
                Ok(())
            })
            .unwrap();
    });
    wait_for("the connection is back", || store.stats().pool.in_use == 0);
    store.close().unwrap();
    let closed = store.stats().pool;
    assert_eq!((closed.open, closed.in_use), (PoolStats::default().open, 0));
}

#[test]
fn the_bytes_on_the_wire_are_counted() {
    let setup = ProxiedServer::new();
    let store = setup.store(patient(options()));
    store.put("k", 1).unwrap();
    let value = vec![b'x'; 100_000];
    let ((), stats) = counted(&store, |store| store.put_bytes("k", &value).unwrap());
    assert!((100_000..100_400).contains(&stats.bytes_written), "{}", stats.bytes_written);
    assert!(stats.bytes_read < 400, "{}", stats.bytes_read);
    let (_, stats) = counted(&store, |store| store.get_bytes("k").unwrap());
    assert!((100_000..100_400).contains(&stats.bytes_read), "{}", stats.bytes_read);
    assert!(stats.bytes_written < 400, "{}", stats.bytes_written);
}

#[test]
fn an_outage_is_no_retry_and_its_operations_are_counted() {
    let setup = ProxiedServer::new();
    let store = setup.store(memory());
    store.put("k", 1).unwrap();
    setup.proxy.set(Mode::Down);
    notice_disconnect(&store);
    let ((), stats) = counted(&store, |store| {
        store.put("k", 2).unwrap();
        assert_eq!(store.get("k").unwrap(), Some(2));
        assert!(store.try_lock("l", Duration::from_secs(1)).unwrap_err().is_unavailable());
    });
    assert_eq!((stats.operations.puts, stats.operations.gets, stats.operations.other), (1, 1, 1));
    assert_eq!((stats.errors.unavailable, stats.outages.queued), (1, 1));
    assert_eq!((stats.latency.read.count, stats.latency.write.count), (0, 0), "memory serves");
    setup.proxy.set(Mode::Pass);
    wait_until_connected(&store);
}
