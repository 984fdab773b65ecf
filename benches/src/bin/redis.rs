//! Compares Redis with plain redis-rs connections, one per thread, and with hand-written pipelines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter, Reading, ReadingWriter, check_bytes, check_json};
use millpond_benches::measure::{Cell, Contender};
use millpond_benches::redis_server::RedisServer;
use millpond_benches::report::{self, Bar};
use redis::{Commands, Connection, Pipeline};

const KEYS: usize = 10_000;
const BATCH: usize = 10_000;

const MARK_TTL: Duration = Duration::from_secs(60);

const PLAIN: &str = "plain connection";
const PIPELINE: &str = "pipeline";
const FEW_THREADS: &[Bar] = &[Bar { group: PLAIN, at_least: 0.9 }];
const MANY_THREADS: &[Bar] = &[Bar { group: PLAIN, at_least: 0.85 }];
const BATCHES: &[Bar] = &[Bar { group: PIPELINE, at_least: 0.9 }];

fn main() {
    let server = match RedisServer::start() {
        Ok(server) => server,
        Err(reason) => return println!("Nothing was measured: {reason}."),
    };
    report::header("Redis");
    // As long as the prefix of the keys that the peers write.
    let store = millpond_benches::open(&format!("{}?key_prefix=pond", server.url()));
    let bench = Bench {
        server: &server,
        store: store.as_ref(),
        keys: data::keys("", KEYS),
        wire_keys: data::keys("peer:", KEYS),
    };
    for threads in [1, 4, 16] {
        bench.bytes(threads);
    }
    for threads in [1, 4, 16] {
        bench.json(threads);
    }
    bench.batches();
    bench.marks();
    if let Some(store) = store {
        store.close().unwrap();
    }
}

struct Bench<'a> {
    server: &'a RedisServer,
    store: Option<&'a StateStore>,
    keys: Vec<String>,
    /// The keys that the peers send, with the prefix.
    wire_keys: Vec<String>,
}

impl Bench<'_> {
    fn bytes(&self, threads: usize) {
        let Self { store, keys, wire_keys, .. } = self;
        let mut peer = self.server.connect();
        let mut writer = BytesWriter::default();
        for index in 0..KEYS {
            let value = writer.next(index);
            let () = peer.set(&wire_keys[index], value).unwrap();
            if let Some(store) = store {
                store.put_bytes(&keys[index], value).unwrap();
            }
        }
        let mut get = vec![Contender::new(
            "redis-rs",
            PLAIN,
            || self.server.connect(),
            |peer: &mut Connection, index| {
                let value: Vec<u8> = peer.get(&wire_keys[index]).unwrap();
                check_bytes(&value, index);
            },
        )];
        let mut put = vec![Contender::new(
            "redis-rs",
            PLAIN,
            || (self.server.connect(), BytesWriter::default()),
            |(peer, writer): &mut (Connection, BytesWriter), index| {
                let () = peer.set(&wire_keys[index], writer.next(index)).unwrap();
            },
        )];
        if let Some(store) = store {
            get.push(Contender::ours(
                || (),
                |(), index| check_bytes(&store.get_bytes(&keys[index]).unwrap().unwrap(), index),
            ));
            put.push(Contender::ours(BytesWriter::default, |writer: &mut BytesWriter, index| {
                store.put_bytes(&keys[index], writer.next(index)).unwrap();
            }));
        }
        single("get_bytes", threads).compare(&get);
        single("put_bytes", threads).compare(&put);
    }

    fn json(&self, threads: usize) {
        let Self { store, keys, wire_keys, .. } = self;
        self.fill_json();
        let mut get = vec![Contender::new(
            "redis-rs",
            PLAIN,
            || self.server.connect(),
            |peer: &mut Connection, index| {
                let text: Vec<u8> = peer.get(&wire_keys[index]).unwrap();
                check_json(&text, index);
            },
        )];
        let mut put = vec![Contender::new(
            "redis-rs",
            PLAIN,
            || (self.server.connect(), ReadingWriter::default()),
            |(peer, writer): &mut (Connection, ReadingWriter), index| {
                let () = peer.set(&wire_keys[index], writer.next_text(index)).unwrap();
            },
        )];
        if let Some(store) = store {
            get.push(Contender::ours(
                || (),
                |(), index| store.get::<Reading>(&keys[index]).unwrap().unwrap().check(index),
            ));
            put.push(Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, index| {
                store.put(&keys[index], writer.next(index)).unwrap();
            }));
        }
        single("get (JSON)", threads).compare(&get);
        single("put (JSON)", threads).compare(&put);
    }

    fn batches(&self) {
        let Self { store, keys, .. } = self;
        self.fill_json();
        let mut put: Vec<_> = [("one pipeline of 10 000", BATCH), ("pipelines of 1 000", 1000)]
            .map(|(name, length)| {
                let prepare = || (self.server.connect(), ReadingWriter::default());
                Contender::new(name, PIPELINE, prepare, move |(peer, writer), _| {
                    self.pipelined_put(peer, writer, length);
                })
            })
            .into();
        let mut get: Vec<_> = [("one pipeline of 10 000", BATCH), ("pipelines of 1 000", 1000)]
            .map(|(name, length)| {
                let prepare = || self.server.connect();
                Contender::new(name, PIPELINE, prepare, move |peer, _| self.pipelined_get(peer, length))
            })
            .into();
        if let Some(store) = store {
            put.push(Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, _| {
                let entries = keys.iter().enumerate().map(|(index, key)| (key, writer.next(index)));
                store.batch_put(entries).unwrap();
            }));
            get.push(Contender::ours(
                || (),
                |(), _| {
                    let found = store.batch_get::<Reading>(keys).unwrap();
                    assert_eq!(found.len(), BATCH);
                    for (index, reading) in found.into_iter().enumerate() {
                        reading.unwrap().check(index);
                    }
                },
            ));
        }
        batch("batch_put of 10 000").compare(&put);
        batch("batch_get of 10 000").compare(&get);
    }

    /// Each batch repeats the second half of the one before it, and so sets half of its keys.
    fn marks(&self) {
        let mut mark: Vec<_> = [("one pipeline of 10 000", BATCH), ("pipelines of 1 000", 1000)]
            .map(|(name, length)| {
                let prepare = || (self.server.connect(), Events::new("peer:"));
                Contender::new(name, PIPELINE, prepare, move |(peer, events), _| {
                    let batch = events.next_batch();
                    events.check(&pipelined_marks(peer, &batch, length));
                })
            })
            .into();
        if let Some(store) = self.store {
            mark.push(Contender::ours(
                || Events::new(""),
                |events: &mut Events, _| {
                    let batch = events.next_batch();
                    let entries = batch.iter().map(|key| (key, true));
                    events.check(&store.batch_set_if_not_exists(entries, MARK_TTL).unwrap());
                },
            ));
        }
        batch("batch_set_if_not_exists of 10 000").compare(&mark);
    }

    fn pipelined_put(&self, peer: &mut Connection, writer: &mut ReadingWriter, length: usize) {
        for (chunk, start) in self.wire_keys.chunks(length).zip((0..).step_by(length)) {
            let mut pipeline = Pipeline::with_capacity(length);
            for (key, index) in chunk.iter().zip(start..) {
                pipeline.set(key, writer.next_text(index)).ignore();
            }
            pipeline.exec(peer).unwrap();
        }
    }

    fn pipelined_get(&self, peer: &mut Connection, length: usize) {
        for (chunk, start) in self.wire_keys.chunks(length).zip((0..).step_by(length)) {
            let mut pipeline = Pipeline::with_capacity(length);
            for key in chunk {
                pipeline.get(key);
            }
            let texts: Vec<Vec<u8>> = pipeline.query(peer).unwrap();
            assert_eq!(texts.len(), chunk.len());
            for (text, index) in texts.iter().zip(start..) {
                check_json(text, index);
            }
        }
    }

    fn fill_json(&self) {
        self.pipelined_put(&mut self.server.connect(), &mut ReadingWriter::default(), BATCH);
        let mut writer = ReadingWriter::default();
        if let Some(store) = self.store {
            for (index, key) in self.keys.iter().enumerate() {
                store.put(key, writer.next(index)).unwrap();
            }
        }
    }
}

