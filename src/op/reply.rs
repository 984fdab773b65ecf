//! Owns the replies to mutations. Knows nothing of how a mutation is carried out.

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::error::Result;
use crate::op::accessors::accessors;
use crate::op::action::Grant;

/// What happened to a lock that the caller was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The caller still held it, and the request is done. `until` is the new end of an extended lock.
    Held { until: u64 },
    /// Its time ran out, and nobody has taken it since.
    Expired,
    /// Another holder has it.
    TakenByAnother,
    /// Nobody has it, although its time has not run out.
    NotHeld,
}

/// The reply to one [`Op`](crate::op::Op).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The mutation is done.
    Done,
    /// Whether it changed something.
    Flag(bool),
    /// The new number.
    Number(i64),
    /// The value that the key held.
    Found(Option<Bytes>),
    /// The id of the new lease, and the leased value. Boxed, since it would make every reply larger.
    Leased(Option<Box<(SmolStr, Bytes)>>),
    /// The lock, if it was free.
    Granted(Option<Grant>),
    /// What happened to the lock.
    Hold(Hold),
}

accessors! {
    Reply:
    flag() -> bool = Flag;
    number() -> i64 = Number;
    found() -> Option<Bytes> = Found;
    granted() -> Option<Grant> = Granted;
    hold() -> Hold = Hold;
}

impl Reply {
    pub(crate) fn done(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    /// Returns a number that counts something.
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
}
