//! File beside embedded databases and a bare append.

use std::path::Path;

use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter, ReadingWriter, check_bytes};
use millpond_benches::databases::{Append, Fjall, Redb, Sled, Sqlite, Sync};
use millpond_benches::measure::{Cell, Contender};
use millpond_benches::report::{self, Bar};

const KEYS: usize = 10_000;

const UNSYNCED_BARS: &[Bar] =
    &[Bar { group: "database", at_least: 1.3 }, Bar { group: "bare file", at_least: 0.5 }];
const SYNCED_BARS: &[Bar] = &[Bar { group: "database", at_least: 2.0 }];
const READ_BARS: &[Bar] = &[Bar { group: "millpond in memory", at_least: 0.9 }];

fn main() {
    report::header("File");
    for (sync, threads) in [(Sync::Never, 1), (Sync::Always, 1), (Sync::Always, 8)] {
        bytes(sync, threads);
        json(sync, threads);
    }
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
        (Sync::Never, _) => (16, UNSYNCED_BARS),
        (Sync::Always, 1) => (1, &[][..]),
        (Sync::Always, _) => (1, SYNCED_BARS),
    };
    Cell { name, threads, keys: KEYS, steps, operations: 1, bars }
}

struct Peers {
    redb: Redb,
    fjall: Fjall,
    sled: Sled,
    sqlite: Sqlite,
    append: Append,
}

impl Peers {
    fn open(directory: &Path, sync: Sync) -> Self {
        Self {
            redb: Redb::open(directory, sync),
            fjall: Fjall::open(directory, sync),
            sled: Sled::open(directory, sync),
            sqlite: Sqlite::open(directory, sync),
            append: Append::open(directory, sync),
        }
    }

    /// Each peer puts what `next` makes.
    fn contenders<'a, W: Default + Send + 'a>(
        &'a self,
        keys: &'a [String],
        next: for<'w> fn(&'w mut W, usize) -> &'w [u8],
    ) -> Vec<Contender<'a>> {
        let database = "database";
        let synced = self.append.sync() == Sync::Always;
        // On Linux its flush is sync_file_range(2), which does not make a disk empty its cache.
        let sled = if synced { "weaker sync" } else { database };
        // The bar of synced puts stands against redb and fjall.
        let sqlite = if synced { "SQL" } else { database };
        vec![
            Contender::new("redb", database, W::default, move |writer, index| {
                self.redb.put(&keys[index], next(writer, index));
            })
            .settling(|| self.redb.settle()),
            Contender::new("fjall", database, W::default, move |writer, index| {
                self.fjall.put(&keys[index], next(writer, index));
            }),
            Contender::new("sled", sled, W::default, move |writer, index| {
                self.sled.put(&keys[index], next(writer, index));
            }),
            Contender::new("SQLite", sqlite, W::default, move |writer, index| {
                self.sqlite.put(&keys[index], next(writer, index));
            }),
            Contender::new("append", "bare file", W::default, move |writer, index| {
                self.append.put(&keys[index], next(writer, index));
            }),
        ]
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
    cell(name, sync, threads).compare(&contenders);
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
    cell(name, sync, threads).compare(&contenders);
    drop(contenders);
    if let Some(store) = store {
        store.close().unwrap();
    }
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
