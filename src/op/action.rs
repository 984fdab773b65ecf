//! Owns what a caller can ask of a single entry ([`Op`]) and what it gets back ([`Reply`]). Knows nothing
//! of how either is carried out.

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::clock::Millis;
#[cfg(feature = "redis")]
use crate::error::Kind;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::value::Value;

/// A mutation of one entry: what to do, and to which key.
#[derive(Debug, Clone)]
pub(crate) struct Op<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) action: Action,
}

/// What to do to an entry, as it was asked for: relative, and able to fail. Behind each stands which
/// [`Reply`] it gets.
///
/// `ttl` is what the entry gets when it is set anew; `None` is none. `ttl_if_created` is what it gets only if
/// this very step creates it.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Sets the value, whatever was there: `Done`.
    Put { value: Value, ttl: Option<Millis> },
    /// Sets the value where nothing is: `Flag`.
    PutIfAbsent { value: Value, ttl: Option<Millis> },
    /// Replaces a value that is there and keeps its deadline: `Flag`.
    PutIfPresent { value: Value },
    /// Sets the value and hands out the one before: `Found`.
    PutAndGet { value: Value, ttl: Option<Millis> },
    /// Replaces (or with no `new` deletes) the value if its bytes are still the expected ones, or if
    /// nothing is there and nothing is expected; keeps the deadline: `Flag`.
    Swap { expected: Option<Bytes>, new: Option<Value>, ttl_if_created: Option<Millis> },
    /// Removes whatever is there: `Flag`.
    Delete,
    /// Removes a value and hands it out: `Found`.
    Take,
    /// Adds to a counter: `Number`.
    Incr { by: i64, ttl_if_created: Option<Millis> },
    /// Gives whatever is there a deadline: `Flag`.
    Expire { ttl: Millis },
    /// Takes the deadline off: `Flag`.
    Persist,
    /// Reads a value and gives it a deadline: `Found`.
    Touch { ttl: Millis },
    /// Sets fields of a map, at least one and each once: `Number`, how many are new.
    MapPut { fields: Vec<(SmolStr, Value)>, ttl_if_created: Option<Millis> },
    /// Removes a field of a map: `Flag`.
    MapDelete { field: SmolStr },
    /// Adds to a counter in a field of a map: `Number`.
    MapIncr { field: SmolStr, by: i64, ttl_if_created: Option<Millis> },
    /// Adds values, at least one, at one end of a queue, one after another: `Number`, the new length.
    Push { end: End, values: Vec<Value>, ttl_if_created: Option<Millis> },
    /// Takes a value off one end of a queue: `Found`.
    Pop { end: End },
    /// Drops the first values of a queue until at most `most` are left: `Number`, how many were dropped.
    Trim { most: u64 },
    /// Gives back what leases of the queue have run out, then takes the first value for as long as a new
    /// lease lasts: `Leased`.
    Lease { lease: Millis, ttl_if_created: Option<Millis> },
    /// Ends a lease, and lets the value be the first of the queue again if it is to go `back`: `Flag`,
    /// whether there still was such a lease.
    EndLease { id: SmolStr, back: bool, ttl_if_created: Option<Millis> },
    /// Notes for how long the server is to keep a lease of this name, which was given while it was away, or that
    /// it keeps it no longer. Only what waits for a server is this: `Done`.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "there is no server to wait for"))]
    NoteLease { id: SmolStr, left: Option<Millis> },
    /// Takes the lock of that name where nobody has it, nor waits for it: `Granted`.
    Lock { ttl: Millis },
    /// Lets a lock run out only after `ttl`, counted from now: `Hold`.
    Extend { grant: Grant, ttl: Millis },
    /// Lets go of a lock: `Hold`.
    Unlock { grant: Grant },
}

/// One end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

/// A lock that somebody was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Larger than that of every lock given before.
    pub(crate) token: u64,
    /// When it runs out, in milliseconds by the clock of the backend.
    pub(crate) until: u64,
}

