//! Owns the classification of failures: what went wrong, whether the server may have acted, and which error the
//! caller sees. Does no I/O, and knows nothing of how long retries take.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError};

use crate::error::{Cause, Error, Kind};

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

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// There is no connection, or it broke: refused, reset, closed, no such host.
    Unreachable,
    /// No reply in time.
    Timeout,
    /// The server replies, but cannot serve for now: it loads, fails over, runs a script, is full.
    Busy,
    /// All connections of the pool were in use for as long as the operation could wait.
    Exhausted,
    /// Wrong password, no permission.
    Denied,
    WrongType,
    NotAnInteger,
    Overflow,
    /// The server does not hold the script.
    NoScript,
    /// The server no longer holds the reply cache that records whether it has done a call.
    ReplyEvicted,
    /// The bytes received are not of the protocol, or not a reply to the command.
    Protocol,
    /// TLS was refused by either side: a certificate, a name, a setting.
    Tls,
    /// The server lacks a feature that this crate needs.
    Unsupported,
    /// The store was closed.
    Closed,
    /// Another process opened the store.
    Forked,
    /// Any other error reply.
    Other,
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

    /// Classifies an error that the library reports of a connection. It never holds an error reply of the server.
    #[expect(clippy::needless_pass_by_value, reason = "a classified error is not used any more")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may report any kind")]
    pub(crate) fn from_connection(error: RedisError, stage: Stage, tls: bool) -> Self {
        let kind = match (error.kind(), io_kind(&error)) {
            (ErrorKind::Io, Some(io)) => kind_of_io(io, tls),
            // The library reports other errors as "I/O" too: of the certificate store, of a name for TLS.
            (ErrorKind::Io, None) if tls => FailureKind::Tls,
            (ErrorKind::Io, _) => FailureKind::Unreachable,
            (ErrorKind::InvalidClientConfig, _) => FailureKind::Other,
            _ => FailureKind::Protocol,
        };
        let cause = match kind {
            FailureKind::Timeout => NO_REPLY_IN_TIME.to_owned(),
            FailureKind::Protocol => "the peer does not speak the Redis protocol".to_owned(),
            // The text of the library's error contains the text of its source.
            _ => error.to_string(),
        };
        Self::new(kind, stage, cause)
    }

    /// Classifies an error reply.
    pub(crate) fn from_error_reply(error: &ServerError) -> Self {
        let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
        let text = without_script_position(text.trim_end());
        let (code, details) = text.split_once(' ').unwrap_or((text, ""));
        Self::new(kind_of_code(code, details), Stage::Rejected, text)
    }

    /// Returns whether another attempt is harmless and can help. `repeatable`: twice leaves the same state as once.
    pub(crate) fn may_be_retried(&self, repeatable: bool) -> bool {
        match self.kind {
            FailureKind::Busy => true,
            FailureKind::Unreachable | FailureKind::Timeout => self.stage != Stage::InDoubt || repeatable,
            FailureKind::Protocol => self.stage == Stage::InDoubt && repeatable,
            FailureKind::Exhausted
            | FailureKind::Denied
            | FailureKind::WrongType
            | FailureKind::NotAnInteger
            | FailureKind::Overflow
            | FailureKind::NoScript
            | FailureKind::ReplyEvicted
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
            FailureKind::Unreachable | FailureKind::Timeout | FailureKind::Busy | FailureKind::Exhausted => {
                Error::Unavailable { maybe_applied, permanent: false, source }
            }
            _ if maybe_applied => Error::in_doubt(source),
            FailureKind::Closed => Error::closed(),
            FailureKind::Forked => Error::forked(),
            FailureKind::Denied => Error::Denied { source },
            FailureKind::WrongType => Error::WrongType { key, expected: context.expected, found },
            FailureKind::NotAnInteger => Error::NotAnInteger { key },
            FailureKind::Overflow => Error::Overflow { key },
            FailureKind::Unsupported => Error::Unsupported { what: source.to_string() },
            FailureKind::Tls => Error::Server { command: "the TLS handshake".to_owned(), source },
            FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::Protocol
            | FailureKind::Other => Error::Server { command: context.command.to_owned(), source },
        }
    }
}

/// Returns the kind of the I/O error inside, which the library wraps twice.
pub(crate) fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let source = error.source()?;
    let inner = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    inner.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the operating system may report any kind")]
fn kind_of_io(kind: io::ErrorKind, tls: bool) -> FailureKind {
    match kind {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FailureKind::Timeout,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if tls => FailureKind::Tls,
        _ => FailureKind::Unreachable,
    }
}

/// Returns the error that a script ran into. Redis 6.2 puts the script and the line before it: `ERR Error running
/// script (call to f_…): @user_script:7: @user_script: 7: -OOM …`.
fn without_script_position(text: &str) -> &str {
    const POSITION: &str = "@user_script:";
    if !text.starts_with("ERR Error running script") && !text.starts_with(POSITION) {
        return text;
    }
    let behind = text.rsplit_once(POSITION).map(|(_, behind)| behind.trim_start());
    let reason = behind.and_then(|behind| behind.split_once(": "));
    reason.map_or(text, |(_line, reason)| reason.trim_start_matches('-'))
}

