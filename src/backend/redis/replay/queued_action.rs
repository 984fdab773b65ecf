//! Owns the actions that can be in a replay queue. Knows nothing of queues and of how an action is sent.

use std::time::Duration;

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::Kind;
use crate::op::{End, EntryAction, WindowAdd, Write};
use crate::value::Value;

/// What a queued operation does on the server: the actions whose effect does not depend on what other clients
/// have written meanwhile.
#[derive(Debug, Clone)]
pub(crate) enum QueuedAction {
    Put {
        value: Value,
        ttl: Option<Millis>,
    },
    PutIfPresent {
        value: Value,
    },
    Delete,
    Incr {
        by: i64,
        ttl_if_created: Option<Millis>,
    },
    Expire {
        ttl: Millis,
    },
    /// Moves the deadline of a value to `ttl` from now, if it has a deadline that comes earlier.
    Renew {
        ttl: Millis,
    },
    Persist,
    MapPut {
        fields: Vec<(SmolStr, Value)>,
        ttl_if_created: Option<Millis>,
    },
    MapDelete {
        field: SmolStr,
    },
    MapIncr {
        field: SmolStr,
        by: i64,
        ttl_if_created: Option<Millis>,
    },
    Push {
        end: End,
        values: Vec<Value>,
        ttl_if_created: Option<Millis>,
    },
    Pop {
        end: End,
    },
    Trim {
        most: u64,
    },
    /// Adds to a sliding window, without a limit.
    WindowAdd(WindowAdd),
    /// Sets how much time the lease of this id has left on the server, or removes the lease.
    SetLease {
        id: SmolStr,
        left: Option<Millis>,
    },
}

/// What reports and the replay must know of a queued action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuedTraits {
    /// The Redis command that it becomes, as reports name it.
    pub(crate) command: &'static str,
    /// The kind of entry that it works on. Actions that work on any kind have `Value`.
    pub(crate) kind: Kind,
    /// Whether twice leaves the same state as once.
    pub(crate) is_idempotent: bool,
}

impl From<Write> for QueuedAction {
    fn from(write: Write) -> Self {
        match write {
            Write::Put { value, ttl } => Self::Put { value, ttl },
            Write::Delete => Self::Delete,
        }
    }
}

impl QueuedAction {
    /// Returns the action as it can be queued; `None` if its effect depends on what other clients have written.
    pub(crate) fn from_entry(action: &EntryAction) -> Option<Self> {
        Some(match action.clone() {
            EntryAction::Put { value, ttl } => Self::Put { value, ttl },
            EntryAction::PutIfPresent { value } => Self::PutIfPresent { value },
            EntryAction::Delete => Self::Delete,
            EntryAction::Incr { by, ttl_if_created } => Self::Incr { by, ttl_if_created },
            // Locally the value of a touch is read already.
            EntryAction::Expire { ttl } | EntryAction::Touch { ttl } => Self::Expire { ttl },
            EntryAction::Renew { ttl } => Self::Renew { ttl },
            EntryAction::Persist => Self::Persist,
            EntryAction::MapPut { fields, ttl_if_created } => Self::MapPut { fields, ttl_if_created },
            EntryAction::MapDelete { field } => Self::MapDelete { field },
            EntryAction::MapIncr { field, by, ttl_if_created } => Self::MapIncr { field, by, ttl_if_created },
            EntryAction::Push { end, values, ttl_if_created } => Self::Push { end, values, ttl_if_created },
            EntryAction::Trim { most } => Self::Trim { most },
            EntryAction::WindowAdd(add @ WindowAdd { limit: None, .. }) => Self::WindowAdd(add),
            EntryAction::WindowAdd(WindowAdd { limit: Some(_), .. })
            | EntryAction::PutIfAbsent { .. }
            | EntryAction::GetAndPut { .. }
            | EntryAction::Swap { .. }
            | EntryAction::GetAndDelete
            | EntryAction::Pop { .. } => return None,
        })
    }

    /// Returns what the action does to an entry; `None` for a lease, which is not an entry of the caller.
    pub(crate) fn to_entry(&self) -> Option<EntryAction> {
        Some(match self.clone() {
            Self::Put { value, ttl } => EntryAction::Put { value, ttl },
            Self::PutIfPresent { value } => EntryAction::PutIfPresent { value },
            Self::Delete => EntryAction::Delete,
            Self::Incr { by, ttl_if_created } => EntryAction::Incr { by, ttl_if_created },
            Self::Expire { ttl } => EntryAction::Expire { ttl },
            Self::Renew { ttl } => EntryAction::Renew { ttl },
            Self::Persist => EntryAction::Persist,
            Self::MapPut { fields, ttl_if_created } => EntryAction::MapPut { fields, ttl_if_created },
            Self::MapDelete { field } => EntryAction::MapDelete { field },
            Self::MapIncr { field, by, ttl_if_created } => EntryAction::MapIncr { field, by, ttl_if_created },
            Self::Push { end, values, ttl_if_created } => EntryAction::Push { end, values, ttl_if_created },
            Self::Pop { end } => EntryAction::Pop { end },
            Self::Trim { most } => EntryAction::Trim { most },
            Self::WindowAdd(add) => EntryAction::WindowAdd(add),
            Self::SetLease { .. } => return None,
        })
    }

