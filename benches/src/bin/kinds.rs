//! Maps, queues and transactions. Memory and File are compared with the crate's own values and short queues,
//! Redis with plain redis-rs connections.

use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter, Reading, ReadingWriter, check_json};
use millpond_benches::measure::{Cell, Contender};
use millpond_benches::redis_server::RedisServer;
use millpond_benches::report::{self, Bar};
use redis::{Commands, Connection};

const SHORT: usize = 10;
const LONG: usize = 1_000_000;
const FIELDS: usize = 1000;
const QUEUES: usize = 100;
const KEYS: usize = 10_000;

const QUEUE_BARS: &[Bar] = &[Bar { group: "short queue", at_least: 0.9 }];
const PUSH_BARS: &[Bar] = &[Bar { group: "put_bytes", at_least: 0.7 }];
const PLAIN: &str = "plain connection";
const REDIS_BARS: &[Bar] = &[Bar { group: PLAIN, at_least: 0.95 }];

fn main() {
    report::header("Maps, queues and transactions");
    long_queue();
    file_push();
    match RedisServer::start() {
        Ok(server) => {
            for threads in [1, 4] {
                redis_maps(&server, threads);
                redis_queues(&server, threads);
            }
            redis_transactions(&server);
        }
        Err(reason) => println!("\nRedis was not measured: {reason}."),
    }
}

/// A push and a pop on a long queue take as long as on a short one.
fn long_queue() {
    let store = StateStore::memory();
    let mut writer = ReadingWriter::default();
    store.push_back_many("long", (0..LONG).map(|index| writer.next(index))).unwrap();
    store.push_back_many("short", (0..SHORT).map(|index| writer.next(index))).unwrap();
    let pair = |queue: &str, writer: &mut ReadingWriter, index: usize| {
        store.push_back(queue, writer.next(index)).unwrap();
        assert!(store.pop_front::<Reading>(queue).unwrap().is_some());
    };
    Cell {
        name: "Memory: push_back + pop_front, 1 000 000 long",
        threads: 1,
        keys: KEYS,
        steps: 64,
        operations: 1,
        bars: QUEUE_BARS,
    }
    .compare(&[
        Contender::ours(ReadingWriter::default, |writer, index| pair("long", writer, index)),
        Contender::new("10 long", "short queue", ReadingWriter::default, |writer, index| {
            pair("short", writer, index);
        }),
    ]);
}

/// A push writes one line, like a put.
fn file_push() {
    let directory = millpond_benches::scratch();
    let url = |name: &str| format!("file:{}?sync=never", directory.path().join(name).display());
    let (Some(queues), Some(values)) =
        (millpond_benches::open(&url("queues")), millpond_benches::open(&url("values")))
    else {
        return;
    };
    let keys = data::keys("", KEYS);
    let cell = Cell {
        name: "File: push_back, sync=never",
        threads: 1,
        keys: KEYS,
        steps: 16,
        operations: 1,
        bars: PUSH_BARS,
    };
    cell.compare(&[
        Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, index| {
            queues.push_back("queue", writer.next(index)).unwrap();
        })
        .settling(|| {
            queues.queue_trim("queue", 1000).unwrap();
        }),
        Contender::new("put_bytes", "put_bytes", BytesWriter::default, |writer, index| {
            values.put_bytes(&keys[index], writer.next(index)).unwrap();
        }),
    ]);
    for store in [queues, values] {
        store.close().unwrap();
    }
}

fn open(server: &RedisServer) -> Option<StateStore> {
    // As long as the prefix of the keys that the peer writes.
    millpond_benches::open(&format!("{}?key_prefix=pond", server.url()))
}

fn redis_maps(server: &RedisServer, threads: usize) {
    let fields = data::keys("", FIELDS);
    let store = open(server);
    let mut contenders = vec![Contender::new(
        "redis-rs",
        PLAIN,
        || (server.connect(), ReadingWriter::default()),
        |(peer, writer): &mut (Connection, ReadingWriter), index| {
            let _: i64 = peer.hset("peer:map", &fields[index], writer.next_text(index)).unwrap();
        },
    )];
    if let Some(store) = &store {
        contenders.push(Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, index| {
            store.map_put("map", &fields[index], writer.next(index)).unwrap();
        }));
    }
    let name = "Redis: map_put";
    Cell { name, threads, keys: FIELDS, steps: 1, operations: 1, bars: REDIS_BARS }.compare(&contenders);
}

fn redis_queues(server: &RedisServer, threads: usize) {
    let keys = data::keys("", QUEUES);
    let wire_keys = data::keys("peer:", QUEUES);
    let store = open(server);
    let mut contenders = vec![Contender::new(
        "redis-rs",
        PLAIN,
        || (server.connect(), ReadingWriter::default()),
        |(peer, writer): &mut (Connection, ReadingWriter), index| {
            let _: i64 = peer.rpush(&wire_keys[index], writer.next_text(index)).unwrap();
            let text: Vec<u8> = peer.lpop(&wire_keys[index], None).unwrap();
            check_json(&text, index);
        },
    )];
    if let Some(store) = &store {
        contenders.push(Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, index| {
            store.push_back(&keys[index], writer.next(index)).unwrap();
            store.pop_front::<Reading>(&keys[index]).unwrap().unwrap().check(index);
        }));
    }
    let name = "Redis: push_back + pop_front";
    Cell { name, threads, keys: QUEUES, steps: 1, operations: 1, bars: REDIS_BARS }.compare(&contenders);
}

/// Two reads and two writes of the values that were read, compared with the four round trips of a
/// hand-written version.
fn redis_transactions(server: &RedisServer) {
    let keys = data::keys("", KEYS);
    let wire_keys = data::keys("peer:", KEYS);
    let store = open(server);
    let mut peer = server.connect();
    for index in 0..KEYS {
        let () = peer.set(&wire_keys[index], 0).unwrap();
        if let Some(store) = &store {
            store.put(&keys[index], 0).unwrap();
        }
    }
    let mut contenders = vec![Contender::new(
        "redis-rs: WATCH, GET, GET, EXEC",
        PLAIN,
        || server.connect(),
        |peer: &mut Connection, index| {
            let (a, b) = (&wire_keys[index], &wire_keys[(index + 1) % KEYS]);
            let () = redis::cmd("WATCH").arg(a).arg(b).query(peer).unwrap();
            let from: i64 = peer.get(a).unwrap();
            let to: i64 = peer.get(b).unwrap();
            let mut writes = redis::pipe();
            writes.atomic().set(a, from - 1).ignore().set(b, to + 1).ignore();
            let done: Option<()> = writes.query(peer).unwrap();
            assert!(done.is_some());
        },
    )];
    if let Some(store) = &store {
        contenders.push(Contender::ours(
            || (),
            |(), index| {
                let (a, b) = (&keys[index], &keys[(index + 1) % KEYS]);
                store
                    .transaction(|tx| {
                        let from: i64 = tx.get(a)?.unwrap();
                        let to: i64 = tx.get(b)?.unwrap();
                        tx.put(a, from - 1)?;
                        tx.put(b, to + 1)
                    })
                    .unwrap();
            },
        ));
    }
    let name = "Redis: transaction, 2 reads + 2 writes";
    Cell { name, threads: 1, keys: KEYS, steps: 1, operations: 1, bars: &[] }.compare(&contenders);
}