fn pipelined_marks(peer: &mut Connection, keys: &[String], length: usize) -> Vec<bool> {
    let mut marks = Vec::with_capacity(keys.len());
    let milliseconds = u64::try_from(MARK_TTL.as_millis()).unwrap();
    for chunk in keys.chunks(length) {
        let mut pipeline = Pipeline::with_capacity(length);
        for key in chunk {
            pipeline.cmd("SET").arg(key).arg("true").arg("NX").arg("PX").arg(milliseconds);
        }
        let replies: Vec<Option<String>> = pipeline.query(peer).unwrap();
        marks.extend(replies.into_iter().map(|reply| reply.is_some()));
    }
    marks
}

/// The keys of one thread's events, in batches that overlap by half.
struct Events {
    prefix: String,
    next: usize,
    is_first: bool,
}

impl Events {
    fn new(prefix: &str) -> Self {
        static STREAMS: AtomicUsize = AtomicUsize::new(0);
        let stream = STREAMS.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("{prefix}seen:{stream}:"), next: 0, is_first: true }
    }

    fn next_batch(&mut self) -> Vec<String> {
        self.is_first = self.next == 0;
        let keys = (self.next..self.next + BATCH).map(|n| format!("{}{n}", self.prefix)).collect();
        self.next += BATCH / 2;
        keys
    }

    fn check(&self, marks: &[bool]) {
        let old = if self.is_first { 0 } else { BATCH / 2 };
        assert_eq!(marks.len(), BATCH);
        assert!(marks[..old].iter().all(|new| !new) && marks[old..].iter().all(|new| *new));
    }
}

fn single(name: &'static str, threads: usize) -> Cell {
    let bars = if threads > 4 { MANY_THREADS } else { FEW_THREADS };
    Cell { name, threads, keys: KEYS, steps: 1, operations: 1, bars }
}

/// Counts entries, not batches.
fn batch(name: &'static str) -> Cell {
    Cell { name, threads: 1, keys: BATCH, steps: 1, operations: BATCH as u64, bars: BATCHES }
}
