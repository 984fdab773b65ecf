//! Owns the replies to mutations. Knows nothing of how a mutation is carried out.

use smol_str::SmolStr;

use crate::bytes::Bytes;
use crate::error::Result;
use crate::op::accessors::accessors;
use crate::op::action::{Grant, Permit};
use crate::op::window::WindowSum;

/// What happened to a lock that the caller was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The caller still held it, and the request was carried out. `until` is the new end of an extended lock.
    Held { until: u64 },
    /// It has expired, and no other holder has taken it since.
    Expired,
    /// Another holder has taken it.
    TakenByAnother,
    /// It has no holder, although it has not expired.
    NotHeld,
}

/// A value that was leased just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLease {
    pub(crate) id: SmolStr,
    pub(crate) bytes: Bytes,
    /// How often the value has been leased, this time included.
    pub(crate) attempts: u64,
}

/// The reply to one [`Op`](crate::op::Op).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The mutation is done.
    Done,
    /// Whether the mutation changed something.
    Flag(bool),
    /// The new number.
    Number(i64),
    /// The value that the key held.
    Found(Option<Bytes>),
    /// The new lease. Boxed, because it would make every reply larger.
    Leased(Option<Box<NewLease>>),
    /// The sum of a window. Boxed, because it would make every reply larger.
    Window(Box<WindowSum>),
    /// The lock, if it was free.
    Granted(Option<Grant>),
    /// The permit, if one was free.
    Permit(Option<Permit>),
    /// What happened to the lock.
    Hold(Hold),
}

accessors! {
    Reply:
    flag() -> bool = Flag;
    number() -> i64 = Number;
    found() -> Option<Bytes> = Found;
    window() -> Box<WindowSum> = Window;
    granted() -> Option<Grant> = Granted;
    permit() -> Option<Permit> = Permit;
    hold() -> Hold = Hold;
}

impl Reply {
    pub(crate) fn done(self) -> Result<()> {
        if self == Self::Done { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Returns a number that counts something.
    pub(crate) fn count(self) -> Result<u64> {
        if let Self::Number(number) = self
            && let Ok(count) = u64::try_from(number)
        {
            Ok(count)
        } else {
            Err(self.unexpected())
        }
    }

    pub(crate) fn leased(self) -> Result<Option<NewLease>> {
        if let Self::Leased(leased) = self {
            Ok(leased.map(|leased| *leased))
        } else {
            Err(self.unexpected())
        }
    }
}
