//! Owns what a caller can ask of a single entry ([`Op`]) and what it gets back ([`Reply`]). Knows nothing
//! of how either is carried out.

use crate::bytes::Bytes;
use crate::clock::Millis;
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
/// `ttl` is what the entry gets when it is set anew; `None` is none. `birth_ttl` is what it gets only if
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
    Swap { expected: Option<Bytes>, new: Option<Value>, birth_ttl: Option<Millis> },
    /// Removes whatever is there: `Flag`.
    Delete,
    /// Removes a value and hands it out: `Found`.
    Take,
    /// Adds to a counter: `Number`.
    Incr { by: i64, birth_ttl: Option<Millis> },
    /// Gives whatever is there a deadline: `Flag`.
    Expire { ttl: Millis },
    /// Takes the deadline off: `Flag`.
    Persist,
    /// Reads a value and gives it a deadline: `Found`.
    Touch { ttl: Millis },
}

#[cfg(feature = "redis")]
impl Action {
    /// Tells whether carrying it out twice leaves the same state as once. The reply of the second time may
    /// still differ: see [`Action::reply_survives_repeating`].
    pub(crate) fn is_idempotent(&self) -> bool {
        match self {
            Self::Put { .. }
            | Self::PutIfPresent { .. }
            | Self::Delete
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. } => true,
            Self::PutIfAbsent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Take
            | Self::Incr { .. } => false,
        }
    }

    /// Tells whether `reply`, given to a repetition after an answer was lost, is also the answer to the
    /// first time. "Nothing was there" to a second delete may be the first one's doing.
    pub(crate) fn reply_survives_repeating(&self, reply: &Reply) -> bool {
        match self {
            Self::Delete | Self::Persist => !matches!(reply, Reply::Flag(false)),
            Self::Put { .. } | Self::PutIfPresent { .. } | Self::Expire { .. } | Self::Touch { .. } => true,
            Self::PutIfAbsent { .. }
            | Self::PutAndGet { .. }
            | Self::Swap { .. }
            | Self::Take
            | Self::Incr { .. } => false,
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

    fn unexpected(self) -> Error {
        Error::Server { command: "an operation".into(), source: format!("unexpected reply {self:?}").into() }
    }
}