/// What became of a lock that somebody was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It was still theirs, and what was asked for is done. Until when, where it goes on.
    Held { until: u64 },
    /// Nobody has it, and its time is over.
    Expired,
    /// Somebody else has it.
    TakenByAnother,
    /// Nobody has it, though its time is not over.
    NotHeld,
}

impl Action {
    /// Tells whether there is nothing that it would add.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::MapPut { fields, .. } => fields.is_empty(),
            Self::Push { values, .. } => values.is_empty(),
            Self::Put { .. }
            | Self::PutIfAbsent { .. }
            | Self::PutIfPresent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Delete
            | Self::Take
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::MapDelete { .. }
            | Self::MapIncr { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::Lease { .. }
            | Self::EndLease { .. }
            | Self::NoteLease { .. }
            | Self::Lock { .. }
            | Self::Extend { .. }
            | Self::Unlock { .. } => false,
        }
    }

    /// How many bytes it carries.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { value, .. }
            | Self::PutIfAbsent { value, .. }
            | Self::PutIfPresent { value }
            | Self::PutAndGet { value, .. } => value.bytes.len(),
            Self::Swap { expected, new, .. } => {
                expected.as_ref().map_or(0, |bytes| bytes.len())
                    + new.as_ref().map_or(0, |value| value.bytes.len())
            }
            Self::MapPut { fields, .. } => {
                fields.iter().map(|(name, value)| name.len() + value.bytes.len()).sum()
            }
            Self::MapDelete { field } | Self::MapIncr { field, .. } => field.len(),
            Self::Push { values, .. } => values.iter().map(|value| value.bytes.len()).sum(),
            Self::EndLease { id, .. } | Self::NoteLease { id, .. } => id.len(),
            Self::Delete
            | Self::Take
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::Lease { .. }
            | Self::Lock { .. }
            | Self::Extend { .. }
            | Self::Unlock { .. } => 0,
        }
    }

    /// The kind of thing that it works on.
    #[cfg(feature = "redis")]
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::MapPut { .. } | Self::MapDelete { .. } | Self::MapIncr { .. } => Kind::Map,
            Self::Push { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::Lease { .. }
            | Self::EndLease { .. }
            | Self::NoteLease { .. } => Kind::Queue,
            Self::Put { .. }
            | Self::PutIfAbsent { .. }
            | Self::PutIfPresent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Delete
            | Self::Take
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::Lock { .. }
            | Self::Extend { .. }
            | Self::Unlock { .. } => Kind::Value,
        }
    }
}

/// What becomes of an operation while the server is away.
#[cfg(feature = "redis")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offline {
    /// It is done here and waits to be done there; its answer is right.
    Queued,
    /// As `Queued`, but its answer is what is known here.
    Estimated,
    /// Its answer depends on what others may have changed there: it is refused, unless nobody else writes.
    Exclusive,
    /// It needs the server.
    Refused,
}

#[cfg(feature = "redis")]
impl Action {
    /// The one table of what is served, queued, estimated and refused while the server is away.
    pub(crate) fn offline(&self) -> Offline {
        match self {
            Self::Put { .. } => Offline::Queued,
            Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::MapPut { .. }
            | Self::MapDelete { .. }
            | Self::MapIncr { .. }
            | Self::Push { .. }
            | Self::Trim { .. } => Offline::Estimated,
            Self::PutIfAbsent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Take
            | Self::Pop { .. }
            | Self::Lease { .. }
            | Self::EndLease { .. } => Offline::Exclusive,
            Self::NoteLease { .. } | Self::Lock { .. } | Self::Extend { .. } | Self::Unlock { .. } => {
                Offline::Refused
            }
        }
    }

