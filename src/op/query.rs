//! Owns the reads of a single entry ([`Query`]) and their answers ([`Answer`]). Knows nothing of where the entry is
//! stored.

use std::ops::{Bound, RangeBounds};

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Deadline;
use crate::error::{Kind, Result};
use crate::key::Key;
use crate::op::accessors::accessors;

/// A read of one key. Each variant names the [`Answer`] that it gets. All but `Presence` fail with `WrongType` if the
/// key holds another kind. An absent key reads as no value, an empty map or an empty queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// Whether the key is present, its kind and its deadline: `Presence`.
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
    /// The indices at which a queue begins and ends: `Bounds`.
    Bounds,
    /// The values of a queue from position `from` to before `to`, counted from the front. Positions past its end are
    /// left out: `Items`.
    Items { from: u64, to: u64 },
    /// Whether the lease of this id still exists: `Lease`. The key is that of the leases of a queue. The caller is about
    /// to remove `removed` fields of other leases from the map of a local store.
    Lease { id: SmolStr, removed: usize },
}

impl Query {
    /// Returns the query for a range of values.
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

    /// Returns the kind that the query expects; `None` if it accepts any.
    #[cfg(feature = "redis")]
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Presence => None,
            Self::Value => Some(Kind::Value),
            Self::Field(_) | Self::Fields(_) | Self::Map | Self::Names | Self::MapLength => Some(Kind::Map),
            Self::Bounds | Self::Items { .. } | Self::Lease { .. } => Some(Kind::Queue),
        }
    }
}

/// What is known of a key that is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presence {
    /// `None` if this crate has no kind for what the key holds.
    pub(crate) kind: Option<Kind>,
    pub(crate) deadline: Option<Deadline>,
}

/// Where a lease is kept that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeldLease {
    /// On the server, under the id of the lease.
    #[cfg(feature = "redis")]
    OnServer,
    /// In these fields of a local map. `are_last` says whether the map has no other fields.
    Locally { fields: Vec<SmolStr>, are_last: bool },
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `None` if the key is absent.
    Presence(Option<Presence>),
    /// A value or a field; `None` if it is absent.
    Found(Option<Bytes>),
    /// One outcome for each requested field, in the same order.
    Each(Vec<Option<Bytes>>),
    /// The fields of a map, sorted by name.
    Map(Vec<(SmolStr, Bytes)>),
    /// The names of the fields of a map, sorted.
    Names(Vec<SmolStr>),
    /// A number of fields.
    Count(u64),
    /// The index of the first value and the index after the last. Both are equal if the queue is empty.
    Bounds((i64, i64)),
    /// Values of a queue, from front to back.
    Items(Vec<Bytes>),
    /// `None` if the lease has ended.
    Lease(Option<HeldLease>),
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
    lease() -> Option<HeldLease> = Lease;
}

/// The state that a transaction reads. Each answer is valid at the moment of its query. The source may keep a read set,
/// so that the answers can be validated later.
pub(crate) trait ReadSource {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer>;
}
