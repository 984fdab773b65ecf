//! Owns what the answers of the server to a mutation mean. Does no I/O.

use std::time::Duration;

use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::failure::{Failure, FailureKind, Stage};
use crate::backend::redis::wire::commands::{NumberFrom, multi_reply};
use crate::bytes::Bytes;
use crate::clock::{Deadline, Ttl};
use crate::error::Kind;
use crate::op::{EntryAction, Grant, Hold, LeaseAction, LockAction, Reply};

/// Where the next answer comes from.
pub(crate) type Next<'n> = &'n mut dyn FnMut() -> Result<Value, Failure>;

/// Reads the answers to a mutation; it takes all of them, whatever they say.
pub(crate) fn reply(action: &EntryAction, next: Next<'_>) -> Result<Reply, Failure> {
    if let Some(queued) = multi_reply(action) {
        return number_of(queued.reply, transaction(queued.commands, next)?).map(Reply::Number);
    }
    let answer = next()?;
    Ok(match action {
        EntryAction::Put { .. } => match refused(answer)? {
            Value::Okay => Reply::Done,
            other => return Err(Failure::unexpected_reply(&other)),
        },
        EntryAction::PutIfAbsent { .. } => match refused(answer)? {
            Value::Okay => Reply::Flag(true),
            Value::Nil => Reply::Flag(false),
            other => return Err(Failure::unexpected_reply(&other)),
        },
        EntryAction::PutIfPresent { .. } => Reply::Flag(bytes(answer)?.is_some()),
        EntryAction::GetAndPut { .. }
        | EntryAction::GetAndDelete
        | EntryAction::Touch { .. }
        | EntryAction::Pop { .. } => Reply::Found(bytes(answer)?),
        EntryAction::Swap { .. }
        | EntryAction::Delete
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::MapDelete { .. } => Reply::Flag(number(answer)? != 0),
        EntryAction::Incr { .. }
        | EntryAction::MapPut { .. }
        | EntryAction::MapIncr { .. }
        | EntryAction::Push { .. }
        | EntryAction::Trim { .. } => Reply::Number(integer(answer)?),
    })
}

/// Reads the reply to a mutation of a queue's leases.
pub(crate) fn lease_reply(action: &LeaseAction, answer: Value) -> Result<Reply, Failure> {
    Ok(match action {
        LeaseAction::Lease { .. } => Reply::Leased(leased(answer)?.map(Box::new)),
        LeaseAction::EndLease { .. } => Reply::Flag(number(answer)? != 0),
    })
}

/// Reads the reply to a mutation of a lock.
pub(crate) fn lock_reply(action: &LockAction, answer: Value) -> Result<Reply, Failure> {
    Ok(match action {
        LockAction::Lock { .. } => Reply::Granted(granted(answer)?),
        LockAction::Extend { .. } | LockAction::Unlock { .. } => Reply::Hold(hold(answer)?),
    })
}

fn number_of(which: NumberFrom, answers: Vec<Value>) -> Result<i64, Failure> {
    let numbers = answers.into_iter().filter_map(|answer| match answer {
        // What SET says of a counter that is there, or LTRIM of what it did.
        Value::Okay | Value::Nil => None,
        other => Some(integer(other)),
    });
    let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
    let last = *numbers.last().ok_or_else(|| Failure::unexpected_reply(&Value::Nil))?;
    Ok(match which {
        NumberFrom::Last => last,
        NumberFrom::Sum => numbers.iter().sum(),
        NumberFrom::Above(most) => last.saturating_sub_unsigned(most).max(0),
    })
}

/// Reads the answers to MULTI, `count` commands, and EXEC.
pub(crate) fn transaction(count: usize, next: Next<'_>) -> Result<Vec<Value>, Failure> {
    let aborted = || Failure::new(FailureKind::Other, Stage::Rejected, "the transaction was aborted");
    watched_transaction(count, next)?.ok_or_else(aborted)
}

