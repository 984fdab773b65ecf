//! Owns what a File store tells about itself: its health, its files, what it takes, and what is wrong with its
//! directory. Knows nothing of what the answers are used for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::backend::file::format::line;
use crate::backend::file::fs::Volume;
use crate::backend::file::layout::Layout;
use crate::backend::file::store::File;
use crate::backend::inspect::Inspect;
use crate::config::sync_finding;
use crate::error::{Error, Result};
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo, Severity};
use crate::key::Key;
use crate::text::count;

/// With less than this the next part of a journal, which is filled ahead, finds no room.
const LEAST_ROOM: u64 = 2 << 20;

/// While a compaction runs, the directory takes up to this many times the live data.
const ROOM_FACTOR: u64 = 3;

/// How many bytes the files of each sort take.
struct FileSizes {
    journals: u64,
    snapshots: u64,
}

impl Layout {
    fn sizes(&self) -> Result<FileSizes> {
        let listing = self.list()?;
        // A compaction may have deleted a file since.
        let len = |path: PathBuf| self.fs.len(&path).unwrap_or_default();
        let journals = listing.journals.iter().map(|number| len(self.journal_path(*number))).sum();
        let snapshots = listing.snapshots.iter().map(|number| len(self.snapshot_path(*number))).sum();
        Ok(FileSizes { journals, snapshots })
    }

    /// Returns what the file system says of itself; `None` if it does not.
    fn volume(&self) -> Option<Volume> {
        self.fs.volume(&self.dir).ok()
    }
}

impl File {
    fn is_read_only(&self) -> bool {
        self.lock.lock().is_none()
    }

    /// Fails if the next write would.
    fn check_health(&self) -> Result<()> {
        let layout = &self.core.layout;
        self.core.durability.check()?;
        // The directory must exist and be readable.
        layout.names()?;
        if self.is_read_only() {
            return Ok(());
        }
        self.core.durability.check_in_place()?;
        match layout.volume() {
            Some(Volume { free, .. }) if free < LEAST_ROOM => {
                let source = std::io::Error::new(
                    std::io::ErrorKind::StorageFull,
                    format!("only {} are free", count(free, "byte")),
                );
                Err(Error::StorageFull { path: layout.dir.clone(), source })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Inspect for File {
    fn health(&self) -> Result<Health> {
        let begun = Instant::now();
        let outcome = self.check_health();
        let latency = begun.elapsed();
        Ok(match outcome {
            Ok(()) => {
                let mode = if self.is_read_only() { "is readable" } else { "is there, with its journal" };
                let details = format!("the directory {} {mode}", self.path().display());
                Health { healthy: true, latency, role: None, details }
            }
            Err(error) => Health::unhealthy(latency, format!("{error:#}")),
        })
    }

    fn server_info(&self) -> Result<ServerInfo> {
        let FileSizes { journals, snapshots } = self.core.layout.sizes()?;
        let (directory, version) = (self.path().display().to_string(), line::VERSION.to_string());
        let fields = BTreeMap::from([
            ("directory".to_owned(), directory.clone()),
            ("format".to_owned(), version.clone()),
            ("sync".to_owned(), self.core.sync.to_string()),
            ("journal_bytes".to_owned(), journals.to_string()),
            ("snapshot_bytes".to_owned(), snapshots.to_string()),
        ]);
        Ok(ServerInfo {
            backend: "file".to_owned(),
            version: Some(version),
            address: Some(directory),
            fields,
            ..ServerInfo::default()
        })
    }

    fn memory_usage(&self) -> Result<MemoryUsage> {
        let FileSizes { journals, snapshots } = self.core.layout.sizes()?;
        Ok(MemoryUsage { disk: journals + snapshots, ..self.core.state.table.usage() })
    }

    fn memory_usage_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<(u64, u64)>>> {
        Ok(self.core.state.table.usage_of(keys, &self.now()))
    }

    fn cleanup_expired(&self) -> u64 {
        self.core.state.table.reclaim_all(&self.now())
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if let Err(error) = self.check_health() {
            findings.push(Finding::new(
                Severity::Critical,
                "health",
                format!("{error:#}"),
                "repair the cause, then open the store again",
            ));
        }
        findings.extend(sync_finding(self.core.sync));
        if let Some(volume) = self.core.layout.volume() {
            findings.extend(volume_findings(&volume, self.core.state.table.bytes()));
        }
        Ok(findings)
    }
}

/// Returns what is wrong with a file system for a store with this many bytes of live data.
fn volume_findings(volume: &Volume, live: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let needed = ROOM_FACTOR * live;
    if volume.free < needed {
        findings.push(Finding::new(
            Severity::Warning,
            "room",
            format!(
                "the disk has {} free, and the data takes {}",
                count(volume.free, "byte"),
                count(live, "byte")
            ),
            format!("a compaction may need {}: free some room, or move the directory", count(needed, "byte")),
        ));
    }
    if let Some(name) = volume.network {
        findings.push(Finding::new(
            Severity::Critical,
            "network file system",
            format!("the directory is on {name}, whose locks and syncs are not dependable"),
            "move the directory to a local disk",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(free: u64, network: Option<&'static str>) -> Vec<(Severity, &'static str)> {
        let findings = volume_findings(&Volume { free, network }, 1000);
        findings.into_iter().map(|finding| (finding.severity, finding.topic)).collect()
    }

    #[test]
    fn a_volume_needs_room_for_a_compaction_and_must_be_local() {
        assert_eq!(topics(3000, None), []);
        assert_eq!(topics(2999, None), [(Severity::Warning, "room")]);
        assert_eq!(topics(3000, Some("NFS")), [(Severity::Critical, "network file system")]);
    }
}
