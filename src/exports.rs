//! Owns the options and the reports of exports and imports. Knows nothing of how they are made.

use std::time::SystemTime;

pub use crate::op::Isolation;

/// How an export is made: see [`StateStore::export`](crate::StateStore::export).
///
/// There is nothing to choose yet.
///
/// ```
/// use millpond::{ExportOptions, StateStore};
///
/// let exported = StateStore::memory().export(Vec::new(), &ExportOptions::new())?;
/// assert_eq!(exported.entries, 0);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExportOptions {}

impl ExportOptions {
    /// The default options.
    ///
    /// ```
    /// assert_eq!(millpond::ExportOptions::new(), millpond::ExportOptions::default());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// What an import does with the entries that are there: see [`StateStore::import`](crate::StateStore::import).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Import {
    /// The namespace holds the imported entries alone afterwards. All or nothing, in one step for every reader.
    Replace,
    /// An imported entry replaces what its key holds. Other keys stay. Each entry is a step of its own.
    Merge,
    /// An entry is imported if its key is absent. Each entry is a step of its own.
    KeepExisting,
}

/// What was exported: see [`StateStore::export`](crate::StateStore::export).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// How many entries there are: values, maps and queues, and the receipts of processed events.
    pub entries: u64,
    /// How many bytes were written.
    pub bytes: u64,
    /// The time of the export by the clock of the store. Entries that had expired by then are left out.
    pub created: SystemTime,
    /// For which writers the entries are from one instant.
    pub isolation: Isolation,
}

/// What was imported: see [`StateStore::import`](crate::StateStore::import).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// How many entries were written.
    pub entries: u64,
    /// How many entries were not written: they had expired, or [`Import::KeepExisting`] found their keys present.
    pub skipped: u64,
    /// How many entries [`Import::Replace`] has found in the namespace. Those that are in the export are written again.
    pub removed: u64,
}
