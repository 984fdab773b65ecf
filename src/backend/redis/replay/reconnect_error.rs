//! Owns why a connection for the replay is not usable. Knows nothing of when the next attempt follows.

use crate::backend::redis::failure::{Failure, FailureKind};

/// Why the server cannot be used again yet.
#[derive(Debug)]
pub(crate) struct ReconnectError {
    pub(crate) reason: ReconnectReason,
    pub(crate) cause: String,
}

/// What a failed reconnection means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReconnectReason {
    /// The server did not reply in time.
    TimedOut,
    /// The user of the connection lacks a permission.
    Denied,
    /// The server refused the request for good.
    Refused,
    /// The connection broke while the request was under way.
    Broken,
    /// The server has applied more of the queue than this process has sent: the queue is an old copy.
    StaleQueue,
    /// The server cannot be reached, or does not serve now.
    Failed,
}

impl ReconnectReason {
    fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Timeout => Self::TimedOut,
            FailureKind::Denied => Self::Denied,
            FailureKind::Broken
            | FailureKind::FoundUseless
            | FailureKind::Protocol
            | FailureKind::TooLarge { .. } => Self::Broken,
            FailureKind::Oversized
            | FailureKind::WrongType
            | FailureKind::NotAnInteger
            | FailureKind::Overflow
            | FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::Other => Self::Refused,
            FailureKind::Unreachable
            | FailureKind::Busy
            | FailureKind::NotWritable
            | FailureKind::OtherServer
            | FailureKind::Exhausted
            | FailureKind::Tls
            | FailureKind::Unsupported
            | FailureKind::Closed
            | FailureKind::Forked => Self::Failed,
        }
    }
}

impl ReconnectError {
    pub(crate) fn new(reason: ReconnectReason, cause: String) -> Self {
        Self { reason, cause }
    }
}

impl From<Failure> for ReconnectError {
    fn from(failure: Failure) -> Self {
        Self::new(ReconnectReason::of(failure.kind), failure.cause.to_string())
    }
}