    /// Returns what is data about the action: one row for each.
    pub(crate) fn traits(&self) -> QueuedTraits {
        let row = |command, kind, is_idempotent| QueuedTraits { command, kind, is_idempotent };
        match self {
            Self::Put { .. } | Self::PutIfPresent { .. } => row("SET", Kind::Value, true),
            Self::Delete => row("DEL", Kind::Value, true),
            Self::Incr { .. } => row("INCRBY", Kind::Value, false),
            Self::Expire { .. } | Self::Renew { .. } => row("PEXPIRE", Kind::Value, true),
            Self::Persist => row("PERSIST", Kind::Value, true),
            Self::MapPut { .. } => row("HSET", Kind::Map, true),
            Self::MapDelete { .. } => row("HDEL", Kind::Map, true),
            Self::MapIncr { .. } | Self::WindowAdd(_) => row("HINCRBY", Kind::Map, false),
            Self::Push { end: End::Back, .. } => row("RPUSH", Kind::Queue, false),
            Self::Push { end: End::Front, .. } => row("LPUSH", Kind::Queue, false),
            Self::Pop { end: End::Back } => row("RPOP", Kind::Queue, false),
            Self::Pop { end: End::Front } => row("LPOP", Kind::Queue, false),
            Self::Trim { .. } => row("LTRIM", Kind::Queue, true),
            Self::SetLease { .. } => row("ZADD", Kind::Queue, true),
        }
    }

    /// Returns whether twice leaves the same state as once.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.traits().is_idempotent
    }

    /// Returns the TTL of a key that the action creates.
    pub(crate) fn ttl_if_created(&self) -> Option<Millis> {
        match self {
            Self::Incr { ttl_if_created, .. }
            | Self::MapPut { ttl_if_created, .. }
            | Self::MapIncr { ttl_if_created, .. }
            | Self::Push { ttl_if_created, .. } => *ttl_if_created,
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Expire { .. }
            | Self::Renew { .. }
            | Self::Persist
            | Self::MapDelete { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_)
            | Self::SetLease { .. } => None,
        }
    }

    /// Returns whether it replaces whatever another client may have written to the key.
    pub(crate) fn sets_all(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::PutIfPresent { .. } | Self::Delete)
    }

    /// Returns the size of the caller's names and values in it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } | Self::PutIfPresent { value } => value.bytes.len(),
            Self::MapPut { fields, .. } => {
                fields.iter().map(|(name, value)| name.len() + value.bytes.len()).sum()
            }
            Self::MapDelete { field } | Self::MapIncr { field, .. } => field.len(),
            Self::Push { values, .. } => values.iter().map(|value| value.bytes.len()).sum(),
            Self::SetLease { id, .. } => id.len(),
            Self::Delete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Renew { .. }
            | Self::Persist
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_) => 0,
        }
    }

    /// Returns the field of a map that it changes, if it is exactly one.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::MapPut { fields, .. } => match fields.as_slice() {
                [(name, _)] => Some(name),
                _ => None,
            },
            Self::MapDelete { field } | Self::MapIncr { field, .. } => Some(field),
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Renew { .. }
            | Self::Persist
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_)
            | Self::SetLease { .. } => None,
        }
    }

    /// Returns the value or the number in it, if it is exactly one.
    pub(crate) fn argument(&self) -> Option<Bytes> {
        let only = |values: &[&Value]| match values {
            [value] => Some(value.bytes.clone()),
            _ => None,
        };
        match self {
            Self::Put { value, .. } | Self::PutIfPresent { value } => Some(value.bytes.clone()),
            Self::Incr { by, .. } | Self::MapIncr { by, .. } | Self::WindowAdd(WindowAdd { by, .. }) => {
                Some(Bytes::from(by.to_string().as_str()))
            }
            Self::MapPut { fields, .. } => only(&fields.iter().map(|(_, value)| value).collect::<Vec<_>>()),
            Self::Push { values, .. } => only(&values.iter().collect::<Vec<_>>()),
            Self::Delete
            | Self::Expire { .. }
            | Self::Renew { .. }
            | Self::Persist
            | Self::MapDelete { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::SetLease { .. } => None,
        }
    }

    /// Returns what must be applied on the server after `age` in the queue: TTLs have run on.
    pub(crate) fn after_waiting(&self, age: Duration) -> Self {
        let remaining = |ttl: Millis| {
            Duration::from_millis(ttl.get()).checked_sub(age).and_then(|ttl| Millis::new(ttl).ok())
        };
        match self {
            Self::Put { value, ttl: Some(ttl) } => match remaining(*ttl) {
                Some(ttl) => Self::Put { value: value.clone(), ttl: Some(ttl) },
                None => Self::Delete,
            },
            Self::Expire { ttl } => match remaining(*ttl) {
                Some(ttl) => Self::Expire { ttl },
                None => Self::Delete,
            },
            // One that has run out changes nothing: the TTL on the server is what counts.
            Self::Renew { ttl } => Self::Renew { ttl: remaining(*ttl).unwrap_or(Millis::LEAST) },
            Self::SetLease { id, left: Some(left) } => {
                let left = Some(remaining(*left).unwrap_or(Millis::LEAST));
                Self::SetLease { id: id.clone(), left }
            }
            Self::Put { ttl: None, .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Incr { .. }
            | Self::Persist
            | Self::MapPut { .. }
            | Self::MapDelete { .. }
            | Self::MapIncr { .. }
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_)
            | Self::SetLease { left: None, .. } => self.clone(),
        }
    }
}
