//! Owns what a shard keeps for open cuts: entries that have changed since the cut was opened, as they were. Knows nothing
//! of how a cut is read.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::backend::local::entry::Entry;

/// The entries of one shard that have changed, as they were; `None` if they were absent.
pub(crate) type Originals = BTreeMap<SmolStr, Option<Entry>>;

/// The originals of one shard for each open cut.
#[derive(Default)]
pub(crate) struct OpenCuts(Vec<(u64, Originals)>);

impl OpenCuts {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a number that is larger than those of all open cuts.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.last().map_or(0, |(number, _)| number + 1)
    }

    pub(crate) fn open(&mut self, number: u64) {
        self.0.push((number, Originals::new()));
    }

    pub(crate) fn close(&mut self, number: u64) -> Option<Originals> {
        let at = self.0.iter().position(|(open, _)| *open == number)?;
        Some(self.0.remove(at).1)
    }

    /// Returns what was kept for an open cut.
    pub(crate) fn of(&self, number: u64) -> Option<&Originals> {
        self.0.iter().find(|(open, _)| *open == number).map(|(_, originals)| originals)
    }

    /// Keeps an entry that is about to change, for each open cut for which it has not changed before.
    #[cold]
    pub(crate) fn keep(&mut self, key: &str, entry: Option<&Entry>) {
        for (_, originals) in &mut self.0 {
            if !originals.contains_key(key) {
                originals.insert(SmolStr::new(key), entry.cloned());
            }
        }
    }
}
