//! An outage of Redis: the cost of a fallback without an outage, the operations served during an outage, and
//! the replay after it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use millpond::{StateStore, Status};
use millpond_benches::data::{self, BytesWriter, VALUE_BYTES, check_bytes_of};
use millpond_benches::measure::{self, Cell, Contender};
use millpond_benches::redis_server::RedisServer;
use millpond_benches::report::{self, Bar};
use redis::Pipeline;

const KEYS: usize = 10_000;
const QUEUED: usize = 100_000;
const FEW: usize = 1000;
const BACK_WITHIN: Duration = Duration::from_millis(300);

const BARE: &str = "fallback=none";
const MEMORY: &str = "Memory";
const PIPELINE: &str = "pipeline";
const READY: &[Bar] = &[Bar { group: BARE, at_least: 0.95 }];
const SERVED: &[Bar] = &[Bar { group: MEMORY, at_least: 0.5 }];
const PLAIN: &str = "plain";
const EXACT: &[Bar] = &[Bar { group: PLAIN, at_least: 0.6 }];
/// A pipeline of plain commands has no other work than these commands.
const EXACT_BATCH: &[Bar] = &[Bar { group: PLAIN, at_least: 0.5 }];
const REPLAYED: &[Bar] = &[Bar { group: PIPELINE, at_least: 0.5 }];

fn main() {
    let server = match RedisServer::start() {
        Ok(server) => server,
        Err(reason) => return println!("Nothing was measured: {reason}."),
    };
    report::header("An outage of Redis");
    measure_connected(&server);
    measure_exactly_once(&server);
    measure_outage(server);
    let server = RedisServer::start().expect("another server");
    measure_replay(&RefCell::new(server));
}

/// Compares a store with a fallback and one without, both connected.
fn measure_connected(server: &RedisServer) {
    let keys = data::keys("", KEYS);
    let ready = open(&format!("{}?key_prefix=pond", server.url()));
    let bare = open(&format!("{}?key_prefix=bare&fallback=none", server.url()));
    for (length, get, put) in [
        (VALUE_BYTES, "get, connected", "put, connected"),
        (4096, "get of 4 KiB, connected", "put of 4 KiB, connected"),
    ] {
        for store in [&ready, &bare] {
            fill(store, &keys, length);
        }
        let contenders = |work: fn(&StateStore, &str, &mut BytesWriter, usize)| {
            let keys = &keys;
            let prepare = move || BytesWriter::of(length);
            let step = |store| {
                move |writer: &mut BytesWriter, index: usize| work(store, &keys[index], writer, index)
            };
            [Contender::ours(prepare, step(&ready)), Contender::new(BARE, BARE, prepare, step(&bare))]
        };
        cell(get, 1, READY).compare(&contenders(read));
        cell(put, 1, READY).compare(&contenders(write));
        cell(get, 4, READY).compare(&contenders(read));
        cell(put, 4, READY).compare(&contenders(write));
    }
}

/// The cost of `exactly_once` for increments, pushes and pops.
fn measure_exactly_once(server: &RedisServer) {
    const KEYS_IN_USE: usize = 100;
    let keys = &data::keys("", KEYS_IN_USE);
    let exact = &open(&format!("{}?key_prefix=exact&exactly_once=true", server.url()));
    let plain = &open(&format!("{}?key_prefix=plain", server.url()));
    let contenders = |work: fn(&StateStore, &str, &mut BytesWriter, usize)| {
        let step =
            |store| move |writer: &mut BytesWriter, index: usize| work(store, &keys[index], writer, index);
        [
            Contender::ours(BytesWriter::default, step(exact)),
            Contender::new("exactly_once=false", PLAIN, BytesWriter::default, step(plain)),
        ]
    };
    for threads in [1, 4] {
        let cell = |name| Cell { keys: KEYS_IN_USE, ..cell(name, threads, EXACT) };
        cell("incr, exactly once").compare(&contenders(|store, key, _, _| {
            assert!(store.incr(&format!("n:{key}"), 1).unwrap() > 0);
        }));
        cell("push and pop, exactly once").compare(&contenders(|store, key, _, index| {
            let key = format!("q:{key}");
            assert!(store.push_back(&key, index).unwrap() > 0);
            store.pop_front::<usize>(&key).unwrap();
        }));
        let batch = Cell { bars: EXACT_BATCH, ..cell("batch_incr of 100, exactly once") };
        batch.compare(&contenders(|store, key, _, _| {
            let keys: Vec<String> = (0..100).map(|n| format!("b:{key}:{n}")).collect();
            assert_eq!(store.batch_incr(keys.iter().map(|key| (key, 1))).unwrap().len(), 100);
        }));
    }
}

