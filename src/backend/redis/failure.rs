//! Owns the sorting of failures: what went wrong, whether the server may have acted, whether it counts as
//! unreachable, and which error the caller sees. Does no I/O and decides about no retry's time.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError};

use crate::error::{Cause, Error, Exhausted, Forgotten, Kind, Unreachable};

/// How far a command got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The server has not seen all of it: it was not applied.
    NotSent,
    /// It was sent, or may have been, and no answer was seen.
    InDoubt,
    /// The server answered that it did not do it.
    Rejected,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No connection, or none any more: refused, reset, closed, no such host.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The server is there and cannot serve for now: it loads, fails over, runs a script, is full.
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
    /// The server does not know any more whether it has done a call.
    ReplyEvicted,
    /// What came is not the protocol, or not the answer to the command.
    Protocol,
    /// TLS was refused by either side: a certificate, a name, a setting.
    Tls,
    /// The server cannot do what this crate needs.
    Unsupported,
    /// The store was closed.
    Closed,
    /// The store was opened by another process.
    Forked,
    /// Any other answer of the server.
    Other,
}

/// One failure, sorted.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) stage: Stage,
    pub(crate) cause: Cause,
}

/// What an error is to name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorContext<'a> {
    pub(crate) command: &'static str,
    pub(crate) key: &'a str,
    pub(crate) mutation: bool,
    /// What the command works on.
    pub(crate) expected: Kind,
}

impl<'a> ErrorContext<'a> {
    /// A command that reads a value, or whatever is there.
    pub(crate) fn reading(command: &'static str, key: &'a str) -> Self {
        Self { command, key, mutation: false, expected: Kind::Value }
    }

    /// A command that changes more than one key, or none.
    pub(crate) fn writing(command: &'static str) -> Self {
        Self { command, key: "", mutation: true, expected: Kind::Value }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, stage: Stage, cause: impl Into<Cause>) -> Self {
        Self { kind, stage, cause: cause.into() }
    }

    pub(crate) fn timeout(stage: Stage) -> Self {
        Self::new(FailureKind::Timeout, stage, "no answer within the time limit")
    }

    /// An answer that does not belong to the command.
    pub(crate) fn unexpected_reply(value: &redis::Value) -> Self {
        let mut shown = format!("{value:?}");
        if shown.len() > 100 {
            let end = (0..=100).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
            shown.truncate(end);
        }
        Self::new(FailureKind::Protocol, Stage::InDoubt, format!("unexpected answer {shown}"))
    }

    /// Sorts what the library reports of a connection: never an answer of the server.
    #[expect(clippy::needless_pass_by_value, reason = "an error is given away where it is sorted")]
    pub(crate) fn from_connection(error: RedisError, stage: Stage, tls: bool) -> Self {
        let trouble = match (error.kind(), io_kind(&error)) {
            (ErrorKind::Io, Some(kind)) => kind_of_io(kind, tls),
            // The library wraps what is no I/O as "I/O": a certificate store, a name for TLS.
            (ErrorKind::Io, None) if tls => FailureKind::Tls,
            (ErrorKind::Io, _) => FailureKind::Unreachable,
            (ErrorKind::InvalidClientConfig, _) => FailureKind::Other,
            _ => FailureKind::Protocol,
        };
        let cause = match trouble {
            FailureKind::Timeout => "no answer within the time limit".to_owned(),
            FailureKind::Protocol => "what answers does not speak the protocol of Redis".to_owned(),
            // The library's error repeats its source word by word.
            _ => error.to_string(),
        };
        Self::new(trouble, stage, cause)
    }

    /// Sorts an answer in which the server refuses.
    pub(crate) fn from_error_reply(error: &ServerError) -> Self {
        let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
        let text = without_script_position(text.trim_end());
        let (code, details) = text.split_once(' ').unwrap_or((text, ""));
        Self::new(kind_of_code(code, details), Stage::Rejected, text)
    }

    /// Whether another attempt is harmless and can help. `repeatable`: doing it twice is like doing it once.
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

    pub(crate) fn into_error(self, about: ErrorContext<'_>, found: Option<Kind>) -> Error {
        let key = about.key.to_owned();
        let source = self.cause;
        let maybe_applied = about.mutation && self.stage == Stage::InDoubt;
        match self.kind {
            FailureKind::Unreachable | FailureKind::Timeout | FailureKind::Busy => {
                let doubtful = match self.kind {
                    // It said itself that it cannot serve.
                    FailureKind::Busy => false,
                    FailureKind::Unreachable => self.stage == Stage::InDoubt,
                    _ => true,
                };
                let source = Unreachable { cause: source, doubtful }.into();
                Error::Unavailable { maybe_applied, source }
            }
            FailureKind::ReplyEvicted if maybe_applied => {
                Error::Unavailable { maybe_applied, source: Forgotten(source).into() }
            }
            FailureKind::Exhausted => Error::Unavailable { maybe_applied, source: Exhausted(source).into() },
            _ if maybe_applied => Error::Unavailable { maybe_applied, source },
            FailureKind::Closed => Error::closed(),
            FailureKind::Forked => Error::forked(),
            FailureKind::Denied => Error::Denied { source },
            FailureKind::WrongType => Error::WrongType { key, expected: about.expected, found },
            FailureKind::NotAnInteger => Error::NotAnInteger { key },
            FailureKind::Overflow => Error::Overflow { key },
            FailureKind::Unsupported => Error::Unsupported { what: source.to_string() },
            FailureKind::Tls => Error::Server { command: "the TLS handshake".to_owned(), source },
            FailureKind::NoScript
            | FailureKind::ReplyEvicted
            | FailureKind::Protocol
            | FailureKind::Other => Error::Server { command: about.command.to_owned(), source },
        }
    }
}

