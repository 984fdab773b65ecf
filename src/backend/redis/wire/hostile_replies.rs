//! Tests that each command refuses every reply that it cannot have.

use std::time::Duration;

use redis::Value;

use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::wire::action::WireAction;
use crate::backend::redis::wire::lock_replies::granted;
use crate::backend::redis::wire::replies::{count, popped, ttl, watched_transaction, written};
use crate::backend::redis::wire::{queries, scan};
use crate::clock::Millis;
use crate::op::{End, EntryAction, Grant, LeaseAction, LockAction, Query};
use crate::value::Value as Stored;

/// Whether a command can have a reply.
type Accepts = Box<dyn Fn(&Value) -> bool>;

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn array(parts: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(parts.into_iter().collect())
}

/// Replies of many shapes. Each command has some of them, and no other.
fn pool() -> Vec<Value> {
    let x = || bulk("x");
    let nested = || array([x()]);
    vec![
        Value::Nil,
        Value::Okay,
        Value::SimpleString("QUEUED".to_owned()),
        Value::SimpleString("string".to_owned()),
        Value::Int(i64::MIN),
        Value::Int(-3),
        Value::Int(-2),
        Value::Int(-1),
        Value::Int(0),
        Value::Int(1),
        Value::Int(2),
        x(),
        bulk("7"),
        bulk("-7"),
        bulk(""),
        Value::BulkString(vec![0xff]),
        array([]),
        array([Value::Nil]),
        array([x()]),
        array([Value::Okay]),
        array([Value::Int(1)]),
        array([nested()]),
        array([x(), x()]),
        array([x(), Value::Nil]),
        array([Value::Nil, x()]),
        array([Value::Int(1), x()]),
        array([x(), Value::Int(1)]),
        array([x(), nested()]),
        array([nested(), x()]),
        array([bulk(""), x()]),
        array([bulk("7"), bulk("9")]),
        array([bulk("7"), bulk("-9")]),
        array([bulk("0"), array([])]),
        array([bulk("0"), nested()]),
        array([bulk("0"), array([Value::Nil])]),
        array([bulk("-1"), array([])]),
        array([bulk("held"), bulk("9")]),
        array([bulk("held"), bulk("")]),
        array([bulk("expired"), bulk("")]),
        array([x(), x(), x()]),
        array([x(), x(), x(), x()]),
        array([x(), x(), x(), Value::Nil]),
        Value::Boolean(true),
        Value::Double(1.0),
        Value::Map(vec![(x(), x())]),
        Value::Set(vec![x()]),
    ]
}

/// Asserts that the replies of the pool which a command accepts are exactly these, and that the others violate the
/// protocol.
#[track_caller]
fn assert_accepts<T>(
    command: &str,
    read: impl Fn(Value) -> Result<T, Failure>,
    accepted: impl Fn(&Value) -> bool,
) {
    for reply in pool() {
        match read(reply.clone()) {
            Ok(_) => assert!(accepted(&reply), "{command} accepted {reply:?}"),
            Err(failure) => {
                assert!(!accepted(&reply), "{command} refused {reply:?}");
                assert_eq!(failure.kind, FailureKind::Protocol, "{command}: {reply:?}");
            }
        }
    }
}

fn is_nil(reply: &Value) -> bool {
    *reply == Value::Nil
}

fn is_bulk(reply: &Value) -> bool {
    matches!(reply, Value::BulkString(_))
}

fn is_number(reply: &Value, least: i64) -> bool {
    matches!(reply, Value::Int(number) if *number >= least)
}

/// A number, or its text.
fn is_integer(reply: &Value, least: i64) -> bool {
    is_number(reply, least) || *reply == bulk("7") || (least < 0 && *reply == bulk("-7"))
}

fn is_flag(reply: &Value) -> bool {
    matches!(reply, Value::Int(0 | 1))
}

fn parts(reply: &Value) -> Option<&[Value]> {
    if let Value::Array(parts) = reply { Some(parts) } else { None }
}

fn second() -> Millis {
    Millis::new(Duration::from_secs(1)).unwrap()
}

fn replied(action: &impl WireAction, reply: &Value) -> Result<(), Failure> {
    action.read(&mut || Ok(reply.clone())).map(drop)
}

