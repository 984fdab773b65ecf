//! Owns the actions that can wait in a replay queue. Knows nothing of queues and of how an action is sent.

use std::time::Duration;

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Millis;
use crate::error::Kind;
use crate::op::{End, EntryAction, Write};
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
    /// Sets for how long the server keeps the lease of this id, or removes it.
    SetLease {
        id: SmolStr,
        left: Option<Millis>,
    },
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
            // Nobody waits for the value that a touch reads.
            EntryAction::Expire { ttl } | EntryAction::Touch { ttl } => Self::Expire { ttl },
            EntryAction::Persist => Self::Persist,
            EntryAction::MapPut { fields, ttl_if_created } => Self::MapPut { fields, ttl_if_created },
            EntryAction::MapDelete { field } => Self::MapDelete { field },
            EntryAction::MapIncr { field, by, ttl_if_created } => Self::MapIncr { field, by, ttl_if_created },
            EntryAction::Push { end, values, ttl_if_created } => Self::Push { end, values, ttl_if_created },
            EntryAction::Trim { most } => Self::Trim { most },
            EntryAction::PutIfAbsent { .. }
            | EntryAction::GetAndPut { .. }
            | EntryAction::Swap { .. }
            | EntryAction::GetAndDelete
            | EntryAction::Pop { .. } => return None,
        })
    }

    /// Returns what the action does to an entry; `None` for a lease, which is no entry of the caller's.
    pub(crate) fn to_entry(&self) -> Option<EntryAction> {
        Some(match self.clone() {
            Self::Put { value, ttl } => EntryAction::Put { value, ttl },
            Self::PutIfPresent { value } => EntryAction::PutIfPresent { value },
            Self::Delete => EntryAction::Delete,
            Self::Incr { by, ttl_if_created } => EntryAction::Incr { by, ttl_if_created },
            Self::Expire { ttl } => EntryAction::Expire { ttl },
            Self::Persist => EntryAction::Persist,
            Self::MapPut { fields, ttl_if_created } => EntryAction::MapPut { fields, ttl_if_created },
            Self::MapDelete { field } => EntryAction::MapDelete { field },
            Self::MapIncr { field, by, ttl_if_created } => EntryAction::MapIncr { field, by, ttl_if_created },
            Self::Push { end, values, ttl_if_created } => EntryAction::Push { end, values, ttl_if_created },
            Self::Pop { end } => EntryAction::Pop { end },
            Self::Trim { most } => EntryAction::Trim { most },
            Self::SetLease { .. } => return None,
        })
    }

    /// Returns the Redis command that it becomes.
    pub(crate) fn command(&self) -> &'static str {
        match self {
            Self::Put { .. } | Self::PutIfPresent { .. } => "SET",
            Self::Delete => "DEL",
            Self::Incr { .. } => "INCRBY",
            Self::Expire { .. } => "PEXPIRE",
            Self::Persist => "PERSIST",
            Self::MapPut { .. } => "HSET",
            Self::MapDelete { .. } => "HDEL",
            Self::MapIncr { .. } => "HINCRBY",
            Self::Push { end: End::Back, .. } => "RPUSH",
            Self::Push { end: End::Front, .. } => "LPUSH",
            Self::Pop { end: End::Back } => "RPOP",
            Self::Pop { end: End::Front } => "LPOP",
            Self::Trim { .. } => "LTRIM",
            Self::SetLease { .. } => "ZADD",
        }
    }

    /// Returns the kind of entry that it works on.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist => Kind::Value,
            Self::MapPut { .. } | Self::MapDelete { .. } | Self::MapIncr { .. } => Kind::Map,
            Self::Push { .. } | Self::Pop { .. } | Self::Trim { .. } | Self::SetLease { .. } => Kind::Queue,
        }
    }

    /// Returns whether twice leaves the same state as once.
    pub(crate) fn is_idempotent(&self) -> bool {
        match self {
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Expire { .. }
            | Self::Persist
            | Self::MapPut { .. }
            | Self::MapDelete { .. }
            | Self::Trim { .. }
            | Self::SetLease { .. } => true,
            Self::Incr { .. } | Self::MapIncr { .. } | Self::Push { .. } | Self::Pop { .. } => false,
        }
    }

    /// Returns whether nothing remains of what the key held before.
    pub(crate) fn replaces_all(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete)
    }

    /// Returns how many bytes of the caller's it carries.
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
            | Self::Persist
            | Self::Pop { .. }
            | Self::Trim { .. } => 0,
        }
    }

    /// Returns the field of a map that it is about, if it is about one.
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
            | Self::Persist
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::SetLease { .. } => None,
        }
    }

    /// Returns the value or the number that it carries, if it carries one.
    pub(crate) fn argument(&self) -> Option<Bytes> {
        let only = |values: &[&Value]| match values {
            [value] => Some(value.bytes.clone()),
            _ => None,
        };
        match self {
            Self::Put { value, .. } | Self::PutIfPresent { value } => Some(value.bytes.clone()),
            Self::Incr { by, .. } | Self::MapIncr { by, .. } => Some(Bytes::from(by.to_string().as_str())),
            Self::MapPut { fields, .. } => only(&fields.iter().map(|(_, value)| value).collect::<Vec<_>>()),
            Self::Push { values, .. } => only(&values.iter().collect::<Vec<_>>()),
            Self::Delete
            | Self::Expire { .. }
            | Self::Persist
            | Self::MapDelete { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::SetLease { .. } => None,
        }
    }

    /// Returns what must be done on the server after this long a wait: TTLs go on running.
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
            | Self::SetLease { left: None, .. } => self.clone(),
        }
    }
}
