//! How many of 1000 puts without syncs survive if the process dies at once. This shows which databases keep a
//! put in the process: these are no peers of `sync=never`, which hands a put to the operating system before
//! it returns.

use std::path::Path;
use std::process::Command;

use millpond::StateStore;
use millpond_benches::data::{self, BytesWriter};
use millpond_benches::databases::{Append, Fjall, Redb, Sled, Sqlite, Sync};

const PUTS: usize = 1000;

/// A database that puts.
enum Peer {
    Millpond(StateStore),
    Redb(Redb),
    Fjall(Fjall),
    Sqlite(Sqlite),
    Sled(Sled),
    Append(Append),
}

const NAMES: [&str; 7] =
    ["millpond", "redb", "fjall", "SQLite", "append", "sled, buffered", "redb, buffered"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, directory] = &arguments[..] {
        return put_and_die(name, Path::new(directory));
    }
    println!("## Killed without a sync\n\n| | of {PUTS} puts survive |\n| --- | ---: |");
    for name in NAMES {
        let directory = millpond_benches::scratch();
        let program = std::env::current_exe().expect("the path of this program");
        let status = Command::new(program).arg(name).arg(directory.path()).output().expect("a child").status;
        assert!(status.code().is_none(), "{name} was not killed: {status}");
        println!("| {name} | {} |", Peer::open(name, directory.path()).count());
    }
}

/// Puts, then aborts: like a kill, an abort runs no destructor and flushes nothing.
fn put_and_die(name: &str, directory: &Path) {
    let peer = Peer::open(name, directory);
    let mut writer = BytesWriter::default();
    for (index, key) in data::keys("", PUTS).iter().enumerate() {
        peer.put(key, writer.next(index));
    }
    std::process::abort();
}

impl Peer {
    fn open(name: &str, directory: &Path) -> Self {
        let sync = Sync::Never;
        match name {
            "millpond" => {
                let url = format!("file:{}?sync=never", directory.join("millpond").display());
                Self::Millpond(StateStore::open(&url).expect("a store"))
            }
            "redb" => Self::Redb(Redb::open(directory, sync)),
            "redb, buffered" => Self::Redb(Redb::buffered(directory)),
            "fjall" => Self::Fjall(Fjall::open(directory, sync)),
            "SQLite" => Self::Sqlite(Sqlite::open(directory, sync)),
            "sled, buffered" => Self::Sled(Sled::open(directory, sync)),
            "append" => Self::Append(Append::open(directory, sync)),
            _ => panic!("{name} is no database of this program"),
        }
    }

    fn put(&self, key: &str, value: &[u8]) {
        match self {
            Self::Millpond(store) => store.put_bytes(key, value).unwrap(),
            Self::Redb(redb) => redb.put(key, value),
            Self::Fjall(fjall) => fjall.put(key, value),
            Self::Sqlite(sqlite) => sqlite.put(key, value),
            Self::Sled(sled) => sled.put(key, value),
            Self::Append(append) => append.put(key, value),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Millpond(store) => store.keys("").unwrap().len(),
            Self::Redb(redb) => redb.count(),
            Self::Fjall(fjall) => fjall.count(),
            Self::Sqlite(sqlite) => sqlite.count(),
            Self::Sled(sled) => sled.count(),
            Self::Append(append) => append.count(),
        }
    }
}