    /// How errors name the command that it becomes on a server.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Put { .. }
            | Self::PutIfAbsent { .. }
            | Self::PutIfPresent { .. }
            | Self::PutAndGet { .. } => "SET",
            Self::Swap { .. }
            | Self::Lease { .. }
            | Self::EndLease { .. }
            | Self::Lock { .. }
            | Self::Extend { .. }
            | Self::Unlock { .. } => "EVAL",
            Self::Delete => "DEL",
            Self::Take => "GETDEL",
            Self::Incr { .. } => "INCRBY",
            Self::Expire { .. } => "PEXPIRE",
            Self::Persist => "PERSIST",
            Self::Touch { .. } => "GETEX",
            Self::MapPut { .. } => "HSET",
            Self::MapDelete { .. } => "HDEL",
            Self::MapIncr { .. } => "HINCRBY",
            Self::Push { end: End::Back, .. } => "RPUSH",
            Self::Push { end: End::Front, .. } => "LPUSH",
            Self::Pop { end: End::Back } => "RPOP",
            Self::Pop { end: End::Front } => "LPOP",
            Self::Trim { .. } => "LTRIM",
            Self::NoteLease { .. } => "ZADD",
        }
    }

    /// Tells whether carrying it out twice leaves the same state as once. The reply of the second time may
    /// still differ: see [`Action::reply_survives_repeating`].
    pub(crate) fn is_idempotent(&self) -> bool {
        match self {
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::MapPut { .. }
            | Self::MapDelete { .. }
            | Self::Trim { .. }
            | Self::EndLease { .. }
            | Self::NoteLease { .. }
            | Self::Extend { .. }
            | Self::Unlock { .. } => true,
            Self::PutIfAbsent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Take
            | Self::Incr { .. }
            | Self::MapIncr { .. }
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Lease { .. }
            | Self::Lock { .. } => false,
        }
    }

    /// Tells whether `reply`, given to a repetition after an answer was lost, is also the answer to the
    /// first time. "Nothing was there" to a second delete may be the first one's doing.
    pub(crate) fn reply_survives_repeating(&self, reply: &Reply) -> bool {
        match self {
            Self::Delete | Self::Persist | Self::MapDelete { .. } | Self::EndLease { .. } => {
                !matches!(reply, Reply::Flag(false))
            }
            // Whoever has it now may have got it because the first time let go of it.
            Self::Unlock { .. } => matches!(reply, Reply::Hold(Hold::Held { .. })),
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Expire { .. }
            | Self::Touch { .. }
            | Self::NoteLease { .. }
            | Self::Extend { .. } => true,
            // How many fields were new, or values dropped, only the first time knows. The others are never
            // repeated.
            Self::MapPut { .. }
            | Self::Trim { .. }
            | Self::PutIfAbsent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Take
            | Self::Incr { .. }
            | Self::MapIncr { .. }
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Lease { .. }
            | Self::Lock { .. } => false,
        }
    }
}

/// The answer to one [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// Whether it did something.
    Flag(bool),
    /// The new number.
    Number(i64),
    /// The value that was there.
    Found(Option<Bytes>),
    /// The value that was taken, and what its lease is called. In a box: every reply would be as large.
    Leased(Option<Box<(SmolStr, Bytes)>>),
    /// The lock, if it was to be had.
    Granted(Option<Grant>),
    /// What became of the lock.
    Hold(Hold),
}

impl Reply {
    pub(crate) fn done(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn flag(self) -> Result<bool> {
        match self {
            Self::Flag(flag) => Ok(flag),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn number(self) -> Result<i64> {
        match self {
            Self::Number(number) => Ok(number),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn found(self) -> Result<Option<Bytes>> {
        match self {
            Self::Found(found) => Ok(found),
            other => Err(other.unexpected()),
        }
    }

    /// A number that counts something.
    pub(crate) fn count(self) -> Result<u64> {
        match self {
            Self::Number(number) if number >= 0 => Ok(number.unsigned_abs()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn leased(self) -> Result<Option<(SmolStr, Bytes)>> {
        match self {
            Self::Leased(leased) => Ok(leased.map(|leased| *leased)),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn granted(self) -> Result<Option<Grant>> {
        match self {
            Self::Granted(granted) => Ok(granted),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn hold(self) -> Result<Hold> {
        match self {
            Self::Hold(hold) => Ok(hold),
            other => Err(other.unexpected()),
        }
    }

    fn unexpected(self) -> Error {
        Error::Server { command: "an operation".into(), source: format!("unexpected reply {self:?}").into() }
    }
}
