//! Owns the outcomes of queued operations that the program has not asked for yet, within one bound for all of them.
//! Knows nothing of how operations are sent.

use std::collections::VecDeque;
use std::mem;

use crate::outage::{PendingOperation, Rejected, WriteConflict};

/// The outcomes take at most about this many bytes. Beyond it the oldest are dropped.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// The size of the heap blocks of one outcome without its texts and values, about.
const BLOCKS: u64 = 160;

/// The outcomes of one kind, the oldest first.
struct Kept<T>(VecDeque<WeighedOutcome<T>>);

struct WeighedOutcome<T> {
    /// In the order in which the outcomes of all kinds were added.
    number: u64,
    weight: u64,
    outcome: T,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Kept<T> {
    /// Removes all, and returns them and their weight.
    fn take(&mut self) -> (Vec<T>, u64) {
        let all = mem::take(&mut self.0);
        let weight = all.iter().map(|entry| entry.weight).sum();
        (all.into_iter().map(|entry| entry.outcome).collect(), weight)
    }

    fn oldest(&self) -> u64 {
        self.0.front().map_or(u64::MAX, |entry| entry.number)
    }

    /// Removes the oldest, and returns its weight.
    fn drop_oldest(&mut self) -> u64 {
        self.0.pop_front().map_or(0, |entry| entry.weight)
    }
}

#[derive(Default)]
pub(crate) struct Outcomes {
    rejected: Kept<Rejected>,
    conflicts: Kept<WriteConflict>,
    uncertain: Kept<PendingOperation>,
    bytes: u64,
    added: u64,
}

impl Outcomes {
    /// Adds an outcome whose texts have this length, and returns how many older ones were dropped for it.
    pub(crate) fn add_rejected(&mut self, rejected: Rejected, cause_len: usize) -> u64 {
        let value = rejected.value.as_ref().map_or(0, |value| value.len());
        let field = rejected.field.as_ref().map_or(0, String::len);
        // The error names the key too.
        let texts = 2 * rejected.key.len() + field + value + cause_len;
        let entry = self.entry(rejected, texts);
        self.rejected.0.push_back(entry);
        self.drop_oldest()
    }

    pub(crate) fn add_conflict(&mut self, conflict: WriteConflict) -> u64 {
        let len = |bytes: &Option<_>| bytes.as_ref().map_or(0, |bytes: &crate::bytes::Bytes| bytes.len());
        let texts = conflict.key.len() + len(&conflict.local) + len(&conflict.remote);
        let entry = self.entry(conflict, texts);
        self.conflicts.0.push_back(entry);
        self.drop_oldest()
    }

    pub(crate) fn add_uncertain(&mut self, uncertain: PendingOperation) -> u64 {
        let value = uncertain.value.as_ref().map_or(0, |value| value.len());
        let texts = uncertain.key.len() + uncertain.field.as_ref().map_or(0, String::len) + value;
        let entry = self.entry(uncertain, texts);
        self.uncertain.0.push_back(entry);
        self.drop_oldest()
    }

    pub(crate) fn take_rejected(&mut self) -> Vec<Rejected> {
        let (all, weight) = self.rejected.take();
        self.bytes -= weight;
        all
    }

    /// Returns the keys of the last rejected operations.
    pub(crate) fn last_rejected(&self, limit: usize) -> Vec<String> {
        self.rejected.0.iter().rev().take(limit).map(|entry| entry.outcome.key.clone()).collect()
    }

    /// Returns the keys of the last conflicts.
    pub(crate) fn last_conflicts(&self, limit: usize) -> Vec<String> {
        self.conflicts.0.iter().rev().take(limit).map(|entry| entry.outcome.key.clone()).collect()
    }

    pub(crate) fn take_conflicts(&mut self) -> Vec<WriteConflict> {
        let (all, weight) = self.conflicts.take();
        self.bytes -= weight;
        all
    }

    pub(crate) fn uncertain(&self, limit: usize) -> Vec<PendingOperation> {
        self.uncertain.0.iter().take(limit).map(|entry| entry.outcome.clone()).collect()
    }

    pub(crate) fn uncertain_count(&self) -> usize {
        self.uncertain.0.len()
    }

    fn entry<T>(&mut self, outcome: T, texts: usize) -> WeighedOutcome<T> {
        let weight = (mem::size_of::<WeighedOutcome<T>>() + texts) as u64 + BLOCKS;
        self.bytes += weight;
        self.added += 1;
        WeighedOutcome { number: self.added, weight, outcome }
    }

    /// Drops the oldest outcomes until the rest is within the bound, but not the newest one.
    fn drop_oldest(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > MAX_BYTES {
            let oldest = [self.rejected.oldest(), self.conflicts.oldest(), self.uncertain.oldest()];
            let first = oldest.iter().min().copied().unwrap_or(u64::MAX);
            if first >= self.added {
                break;
            }
            self.bytes -= if first == oldest[0] {
                self.rejected.drop_oldest()
            } else if first == oldest[1] {
                self.conflicts.drop_oldest()
            } else {
                self.uncertain.drop_oldest()
            };
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::bytes::Bytes;
    use crate::outage::PendingReason;

    fn conflict(key: &str, len: usize) -> WriteConflict {
        let value = Some(Bytes::from(vec![0; len]));
        WriteConflict { key: key.to_owned(), local: value, remote: None, applied: true }
    }

    fn uncertain(key: &str, len: usize) -> PendingOperation {
        PendingOperation {
            key: key.to_owned(),
            command: "INCRBY",
            calls: 1,
            field: None,
            value: Some(Bytes::from(vec![0; len])),
            since: SystemTime::UNIX_EPOCH,
            reason: PendingReason::Uncertain,
        }
    }

    #[test]
    fn the_oldest_outcomes_of_all_kinds_are_dropped_first() {
        let mut outcomes = Outcomes::default();
        let third = usize::try_from(MAX_BYTES / 3).unwrap();
        assert_eq!(outcomes.add_uncertain(uncertain("1", third)), 0);
        assert_eq!(outcomes.add_conflict(conflict("2", third)), 0);
        assert_eq!(outcomes.add_conflict(conflict("3", third)), 1, "not even a third was free");
        assert!(outcomes.uncertain(1000).is_empty());
        assert_eq!(outcomes.add_uncertain(uncertain("4", 1)), 0);
        let kept: Vec<_> = outcomes.take_conflicts().into_iter().map(|conflict| conflict.key).collect();
        assert_eq!(kept, ["2", "3"]);
        assert!(outcomes.bytes < 1000, "what is taken frees its room");
        assert_eq!(outcomes.add_conflict(conflict("5", 4 * third)), 1);
        assert_eq!(outcomes.take_conflicts().len(), 1, "the newest one is kept whatever its size");
        assert_eq!(outcomes.bytes, 0);
    }
}
