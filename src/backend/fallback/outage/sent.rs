//! Owns what is known of an operation that was sent to the server before it is carried out locally.

use crate::error::Error;

/// Whether the server may have received an operation already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Not,
    /// It was sent, and its reply is unknown.
    InDoubt,
}

impl Sent {
    /// Returns what is known after two attempts.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Not, Self::Not) => Self::Not,
            (Self::InDoubt, _) | (_, Self::InDoubt) => Self::InDoubt,
        }
    }

    /// Returns the error of a later attempt, which does not undo what an earlier one may have done.
    pub(crate) fn mark(self, error: Error) -> Error {
        match self {
            Self::Not => error,
            Self::InDoubt => error.after_lost_reply(),
        }
    }
}