#[test]
fn a_mutation_of_an_entry_refuses_what_its_command_cannot_reply() {
    let value = || Stored::json(b"1");
    let fields = || vec![("f".into(), value())];
    let found = |reply: &Value| is_nil(reply) || is_bulk(reply);
    let table: Vec<(EntryAction, Accepts)> = vec![
        (EntryAction::Put { value: value(), ttl: None }, Box::new(|r| *r == Value::Okay)),
        (
            EntryAction::PutIfAbsent { value: value(), ttl: None },
            Box::new(|r| *r == Value::Okay || is_nil(r)),
        ),
        (EntryAction::PutIfPresent { value: value() }, Box::new(found)),
        (EntryAction::GetAndPut { value: value(), ttl: None }, Box::new(found)),
        (EntryAction::GetAndDelete, Box::new(found)),
        (EntryAction::Touch { ttl: second() }, Box::new(found)),
        (EntryAction::Renew { ttl: second() }, Box::new(found)),
        (EntryAction::Pop { end: End::Front }, Box::new(found)),
        (EntryAction::Delete, Box::new(is_flag)),
        (EntryAction::Expire { ttl: second() }, Box::new(is_flag)),
        (EntryAction::Persist, Box::new(is_flag)),
        (EntryAction::MapDelete { field: "f".into() }, Box::new(is_flag)),
        (EntryAction::Incr { by: 1, ttl_if_created: None }, Box::new(|r| is_integer(r, i64::MIN))),
        (
            EntryAction::MapIncr { field: "f".into(), by: 1, ttl_if_created: None },
            Box::new(|r| is_integer(r, i64::MIN)),
        ),
        (EntryAction::MapPut { fields: fields(), ttl_if_created: None }, Box::new(|r| is_integer(r, 0))),
        (
            EntryAction::Push { end: End::Back, values: vec![value()], ttl_if_created: None },
            Box::new(|r| is_integer(r, 1)),
        ),
    ];
    for (action, accepted) in table {
        assert_accepts(&format!("{action:?}"), |reply| replied(&action, &reply), accepted);
    }
}

#[test]
fn a_mutation_of_a_lease_or_a_lock_refuses_what_its_script_cannot_reply() {
    let grant = Grant { token: 7, until: 9 };
    let lease = LeaseAction::Lease { lease: second(), dead_letters: None, ttl_if_created: None };
    assert_accepts(
        "take",
        |reply| replied(&lease, &reply),
        |reply| {
            let is_pair =
                |parts: &[Value]| matches!(parts, [Value::BulkString(id), Value::BulkString(_)] if id != b"");
            is_nil(reply) || parts(reply).is_some_and(is_pair)
        },
    );
    let end = LeaseAction::EndLease { id: "7".into(), back: true, ttl_if_created: None };
    assert_accepts("the end of a lease", |reply| replied(&end, &reply), is_flag);
    let is_grant = |reply: &Value| is_nil(reply) || *reply == array([bulk("7"), bulk("9")]);
    let lock = LockAction::Lock { ttl: second() };
    assert_accepts("lock", |reply| replied(&lock, &reply), is_grant);
    assert_accepts("a wait for a lock", granted, is_grant);
    let permit = LockAction::Permit { most: 9, ttl: second() };
    assert_accepts(
        "a permit",
        |reply| replied(&permit, &reply),
        |reply| is_nil(reply) || *reply == array([bulk("7"), bulk("7"), bulk("9")]),
    );
    let is_hold = |reply: &Value| {
        [array([bulk("held"), bulk("9")]), array([bulk("expired"), bulk("")])].contains(reply)
    };
    for action in [LockAction::Extend { grant, ttl: second() }, LockAction::Unlock { grant }] {
        assert_accepts(&format!("{action:?}"), |reply| replied(&action, &reply), is_hold);
    }
}

