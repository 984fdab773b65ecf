//! Owns what is true of one entry after a mutation: absolute, total, and the same if applied twice. Knows
//! nothing of what was asked.

use crate::clock::Deadline;
use crate::value::Value;

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// From when on it is gone; `None` is never.
    pub(crate) deadline: Option<Deadline>,
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
