//! The entries of these cells: short keys, and JSON of about 100 bytes that changes with every put.

use std::fmt::Write;
use std::path::Path;

use millpond::StateStore;
use millpond_benches::data::{NewReading, Reading};

/// The first counter value: all counter values have the same number of digits.
const FIRST: u64 = 1_000_000_000;

/// With these options no compaction begins, however long the journal becomes.
pub const JOURNAL_ONLY: &str = "sync=never&compact_ratio=1&compact_min_bytes=1073741824";

/// Opens a store in a directory of its own.
pub fn open(directory: &Path, options: &str) -> StateStore {
    StateStore::open(&format!("file:{}?{options}", directory.display())).expect("a store")
}

/// Puts and gets entries by index, and allocates nothing for the next entry.
pub struct Entries {
    key: String,
    count: u64,
}

impl Default for Entries {
    fn default() -> Self {
        Self { key: String::new(), count: FIRST }
    }
}

impl Entries {
    pub fn put(&mut self, store: &StateStore, index: usize) {
        self.count += 1;
        let reading = NewReading::of(index, self.count);
        store.put(self.key(index), reading).unwrap();
    }

    pub fn get(&mut self, store: &StateStore, index: usize) {
        let reading: Reading = store.get(self.key(index)).unwrap().unwrap();
        reading.check(index);
    }

    /// Puts the first `count` entries, and returns the number of bytes in their keys and values.
    pub fn fill(&mut self, store: &StateStore, count: usize) -> u64 {
        let mut bytes = 0;
        for index in 0..count {
            self.put(store, index);
            let reading = NewReading::of(index, self.count);
            bytes += self.key.len() + serde_json::to_string(&reading).unwrap().len();
        }
        bytes as u64
    }

    pub fn key(&mut self, index: usize) -> &str {
        self.key.clear();
        write!(self.key, "sensor:{index:07}").expect("room in memory");
        &self.key
    }
}
