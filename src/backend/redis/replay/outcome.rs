//! Owns what the server reports of a replay and how it is read. Does no I/O.

use redis::Value;

use crate::backend::redis::error_replies;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind, Stage};
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::backend::redis::wire::replies;
use crate::error::Error;

/// What the server found when it applied a queued operation. Only exceptions are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplayOutcome {
    /// Another client had written the key meanwhile, and that value was overwritten: the value, or its beginning.
    Overwritten(Option<Vec<u8>>),
    /// Another client had written the key meanwhile, and that value was kept.
    Dropped(Option<Vec<u8>>),
    /// The server refused the operation, and why.
    Rejected(String),
    /// The server does not know any more whether it had applied the operation before. It was not applied again.
    Uncertain,
}

/// What the server reports of the operations of a chunk, by their index in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) outcomes: Vec<(usize, ReplayOutcome)>,
    /// The puts only if the key is present that found their keys absent.
    pub(crate) absent: Vec<usize>,
}

/// What the server replied to a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReplayReply {
    /// The chunk was applied, now.
    Applied(Findings),
    /// The marker holds another number than was expected, or none. These are the findings of the chunk for which it was
    /// set, which began behind `done_before`.
    AlreadyAt { done: Option<u64>, done_before: Option<u64>, findings: Findings },
}

impl ReplayReply {
    /// Reads the reply to a chunk that takes the marker from `done` to `last`.
    pub(crate) fn read(reply: Value, done: u64, last: u64) -> Result<Self, Failure> {
        let parts = replies::array(reply)?;
        let [marker, outcomes, before] = <[Value; 3]>::try_from(parts)
            .map_err(|_| malformed("the reply to a replay does not have three parts"))?;
        let mut findings = Findings::default();
        replies::array(outcomes)?.into_iter().try_for_each(|reply| findings.read(reply))?;
        let (held, done_before) = (marker_number(&marker), marker_number(&before));
        Ok(if (held, done_before) == (Some(last), Some(done)) {
            Self::Applied(findings)
        } else {
            Self::AlreadyAt { done: held, done_before, findings }
        })
    }
}

/// Reads a number of the marker; `None` if it holds none.
pub(crate) fn marker_number(reply: &Value) -> Option<u64> {
    replies::parsed(reply).ok()
}

impl Findings {
    /// Reads what the server reports of one operation.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
    fn read(&mut self, reply: Value) -> Result<(), Failure> {
        let unexpected = || malformed("an outcome of a replay cannot be read");
        let [index, kind, detail] =
            <[Value; 3]>::try_from(replies::array(reply)?).map_err(|_| unexpected())?;
        let index = usize::try_from(replies::number(index)?).map_err(|_| unexpected())?;
        let detail = match detail {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        let outcome = match replies::text(&kind) {
            Some("overwritten") => ReplayOutcome::Overwritten(detail),
            Some("dropped") => ReplayOutcome::Dropped(detail),
            Some("uncertain") => ReplayOutcome::Uncertain,
            Some("rejected") => {
                ReplayOutcome::Rejected(String::from_utf8_lossy(&detail.unwrap_or_default()).into_owned())
            }
            Some("absent") => {
                self.absent.push(index);
                return Ok(());
            }
            _ => return Err(unexpected()),
        };
        self.outcomes.push((index, outcome));
        Ok(())
    }
}

/// Returns how the script names the outcome of an operation that was not applied, and its cause; `None` for one that
/// another client has decided.
pub(crate) fn not_applied(outcome: &ReplayOutcome) -> Option<(&'static str, &str)> {
    match outcome {
        ReplayOutcome::Rejected(cause) => Some(("rejected", cause)),
        ReplayOutcome::Uncertain => Some(("uncertain", "")),
        ReplayOutcome::Overwritten(_) | ReplayOutcome::Dropped(_) => None,
    }
}

fn malformed(what: &'static str) -> Failure {
    Failure::new(FailureKind::Protocol, Stage::InDoubt, what)
}

/// Makes the error of a queued operation that the server refused.
pub(crate) fn rejection_error(op: &QueuedOp, cause: String) -> Error {
    let kind = error_replies::kind_of(&cause);
    let expected = op.action.traits().kind;
    let context = ErrorContext { command: op.command(), key: &op.key, mutation: true, expected };
    Failure::new(kind, Stage::Rejected, cause).into_error(context, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<ReplayReply, Failure> {
        ReplayReply::read(redis::parse_redis_value(text).unwrap(), 4, 6)
    }

    #[test]
    fn a_chunk_is_applied_if_the_marker_moved_from_done_to_last() {
        let applied =
            read(b"*3\r\n$1\r\n6\r\n*1\r\n*3\r\n:1\r\n$11\r\noverwritten\r\n$1\r\nx\r\n$1\r\n4\r\n").unwrap();
        let outcomes = vec![(1, ReplayOutcome::Overwritten(Some(b"x".to_vec())))];
        assert_eq!(applied, ReplayReply::Applied(Findings { outcomes, absent: Vec::new() }));
        let behind =
            read(b"*3\r\n$1\r\n9\r\n*2\r\n*3\r\n:0\r\n$9\r\nuncertain\r\n$-1\r\n*3\r\n:2\r\n$6\r\nabsent\r\n$-1\r\n$1\r\n6\r\n").unwrap();
        let findings = Findings { outcomes: vec![(0, ReplayOutcome::Uncertain)], absent: vec![2] };
        assert_eq!(behind, ReplayReply::AlreadyAt { done: Some(9), done_before: Some(6), findings });
        let missing = read(b"*3\r\n$0\r\n\r\n*0\r\n$0\r\n\r\n").unwrap();
        assert_eq!(
            missing,
            ReplayReply::AlreadyAt { done: None, done_before: None, findings: Findings::default() }
        );
    }

    #[test]
    fn a_reply_of_another_shape_is_no_outcome() {
        for text in [
            &b"*2\r\n$1\r\n6\r\n*0\r\n"[..],
            b"*3\r\n$1\r\n6\r\n$1\r\nx\r\n$1\r\n4\r\n",
            b"*3\r\n$1\r\n6\r\n*1\r\n*3\r\n:0\r\n$1\r\nx\r\n$-1\r\n$1\r\n4\r\n",
            b"*3\r\n$1\r\n6\r\n*1\r\n*2\r\n:0\r\n$7\r\ndropped\r\n$1\r\n4\r\n",
        ] {
            assert_eq!(read(text).unwrap_err().kind, FailureKind::Protocol);
        }
        assert_eq!(read(b"-NOPERM no\r\n").unwrap_err().kind, FailureKind::Denied);
    }
}
