//! Owns how an operation on the server fails: the error that its caller sees, and what the failure shows about the
//! server. Knows nothing of what the fallback does about it.

use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::error::{Error, Kind};

/// The error of an operation on the server.
#[derive(Debug)]
pub(crate) struct OperationError {
    /// What the caller sees.
    pub(crate) error: Error,
    pub(crate) symptom: Symptom,
    /// The command that failed, as errors name it.
    command: &'static str,
}

/// What a failure shows about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symptom {
    /// Nothing: the server replied, or was not asked.
    None,
    /// The server does not serve now: it accepts no connection, or reports that it cannot serve.
    Unreachable,
    /// One connection is silent or broke; on others the server may serve.
    ConnectionLost,
    /// The connection broke before the server had received the request. If the server serves others, it may refuse
    /// requests of this size.
    RequestCut,
    /// All connections were in use. The threads that use them find out whether the server is reachable.
    Exhausted,
    /// The reply cache is gone, so the server cannot tell whether it has done a call.
    ReplyEvicted,
}

impl Symptom {
    fn of(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Unreachable if failure.stage == Stage::InDoubt => Self::ConnectionLost,
            FailureKind::Broken if failure.stage == Stage::NotSent => Self::RequestCut,
            FailureKind::Broken | FailureKind::FoundUseless | FailureKind::Timeout => Self::ConnectionLost,
            FailureKind::Unreachable | FailureKind::Busy => Self::Unreachable,
            FailureKind::Exhausted => Self::Exhausted,
            FailureKind::ReplyEvicted => Self::ReplyEvicted,
            FailureKind::NotWritable
            | FailureKind::Oversized
            | FailureKind::Denied
            | FailureKind::WrongType
            | FailureKind::NotAnInteger
            | FailureKind::Overflow
            | FailureKind::OtherServer
            | FailureKind::NoScript
            | FailureKind::TooLarge { .. }
            | FailureKind::Protocol
            | FailureKind::Tls
            | FailureKind::Unsupported
            | FailureKind::Closed
            | FailureKind::Forked
            | FailureKind::Other => Self::None,
        }
    }

    /// Returns whether the server could not be reached, or at least not over one connection.
    pub(crate) fn is_unreachable(self) -> bool {
        match self {
            Self::Unreachable | Self::ConnectionLost | Self::RequestCut => true,
            Self::None | Self::Exhausted | Self::ReplyEvicted => false,
        }
    }
}

impl OperationError {
    /// Makes the error of an operation from the failure of its last attempt.
    pub(crate) fn new(failure: Failure, context: ErrorContext<'_>) -> Self {
        Self::with_kind(failure, context, None)
    }

    /// As [`OperationError::new`]. `found`: for a wrong kind, the kind that the key holds.
    pub(crate) fn with_kind(failure: Failure, context: ErrorContext<'_>, found: Option<Kind>) -> Self {
        let symptom = Symptom::of(&failure);
        Self { symptom, error: failure.into_error(context, found), command: context.command }
    }

    /// Wraps the error that stopped an operation over many entries; if none was done, returns the error itself.
    pub(crate) fn partial(done: u64, stop: Self) -> Self {
        let symptom = match stop.symptom {
            symptom if done == 0 => symptom,
            Symptom::RequestCut => Symptom::ConnectionLost,
            symptom if symptom.is_unreachable() => symptom,
            Symptom::None
            | Symptom::Unreachable
            | Symptom::ConnectionLost
            | Symptom::Exhausted
            | Symptom::ReplyEvicted => Symptom::None,
        };
        Self { error: Error::partial(done, stop.error), symptom, command: stop.command }
    }

    /// Returns whether the server may have applied the operation.
    pub(crate) fn maybe_applied(&self) -> bool {
        self.error.maybe_applied()
    }

    /// Returns the error for an operation that failed although the server serves others. `was_retried`: all attempts
    /// failed alike.
    pub(crate) fn while_connected(self, was_retried: bool) -> Error {
        let Self { error, symptom, command } = self;
        if symptom != Symptom::RequestCut || !was_retried || error.maybe_applied() {
            return error;
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let cause = format!(
            "the server closed the connection while it received the request, and serves others: it may not take requests \
             of this size ({cause})"
        );
        Error::Server { command: command.to_owned(), source: cause.into() }
    }

    /// Returns the text of the cause, without the words that the error puts around it.
    pub(crate) fn cause(&self) -> String {
        let mut error = &self.error;
        while let Error::Partial { source, .. } = error {
            error = source;
        }
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
    }
}

/// For an error that shows nothing about the server.
impl From<Error> for OperationError {
    fn from(error: Error) -> Self {
        Self { error, symptom: Symptom::None, command: "" }
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Self {
        error.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: FailureKind, stage: Stage) -> OperationError {
        OperationError::new(Failure::new(kind, stage, "the cause"), ErrorContext::writing("SET"))
    }

    #[test]
    fn each_failure_has_its_symptom() {
        for (kind, stage, symptom) in [
            (FailureKind::Unreachable, Stage::NotSent, Symptom::Unreachable),
            (FailureKind::Unreachable, Stage::InDoubt, Symptom::ConnectionLost),
            (FailureKind::Broken, Stage::NotSent, Symptom::RequestCut),
            (FailureKind::Broken, Stage::InDoubt, Symptom::ConnectionLost),
            (FailureKind::Oversized, Stage::InDoubt, Symptom::None),
            (FailureKind::NotWritable, Stage::Rejected, Symptom::None),
            (FailureKind::Timeout, Stage::NotSent, Symptom::ConnectionLost),
            (FailureKind::Timeout, Stage::InDoubt, Symptom::ConnectionLost),
            (FailureKind::Busy, Stage::Rejected, Symptom::Unreachable),
            (FailureKind::Exhausted, Stage::NotSent, Symptom::Exhausted),
            (FailureKind::ReplyEvicted, Stage::InDoubt, Symptom::ReplyEvicted),
            (FailureKind::Protocol, Stage::InDoubt, Symptom::None),
            (FailureKind::Denied, Stage::Rejected, Symptom::None),
            (FailureKind::Closed, Stage::NotSent, Symptom::None),
        ] {
            assert_eq!(error(kind, stage).symptom, symptom, "{kind:?} {stage:?}");
        }
    }

    #[test]
    fn a_request_that_breaks_each_connection_is_refused_and_not_unavailable() {
        let broken = |stage| error(FailureKind::Broken, stage);
        let refused = broken(Stage::NotSent).while_connected(true);
        assert!(matches!(&refused, Error::Server { command, .. } if command == "SET"), "{refused:?}");
        for other in [
            broken(Stage::NotSent).while_connected(false),
            broken(Stage::InDoubt).while_connected(true),
            error(FailureKind::Unreachable, Stage::NotSent).while_connected(true),
        ] {
            assert!(matches!(other, Error::Unavailable { .. }), "{other:?}");
        }
    }

    #[test]
    fn a_partial_error_keeps_only_that_the_server_is_unreachable() {
        for (kind, done, symptom) in [
            (FailureKind::Unreachable, 0, Symptom::Unreachable),
            (FailureKind::Unreachable, 3, Symptom::Unreachable),
            (FailureKind::Exhausted, 0, Symptom::Exhausted),
            (FailureKind::Exhausted, 3, Symptom::None),
        ] {
            let partial = OperationError::partial(done, error(kind, Stage::NotSent));
            assert_eq!(partial.symptom, symptom, "{kind:?} {done}");
            assert_eq!(partial.cause(), "the cause");
        }
    }
}
