//! Owns the classification of failures: what went wrong, whether the server may have acted, and which error the
//! caller sees. Does no I/O, and knows nothing of how long retries take.

use std::io;

use redis::ServerError;

use crate::backend::redis::error_replies;
pub(crate) use crate::backend::redis::failure_kind::FailureKind;
use crate::error::{Cause, Error, Kind, LOGIN};

const NO_REPLY_IN_TIME: &str = "no reply within the time limit";

/// How far a command got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The server did not receive all of it: it was not applied.
    NotSent,
    /// It was sent, or may have been, and its reply is missing.
    InDoubt,
    /// The server replied that it did not apply it.
    Rejected,
}

/// One classified failure.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) stage: Stage,
    pub(crate) cause: Cause,
}

/// What an error names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorContext<'a> {
    pub(crate) command: &'static str,
    pub(crate) key: &'a str,
    pub(crate) mutation: bool,
    /// The kind of entry that the command works on.
    pub(crate) expected: Kind,
}

impl<'a> ErrorContext<'a> {
    /// A command that reads a value, or an entry of any kind.
    pub(crate) fn reading(command: &'static str, key: &'a str) -> Self {
        Self { command, key, mutation: false, expected: Kind::Value }
    }

    /// A command that changes no key in particular.
    pub(crate) fn writing(command: &'static str) -> Self {
        Self { command, key: "", mutation: true, expected: Kind::Value }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, stage: Stage, cause: impl Into<Cause>) -> Self {
        Self { kind, stage, cause: cause.into() }
    }

    pub(crate) fn timeout(stage: Stage) -> Self {
        Self::new(FailureKind::Timeout, stage, NO_REPLY_IN_TIME)
    }

    pub(crate) fn closed() -> Self {
        Self::new(FailureKind::Closed, Stage::NotSent, "the store is closed")
    }

    pub(crate) fn forked() -> Self {
        Self::new(FailureKind::Forked, Stage::NotSent, "the store was opened by another process")
    }

    /// The same failure, for another operation that runs into it.
    pub(crate) fn repeated(&self) -> Self {
        Self::new(self.kind, self.stage, self.cause.to_string())
    }

    /// A reply that does not belong to the command.
    pub(crate) fn unexpected_reply(value: &redis::Value) -> Self {
        let mut shown = format!("{value:?}");
        if shown.len() > 100 {
            let end = (0..=100).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown.truncate(end);
        }
        Self::new(FailureKind::Protocol, Stage::InDoubt, format!("unexpected reply {shown}"))
    }

    /// The bytes received are not of the protocol.
    pub(crate) fn foreign_protocol() -> Self {
        Self::new(FailureKind::Protocol, Stage::InDoubt, "the peer does not speak the Redis protocol")
    }

    /// A value is larger than this program reads.
    pub(crate) fn too_large(bytes: u64, limit: u64) -> Self {
        let cause = format!("a value of {bytes} bytes is on the server, and at most {limit} bytes are read");
        Self::new(FailureKind::TooLarge { bytes, limit }, Stage::InDoubt, cause)
    }

    /// Classifies an error of an open connection. `tls`: whether the connection is encrypted.
    pub(crate) fn from_io(error: &io::Error, stage: Stage, tls: bool) -> Self {
        let kind = kind_of_io(error.kind(), tls);
        if kind == FailureKind::Timeout {
            return Self::timeout(stage);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::new(kind, stage, "it closed the connection");
        }
        Self::new(kind, stage, error.to_string())
    }

    /// Classifies an error reply.
    pub(crate) fn from_error_reply(error: &ServerError) -> Self {
        let text = error_replies::text(error);
        Self::new(error_replies::kind_of(&text), Stage::Rejected, text)
    }

    /// Returns whether another attempt is harmless and can help. `repeatable`: it may be repeated although this one
    /// may have been applied.
    pub(crate) fn may_be_retried(&self, repeatable: bool) -> bool {
        match self.kind {
            FailureKind::Busy => true,
            FailureKind::Unreachable
            | FailureKind::Broken
            | FailureKind::FoundUseless
            | FailureKind::Timeout => self.stage != Stage::InDoubt || repeatable,
            FailureKind::Protocol => self.stage == Stage::InDoubt && repeatable,
            FailureKind::Exhausted
            | FailureKind::NotWritable
            | FailureKind::Oversized
            | FailureKind::Denied
            | FailureKind::WrongType
            | FailureKind::NotAnInteger
            | FailureKind::Overflow
            | FailureKind::OtherServer
            | FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::TooLarge { .. }
            | FailureKind::Tls
            | FailureKind::Unsupported
            | FailureKind::Closed
            | FailureKind::Forked
            | FailureKind::Other => false,
        }
    }