/// The kind of the I/O error inside, which the library wraps twice.
pub(crate) fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let source = error.source()?;
    let inner = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    inner.downcast_ref::<io::Error>().map(io::Error::kind)
}

fn kind_of_io(kind: io::ErrorKind, tls: bool) -> FailureKind {
    match kind {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FailureKind::Timeout,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput if tls => FailureKind::Tls,
        _ => FailureKind::Unreachable,
    }
}

/// What went wrong inside a script. Redis 6.2 puts the script and the line before it: `ERR Error running
/// script (call to f_…): @user_script:7: @user_script: 7: -OOM …`.
fn without_script_position(text: &str) -> &str {
    const PLACE: &str = "@user_script:";
    if !text.starts_with("ERR Error running script") && !text.starts_with(PLACE) {
        return text;
    }
    let behind = text.rsplit_once(PLACE).map(|(_, behind)| behind.trim_start());
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
        // What a script says of a command that its user may not run, before and since 7.0.
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

/// Whether an answer shows that the connection leads to the wrong place and is to be replaced.
pub(crate) fn is_stale(error: &ServerError) -> bool {
    matches!(error.code(), "READONLY" | "MASTERDOWN" | "NOAUTH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_their_code() {
        for (code, details, trouble) in [
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
            assert_eq!(kind_of_code(code, details), trouble, "{code} {details}");
        }
    }

    #[test]
    fn what_a_script_met_is_told_without_the_script() {
        for (text, told) in [
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
            assert_eq!(without_script_position(text), told);
        }
    }

    #[test]
    fn io_errors_are_away_or_late_and_certificates_are_neither() {
        for (kind, tls, trouble) in [
            (io::ErrorKind::ConnectionRefused, false, FailureKind::Unreachable),
            (io::ErrorKind::UnexpectedEof, false, FailureKind::Unreachable),
            (io::ErrorKind::ConnectionReset, true, FailureKind::Unreachable),
            (io::ErrorKind::WouldBlock, false, FailureKind::Timeout),
            (io::ErrorKind::TimedOut, false, FailureKind::Timeout),
            (io::ErrorKind::InvalidData, true, FailureKind::Tls),
        ] {
            let error = RedisError::from(io::Error::from(kind));
            assert_eq!(Failure::from_connection(error, Stage::InDoubt, tls).kind, trouble, "{kind:?}");
        }
    }

    #[test]
    fn only_a_mutation_without_an_answer_may_have_been_applied() {
        for (trouble, stage, mutation, applied) in [
            (FailureKind::Timeout, Stage::InDoubt, true, true),
            (FailureKind::Timeout, Stage::InDoubt, false, false),
            (FailureKind::Unreachable, Stage::NotSent, true, false),
            (FailureKind::Busy, Stage::Rejected, true, false),
        ] {
            let about = ErrorContext { mutation, ..ErrorContext::writing("SET") };
            match Failure::new(trouble, stage, "x").into_error(about, None) {
                Error::Unavailable { maybe_applied, .. } => assert_eq!(maybe_applied, applied),
                other => panic!("{other:?}"),
            }
        }
        let about = ErrorContext::writing("SET");
        let garbage = Failure::new(FailureKind::Protocol, Stage::InDoubt, "x").into_error(about, None);
        assert!(matches!(garbage, Error::Unavailable { maybe_applied: true, .. }), "{garbage:?}");
    }

    #[test]
    fn what_may_have_been_applied_is_retried_only_where_it_is_repeatable() {
        for (trouble, stage, repeatable, retried) in [
            (FailureKind::Unreachable, Stage::InDoubt, false, false),
            (FailureKind::Unreachable, Stage::InDoubt, true, true),
            (FailureKind::Unreachable, Stage::NotSent, false, true),
            (FailureKind::Busy, Stage::Rejected, false, true),
            (FailureKind::Protocol, Stage::NotSent, true, false),
            (FailureKind::Denied, Stage::Rejected, true, false),
            (FailureKind::Exhausted, Stage::NotSent, true, false),
        ] {
            let failure = Failure::new(trouble, stage, "x");
            assert_eq!(failure.may_be_retried(repeatable), retried, "{trouble:?} {stage:?}");
        }
    }
}
