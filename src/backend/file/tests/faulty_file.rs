//! Owns a file whose writes, truncations and syncs fail or block on demand, and its use in a store. Knows nothing of
//! what the store does then.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::backend::file::fs::{FileSystem, OsFileSystem, WritableFile};
use crate::backend::file::store::File;
use crate::backend::file::tests::support::open;
use crate::config::SyncPolicy;

pub(crate) struct FaultyFile {
    file: Arc<dyn WritableFile>,
    /// A longer write writes half of its bytes and fails.
    pub(crate) max_write: AtomicUsize,
    pub(crate) fails_truncate: AtomicBool,
    pub(crate) fails_sync: AtomicBool,
    pub(crate) syncs: AtomicU64,
    /// Number of syncs that included the file's length.
    pub(crate) len_syncs: AtomicU64,
    /// Syncs block while this is locked.
    pub(crate) sync_gate: Mutex<()>,
    /// Writes block while this is locked.
    pub(crate) write_gate: Mutex<()>,
    /// Number of writes that have begun.
    pub(crate) writes: AtomicU64,
}

fn fail_if(fails: &AtomicBool) -> io::Result<()> {
    if fails.load(Ordering::SeqCst) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
}

impl WritableFile for FaultyFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        drop(self.write_gate.lock());
        if bytes.len() > self.max_write.load(Ordering::SeqCst) {
            self.file.write_at(at, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(at, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        fail_if(&self.fails_truncate)?;
        self.file.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.sync_gate.lock());
        fail_if(&self.fails_sync)?;
        self.file.sync_data()
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.len_syncs.fetch_add(1, Ordering::SeqCst);
        self.sync_data()
    }

    fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }
}

/// Opens a store whose journal is a faulty file.
pub(crate) fn open_faulty(dir: &Path, sync: SyncPolicy) -> (File, Arc<FaultyFile>) {
    let store = open(dir, sync);
    let disk = Arc::new(FaultyFile {
        file: OsFileSystem::default().open(&store.core.journal.lock().path).unwrap(),
        max_write: AtomicUsize::new(usize::MAX),
        fails_truncate: AtomicBool::default(),
        fails_sync: AtomicBool::default(),
        syncs: AtomicU64::default(),
        len_syncs: AtomicU64::default(),
        sync_gate: Mutex::default(),
        write_gate: Mutex::default(),
        writes: AtomicU64::default(),
    });
    store.core.journal.lock().disk = Arc::<FaultyFile>::clone(&disk);
    store.core.durability.switch_file(Arc::<FaultyFile>::clone(&disk));
    (store, disk)
}
