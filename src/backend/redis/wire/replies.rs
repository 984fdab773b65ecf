//! Owns what the server's replies to a mutation mean. Does no I/O.

#![expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]

use std::time::Duration;

use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::wire::commands::{NumberFrom, multi_reply};
use crate::bytes::Bytes;
use crate::clock::{Deadline, Ttl};
use crate::error::Kind;
use crate::op::{EntryAction, LeaseAction, NewLease, Reply};

/// Receives the next reply.
pub(crate) type NextReply<'n> = &'n mut dyn FnMut() -> Result<Value, Failure>;

/// Reads all replies to a mutation, also after one that is an error.
pub(crate) fn reply(action: &EntryAction, next: NextReply<'_>) -> Result<Reply, Failure> {
    if let Some(multi) = multi_reply(action) {
        return number_of(multi.reply, transaction(multi.commands, next)?).map(Reply::Number);
    }
    single_reply(action, next()?)
}

/// Reads the reply to an action that is a step of a call. There every action has one reply.
pub(crate) fn step_reply(action: &EntryAction, reply: Value) -> Result<Reply, Failure> {
    if matches!(action, EntryAction::PutIfPresent { .. }) {
        return number(reply).map(|updated| Reply::Flag(updated != 0));
    }
    single_reply(action, reply)
}

fn single_reply(action: &EntryAction, reply: Value) -> Result<Reply, Failure> {
    Ok(match action {
        EntryAction::Put { .. } => {
            done(reply)?;
            Reply::Done
        }
        EntryAction::PutIfAbsent { .. } => match refused(reply)? {
            Value::Okay => Reply::Flag(true),
            Value::Nil => Reply::Flag(false),
            other => return Err(Failure::unexpected_reply(&other)),
        },
        EntryAction::PutIfPresent { .. } => Reply::Flag(bytes(reply)?.is_some()),
        EntryAction::GetAndPut { .. }
        | EntryAction::GetAndDelete
        | EntryAction::Touch { .. }
        | EntryAction::Renew { .. }
        | EntryAction::Pop { .. } => Reply::Found(bytes(reply)?),
        EntryAction::Swap { .. }
        | EntryAction::Delete
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::MapDelete { .. } => Reply::Flag(flag(reply)?),
        EntryAction::Incr { .. } | EntryAction::MapIncr { .. } => Reply::Number(integer(reply)?),
        // A queue to which something was pushed is not empty.
        EntryAction::Push { .. } => Reply::Number(at_least(1, integer(reply)?)?),
        // See `window_reply`.
        EntryAction::WindowAdd(_) => return Err(Failure::unexpected_reply(&reply)),
        EntryAction::MapPut { .. } | EntryAction::Trim { .. } => Reply::Number(at_least(0, integer(reply)?)?),
    })
}

/// Reads the reply to a mutation of a queue's leases.
pub(crate) fn lease_reply(action: &LeaseAction, reply: Value) -> Result<Reply, Failure> {
    Ok(match action {
        LeaseAction::Lease { .. } => Reply::Leased(leased(reply)?.map(Box::new)),
        LeaseAction::EndLease { .. } | LeaseAction::ExtendLease { .. } | LeaseAction::PushDelayed { .. } => {
            Reply::Flag(flag(reply)?)
        }
    })
}

/// Reads the number of a transaction from the replies to its commands.
fn number_of(which: NumberFrom, replies: Vec<Value>) -> Result<i64, Failure> {
    let mut replies = replies.into_iter();
    let mut next = || replies.next().ok_or_else(|| Failure::unexpected_reply(&Value::Nil));
    match which {
        NumberFrom::BehindSet => {
            match refused(next()?)? {
                Value::Okay | Value::Nil => {}
                other => return Err(Failure::unexpected_reply(&other)),
            }
            integer(next()?)
        }
        NumberFrom::Above(most) => {
            let length = at_least(0, integer(next()?)?)?;
            done(next()?)?;
            Ok(length.saturating_sub_unsigned(most).max(0))
        }
        NumberFrom::Last | NumberFrom::Sum => {
            let numbers = replies.map(|reply| at_least(0, integer(reply)?)).collect::<Result<Vec<_>, _>>()?;
            let last = *numbers.last().ok_or_else(|| Failure::unexpected_reply(&Value::Nil))?;
            Ok(if which == NumberFrom::Sum {
                numbers.iter().fold(0, |sum, n| i64::saturating_add(sum, *n))
            } else {
                last
            })
        }
    }
}

/// Reads the replies to MULTI, `count` commands, and EXEC.
pub(crate) fn transaction(count: usize, next: NextReply<'_>) -> Result<Vec<Value>, Failure> {
    let aborted = || Failure::new(FailureKind::Other, Stage::Rejected, "the transaction was aborted");
    watched_transaction(count, next)?.ok_or_else(aborted)
}

