//! What a File store tells about itself: each finding on a directory that was set up so, and each fault that makes a
//! store unhealthy.

use std::fs;

use millpond::{Severity, StateStore, SyncPolicy};

use crate::support::disk::Disk;
use crate::support::files::{journal, open, open_read_only};

fn topics(store: &StateStore) -> Vec<(Severity, &'static str)> {
    store.doctor().unwrap().into_iter().map(|finding| (finding.severity, finding.topic)).collect()
}

#[test]
fn a_policy_that_can_lose_writes_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    for (sync, expected) in [
        (SyncPolicy::Always, vec![]),
        (SyncPolicy::Every(std::time::Duration::from_secs(1)), vec![(Severity::Info, "sync")]),
        (SyncPolicy::Never, vec![(Severity::Warning, "sync")]),
    ] {
        let store = open(dir.path(), sync).unwrap();
        assert_eq!(topics(&store), expected, "{sync:?}");
        assert_eq!(store.server_info().unwrap().fields["sync"], sync.to_string());
        store.close().unwrap();
    }
}

#[test]
fn a_store_without_its_journal_or_directory_is_unhealthy() {
    for removes_all in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = open(&path, SyncPolicy::Never).unwrap();
        store.put("k", 1).unwrap();
        assert!(store.health_check().unwrap().healthy);
        if removes_all { fs::remove_dir_all(&path) } else { fs::remove_file(journal(&path, 1)) }.unwrap();
        let health = store.health_check().unwrap();
        assert!(!health.healthy && health.details.contains("state"), "{health}");
        assert!(!store.health_check_write().unwrap().healthy);
        assert_eq!(topics(&store)[0], (Severity::Critical, "health"));
    }
}

#[test]
fn a_store_that_is_read_only_is_healthy_until_something_is_written() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), SyncPolicy::Always).unwrap().put("k", 1).unwrap();
    let reader = open_read_only(dir.path()).unwrap();
    assert!(reader.health_check().unwrap().healthy);
    assert!(!reader.health_check_write().unwrap().healthy);
    assert_eq!(reader.memory_usage().unwrap().entries, 1);
}

#[test]
fn too_little_room_is_a_finding_and_none_is_unhealthy() {
    let disk = Disk::small("size=16m");
    if !disk.is_mounted() {
        println!("no small disk can be mounted: the unit tests of the findings alone judge the room");
        return;
    }
    let store = open(&disk.state(), SyncPolicy::Never).unwrap();
    for n in 0..30 {
        store.put(format!("k{n}"), "x".repeat(100_000)).unwrap();
    }
    assert!(store.health_check().unwrap().healthy);
    assert!(!topics(&store).contains(&(Severity::Warning, "room")));
    // What another program leaves: enough for writes, and too little for a compaction.
    let filler = disk.path().join("filler");
    let fill = |bytes: usize| fs::write(&filler, vec![0; bytes]).unwrap();
    fill(6 << 20);
    assert!(topics(&store).contains(&(Severity::Warning, "room")));
    let (mut bytes, health) = (6 << 20, || store.health_check().unwrap());
    while health().healthy {
        bytes += 256 << 10;
        fill(bytes);
    }
    assert!(health().details.contains("are free"), "{}", health());
    assert!(topics(&store).contains(&(Severity::Critical, "health")));
    fs::remove_file(&filler).unwrap();
    assert!(health().healthy);
}