/// As [`transaction`]; `None` where something that was watched had changed.
pub(crate) fn watched_transaction(count: usize, next: Next<'_>) -> Result<Option<Vec<Value>>, Failure> {
    // Only refusals are of interest, and the first of them says why.
    let mut why = None;
    for _ in 0..=count {
        let answer = next()?;
        if let (Value::ServerError(error), None) = (answer, &why) {
            why = Some(error);
        }
    }
    match next()? {
        Value::Array(answers) if answers.len() == count => Ok(Some(answers)),
        Value::Array(_) => Err(Failure::new(
            FailureKind::Protocol,
            Stage::InDoubt,
            "the transaction gave another number of answers",
        )),
        // An aborted transaction does not say why; the command that was not queued did.
        Value::ServerError(abort) => Err(Failure::from_error_reply(&why.unwrap_or(abort))),
        Value::Nil => Ok(None),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// Turns a refusal into a failure.
pub(crate) fn refused(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(Failure::from_error_reply(&error)),
        answer => Ok(answer),
    }
}

pub(crate) fn bytes(answer: Value) -> Result<Option<Bytes>, Failure> {
    match refused(answer)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

pub(crate) fn array(answer: Value) -> Result<Vec<Value>, Failure> {
    match refused(answer)? {
        Value::Array(parts) => Ok(parts),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

pub(crate) fn number(answer: Value) -> Result<i64, Failure> {
    match refused(answer)? {
        Value::Int(number) => Ok(number),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

/// A number, or the text of one: scripts give what may be large as text.
pub(crate) fn integer(answer: Value) -> Result<i64, Failure> {
    match refused(answer)? {
        Value::Int(number) => Ok(number),
        other => parsed(&other),
    }
}

pub(crate) fn parsed<T: std::str::FromStr>(answer: &Value) -> Result<T, Failure> {
    text(answer).and_then(|text| text.parse().ok()).ok_or_else(|| Failure::unexpected_reply(answer))
}

fn text(answer: &Value) -> Option<&str> {
    match answer {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// The two parts of what a script answers, if it gave any.
fn pair(answer: Value) -> Result<Option<[Value; 2]>, Failure> {
    match refused(answer)? {
        Value::Nil => Ok(None),
        Value::Array(parts) => <[Value; 2]>::try_from(parts)
            .map(Some)
            .map_err(|parts| Failure::unexpected_reply(&Value::Array(parts))),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

fn leased(answer: Value) -> Result<Option<(SmolStr, Bytes)>, Failure> {
    let Some([id, item]) = pair(answer)? else {
        return Ok(None);
    };
    let id = text(&id).map(SmolStr::new).ok_or_else(|| Failure::unexpected_reply(&id))?;
    match bytes(item)? {
        Some(item) => Ok(Some((id, item))),
        None => Err(Failure::unexpected_reply(&Value::Nil)),
    }
}

/// Reads the answer to an attempt to take a lock.
pub(crate) fn granted(answer: Value) -> Result<Option<Grant>, Failure> {
    match pair(answer)? {
        None => Ok(None),
        Some([token, until]) => Ok(Some(Grant { token: parsed(&token)?, until: parsed(&until)? })),
    }
}

fn hold(answer: Value) -> Result<Hold, Failure> {
    let Some([how, until]) = pair(answer)? else {
        return Err(Failure::unexpected_reply(&Value::Nil));
    };
    match text(&how) {
        Some("held") => Ok(Hold::Held { until: parsed(&until)? }),
        Some("taken") => Ok(Hold::TakenByAnother),
        Some("expired") => Ok(Hold::Expired),
        Some("none") => Ok(Hold::NotHeld),
        _ => Err(Failure::unexpected_reply(&how)),
    }
}

/// Reads the answer to BLPOP: the key, and what was popped.
pub(crate) fn popped(answer: Value) -> Result<Option<Bytes>, Failure> {
    match pair(answer)? {
        None => Ok(None),
        Some([_, item]) => bytes(item),
    }
}

/// Reads the answer to PTTL.
pub(crate) fn ttl(answer: Value) -> Result<Option<Ttl>, Failure> {
    Ok(match number(answer)? {
        -2 => None,
        -1 => Some(Ttl::Never),
        // The server rounds down: what is there still has some time.
        millis => Some(Ttl::In(Duration::from_millis(u64::try_from(millis).unwrap_or(0).max(1)))),
    })
}

/// The deadline of what has so long, counted from now.
pub(crate) fn deadline(ttl: Ttl) -> Option<Deadline> {
    match ttl {
        Ttl::Never => None,
        Ttl::In(left) => Deadline::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Reads the answer to TYPE; kinds that this crate has no name for are `None`.
pub(crate) fn kind(answer: &Value) -> Option<Kind> {
    match answer {
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

    fn said(text: &[u8]) -> Value {
        redis::parse_redis_value(text).unwrap()
    }

    fn replied(action: &impl WireAction, answers: Vec<Value>) -> Result<Reply, Failure> {
        let mut answers = answers.into_iter();
        let outcome = action.read(&mut || Ok(answers.next().unwrap()));
        assert_eq!(answers.next(), None, "a reply was left unread");
        outcome
    }

    fn assert_reply(action: &impl WireAction, answer: Value, expected: &Reply) {
        assert_eq!(replied(action, vec![answer]).as_ref().ok(), Some(expected));
        let failure = replied(action, vec![Value::Array(Vec::new())]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Protocol, "instead of {expected:?}");
    }

    #[test]
    fn answers_become_replies_and_nothing_else_passes() {
        let value = || Stored::json(b"1");
        let found = || Reply::Found(Some(Bytes::from("x")));
        let ttl = second();
        let grant = Grant { token: 7, until: 9 };
        let fields = vec![("f".into(), value())];
        let pair = |a: &str, b: &str| Value::Array(vec![bulk(a), bulk(b)]);
        let held = |until| Reply::Hold(Hold::Held { until });
        for (action, answer, expected) in [
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
            assert_reply(&action, answer, &expected);
        }
        for (action, answer, expected) in [
            (LeaseAction::Lease { lease: ttl, ttl_if_created: None }, Value::Nil, Reply::Leased(None)),
            (
                LeaseAction::Lease { lease: ttl, ttl_if_created: None },
                pair("7", "x"),
                Reply::Leased(Some(Box::new(("7".into(), Bytes::from("x"))))),
            ),
            (
                LeaseAction::EndLease { id: "7".into(), back: true, ttl_if_created: None },
                Value::Int(1),
                Reply::Flag(true),
            ),
        ] {
            assert_reply(&action, answer, &expected);
        }
        for (action, answer, expected) in [
            (LockAction::Lock { ttl }, Value::Nil, Reply::Granted(None)),
            (LockAction::Lock { ttl }, pair("7", "9"), Reply::Granted(Some(grant))),
            (LockAction::Extend { grant, ttl }, pair("held", "9007199254740991"), held((1 << 53) - 1)),
            (LockAction::Unlock { grant }, pair("taken", ""), Reply::Hold(Hold::TakenByAnother)),
            (LockAction::Unlock { grant }, pair("expired", ""), Reply::Hold(Hold::Expired)),
            (LockAction::Unlock { grant }, pair("none", ""), Reply::Hold(Hold::NotHeld)),
        ] {
            assert_reply(&action, answer, &expected);
        }
    }

    #[test]
    fn what_was_queued_is_answered_at_the_end() {
        let queued = || said(b"+QUEUED\r\n");
        let trim = EntryAction::Trim { most: 3 };
        let answers = |exec| vec![Value::Okay, queued(), queued(), Value::Array(exec)];
        for (length, dropped) in [(0, 0), (3, 0), (5, 2)] {
            let reply = replied(&trim, answers(vec![Value::Int(length), Value::Okay])).unwrap();
            assert_eq!(reply, Reply::Number(dropped));
        }
        let wrong = || said(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        let failure = replied(&trim, answers(vec![wrong(), wrong()])).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (FailureKind::WrongType, Stage::Rejected));
        let incr = EntryAction::Incr { by: 2, ttl_if_created: Some(second()) };
        for set in [Value::Okay, Value::Nil] {
            assert_eq!(replied(&incr, answers(vec![set, Value::Int(7)])).unwrap(), Reply::Number(7));
        }
        assert!(replied(&incr, answers(vec![Value::Okay, wrong()])).is_err());
        assert!(replied(&incr, answers(vec![Value::Int(7)])).is_err(), "an answer is missing");
    }

    #[test]
    fn an_aborted_transaction_tells_its_cause() {
        let executed = |answers: Vec<Value>| {
            let mut answers = answers.into_iter();
            watched_transaction(1, &mut || Ok(answers.next().unwrap()))
        };
        let oom = said(b"-OOM command not allowed\r\n");
        let abort = said(b"-EXECABORT Transaction discarded\r\n");
        let failure = executed(vec![Value::Okay, oom, abort]).unwrap_err();
        assert!(failure.cause.to_string().starts_with("OOM"), "{failure:?}");
        let loading = said(b"-LOADING Redis is loading\r\n");
        let failure = executed(vec![loading.clone(), loading.clone(), loading]).unwrap_err();
        assert_eq!((failure.kind, failure.stage), (FailureKind::Busy, Stage::Rejected));
        assert_eq!(executed(vec![Value::Okay, Value::Okay, Value::Nil]).unwrap(), None);
        assert!(transaction(0, &mut || Ok(Value::Nil)).is_err());
    }

    #[test]
    fn what_is_left_is_never_zero() {
        assert_eq!(ttl(Value::Int(-2)).unwrap(), None);
        assert_eq!(ttl(Value::Int(-1)).unwrap(), Some(Ttl::Never));
        assert_eq!(ttl(Value::Int(0)).unwrap(), Some(Ttl::In(Duration::from_millis(1))));
    }

    #[test]
    fn only_what_blpop_hands_out_was_popped() {
        assert_eq!(popped(Value::Nil).unwrap(), None);
        let pair = Value::Array(vec![bulk("k"), bulk("x")]);
        assert_eq!(popped(pair).unwrap(), Some(Bytes::from("x")));
        assert!(popped(bulk("x")).is_err());
    }
}
