//! Owns the options of the Memory variant, their defaults and limits. Knows nothing of how a store is kept within its
//! bounds.

use serde::{Deserialize, Serialize};

use crate::config::options::options;
use crate::config::range::in_range;
use crate::config::size;
use crate::error::Result;

/// Why an option of this section is refused for another variant.
pub(crate) const ONLY_MEMORY: &str = "only a store in memory has bounds: a File store keeps all that is written, and a \
                                      Redis server has maxmemory";

/// What a store in memory does with a write that would exceed its bounds.
///
/// In a configuration: `"refuse"` or `"evict"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// The write fails with [`Error::Full`](crate::Error::Full), and nothing is changed.
    #[default]
    #[serde(alias = "Refuse")]
    Refuse,
    /// Entries that have not been used for long are removed until there is room.
    #[serde(alias = "Evict")]
    Evict,
}

options! {
    /// Options of the Memory variant: its [bounds](crate::MemoryStore#bounds).
    pub struct MemoryOptions in "memory", at "memory:" {
        /// How many entries the store may hold, whatever they are. Defaults to none, which is without limit; at least 1.
        max_entries(entries: u64): Option<u64> = None, check check_max_entries, example 1000 => "1000";

        /// How much memory the entries may take, as [`memory_usage`](crate::StateStore::memory_usage) counts it: `bytes`
        /// and `overhead` together. Defaults to none, which is without limit; at least 1024.
        #[serde(with = "size::option")]
        max_bytes(bytes: u64): Option<u64> = None, check check_max_bytes, example 64 << 20 => "64MiB";

        /// What happens to a write that would exceed one of these bounds. Defaults to `"refuse"`.
        when_full(when_full): WhenFull = WhenFull::Refuse, example WhenFull::Evict => "evict";
    }
}

impl MemoryOptions {
    /// Returns whether there is a bound.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max_entries.is_some() || self.max_bytes.is_some()
    }

    fn check_max_entries(&self, field: &str) -> Result<()> {
        self.max_entries.map_or(Ok(()), |entries| in_range(field, entries, 1..=u64::MAX))
    }

    fn check_max_bytes(&self, field: &str) -> Result<()> {
        self.max_bytes.map_or(Ok(()), |bytes| in_range(field, bytes, 1024..=u64::MAX))
    }
}
