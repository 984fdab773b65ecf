//! Owns what can be asked of a single entry without changing it ([`Query`]) and the answers ([`Answer`]).
//! Knows nothing of where the entry lies.

use std::ops::{Bound, RangeBounds};

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Deadline;
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::accessors::accessors;

/// A question about what lies under one key. Behind each stands which [`Answer`] it gets. All but
/// `Presence` are `WrongType` where another kind lies there; what is absent is an empty map, an empty queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// Which kind of thing, and until when: `Presence`.
    Presence,
    /// The value: `Found`.
    Value,
    /// A field of a map: `Found`.
    Field(SmolStr),
    /// Several fields of a map, in this order: `Each`.
    Fields(Vec<SmolStr>),
    /// All fields of a map, sorted: `Map`.
    Map,
    /// The names of the fields of a map, sorted: `Names`.
    Names,
    /// How many fields a map has: `Count`.
    MapLength,
    /// Where a queue begins and ends: `Bounds`.
    Bounds,
    /// The values of a queue from the place `from` to before `to`, counted from the front; what lies
    /// beyond its end is left out: `Items`.
    Items { from: u64, to: u64 },
}

impl Query {
    /// The question for a range of values.
    pub(crate) fn items(range: &impl RangeBounds<u64>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        Self::Items { from, to }
    }

    /// The kind of thing that it asks about.
    #[cfg(feature = "redis")]
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Presence => None,
            Self::Value => Some(Kind::Value),
            Self::Field(_) | Self::Fields(_) | Self::Map | Self::Names | Self::MapLength => Some(Kind::Map),
            Self::Bounds | Self::Items { .. } => Some(Kind::Queue),
        }
    }
}

/// What is there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presence {
    /// `None` where it is something that this crate has no name for.
    pub(crate) kind: Option<Kind>,
    pub(crate) deadline: Option<Deadline>,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Presence(Option<Presence>),
    Found(Option<Bytes>),
    Each(Vec<Option<Bytes>>),
    Map(Vec<(SmolStr, Bytes)>),
    Names(Vec<SmolStr>),
    Count(u64),
    /// The index of the first value and the one after the last: both are equal if there is none.
    Bounds((i64, i64)),
    Items(Vec<Bytes>),
}

accessors! {
    Answer:
    presence() -> Option<Presence> = Presence;
    found() -> Option<Bytes> = Found;
    each() -> Vec<Option<Bytes>> = Each;
    map() -> Vec<(SmolStr, Bytes)> = Map;
    names() -> Vec<SmolStr> = Names;
    count() -> u64 = Count;
    bounds() -> (i64, i64) = Bounds;
    items() -> Vec<Bytes> = Items;
}

/// What the changes of a transaction are based on: it answers as of the moment it is asked, and remembers
/// what it was asked for.
pub(crate) trait ReadSource {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer>;
}