pub(crate) fn kind_of_code(code: &str, details: &str) -> FailureKind {
    match code {
        "WRONGTYPE" => FailureKind::WrongType,
        "WRONGPASS" | "NOAUTH" | "NOPERM" => FailureKind::Denied,
        "LOADING" | "BUSY" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "NOREPLICAS"
        | "UNBLOCKED" => FailureKind::Busy,
        "NOSCRIPT" => FailureKind::NoScript,
        "EVICTED" => FailureKind::ReplyEvicted,
        // The error of a script that runs a command which its user may not run, before and since 7.0.
        "ERR" if details.contains("can't run this command") || details.contains("can't access") => {
            FailureKind::Denied
        }
        "ERR" if details.starts_with("value is not an integer") => FailureKind::NotAnInteger,
        "ERR" if details.starts_with("hash value is not an integer") => FailureKind::NotAnInteger,
        "ERR" if details.starts_with("increment or decrement would overflow") => FailureKind::Overflow,
        "ERR" if details.starts_with("max number of clients") => FailureKind::Busy,
        _ => FailureKind::Other,
    }
}

/// Returns whether an error reply shows that the connection must be replaced: it leads to the wrong server, or is
/// not logged in.
pub(crate) fn is_stale(error: &ServerError) -> bool {
    matches!(error.code(), "READONLY" | "MASTERDOWN" | "NOAUTH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_replies_are_classified_by_their_code() {
        for (code, details, kind) in [
            ("WRONGTYPE", "Operation against a key", FailureKind::WrongType),
            ("WRONGPASS", "invalid", FailureKind::Denied),
            ("NOAUTH", "Authentication required.", FailureKind::Denied),
            ("NOPERM", "this user has no permissions", FailureKind::Denied),
            ("LOADING", "Redis is loading", FailureKind::Busy),
            ("BUSY", "Redis is busy", FailureKind::Busy),
            ("MASTERDOWN", "", FailureKind::Busy),
            ("READONLY", "", FailureKind::Busy),
            ("CLUSTERDOWN", "", FailureKind::Busy),
            ("TRYAGAIN", "", FailureKind::Busy),
            ("UNBLOCKED", "force unblock from blocking operation", FailureKind::Busy),
            ("NOREPLICAS", "", FailureKind::Busy),
            ("OOM", "command not allowed", FailureKind::Other),
            ("MISCONF", "", FailureKind::Other),
            ("EXECABORT", "", FailureKind::Other),
            ("NOSCRIPT", "", FailureKind::NoScript),
            ("EVICTED", "nothing is known", FailureKind::ReplyEvicted),
            ("ERR", "value is not an integer or out of range", FailureKind::NotAnInteger),
            ("ERR", "hash value is not an integer", FailureKind::NotAnInteger),
            ("ERR", "increment or decrement would overflow", FailureKind::Overflow),
            ("ERR", "max number of clients reached", FailureKind::Busy),
            ("ERR", "syntax error", FailureKind::Other),
        ] {
            assert_eq!(kind_of_code(code, details), kind, "{code} {details}");
        }
    }

    #[test]
    fn an_error_in_a_script_is_reported_without_the_script() {
        for (text, error) in [
            (
                "ERR Error running script (call to f_c2): @user_script:7: @user_script: 7: -OOM command not allowed",
                "OOM command not allowed",
            ),
            (
                "ERR Error running script (call to f_c2): @user_script:7: WRONGTYPE Operation",
                "WRONGTYPE Operation",
            ),
            ("@user_script: 7: -READONLY You can't write", "READONLY You can't write"),
            (
                "WRONGTYPE Operation script: c2, on @user_script:7.",
                "WRONGTYPE Operation script: c2, on @user_script:7.",
            ),
            ("ERR syntax error", "ERR syntax error"),
            ("OOM", "OOM"),
        ] {
            assert_eq!(without_script_position(text), error);
        }
    }

    #[test]
    fn io_errors_are_unreachable_late_or_of_tls() {
        for (io, tls, kind) in [
            (io::ErrorKind::ConnectionRefused, false, FailureKind::Unreachable),
            (io::ErrorKind::UnexpectedEof, false, FailureKind::Unreachable),
            (io::ErrorKind::ConnectionReset, true, FailureKind::Unreachable),
            (io::ErrorKind::WouldBlock, false, FailureKind::Timeout),
            (io::ErrorKind::TimedOut, false, FailureKind::Timeout),
            (io::ErrorKind::InvalidData, true, FailureKind::Tls),
        ] {
            let error = RedisError::from(io::Error::from(io));
            assert_eq!(Failure::from_connection(error, Stage::InDoubt, tls).kind, kind, "{io:?}");
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
            (FailureKind::Unreachable, Stage::InDoubt, false, false),
            (FailureKind::Unreachable, Stage::InDoubt, true, true),
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
