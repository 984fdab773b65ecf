//! Compares File with embedded databases and with plain appends to a file that are equally durable when a put
//! returns. Less durable peers have groups of their own, which no bar applies to.

use std::path::Path;

use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter, ReadingWriter, check_bytes};
use millpond_benches::databases::{Append, Fjall, Redb, Sled, Sqlite, Sync};
use millpond_benches::measure::{Cell, Contender, Timing};
use millpond_benches::report::{self, Bar};

const KEYS: usize = 10_000;

const DATABASE: &str = "database";
const BARE_FILE: &str = "bare file";
/// Peers whose sync does not make the disk flush its cache.
const WEAKER: &str = "weaker sync";
/// Peers that keep a put in the process: it is lost if the program is killed.
const BUFFERED: &str = "buffered in the process";
const FEWER: &str = "millpond with fewer threads";

const UNSYNCED: &[Bar] = &[Bar { group: DATABASE, at_least: 1.5 }, Bar { group: BARE_FILE, at_least: 0.6 }];
const SYNCED_ALONE: &[Bar] = &[Bar { group: BARE_FILE, at_least: 1.0 }];
const SYNCED_TOGETHER: &[Bar] = &[Bar { group: DATABASE, at_least: 2.0 }];
const NO_SLOWER: &[Bar] = &[Bar { group: FEWER, at_least: 1.0 }];
const READ_BARS: &[Bar] = &[Bar { group: "millpond in memory", at_least: 0.9 }];

fn main() {
    let (usual, long) = (Timing::usual(), Timing::long());
    report::header_of(
        "File",
        &format!(
            "{} rounds, slices of {} ms, with sync=never {} ms.",
            usual.rounds,
            usual.slice.as_millis(),
            long.slice.as_millis()
        ),
    );
    for (sync, threads) in [(Sync::Never, 1), (Sync::Always, 1), (Sync::Always, 8)] {
        bytes(sync, threads);
        json(sync, threads);
    }
    more_threads("put_bytes, sync=never", Sync::Never, 8, "millpond, 1 thread", 1);
    more_threads("put_bytes, sync=always", Sync::Always, 32, "millpond, 8 threads", 8);
    reads();
}

fn open(directory: &Path, sync: Sync) -> Option<StateStore> {
    let policy = match sync {
        Sync::Never => "never",
        Sync::Always => "always",
    };
    millpond_benches::open(&format!("file:{}?sync={policy}", directory.join("millpond").display()))
}

fn cell(name: &'static str, sync: Sync, threads: usize) -> Cell {
    let (steps, bars) = match (sync, threads) {
        (Sync::Never, _) => (16, UNSYNCED),
        (Sync::Always, 1) => (1, SYNCED_ALONE),
        (Sync::Always, _) => (1, SYNCED_TOGETHER),
    };
    Cell { name, threads, keys: KEYS, steps, operations: 1, bars }
}

/// Puts that are synced before they return leave little background work.
fn timing(sync: Sync) -> Timing {
    match sync {
        Sync::Never => Timing::long(),
        Sync::Always => Timing::usual(),
    }
}

struct Peers {
    redb: Redb,
    /// For the databases that can also run without syncs.
    buffered: Option<Redb>,
    fjall: Fjall,
    sled: Sled,
    sqlite: Sqlite,
    append: Append,
}

impl Peers {
    fn open(directory: &Path, sync: Sync) -> Self {
        Self {
            redb: Redb::open(directory, sync),
            buffered: (sync == Sync::Never).then(|| Redb::buffered(directory)),
            fjall: Fjall::open(directory, sync),
            sled: Sled::open(directory, sync),
            sqlite: Sqlite::open(directory, sync),
            append: Append::open(directory, sync),
        }
    }

