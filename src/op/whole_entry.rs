//! Owns an entry as a whole, as exports and checkpoints contain it. Knows nothing of how a backend keeps its parts.

use smol_str::SmolStr;

use crate::clock::Deadline;
use crate::value::Value;

/// All that a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WholeEntry {
    /// The full key: namespaces included, the `key_prefix` of a Redis store left out. It may be the key of a receipt.
    pub(crate) key: SmolStr,
    pub(crate) content: WholeContent,
    /// The time from which on the entry is expired; `None` means never.
    pub(crate) deadline: Option<Deadline>,
}

/// The content of an entry, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WholeContent {
    Value(Value),
    /// The fields of a map, at least one, sorted by name.
    Map(Vec<(SmolStr, Value)>),
    Queue(WholeQueue),
}

/// A queue with the values that leases and delays hold back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WholeQueue {
    /// From front to back. Values under lease come first, in the order in which they were leased, each with one more
    /// return, as if its lease had just ended.
    pub(crate) values: Vec<Value>,
    /// Values that were pushed with a delay, the first that is due first, with the time at which they are due, in
    /// milliseconds.
    pub(crate) delayed: Vec<(u64, Value)>,
}

/// How many entries a replacement has removed and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Replaced {
    pub(crate) removed: u64,
    pub(crate) written: u64,
}

/// The entries under a prefix.
pub(crate) struct Cut<'c> {
    /// The time of the cut by the clock of the backend, in milliseconds. No entry had expired then.
    pub(crate) at: u64,
    /// Whether they are from one instant.
    pub(crate) isolation: Isolation,
    /// Sorted by key, each key once.
    pub(crate) entries: Box<dyn Iterator<Item = WholeEntry> + 'c>,
}

/// For which writers an export or a checkpoint is from one instant.
///
/// ```
/// let store = millpond::StateStore::memory();
/// let exported = store.export(Vec::new(), &millpond::ExportOptions::new())?;
/// assert_eq!(exported.isolation, millpond::Isolation::Exact);
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// For all writers, also those of other programs: it contains each write whole, and no write without those before it.
    Exact,
    /// Each entry is whole, but two entries may be of different times while they were read: the server does not tell this
    /// user of writes (`CLIENT TRACKING` is refused), or others wrote without a pause for as long as an operation may
    /// take. It is of one instant if nobody wrote meanwhile.
    Process,
}