    /// Converts the failure into the error that the caller sees. `found`: for a wrong kind, the kind that the key
    /// holds.
    pub(crate) fn into_error(self, context: ErrorContext<'_>, found: Option<Kind>) -> Error {
        let key = context.key.to_owned();
        let source = self.cause;
        let maybe_applied = context.mutation && self.stage == Stage::InDoubt;
        match self.kind {
            FailureKind::Unreachable
            | FailureKind::Broken
            | FailureKind::FoundUseless
            | FailureKind::Timeout
            | FailureKind::Busy
            | FailureKind::Exhausted => Error::Unavailable { maybe_applied, permanent: false, source },
            _ if maybe_applied => Error::in_doubt(source),
            FailureKind::Closed => Error::closed(),
            FailureKind::Forked => Error::forked(),
            FailureKind::Denied => Error::Denied { source },
            FailureKind::WrongType => Error::WrongType { key, expected: context.expected, found },
            FailureKind::NotAnInteger => Error::NotAnInteger { key },
            FailureKind::Overflow => Error::Overflow { key },
            FailureKind::TooLarge { bytes, limit } => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                Error::TooLarge { key, bytes, limit: usize::try_from(limit).unwrap_or(usize::MAX) }
            }
            FailureKind::Unsupported => Error::Unsupported { what: source.to_string() },
            FailureKind::Tls => Error::Server { command: "the TLS handshake".to_owned(), source },
            // The server refused the connection itself: the source says so.
            FailureKind::Other if self.stage == Stage::NotSent => {
                Error::Server { command: LOGIN.to_owned(), source }
            }
            FailureKind::NotWritable
            | FailureKind::Oversized
            | FailureKind::OtherServer
            | FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::Protocol
            | FailureKind::Other => Error::Server { command: context.command.to_owned(), source },
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the operating system may report any kind")]
fn kind_of_io(kind: io::ErrorKind, tls: bool) -> FailureKind {
    match kind {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FailureKind::Timeout,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if tls => FailureKind::Tls,
        _ => FailureKind::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_broken_connections_late_or_of_tls() {
        for (io, tls, kind) in [
            (io::ErrorKind::BrokenPipe, false, FailureKind::Broken),
            (io::ErrorKind::UnexpectedEof, false, FailureKind::Broken),
            (io::ErrorKind::ConnectionReset, true, FailureKind::Broken),
            (io::ErrorKind::WouldBlock, false, FailureKind::Timeout),
            (io::ErrorKind::TimedOut, false, FailureKind::Timeout),
            (io::ErrorKind::InvalidData, true, FailureKind::Tls),
        ] {
            assert_eq!(Failure::from_io(&io::Error::from(io), Stage::InDoubt, tls).kind, kind, "{io:?}");
        }
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "any other error fails the test")]
    fn only_a_mutation_without_a_reply_may_have_been_applied() {
        for (kind, stage, mutation, applied) in [
            (FailureKind::Timeout, Stage::InDoubt, true, true),
            (FailureKind::Timeout, Stage::InDoubt, false, false),
            (FailureKind::Unreachable, Stage::NotSent, true, false),
            (FailureKind::Busy, Stage::Rejected, true, false),
        ] {
            let context = ErrorContext { mutation, ..ErrorContext::writing("SET") };
            match Failure::new(kind, stage, "x").into_error(context, None) {
                Error::Unavailable { maybe_applied, .. } => assert_eq!(maybe_applied, applied),
                other => panic!("{other:?}"),
            }
        }
        let context = ErrorContext::writing("SET");
        let garbage = Failure::new(FailureKind::Protocol, Stage::InDoubt, "x").into_error(context, None);
        assert!(matches!(garbage, Error::Unavailable { maybe_applied: true, .. }), "{garbage:?}");
    }

    #[test]
    fn an_attempt_in_doubt_is_retried_only_if_repeatable() {
        for (kind, stage, repeatable, retried) in [
            (FailureKind::Broken, Stage::InDoubt, false, false),
            (FailureKind::Broken, Stage::InDoubt, true, true),
            (FailureKind::Broken, Stage::NotSent, false, true),
            (FailureKind::Oversized, Stage::NotSent, true, false),
            (FailureKind::NotWritable, Stage::Rejected, true, false),
            (FailureKind::Unreachable, Stage::NotSent, false, true),
            (FailureKind::Busy, Stage::Rejected, false, true),
            (FailureKind::Protocol, Stage::NotSent, true, false),
            (FailureKind::Denied, Stage::Rejected, true, false),
            (FailureKind::Exhausted, Stage::NotSent, true, false),
        ] {
            let failure = Failure::new(kind, stage, "x");
            assert_eq!(failure.may_be_retried(repeatable), retried, "{kind:?} {stage:?}");
        }
    }
}