/// As [`transaction`]; `None` if a watched key had changed.
pub(crate) fn watched_transaction(count: usize, next: NextReply<'_>) -> Result<Option<Vec<Value>>, Failure> {
    // The first error is the cause.
    let (mut first_error, mut unexpected) = (None, None);
    for at in 0..=count {
        match next()? {
            Value::Okay if at == 0 => {}
            Value::SimpleString(status) if at > 0 && status == "QUEUED" => {}
            Value::ServerError(error) => first_error = first_error.or(Some(error)),
            other => unexpected = unexpected.or_else(|| Some(Failure::unexpected_reply(&other))),
        }
    }
    // All replies are read before any of them is refused: the connection stays in step.
    let executed = next()?;
    if let Some(failure) = unexpected {
        return Err(failure);
    }
    match executed {
        Value::Array(replies) if replies.len() == count => Ok(Some(replies)),
        Value::Array(_) => Err(Failure::new(
            FailureKind::Protocol,
            Stage::InDoubt,
            "the transaction returned another number of replies",
        )),
        // The error of EXEC does not name the cause; the error of the command that was not queued does.
        Value::ServerError(abort) => Err(Failure::from_error_reply(&first_error.unwrap_or(abort))),
        Value::Nil => Ok(None),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Turns an error reply into a failure.
pub(crate) fn refused(reply: Value) -> Result<Value, Failure> {
    match reply {
        Value::ServerError(error) => Err(Failure::from_error_reply(&error)),
        reply => Ok(reply),
    }
}

/// Reads the reply of a command that replies `OK`.
pub(crate) fn done(reply: Value) -> Result<(), Failure> {
    match refused(reply)? {
        Value::Okay => Ok(()),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Reads the reply of a command in a transaction of writes: `OK`, or how many keys, fields or values there are.
pub(crate) fn written(reply: Value) -> Result<(), Failure> {
    match refused(reply)? {
        Value::Okay => Ok(()),
        Value::Int(count) => at_least(0, count).map(drop),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Reads 0 or 1.
fn flag(reply: Value) -> Result<bool, Failure> {
    match refused(reply)? {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Reads how many there are.
pub(crate) fn count(reply: Value) -> Result<u64, Failure> {
    Ok(at_least(0, number(reply)?)?.unsigned_abs())
}

/// Refuses a number that the command cannot reply with.
pub(crate) fn at_least(least: i64, number: i64) -> Result<i64, Failure> {
    if number < least { Err(Failure::unexpected_reply(&Value::Int(number))) } else { Ok(number) }
}

pub(crate) fn bytes(reply: Value) -> Result<Option<Bytes>, Failure> {
    match refused(reply)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// As [`bytes`], for a part of a reply that cannot be nil.
pub(crate) fn present(reply: Value) -> Result<Bytes, Failure> {
    bytes(reply)?.ok_or_else(|| Failure::unexpected_reply(&Value::Nil))
}

pub(crate) fn array(reply: Value) -> Result<Vec<Value>, Failure> {
    match refused(reply)? {
        Value::Array(parts) => Ok(parts),
        other => Err(Failure::unexpected_reply(&other)),
    }
}
pub(crate) fn number(reply: Value) -> Result<i64, Failure> {
    match refused(reply)? {
        Value::Int(number) => Ok(number),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Reads an integer or its text: scripts return an integer that may be large as text.
pub(crate) fn integer(reply: Value) -> Result<i64, Failure> {
    match refused(reply)? {
        Value::Int(number) => Ok(number),
        other => parsed(&other),
    }
}

pub(crate) fn parsed<T: std::str::FromStr>(reply: &Value) -> Result<T, Failure> {
    text(reply).and_then(|text| text.parse().ok()).ok_or_else(|| Failure::unexpected_reply(reply))
}
pub(crate) fn text(reply: &Value) -> Option<&str> {
    match reply {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Returns how many bytes of strings a reply contains.
pub(crate) fn length(reply: &Value) -> usize {
    match reply {
        Value::BulkString(bytes) => bytes.len(),
        Value::Array(parts) => parts.iter().map(length).sum(),
        _ => 0,
    }
}

/// Reads the sequence of the last call of a slot from its field in a reply cache.
pub(crate) fn noted_sequence(note: &Value) -> Option<u64> {
    match note {
        Value::BulkString(note) => {
            let digits = note.split(|byte| *byte == b'|').next()?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Reads the parts of a reply; `None` for nil.
pub(crate) fn parts<const N: usize>(reply: Value) -> Result<Option<[Value; N]>, Failure> {
    match refused(reply)? {
        Value::Nil => Ok(None),
        Value::Array(parts) => <[Value; N]>::try_from(parts)
            .map(Some)
            .map_err(|parts| Failure::unexpected_reply(&Value::Array(parts))),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

fn leased(reply: Value) -> Result<Option<NewLease>, Failure> {
    let Some([id, item]) = parts(reply)? else {
        return Ok(None);
    };
    let id = text(&id)
        .filter(|id| !id.is_empty())
        .map(SmolStr::new)
        .ok_or_else(|| Failure::unexpected_reply(&id))?;
    // The script puts the number before an id unless it is 1.
    let attempts = id.split_once('x').and_then(|(attempts, _)| attempts.parse().ok()).unwrap_or(1);
    Ok(Some(NewLease { id, bytes: present(item)?, attempts }))
}

/// Reads the reply to BLPOP: the key, and the value that was popped.
pub(crate) fn popped(reply: Value) -> Result<Option<Bytes>, Failure> {
    match parts(reply)? {
        None => Ok(None),
        Some([key, item]) => {
            present(key)?;
            present(item).map(Some)
        }
    }
}

/// Reads the reply to PTTL.
pub(crate) fn ttl(reply: Value) -> Result<Option<Ttl>, Failure> {
    Ok(match number(reply)? {
        -2 => None,
        -1 => Some(Ttl::Never),
        millis if millis < 0 => return Err(Failure::unexpected_reply(&Value::Int(millis))),
        // The server rounds down: a key that exists has some time left.
        millis => Some(Ttl::In(Duration::from_millis(u64::try_from(millis).unwrap_or(0).max(1)))),
    })
}

/// Returns the deadline that a TTL means, relative to now.
pub(crate) fn deadline(ttl: Ttl) -> Option<Deadline> {
    match ttl {
        Ttl::Never => None,
        Ttl::In(left) => Deadline::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Returns the kind that a reply to TYPE names; `None` for a kind that this crate does not use.
pub(crate) fn kind(reply: &Value) -> Option<Kind> {
    match reply {
        Value::SimpleString(name) => match name.as_str() {
            "string" => Some(Kind::Value),
            "hash" => Some(Kind::Map),
            "list" => Some(Kind::Queue),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::wire::action::WireAction;
    use crate::clock::Millis;
    use crate::op::End;
    use crate::value::Value as Stored;

    fn second() -> Millis {
        Millis::new(Duration::from_secs(1)).unwrap()
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn parse(text: &[u8]) -> Value {
        redis::parse_redis_value(text).unwrap()
    }

    fn replied(action: &impl WireAction, replies: Vec<Value>) -> Result<Reply, Failure> {
        let mut replies = replies.into_iter();
        let outcome = action.read(&mut || Ok(replies.next().unwrap()));
        assert_eq!(replies.next(), None, "a reply was left unread");
        outcome
    }

    fn assert_reply(action: &impl WireAction, reply: Value, expected: &Reply) {
        assert_eq!(replied(action, vec![reply]).as_ref().ok(), Some(expected));
        let failure = replied(action, vec![Value::Array(Vec::new())]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Protocol, "instead of {expected:?}");
    }

    #[test]
    fn each_reply_is_read_and_any_other_is_an_error() {
        let value = || Stored::json(b"1");
        let found = || Reply::Found(Some(Bytes::from("x")));
        let ttl = second();
        let fields = vec![("f".into(), value())];
        let pair = |a: &str, b: &str| Value::Array(vec![bulk(a), bulk(b)]);
        for (action, reply, expected) in [
            (EntryAction::Put { value: value(), ttl: None }, Value::Okay, Reply::Done),
            (EntryAction::PutIfAbsent { value: value(), ttl: None }, Value::Okay, Reply::Flag(true)),
            (EntryAction::PutIfAbsent { value: value(), ttl: None }, Value::Nil, Reply::Flag(false)),
            (EntryAction::PutIfPresent { value: value() }, bulk("x"), Reply::Flag(true)),
            (EntryAction::PutIfPresent { value: value() }, Value::Nil, Reply::Flag(false)),
            (EntryAction::GetAndPut { value: value(), ttl: None }, bulk("x"), found()),
            (EntryAction::GetAndDelete, Value::Nil, Reply::Found(None)),
            (EntryAction::Touch { ttl }, bulk("x"), found()),
            (EntryAction::Delete, Value::Int(1), Reply::Flag(true)),
            (EntryAction::Persist, Value::Int(0), Reply::Flag(false)),
            (EntryAction::Incr { by: 1, ttl_if_created: None }, Value::Int(7), Reply::Number(7)),
            (EntryAction::MapPut { fields, ttl_if_created: None }, Value::Int(1), Reply::Number(1)),
            (EntryAction::MapDelete { field: "f".into() }, Value::Int(1), Reply::Flag(true)),
            (
                EntryAction::MapIncr { field: "f".into(), by: 1, ttl_if_created: Some(ttl) },
                bulk("9223372036854775807"),
                Reply::Number(i64::MAX),
            ),
            (EntryAction::Pop { end: End::Front }, bulk("x"), found()),
        ] {
            assert_reply(&action, reply, &expected);
        }
        for (action, reply, expected) in [
            (
                LeaseAction::Lease { lease: ttl, dead_letters: None, ttl_if_created: None },
                Value::Nil,
                Reply::Leased(None),
            ),
            (
                LeaseAction::Lease { lease: ttl, dead_letters: None, ttl_if_created: None },
                pair("7", "x"),
                Reply::Leased(Some(Box::new(NewLease {
                    id: "7".into(),
                    bytes: Bytes::from("x"),
                    attempts: 1,
                }))),
            ),
            (
                LeaseAction::Lease { lease: ttl, dead_letters: None, ttl_if_created: None },
                pair("3x7", "x"),
                Reply::Leased(Some(Box::new(NewLease {
                    id: "3x7".into(),
                    bytes: Bytes::from("x"),
                    attempts: 3,
                }))),
            ),
            (LeaseAction::ExtendLease { id: "7".into(), lease: ttl }, Value::Int(0), Reply::Flag(false)),
            (
                LeaseAction::EndLease { id: "7".into(), back: true, ttl_if_created: None },
                Value::Int(1),
                Reply::Flag(true),
            ),
        ] {
            assert_reply(&action, reply, &expected);
        }
    }

    #[test]
    fn the_reply_of_a_transaction_is_in_exec() {
        let queued = || parse(b"+QUEUED\r\n");
        let trim = EntryAction::Trim { most: 3 };
        let replies = |exec| vec![Value::Okay, queued(), queued(), Value::Array(exec)];
        for (length, dropped) in [(0, 0), (3, 0), (5, 2)] {
            let reply = replied(&trim, replies(vec![Value::Int(length), Value::Okay])).unwrap();
            assert_eq!(reply, Reply::Number(dropped));
        }
        let wrong = || parse(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        let failure = replied(&trim, replies(vec![wrong(), wrong()])).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (FailureKind::WrongType, Stage::Rejected));
        let incr = EntryAction::Incr { by: 2, ttl_if_created: Some(second()) };
        for set in [Value::Okay, Value::Nil] {
            assert_eq!(replied(&incr, replies(vec![set, Value::Int(7)])).unwrap(), Reply::Number(7));
        }
        assert!(replied(&incr, replies(vec![Value::Okay, wrong()])).is_err());
        assert!(replied(&incr, replies(vec![Value::Int(7)])).is_err(), "a reply is missing");
    }

    #[test]
    fn an_aborted_transaction_has_its_cause() {
        let executed = |replies: Vec<Value>| {
            let mut replies = replies.into_iter();
            watched_transaction(1, &mut || Ok(replies.next().unwrap()))
        };
        let oom = parse(b"-OOM command not allowed\r\n");
        let abort = parse(b"-EXECABORT Transaction discarded\r\n");
        let failure = executed(vec![Value::Okay, oom, abort]).unwrap_err();
        assert!(failure.cause.to_string().starts_with("OOM"), "{failure:?}");
        let loading = parse(b"-LOADING Redis is loading\r\n");
        let failure = executed(vec![loading.clone(), loading.clone(), loading]).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (FailureKind::Busy, Stage::Rejected));
        assert_eq!(executed(vec![Value::Okay, parse(b"+QUEUED\r\n"), Value::Nil]).unwrap(), None);
        assert!(transaction(0, &mut || Ok(Value::Nil)).is_err());
    }

    #[test]
    fn a_ttl_is_never_zero() {
        assert_eq!(ttl(Value::Int(-2)).unwrap(), None);
        assert_eq!(ttl(Value::Int(-1)).unwrap(), Some(Ttl::Never));
        assert_eq!(ttl(Value::Int(0)).unwrap(), Some(Ttl::In(Duration::from_millis(1))));
    }

    #[test]
    fn blpop_replies_with_the_key_and_the_value() {
        assert_eq!(popped(Value::Nil).unwrap(), None);
        let pair = Value::Array(vec![bulk("k"), bulk("x")]);
        assert_eq!(popped(pair).unwrap(), Some(Bytes::from("x")));
        assert!(popped(bulk("x")).is_err());
    }
}
