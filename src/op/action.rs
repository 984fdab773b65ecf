//! Owns the mutations that a caller can request ([`Op`] and its actions). Knows nothing of how they are carried out.

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::key::Key;
use crate::op::window::WindowAdd;
use crate::value::Value;

/// A mutation: what to do, and to which key. `A` is the kind of action; the default changes one entry.
#[derive(Debug, Clone)]
pub(crate) struct Op<'a, A = EntryAction> {
    pub(crate) key: Key<'a>,
    pub(crate) action: A,
}

/// A mutation of a single entry, as the caller requested it: its effect depends on the entry, and it can fail. Each
/// variant names the [`Reply`](crate::op::Reply) that it gets.
///
/// `ttl` is the TTL of an entry that is set from scratch; `None` means none. `ttl_if_created` is the TTL that the
/// entry gets only if this mutation creates it.
#[derive(Debug, Clone)]
pub(crate) enum EntryAction {
    /// Sets the value, whatever the key holds: `Done`.
    Put { value: Value, ttl: Option<Millis> },
    /// Sets the value if the key is absent: `Flag`.
    PutIfAbsent { value: Value, ttl: Option<Millis> },
    /// Replaces an existing value and keeps its deadline: `Flag`.
    PutIfPresent { value: Value },
    /// Sets the value and returns the previous one: `Found`.
    GetAndPut { value: Value, ttl: Option<Millis> },
    /// Replaces the value if its bytes are the expected ones; `None` stands for an absent key. If `new` is `None`, the
    /// value is deleted. An existing deadline is kept: `Flag`.
    Swap { expected: Option<Bytes>, new: Option<Value>, ttl_if_created: Option<Millis> },
    /// Removes the entry of any kind: `Flag`.
    Delete,
    /// Removes a value and returns it: `Found`.
    GetAndDelete,
    /// Adds to a counter: `Number`.
    Incr { by: i64, ttl_if_created: Option<Millis> },
    /// Gives an entry of any kind a deadline: `Flag`.
    Expire { ttl: Millis },
    /// Removes the deadline: `Flag`.
    Persist,
    /// Reads a value and gives it a deadline: `Found`.
    Touch { ttl: Millis },
    /// Reads a value and moves its deadline to `ttl` from now, if it has a deadline that comes earlier: `Found`.
    Renew { ttl: Millis },
    /// Sets fields of a map, at least one and each once: `Number`, how many are new.
    MapPut { fields: Vec<(SmolStr, Value)>, ttl_if_created: Option<Millis> },
    /// Removes a field of a map: `Flag`.
    MapDelete { field: SmolStr },
    /// Adds to a counter in a field of a map: `Number`.
    MapIncr { field: SmolStr, by: i64, ttl_if_created: Option<Millis> },
    /// Adds values, at least one, at one end of a queue, one after another: `Number`, the new length.
    Push { end: End, values: Vec<Value>, ttl_if_created: Option<Millis> },
    /// Removes a value from one end of a queue and returns it: `Found`.
    Pop { end: End },
    /// Drops the first values of a queue until at most `most` remain: `Number`, how many were dropped.
    Trim { most: u64 },
    /// Adds to a sliding window, which is a map of its buckets: `Window`.
    WindowAdd(WindowAdd),
}

/// A mutation of a queue together with its leases.
#[derive(Debug, Clone)]
pub(crate) enum LeaseAction {
    /// Returns the values of expired leases to the front of the queue and adds delayed values that are due at its end,
    /// then leases its first value for `lease`: `Leased`. First values that were leased too often go to another queue.
    Lease { lease: Millis, dead_letters: Option<DeadLetters>, ttl_if_created: Option<Millis> },
    /// Adds a value at the end of the queue once `delay` has passed: `Flag`, which is `true`.
    PushDelayed { value: Value, delay: Millis },
    /// Ends a lease, and puts the value at the front of the queue again if `back`: `Flag`, whether the lease
    /// still existed.
    EndLease { id: SmolStr, back: bool, ttl_if_created: Option<Millis> },
    /// Makes a lease end `lease` from now: `Flag`, whether the lease still existed.
    ExtendLease { id: SmolStr, lease: Millis },
}

/// Where values go that were leased too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetters {
    /// How often a value may be leased.
    pub(crate) most_attempts: u64,
    /// The queue to the front of which it goes then.
    pub(crate) queue: Key<'static>,
}

/// A mutation of a lock, or of a permit, which is a lock with a number. The key is the name of the lock.
#[derive(Debug, Clone)]
pub(crate) enum LockAction {
    /// Takes the lock if nobody holds it or waits for it: `Granted`.
    Lock { ttl: Millis },
    /// Takes the first free one of `most` permits. The key is their name: `Permit`.
    Permit { most: u32, ttl: Millis },
    /// Makes a lock expire `ttl` from now: `Hold`.
    Extend { grant: Grant, ttl: Millis },
    /// Releases a lock: `Hold`.
    Unlock { grant: Grant },
}

/// A write that cannot fail on what the store contains: one of a [`WriteBatch`](crate::WriteBatch).
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put { value: Value, ttl: Option<Millis> },
    Delete,
}

/// One end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

/// A lock that a caller was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Larger than the token of every lock that was granted before.
    pub(crate) token: u64,
    /// When the lock expires, in milliseconds by the clock of the backend.
    pub(crate) until: u64,
}

/// A permit that a caller was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    /// Which of the permits of its name it is, from 0.
    pub(crate) number: u32,
    pub(crate) grant: Grant,
}

impl EntryAction {
    /// Returns whether the action would add nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::MapPut { fields, .. } => fields.is_empty(),
            Self::Push { values, .. } => values.is_empty(),
            Self::Put { .. }
            | Self::PutIfAbsent { .. }
            | Self::PutIfPresent { .. }
            | Self::GetAndPut { .. }
            | Self::Swap { .. }
            | Self::Delete
            | Self::GetAndDelete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::Renew { .. }
            | Self::MapDelete { .. }
            | Self::MapIncr { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_) => false,
        }
    }

    /// Returns how many bytes of the caller's values and field names the action contains.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { value, .. }
            | Self::PutIfAbsent { value, .. }
            | Self::PutIfPresent { value }
            | Self::GetAndPut { value, .. } => value.bytes.len(),
            Self::Swap { expected, new, .. } => {
                expected.as_ref().map_or(0, |bytes| bytes.len())
                    + new.as_ref().map_or(0, |value| value.bytes.len())
            }
            Self::MapPut { fields, .. } => {
                fields.iter().map(|(name, value)| name.len() + value.bytes.len()).sum()
            }
            Self::MapDelete { field } | Self::MapIncr { field, .. } => field.len(),
            Self::Push { values, .. } => values.iter().map(|value| value.bytes.len()).sum(),
            Self::Delete
            | Self::GetAndDelete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::Renew { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_) => 0,
        }
    }
}