    /// Contenders that each put the values that `next` makes.
    fn contenders<'a, W: Default + Send + 'a>(
        &'a self,
        keys: &'a [String],
        next: for<'w> fn(&'w mut W, usize) -> &'w [u8],
    ) -> Vec<Contender<'a>> {
        let sled = match self.append.sync() {
            Sync::Never => ("sled, buffered", BUFFERED),
            Sync::Always => ("sled, sync_file_range", WEAKER),
        };
        let mut contenders = vec![
            Contender::new("redb", DATABASE, W::default, move |writer, index| {
                self.redb.put(&keys[index], next(writer, index));
            }),
            Contender::new("fjall", DATABASE, W::default, move |writer, index| {
                self.fjall.put(&keys[index], next(writer, index));
            }),
            Contender::new("SQLite", DATABASE, W::default, move |writer, index| {
                self.sqlite.put(&keys[index], next(writer, index));
            }),
            Contender::new(sled.0, sled.1, W::default, move |writer, index| {
                self.sled.put(&keys[index], next(writer, index));
            }),
            Contender::new("append", BARE_FILE, W::default, move |writer, index| {
                self.append.put(&keys[index], next(writer, index));
            }),
        ];
        if let Some(redb) = &self.buffered {
            let put = move |writer: &mut W, index: usize| redb.put(&keys[index], next(writer, index));
            let buffered = Contender::new("redb, buffered", BUFFERED, W::default, put);
            contenders.push(buffered.settling(|| redb.settle()));
        }
        contenders
    }
}

fn bytes(sync: Sync, threads: usize) {
    let directory = millpond_benches::scratch();
    let keys = data::keys("", KEYS);
    let store = open(directory.path(), sync);
    let peers = Peers::open(directory.path(), sync);
    let mut contenders = peers.contenders::<BytesWriter>(&keys, BytesWriter::next);
    if let Some(store) = &store {
        contenders.push(Contender::ours(BytesWriter::default, |writer: &mut BytesWriter, index| {
            store.put_bytes(&keys[index], writer.next(index)).unwrap();
        }));
    }
    let name = match sync {
        Sync::Never => "put_bytes, sync=never",
        Sync::Always => "put_bytes, sync=always",
    };
    cell(name, sync, threads).compare_in(timing(sync), &contenders);
    drop(contenders);
    if let Some(store) = store {
        store.close().unwrap();
    }
}

fn json(sync: Sync, threads: usize) {
    let directory = millpond_benches::scratch();
    let keys = data::keys("", KEYS);
    let store = open(directory.path(), sync);
    let peers = Peers::open(directory.path(), sync);
    let mut contenders = peers.contenders::<ReadingWriter>(&keys, ReadingWriter::next_text);
    if let Some(store) = &store {
        contenders.push(Contender::ours(ReadingWriter::default, |writer: &mut ReadingWriter, index| {
            store.put(&keys[index], writer.next(index)).unwrap();
        }));
    }
    let name = match sync {
        Sync::Never => "put (JSON), sync=never",
        Sync::Always => "put (JSON), sync=always",
    };
    cell(name, sync, threads).compare_in(timing(sync), &contenders);
    drop(contenders);
    if let Some(store) = store {
        store.close().unwrap();
    }
}

/// Compares `more` threads with `fewer` threads of millpond on one store.
fn more_threads(name: &'static str, sync: Sync, more: usize, peer: &'static str, fewer: usize) {
    let directory = millpond_benches::scratch();
    let keys = data::keys("", KEYS);
    let Some(store) = open(directory.path(), sync) else { return };
    let put = |writer: &mut BytesWriter, index: usize| {
        store.put_bytes(&keys[index], writer.next(index)).unwrap();
    };
    let contenders = [
        Contender::ours(BytesWriter::default, put),
        Contender::new(peer, FEWER, BytesWriter::default, put).threads(fewer),
    ];
    Cell { bars: NO_SLOWER, ..cell(name, sync, more) }.compare_in(timing(sync), &contenders);
    drop(contenders);
    store.close().unwrap();
}

fn reads() {
    let directory = millpond_benches::scratch();
    let keys = data::keys("", KEYS);
    let memory = StateStore::memory();
    let file = open(directory.path(), Sync::Never);
    let mut writer = BytesWriter::default();
    for (index, key) in keys.iter().enumerate() {
        for store in file.iter().chain([&memory]) {
            store.put_bytes(key, writer.next(index)).unwrap();
        }
    }
    let get = |store: &StateStore, index: usize| {
        check_bytes(&store.get_bytes(&keys[index]).unwrap().unwrap(), index);
    };
    let mut contenders =
        vec![Contender::new("Memory", "millpond in memory", || (), |(), index| get(&memory, index))];
    if let Some(file) = &file {
        contenders.push(Contender::ours(|| (), |(), index| get(file, index)));
    }
    Cell { name: "get_bytes", threads: 1, keys: KEYS, steps: 64, operations: 1, bars: READ_BARS }
        .compare(&contenders);
}
