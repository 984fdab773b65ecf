//! Statistics of the File variant: the bytes of the journal.

use std::fs;
use std::path::Path;

use millpond::{FileOptions, StateBackend, StateConfig, StateStore, SyncPolicy};

/// The length of the lines in the journal, without the zeros behind them.
fn journal_len(dir: &Path) -> u64 {
    let journal = fs::read(dir.join("journal-1.jsonl")).unwrap();
    journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[test]
fn the_bytes_written_are_those_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let config = StateConfig::default()
        .backend(StateBackend::file(dir.path()))
        .file(FileOptions::default().sync(SyncPolicy::Always));
    let store = StateStore::with_config(config).unwrap();
    let (before, len) = (store.stats(), journal_len(dir.path()));
    for number in 0..100 {
        store.put(format!("k{number}"), "x".repeat(number)).unwrap();
    }
    store.batch_put([("a", 1), ("b", 2)]).unwrap();
    assert!(!store.delete("absent").unwrap(), "it is no line");
    let between = store.stats() - before;
    assert_eq!(between.bytes_written, journal_len(dir.path()) - len);
    assert_eq!((between.bytes_read, between.latency.write.count), (0, 102));
    assert_eq!(between.latency.sync.count, 101, "a change of nothing needs no sync");
    assert!(between.avg_latency() > between.latency.sync.mean / 2, "{between:?}");
}