#[test]
fn a_query_refuses_what_its_command_cannot_reply() {
    let all_bulk = |reply: &Value| parts(reply).is_some_and(|parts| parts.iter().all(is_bulk));
    let found = |reply: &Value| is_nil(reply) || is_bulk(reply);
    let table: Vec<(Query, Accepts)> = vec![
        (Query::Value, Box::new(found)),
        (Query::Field("f".into()), Box::new(found)),
        (
            Query::Fields(vec!["f".into(), "g".into()]),
            Box::new(move |r| parts(r).is_some_and(|parts| parts.len() == 2 && parts.iter().all(found))),
        ),
        (Query::Map, Box::new(move |r| all_bulk(r) && parts(r).is_some_and(|parts| parts.len() % 2 == 0))),
        (Query::Names, Box::new(all_bulk)),
        (Query::MapLength, Box::new(all_bulk)),
        (Query::Bounds, Box::new(|r| is_number(r, 0))),
        (
            Query::Items { from: 4, to: 6 },
            Box::new(move |r| all_bulk(r) && parts(r).is_some_and(|p| p.len() <= 2)),
        ),
    ];
    for (query, accepted) in table {
        let read = |reply: Value| queries::answer(&query, &mut || Ok(reply.clone()));
        assert_accepts(&format!("{query:?}"), read, accepted);
    }
}

#[test]
fn presence_refuses_what_pttl_and_type_cannot_reply() {
    let kind = Value::SimpleString("string".to_owned());
    let both = |left: Value, kind: Value| {
        let mut replies = vec![kind, left];
        queries::answer(&Query::Presence, &mut || Ok(replies.pop().unwrap()))
    };
    assert_accepts("PTTL", |reply| both(reply, kind.clone()), |reply| is_number(reply, -2));
    let is_status = |reply: &Value| matches!(reply, Value::SimpleString(_));
    assert_accepts("TYPE", |reply| both(Value::Int(-1), reply), is_status);
    assert_accepts("PTTL", ttl, |reply| is_number(reply, -2));
}

#[test]
fn other_commands_refuse_what_they_cannot_reply() {
    let is_pair_of_bulk = |reply: &Value| parts(reply).is_some_and(|p| p.len() == 2 && p.iter().all(is_bulk));
    assert_accepts("BLPOP", popped, |reply| is_nil(reply) || is_pair_of_bulk(reply));
    assert_accepts("DEL", count, |reply| is_number(reply, 0));
    assert_accepts("a write in a transaction", written, |reply| *reply == Value::Okay || is_number(reply, 0));
    assert_accepts("SCAN", scan::page, |reply| {
        [array([bulk("0"), array([])]), array([bulk("0"), array([bulk("x")])])].contains(reply)
    });
}

#[test]
fn a_transaction_refuses_what_its_commands_cannot_reply() {
    let queued = || Value::SimpleString("QUEUED".to_owned());
    let executed = |replies: [Value; 3]| {
        let mut replies = replies.into_iter();
        let outcome = watched_transaction(1, &mut || Ok(replies.next().unwrap()));
        assert_eq!(replies.next(), None, "a reply was left unread");
        outcome
    };
    let one = || array([Value::Int(1)]);
    assert_accepts("MULTI", |reply| executed([reply, queued(), one()]), |reply| *reply == Value::Okay);
    assert_accepts(
        "a queued command",
        |reply| executed([Value::Okay, reply, one()]),
        |reply| *reply == queued(),
    );
    assert_accepts(
        "EXEC",
        |reply| executed([Value::Okay, queued(), reply]),
        |reply| is_nil(reply) || parts(reply).is_some_and(|parts| parts.len() == 1),
    );
    let within = |action: &EntryAction, parts: [Value; 2]| {
        let mut replies = vec![array(parts), queued(), queued(), Value::Okay];
        action.read(&mut || Ok(replies.pop().unwrap()))
    };
    let trim = EntryAction::Trim { most: 1 };
    assert_accepts("LLEN", |reply| within(&trim, [reply, Value::Okay]), |reply| is_integer(reply, 0));
    assert_accepts("LTRIM", |reply| within(&trim, [Value::Int(1), reply]), |reply| *reply == Value::Okay);
    let incr = EntryAction::Incr { by: 1, ttl_if_created: Some(second()) };
    let is_set = |reply: &Value| *reply == Value::Okay || is_nil(reply);
    assert_accepts("SET", |reply| within(&incr, [reply, Value::Int(1)]), is_set);
    assert_accepts(
        "INCRBY",
        |reply| within(&incr, [Value::Okay, reply]),
        |reply| is_integer(reply, i64::MIN),
    );
}
