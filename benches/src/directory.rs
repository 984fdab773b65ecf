//! The directory of a store, seen from outside: its size, and whether a compaction runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any compaction in these benchmarks.
const PATIENCE: Duration = Duration::from_secs(120);

/// The state of a directory at one moment.
#[derive(Debug, Default, Clone, Copy)]
pub struct Look {
    /// The size of all files, or of the blocks that they occupy if that is more.
    pub bytes: u64,
    /// The number and size of the newest complete snapshot; 0 if there is none.
    pub snapshot: u64,
    pub snapshot_bytes: u64,
    /// Whether a snapshot is being written.
    pub compacts: bool,
}

pub fn look(directory: &Path) -> Look {
    let mut look = Look::default();
    for item in fs::read_dir(directory).expect("the directory of a store") {
        let item = item.expect("an item of the directory");
        // It may have been deleted since it was listed.
        let Ok(found) = item.metadata() else { continue };
        look.bytes += found.len().max(occupied_bytes(&found));
        let name = item.file_name();
        let name = name.to_str().expect("the name of a file");
        let Some(name) = name.strip_prefix("snapshot-") else { continue };
        match name.strip_suffix(".jsonl") {
            None => look.compacts = true,
            Some(number) => {
                let number = number.parse().expect("the number of a snapshot");
                if number > look.snapshot {
                    (look.snapshot, look.snapshot_bytes) = (number, found.len());
                }
            }
        }
    }
    look
}

/// Waits until no compaction runs.
pub fn wait_for_compaction(directory: &Path) {
    let start = Instant::now();
    // The two new files appear at different moments.
    let mut quiet = 0;
    while quiet < 20 {
        assert!(start.elapsed() < PATIENCE, "the compaction does not end");
        std::thread::sleep(Duration::from_millis(5));
        quiet = if look(directory).compacts { 0 } else { quiet + 1 };
    }
}

#[cfg(unix)]
fn occupied_bytes(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found) * 512
}

#[cfg(not(unix))]
fn occupied_bytes(_: &fs::Metadata) -> u64 {
    0
}
