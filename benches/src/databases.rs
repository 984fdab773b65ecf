//! The databases, and the plain file, that File is compared with. Each is opened in a directory of its own
//! and puts one value at a time, like a program that keeps its state in it.
//!
//! Before a put returns, all of them have handed it to the operating system: that is the meaning of
//! [`Sync::Never`]. If a database by default keeps puts in the process, there is a second way to open it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::backends::FileBackend;
use redb::{Durability, ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend, TableDefinition};
use rusqlite::Connection;

/// When a put reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system chooses. It has the put before the call returns.
    Never,
    /// Before the call returns.
    Always,
}

/// The beginning of every key.
const KEY: &[u8] = b"sensor:";
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

pub struct Redb {
    database: redb::Database,
    durability: Durability,
}

impl Redb {
    /// Without syncs, each commit must still write its pages to the file. A commit with [`Durability::None`]
    /// would keep them in the process, so the file skips the sync instead.
    pub fn open(directory: &Path, sync: Sync) -> Self {
        let path = directory.join("redb");
        let database = match sync {
            Sync::Always => redb::Database::create(path).unwrap(),
            Sync::Never => {
                let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
                let file = Unsynced(FileBackend::new(file.unwrap()).unwrap());
                redb::Builder::new().create_with_backend(file).unwrap()
            }
        };
        Self { database, durability: Durability::Immediate }
    }

    /// Keeps puts in the process until [`Redb::settle`].
    pub fn buffered(directory: &Path) -> Self {
        let database = redb::Database::create(directory.join("redb-buffered")).unwrap();
        Self { database, durability: Durability::None }
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        self.commit(self.durability, |table| drop(table.insert(key, value).unwrap()));
    }

    pub fn count(&self) -> usize {
        let transaction = self.database.begin_read().unwrap();
        // An empty database has no table either.
        transaction.open_table(TABLE).map_or(0, |table| table.len().unwrap() as usize)
    }

    /// Makes the earlier puts durable, so that their pages can be reused.
    pub fn settle(&self) {
        self.commit(Durability::Immediate, |_| ());
    }

    fn commit(&self, durability: Durability, write: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>)) {
        let mut transaction = self.database.begin_write().unwrap();
        transaction.set_durability(durability).unwrap();
        write(&mut transaction.open_table(TABLE).unwrap());
        transaction.commit().unwrap();
    }
}

/// A file that does not sync, and leaves the time of writing to the operating system.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

pub struct Fjall {
    database: Database,
    state: Keyspace,
    sync: Sync,
}

impl Fjall {
    pub fn open(directory: &Path, sync: Sync) -> Self {
        let database = Database::builder(directory.join("fjall")).open().unwrap();
        let state = database.keyspace("state", KeyspaceCreateOptions::default).unwrap();
        Self { database, state, sync }
    }

    /// An insert hands its journal line to the operating system by itself.
    pub fn put(&self, key: &str, value: &[u8]) {
        self.state.insert(key, value).unwrap();
        if self.sync == Sync::Always {
            self.database.persist(PersistMode::SyncData).unwrap();
        }
    }

    pub fn count(&self) -> usize {
        self.state.len().unwrap()
    }
}

/// It cannot hand over puts without waiting for the disk. Without syncs it keeps them in the process, and for
/// [`Sync::Always`] it calls sync_file_range(2), which does not make a disk flush its cache.
pub struct Sled {
    database: sled::Db,
    sync: Sync,
}

impl Sled {
    pub fn open(directory: &Path, sync: Sync) -> Self {
        let config = sled::Config::new().path(directory.join("sled")).flush_every_ms(None);
        Self { database: config.open().unwrap(), sync }
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        self.database.insert(key, value).unwrap();
        if self.sync == Sync::Always {
            self.database.flush().unwrap();
        }
    }

    pub fn count(&self) -> usize {
        self.database.len()
    }
}

/// One connection behind a lock: writers that share the file through connections of their own wait for each
/// other by sleeping.
pub struct Sqlite(Mutex<Connection>);

impl Sqlite {
    pub fn open(directory: &Path, sync: Sync) -> Self {
        let connection = Connection::open(directory.join("sqlite")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        let synchronous = match sync {
            Sync::Never => "OFF",
            Sync::Always => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous).unwrap();
        let create =
            "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";
        connection.execute(create, ()).unwrap();
        Self(Mutex::new(connection))
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        let connection = self.0.lock().unwrap();
        let mut put =
            connection.prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)").unwrap();
        put.execute((key, value)).unwrap();
    }

    pub fn count(&self) -> usize {
        let connection = self.0.lock().unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM state", (), |row| row.get(0)).unwrap();
        count as usize
    }
}

/// The floor: one write(2) appends one line to a file, and no code can read the lines back.
pub struct Append {
    path: PathBuf,
    file: Mutex<(File, Vec<u8>)>,
    sync: Sync,
}

impl Append {
    pub fn open(directory: &Path, sync: Sync) -> Self {
        let path = directory.join("append");
        let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        Self { path, file: Mutex::new((file, Vec::new())), sync }
    }

    pub fn sync(&self) -> Sync {
        self.sync
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        let (file, line) = &mut *self.file.lock().unwrap();
        line.clear();
        line.extend_from_slice(key.as_bytes());
        line.push(b'\t');
        line.extend_from_slice(value);
        line.push(b'\n');
        file.write_all(line).unwrap();
        if self.sync == Sync::Always {
            file.sync_data().unwrap();
        }
    }

    /// The number of keys with a line in the file.
    pub fn count(&self) -> usize {
        let text = fs::read(&self.path).unwrap();
        text.windows(KEY.len()).filter(|begin| *begin == KEY).count()
    }
}
