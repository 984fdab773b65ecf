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
    /// The server has applied more of the queue than this process has sent: the queue is an old copy.
    StaleQueue,
    /// Any other failure, which came at once.
    Failed,
}

impl ReconnectError {
    pub(crate) fn new(reason: ReconnectReason, cause: String) -> Self {
        Self { reason, cause }
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.reason == ReconnectReason::Denied
    }
}

impl From<Failure> for ReconnectError {
    fn from(failure: Failure) -> Self {
        let reason = if failure.kind == FailureKind::Timeout {
            ReconnectReason::TimedOut
        } else if failure.kind == FailureKind::Denied {
            ReconnectReason::Denied
        } else {
            ReconnectReason::Failed
        };
        Self::new(reason, failure.cause.to_string())
    }
}
