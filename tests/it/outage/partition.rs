//! Network partitions: the network loses every packet for a while, and later delivers data that was sent
//! during that time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Error, StateStore};

use crate::support::Ending;
use crate::support::partition::Partition;
use crate::support::raw_client::RawClient;
use crate::support::redis_stores::{
    LIMIT, memory, notice_disconnect, open, pending, wait_for, wait_until_connected,
};

/// The longest time of a test, on a slow and busy machine.
const MOST: Duration = Duration::from_secs(60);

const KEYS: usize = 50;
const WRITERS: usize = 4;
const COUNTERS: usize = 5;

/// The results of increments: certainly applied, possibly applied.
#[derive(Default)]
struct Increments {
    sure: AtomicU64,
    unsure: AtomicU64,
}

/// Asserts, until the end, that no value ever decreases.
fn assert_values_never_decrease(raw: &RawClient, ending: &AtomicBool) {
    let names: Vec<String> = (0..KEYS).map(|key| format!("t:h{key}")).collect();
    let mut last = [0_i64; KEYS];
    while !ending.load(Ordering::Relaxed) {
        let found: Vec<Option<i64>> = raw.run("MGET", &names);
        for ((name, last), found) in names.iter().zip(&mut last).zip(found) {
            let found = found.unwrap_or(0);
            assert!(found >= *last, "{name} fell from {last} to {found}");
            *last = found;
        }
    }
}

/// Writes increasing numbers to the keys of one writer, and increments counters; returns the last number.
fn write_until_end(store: &StateStore, writer: usize, counts: &[Increments], ending: &AtomicBool) -> i64 {
    let mut n = 0;
    while !ending.load(Ordering::Relaxed) {
        n += 1;
        for key in (writer..KEYS).step_by(WRITERS) {
            // An operation on one slow connection reports a lost reply.
            while let Err(error) = store.put(format!("h{key}"), n) {
                assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            }
            let told = &counts[key % COUNTERS];
            match store.incr(format!("n{}", key % COUNTERS), 1) {
                Ok(_) => told.sure.fetch_add(1, Ordering::Relaxed),
                Err(Error::Unavailable { maybe_applied: true, .. }) => {
                    told.unsure.fetch_add(1, Ordering::Relaxed)
                }
                Err(Error::Unavailable { maybe_applied: false, .. }) => 0,
                Err(error) => panic!("{error:?}"),
            };
        }
    }
    n
}

#[test]
fn partitions_reorder_no_write_and_double_no_increment() {
    let begun = Instant::now();
    let partition = Partition::start();
    let store = open(&partition.url(), memory()).unwrap();
    let counts: [Increments; COUNTERS] = Default::default();
    let ending = AtomicBool::new(false);
    let raw = partition.raw();
    thread::scope(|scope| {
        let _ending = Ending(&ending);
        let watcher = scope.spawn(|| assert_values_never_decrease(&raw, &ending));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, counts, ending) = (&store, &counts, &ending);
                scope.spawn(move || write_until_end(store, writer, counts, ending))
            })
            .collect();
        for round in 0..5 {
            let seen = raw.get("t:n0");
            wait_for("the store is writing", || raw.get("t:n0") != seen);
            partition.sever();
            if round % 2 == 0 {
                wait_for("the store is disconnected", || pending(&store).is_some());
            } else {
                // Before the time limits end: the writes are late but no outage begins, or one is just about
                // to.
                thread::sleep(LIMIT / 2);
            }
            partition.heal();
            wait_until_connected(&store);
        }
        ending.store(true, Ordering::Relaxed);
        let numbers: Vec<i64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        wait_until_connected(&store);
        watcher.join().unwrap();
        for key in 0..KEYS {
            assert_eq!(raw.run::<_, i64>("GET", &[format!("t:h{key}")]), numbers[key % WRITERS], "h{key}");
        }
    });
    for (n, told) in counts.iter().enumerate() {
        let (sure, unsure) = (told.sure.load(Ordering::Relaxed), told.unsure.load(Ordering::Relaxed));
        let found: u64 = raw.run("GET", &[format!("t:n{n}")]);
        assert!((sure..=sure + unsure).contains(&found), "n{n}: {found} of {sure} to {}", sure + unsure);
    }
    let stats = store.stats().outages;
    assert!(stats.outages > 2 && stats.killed_connections > 0, "{stats:?}");
    assert_eq!((stats.conflicts, stats.rejected, stats.uncertain), (0, 0, 0));
    assert!(begun.elapsed() < MOST, "took {:?}", begun.elapsed());
}

