//! Compares Memory with dashmap and `RwLock<HashMap>`.

use std::collections::HashMap;
use std::hint::black_box;
use std::mem;
use std::sync::{Arc, RwLock};

use dashmap::DashMap;
use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter, Reading, ReadingWriter, check_bytes, check_json};
use millpond_benches::measure::{self, Cell, Contender};
use millpond_benches::report::{self, Bar};

const KEYS: usize = 100_000;
const LISTED_KEYS: usize = 1_000_000;
const BARS: &[Bar] = &[Bar { group: "map", at_least: 0.8 }];

type Locked = RwLock<HashMap<String, Arc<[u8]>>>;
type Dash = DashMap<String, Arc<[u8]>>;

fn main() {
    report::header("Memory");
    for threads in [1, 2, 4] {
        bytes(threads);
    }
    for threads in [1, 2, 4] {
        json(threads);
    }
    listing();
}

fn cell(name: &'static str, threads: usize) -> Cell {
    Cell { name, threads, keys: KEYS, steps: 64, operations: 1, bars: BARS }
}

fn bytes(threads: usize) {
    let keys = data::keys("", KEYS);
    let mut writer = BytesWriter::default();
    let store = StateStore::memory();
    for (index, key) in keys.iter().enumerate() {
        store.put_bytes(key, writer.next(index)).unwrap();
    }
    let mut filled = Vec::with_capacity(KEYS);
    for (index, key) in keys.iter().enumerate() {
        filled.push((key.clone(), Arc::<[u8]>::from(writer.next(index))));
    }
    let dash: Dash = filled.iter().cloned().map(copy_value).collect();
    let locked: Locked = RwLock::new(filled.into_iter().map(copy_value).collect());

    cell("get_bytes", threads).compare(&[
        Contender::ours(
            || (),
            |(), index| check_bytes(&store.get_bytes(&keys[index]).unwrap().unwrap(), index),
        ),
        Contender::new(
            "dashmap",
            "map",
            || (),
            |(), index| {
                let value = Arc::clone(&dash.get(&keys[index]).unwrap());
                check_bytes(&value, index);
            },
        ),
        Contender::new(
            "RwLock<HashMap>",
            "map",
            || (),
            |(), index| {
                let value = Arc::clone(&locked.read().unwrap()[&keys[index]]);
                check_bytes(&value, index);
            },
        ),
    ]);
    cell("put_bytes", threads).compare(&[
        Contender::ours(BytesWriter::default, |writer, index| {
            store.put_bytes(&keys[index], writer.next(index)).unwrap();
        }),
        Contender::new("dashmap", "map", BytesWriter::default, |writer, index| {
            replace_dash(&dash, &keys[index], writer.next(index));
        }),
        Contender::new("RwLock<HashMap>", "map", BytesWriter::default, |writer, index| {
            replace_locked(&locked, &keys[index], writer.next(index));
        }),
    ]);
}

fn json(threads: usize) {
    let keys = data::keys("", KEYS);
    let mut writer = ReadingWriter::default();
    let store = StateStore::memory();
    for (index, key) in keys.iter().enumerate() {
        store.put(key, writer.next(index)).unwrap();
    }
    let mut filled = Vec::with_capacity(KEYS);
    for (index, key) in keys.iter().enumerate() {
        filled.push((key.clone(), Arc::<[u8]>::from(writer.next_text(index))));
    }
    let dash: Dash = filled.iter().cloned().map(copy_value).collect();
    let locked: Locked = RwLock::new(filled.into_iter().map(copy_value).collect());

    cell("get (JSON)", threads).compare(&[
        Contender::ours(|| (), |(), index| store.get::<Reading>(&keys[index]).unwrap().unwrap().check(index)),
        Contender::new(
            "dashmap",
            "map",
            || (),
            |(), index| check_json(&dash.get(&keys[index]).unwrap(), index),
        ),
        Contender::new(
            "RwLock<HashMap>",
            "map",
            || (),
            |(), index| check_json(&locked.read().unwrap()[&keys[index]], index),
        ),
    ]);
    cell("put (JSON)", threads).compare(&[
        Contender::ours(ReadingWriter::default, |writer, index| {
            store.put(&keys[index], writer.next(index)).unwrap();
        }),
        Contender::new("dashmap", "map", ReadingWriter::default, |writer, index| {
            replace_dash(&dash, &keys[index], writer.next_text(index));
        }),
        Contender::new("RwLock<HashMap>", "map", ReadingWriter::default, |writer, index| {
            replace_locked(&locked, &keys[index], writer.next_text(index));
        }),
    ]);
}

/// Copies the value, so that each map has values of its own, like each store.
fn copy_value((key, value): (String, Arc<[u8]>)) -> (String, Arc<[u8]>) {
    (key, Arc::from(&*value))
}

/// Allocates before it takes the lock, and frees after it.
fn replace_dash(map: &Dash, key: &str, value: &[u8]) {
    let value = Arc::from(value);
    let mut place = map.get_mut(key).unwrap();
    let before = mem::replace(&mut *place, value);
    drop(place);
    drop(before);
}

/// Allocates before it takes the lock, and frees after it.
fn replace_locked(map: &Locked, key: &str, value: &[u8]) {
    let value = Arc::from(value);
    let mut all = map.write().unwrap();
    let before = mem::replace(all.get_mut(key).unwrap(), value);
    drop(all);
    drop(before);
}

fn listing() {
    let store = StateStore::memory();
    for key in data::keys("", LISTED_KEYS) {
        store.put(&key, 1).unwrap();
    }
    // The key without its last digit: ten keys begin with it.
    let prefixes: Vec<String> =
        data::keys("", LISTED_KEYS / 10).iter().map(|key| key.replacen(":0", ":", 1)).collect();
    measure::latency("keys(prefix): 10 of 1 000 000", 20.0, |call| {
        let found = store.keys(&prefixes[call.wrapping_mul(7919) % prefixes.len()]).unwrap();
        assert_eq!(black_box(found).len(), 10);
    });
}
