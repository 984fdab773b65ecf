//! Owns what is true of one entry after a mutation: absolute, total, and the same if applied twice. Knows
//! nothing of what was asked.

use crate::clock::Deadline;
use crate::value::{Form, Value};

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// From when on it is gone; `None` is never.
    pub(crate) deadline: Option<Deadline>,
}

impl Entry {
    /// How many bytes the entry and its key take at least where they are written down as text.
    pub(crate) fn weight(&self, key: &str) -> u64 {
        const AROUND: usize = r#"{"k":"","v":},"#.len();
        let bytes = match self.value.form {
            Form::Json => self.value.bytes.len(),
            Form::Raw => self.value.bytes.len().div_ceil(3) * 4,
        };
        (AROUND + key.len() + bytes) as u64
    }
}

/// A fact about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is as it was.
    Nothing,
    /// This lies under the key.
    Set(Entry),
    /// What lies under the key is gone from then on, or never.
    SetDeadline(Option<Deadline>),
    /// Nothing lies under the key.
    Remove,
}

impl Change {
    /// What lies under the key once this is applied to what lay there.
    pub(crate) fn over(&self, found: Option<Entry>) -> Option<Entry> {
        match self {
            Self::Nothing => found,
            Self::Set(entry) => Some(entry.clone()),
            Self::SetDeadline(deadline) => found.map(|entry| Entry { deadline: *deadline, ..entry }),
            Self::Remove => None,
        }
    }
}