/// The partition begins in the middle of the batch.
#[test]
fn acknowledged_batch_entries_survive_a_partition() {
    const ALL: usize = 10_000;
    let begun = Instant::now();
    let partition = Partition::start();
    let store = open(&partition.url(), memory()).unwrap();
    let raw = partition.raw();
    let size = || raw.run::<&str, usize>("DBSIZE", &[]);
    let mut in_the_middle = 0;
    for round in 0..10 {
        wait_until_connected(&store);
        let value = round.to_string().repeat(1000);
        let put = |name: &str| store.batch_put((0..ALL).map(|n| (format!("{name}{round}:{n}"), &value)));
        let before = size();
        let (outcome, there) = thread::scope(|scope| {
            let putting = scope.spawn(|| put("a"));
            wait_for("the batch has begun", || size() > before + ALL / 10);
            partition.sever();
            let outcome = putting.join().unwrap();
            let there = size() - before;
            put("b").expect("a batch that begins in an outage is served");
            partition.heal();
            (outcome, there)
        });
        wait_until_connected(&store);
        let acknowledged = match outcome {
            Ok(()) => ALL,
            Err(Error::Partial { done, source, .. }) => {
                assert!(matches!(*source, Error::Unavailable { .. }), "{source:?}");
                usize::try_from(done).unwrap()
            }
            Err(error) => panic!("{error:?}"),
        };
        println!("{there} were on the server during the partition, {acknowledged} acknowledged");
        for (name, acknowledged) in [("a", acknowledged), ("b", ALL)] {
            let names: Vec<String> = (0..acknowledged).map(|n| format!("t:{name}{round}:{n}")).collect();
            assert_eq!(raw.run::<_, usize>("EXISTS", &names), acknowledged, "{name}{round}");
        }
        in_the_middle += u32::from(there < ALL);
        if in_the_middle == 2 {
            break;
        }
    }
    assert_eq!(in_the_middle, 2);
    assert_eq!(store.stats().outages.conflicts, 0);
    assert!(begun.elapsed() < MOST, "took {:?}", begun.elapsed());
}

/// Every queued operation is applied once.
#[test]
fn a_partition_during_the_replay_keeps_it_exact_and_in_order() {
    const ALL: u64 = 20_000;
    let begun = Instant::now();
    let partition = Partition::start();
    let store = open(&partition.url(), memory()).unwrap();
    let raw = partition.raw();
    let mut in_the_middle = 0;
    for round in 0..10 {
        // Adjacent operations on one key would be merged.
        let queues = [format!("q{round}a"), format!("q{round}b")];
        let there = || -> u64 { queues.iter().map(|q| raw.run::<_, u64>("LLEN", &[format!("t:{q}")])).sum() };
        partition.sever();
        notice_disconnect(&store);
        for n in 0..ALL {
            store.push_back(&queues[usize::from(n % 2 == 1)], n).unwrap();
        }
        assert_eq!(pending(&store), Some(ALL));
        partition.heal();
        wait_for("the replay has begun", || there() > 0);
        partition.sever();
        // Longer than any operation waits for a reply.
        thread::sleep(LIMIT + LIMIT / 4);
        let severed_at = there();
        println!("{severed_at} of {ALL} were on the server during the partition");
        partition.heal();
        wait_until_connected(&store);
        for (odd, queue) in (0..).zip(&queues) {
            let found: Vec<u64> = raw.run("LRANGE", &[&format!("t:{queue}"), "0", "-1"]);
            assert!(
                found.into_iter().eq((odd..ALL).step_by(2)),
                "each once and in order, {severed_at} at first"
            );
        }
        in_the_middle += u32::from(severed_at < ALL);
        if in_the_middle == 2 {
            break;
        }
    }
    let stats = store.stats().outages;
    assert_eq!((in_the_middle, stats.uncertain, stats.rejected), (2, 0, 0));
    assert!(begun.elapsed() < MOST, "took {:?}", begun.elapsed());
}
