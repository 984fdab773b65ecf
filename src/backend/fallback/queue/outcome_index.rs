//! Owns which entries of a queue's directory are outcomes that the program has not asked for yet. Knows nothing of files.

use crate::backend::fallback::queue::outcome_codec;
use crate::backend::redis::replay::kept_outcome::{KeptOutcome, OutcomeKind};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Write};
use crate::value::Value;

pub(crate) const OUTCOME_PREFIX: &str = "outcome:";

/// The outcomes take at most about this many bytes, as in memory. Beyond it the oldest are dropped.
const MAX_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct OutcomeIndex {
    entries: Vec<OutcomeEntry>,
    /// The number of the last entry.
    last: u64,
    bytes: usize,
    /// Whether the program has seen the uncertain outcomes.
    pub(crate) is_uncertain_told: bool,
}

struct OutcomeEntry {
    number: u64,
    kind: OutcomeKind,
    bytes: usize,
}

/// Entries to add, which are not in the index before they are written.
pub(crate) struct AddedOutcomes {
    entries: Vec<OutcomeEntry>,
    /// How many of the oldest entries are dropped for them.
    dropped: usize,
}

impl OutcomeIndex {
    /// Reads an entry of an earlier run of the program, or returns what is wrong with it. Entries come in the order of
    /// their numbers.
    pub(crate) fn restore(&mut self, key: &str, text: &[u8]) -> Result<KeptOutcome, String> {
        let number = key.strip_prefix(OUTCOME_PREFIX).and_then(|number| number.parse().ok());
        let number = number.ok_or("its name is not that of an outcome")?;
        let kept = outcome_codec::read(text)?;
        let entry = OutcomeEntry { number, kind: kept.kind(), bytes: text.len() };
        self.add(AddedOutcomes { entries: vec![entry], dropped: 0 });
        Ok(kept)
    }

    /// Returns the writes that add outcomes.
    pub(crate) fn plan(&self, outcomes: &[KeptOutcome]) -> Result<(Vec<Op<'static, Write>>, AddedOutcomes)> {
        let (mut writes, mut entries) = (Vec::new(), Vec::new());
        let mut bytes = self.bytes;
        for (kept, number) in outcomes.iter().zip(self.last + 1..) {
            let key = entry_key(number);
            let text = outcome_codec::write(kept)
                .map_err(|error| Error::Encode { key: key.to_string(), source: error.into() })?;
            bytes += text.len();
            entries.push(OutcomeEntry { number, kind: kept.kind(), bytes: text.len() });
            writes.push(Op { key, action: Write::Put { value: Value::json(&text), ttl: None } });
        }
        let is_in_excess = |entry: &&OutcomeEntry| {
            let is_in_excess = bytes > MAX_BYTES;
            bytes -= entry.bytes;
            is_in_excess
        };
        let excess = self.entries.iter().take_while(is_in_excess);
        let dropped = excess.map(|entry| Op { key: entry_key(entry.number), action: Write::Delete });
        let kept = writes.len();
        writes.extend(dropped);
        let dropped = writes.len() - kept;
        Ok((writes, AddedOutcomes { entries, dropped }))
    }

    /// Adds entries that are written.
    pub(crate) fn add(&mut self, added: AddedOutcomes) {
        let dropped: usize = self.entries.drain(..added.dropped).map(|entry| entry.bytes).sum();
        self.bytes -= dropped;
        for entry in added.entries {
            self.last = entry.number;
            self.bytes += entry.bytes;
            self.is_uncertain_told &= entry.kind != OutcomeKind::Uncertain;
            self.entries.push(entry);
        }
    }

    /// Removes all entries of a kind, and returns the writes that remove them from the files.
    pub(crate) fn take(&mut self, kind: OutcomeKind) -> Vec<Op<'static, Write>> {
        let taken = self.entries.extract_if(.., |entry| entry.kind == kind);
        let writes = taken.map(|entry| {
            self.bytes -= entry.bytes;
            Op { key: entry_key(entry.number), action: Write::Delete }
        });
        writes.collect()
    }
}

/// Returns the key of an entry. Keys are listed in the order of the numbers.
fn entry_key(number: u64) -> Key<'static> {
    Key::listed(format!("{OUTCOME_PREFIX}{number:020}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fallback::queue::frozen_records::OUTCOMES;

    #[test]
    fn the_oldest_outcomes_are_dropped_beyond_the_bound() {
        let mut index = OutcomeIndex::default();
        let long = OUTCOMES[0].replace("WRONGTYPE", &"x".repeat(MAX_BYTES / 4));
        let outcome = outcome_codec::read(long.as_bytes()).unwrap();
        for number in 1..10 {
            let (writes, added) = index.plan(std::slice::from_ref(&outcome)).unwrap();
            assert_eq!(writes.len(), if number > 3 { 2 } else { 1 }, "{number}");
            index.add(added);
        }
        assert_eq!((index.entries.len(), index.entries[0].number), (3, 7));
        assert_eq!((index.take(OutcomeKind::Rejected).len(), index.bytes), (3, 0));
    }
}