/// Compares operations during an outage with the Memory variant.
fn measure_outage(mut server: RedisServer) {
    let keys = &data::keys("", KEYS);
    let store = &open(&format!("{}?key_prefix=pond", server.url()));
    let memory = &StateStore::memory();
    fill(store, keys, VALUE_BYTES);
    fill(memory, keys, VALUE_BYTES);
    server.stop();
    notice_outage(store);
    let contenders = |work: fn(&StateStore, &str, &mut BytesWriter, usize)| {
        let step =
            |store| move |writer: &mut BytesWriter, index: usize| work(store, &keys[index], writer, index);
        [
            Contender::ours(BytesWriter::default, step(store)),
            Contender::new(MEMORY, MEMORY, BytesWriter::default, step(memory)),
        ]
    };
    for (threads, bars) in [(1, SERVED), (4, &[][..])] {
        // As many steps between two readings of the clock as the Memory variant has in its own cells.
        let cell = |name| Cell { steps: 64, ..cell(name, threads, bars) };
        cell("put, away").compare(&contenders(write));
        cell("get, away").compare(&contenders(read));
    }
    assert!(matches!(store.status(), Status::Disconnected { .. }));
}

/// Measures the replay, many times.
fn measure_replay(server: &RefCell<RedisServer>) {
    let keys = data::keys("", QUEUED);
    let wire_keys = data::keys("peer:", QUEUED);
    let store = open(&format!("{}?key_prefix=pond", server.borrow().url()));
    let ours = Contender::ours_timed(|| {
        server.borrow_mut().stop();
        notice_outage(&store);
        fill(&store, &keys, VALUE_BYTES);
        let start = server.borrow_mut().start_again();
        // If a replay is not already running, this starts it.
        while store.reconnect().is_err() {}
        QUEUED as f64 / start.elapsed().as_secs_f64()
    });
    let peer = Contender::timed("pipelines of 1 000 SETs", PIPELINE, || {
        redis::cmd("FLUSHALL").exec(&mut server.borrow().connect()).unwrap();
        let mut writer = BytesWriter::default();
        let start = Instant::now();
        let mut peer = server.borrow().connect();
        for (chunk, first) in wire_keys.chunks(1000).zip((0..).step_by(1000)) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for (key, index) in chunk.iter().zip(first..) {
                pipeline.set(key, writer.next(index)).ignore();
            }
            pipeline.exec(&mut peer).unwrap();
        }
        QUEUED as f64 / start.elapsed().as_secs_f64()
    });
    let cell = Cell { name: "replay of 100 000 puts", keys: QUEUED, ..cell("", 1, REPLAYED) };
    cell.compare(&[ours, peer]);

    measure::time("back after an outage, 1000 queued", BACK_WITHIN, || {
        server.borrow_mut().stop();
        notice_outage(&store);
        fill(&store, &keys[..FEW], VALUE_BYTES);
        let start = server.borrow_mut().start_again();
        while store.status() != Status::Connected {
            std::thread::sleep(Duration::from_micros(200));
        }
        let back = start.elapsed();
        for (index, key) in keys[..FEW].iter().enumerate() {
            check_bytes_of(VALUE_BYTES, &store.get_bytes(key).unwrap().unwrap(), index);
        }
        back
    });
}

fn open(url: &str) -> StateStore {
    StateStore::open(url).expect("a store")
}

/// Makes the store notice that its server is gone.
fn notice_outage(store: &StateStore) {
    while store.status() == Status::Connected {
        store.put("notices", 1).unwrap();
    }
}

fn fill(store: &StateStore, keys: &[String], length: usize) {
    let mut writer = BytesWriter::of(length);
    for (index, key) in keys.iter().enumerate() {
        store.put_bytes(key, writer.next(index)).unwrap();
    }
}

fn read(store: &StateStore, key: &str, writer: &mut BytesWriter, index: usize) {
    let length = writer.length();
    check_bytes_of(length, &store.get_bytes(key).unwrap().unwrap(), index);
}

fn write(store: &StateStore, key: &str, writer: &mut BytesWriter, index: usize) {
    store.put_bytes(key, writer.next(index)).unwrap();
}

fn cell(name: &'static str, threads: usize, bars: &'static [Bar]) -> Cell {
    Cell { name, threads, keys: KEYS, steps: 1, operations: 1, bars }
}
