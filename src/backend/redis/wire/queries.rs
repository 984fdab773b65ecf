//! Owns which commands a query about one key becomes, and what their replies mean. Does no I/O.

use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::failure::{ErrorContext, Failure};
use crate::backend::redis::wire::replies::{
    array, at_least, bytes, deadline, kind, number, present, refused, ttl,
};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::bytes::Bytes;
use crate::key::{Companion, Key};
use crate::op::{Answer, HeldLease, Presence, Query};

impl CommandWriter<'_> {
    /// Writes a query.
    pub(crate) fn query(&mut self, key: &Key<'_>, query: &Query) {
        let name = name(query);
        match query {
            Query::Presence => {
                self.command(2, "PTTL").key(key);
                self.command(2, "TYPE").key(key);
            }
            Query::Value | Query::Map | Query::Names | Query::MapLength | Query::Bounds => {
                self.command(2, name).key(key);
            }
            Query::Field(field) => {
                self.command(3, name).key(key).arg(field.as_bytes());
            }
            Query::Fields(fields) => {
                self.command(2 + fields.len(), name).key(key);
                for field in fields {
                    self.arg(field.as_bytes());
                }
            }
            Query::Items { from, to } => {
                let index = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
                // LRANGE includes the last index, and -1 would be the end of the list.
                let (first, last) = if from < to { (index(*from), index(to - 1)) } else { (1, 0) };
                self.command(4, name).key(key).integer(first).integer(last);
            }
            Query::Lease { id, .. } => {
                self.command(3, name).key(key).arg(id.as_bytes());
            }
        }
    }
}

/// Returns how errors name the command.
fn name(query: &Query) -> &'static str {
    match query {
        Query::Presence => "TYPE",
        Query::Value => "GET",
        Query::Field(_) => "HGET",
        Query::Fields(_) => "HMGET",
        Query::Map => "HGETALL",
        Query::Names | Query::MapLength => "HKEYS",
        Query::Bounds => "LLEN",
        Query::Items { .. } => "LRANGE",
        Query::Lease { .. } => "ZSCORE",
    }
}

/// Returns what an error about a query names.
pub(crate) fn error_context<'a>(key: &'a Key<'_>, query: &Query) -> ErrorContext<'a> {
    // The caller knows the queue, and not the key of its leases.
    let key = Companion::Leases.strip_from(key).unwrap_or(key);
    let context = ErrorContext::reading(name(query), key);
    ErrorContext { expected: query.kind().unwrap_or(context.expected), ..context }
}

/// Reads the replies to a query. Deadlines are relative to now.
pub(crate) fn answer(
    query: &Query,
    next: &mut dyn FnMut() -> Result<Value, Failure>,
) -> Result<Answer, Failure> {
    let first = next()?;
    Ok(match query {
        Query::Presence => Answer::Presence(presence(first, next()?)?),
        Query::Value | Query::Field(_) => Answer::Found(bytes(first)?),
        Query::Fields(fields) => {
            let parts = array(first)?;
            if parts.len() != fields.len() {
                return Err(Failure::unexpected_reply(&Value::Array(parts)));
            }
            Answer::Each(parts.into_iter().map(bytes).collect::<Result<_, _>>()?)
        }
        Query::Map => Answer::Map(map(array(first)?)?),
        Query::Names => Answer::Names(names(first)?),
        // HLEN would count the names of other programs too.
        Query::MapLength => Answer::Count(names(first)?.len() as u64),
        Query::Bounds => Answer::Bounds((0, at_least(0, number(first)?)?)),
        Query::Items { from, to } => {
            let parts = array(first)?;
            if parts.len() as u64 > to.saturating_sub(*from) {
                return Err(Failure::unexpected_reply(&Value::Array(parts)));
            }
            Answer::Items(parts.into_iter().map(present).collect::<Result<_, _>>()?)
        }
        Query::Lease { .. } => Answer::Lease(bytes(first)?.map(|_deadline| HeldLease::OnServer)),
    })
}

/// Returns the answer if the key does not exist.
pub(crate) fn nothing(query: &Query) -> Answer {
    match query {
        Query::Presence => Answer::Presence(None),
        Query::Value | Query::Field(_) => Answer::Found(None),
        Query::Fields(fields) => Answer::Each(vec![None; fields.len()]),
        Query::Map => Answer::Map(Vec::new()),
        Query::Names => Answer::Names(Vec::new()),
        Query::MapLength => Answer::Count(0),
        Query::Bounds => Answer::Bounds((0, 0)),
        Query::Items { .. } => Answer::Items(Vec::new()),
        Query::Lease { .. } => Answer::Lease(None),
    }
}

fn presence(pttl_reply: Value, type_reply: Value) -> Result<Option<Presence>, Failure> {
    let (left, type_reply) = (ttl(pttl_reply), refused(type_reply)?);
    let Value::SimpleString(name) = &type_reply else {
        return Err(Failure::unexpected_reply(&type_reply));
    };
    // A key that was created or deleted between the two commands was absent at one time.
    let left = left?.filter(|_| name != "none");
    Ok(left.map(|left| Presence { kind: kind(&type_reply), deadline: deadline(left) }))
}

/// Returns the fields of a map, sorted. A name that is not UTF-8 belongs to another program.
pub(crate) fn map(parts: Vec<Value>) -> Result<Vec<(SmolStr, Bytes)>, Failure> {
    if !parts.len().is_multiple_of(2) {
        return Err(Failure::unexpected_reply(&Value::Array(parts)));
    }
    let mut fields = Vec::with_capacity(parts.len() / 2);
    let mut parts = parts.into_iter();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let (name, value) = (field(name)?, present(value)?);
        fields.extend(name.map(|name| (name, value)));
    }
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(fields)
}

/// Returns the names of a map's fields, sorted, without those of other programs.
fn names(reply: Value) -> Result<Vec<SmolStr>, Failure> {
    let names = array(reply)?.into_iter().filter_map(|name| field(name).transpose());
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}

/// Reads the name of a field; `None` if it is not UTF-8.
#[expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]
fn field(name: Value) -> Result<Option<SmolStr>, Failure> {
    match name {
        Value::BulkString(name) => Ok(String::from_utf8(name).ok().map(SmolStr::from)),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::failure::FailureKind;
    use crate::backend::redis::wire::resp::words;
    use crate::clock::Deadline;
    use crate::error::Kind;

    fn bulk(text: &[u8]) -> Value {
        Value::BulkString(text.to_vec())
    }

    fn answered(query: &Query, replies: &[Value]) -> Result<Answer, Failure> {
        let mut replies = replies.iter();
        let outcome = answer(query, &mut || Ok(replies.next().unwrap().clone()));
        assert_eq!(replies.next(), None, "{query:?} leaves no reply unread");
        outcome
    }

    #[test]
    fn each_query_is_its_command() {
        for (query, command) in [
            (Query::Presence, "PTTL p:k TYPE p:k"),
            (Query::Value, "GET p:k"),
            (Query::Field("f".into()), "HGET p:k f"),
            (Query::Fields(vec!["f".into(), "g".into()]), "HMGET p:k f g"),
            (Query::Map, "HGETALL p:k"),
            (Query::Names, "HKEYS p:k"),
            (Query::MapLength, "HKEYS p:k"),
            (Query::Bounds, "LLEN p:k"),
            (Query::Lease { id: "7".into(), removed: 0 }, "ZSCORE p:k 7"),
            (Query::Items { from: 2, to: 5 }, "LRANGE p:k 2 4"),
            (Query::Items { from: 0, to: 0 }, "LRANGE p:k 1 0"),
            (Query::Items { from: 5, to: 2 }, "LRANGE p:k 1 0"),
            (Query::Items { from: 0, to: u64::MAX }, "LRANGE p:k 0 9223372036854775807"),
        ] {
            assert_eq!(words(|writer| writer.query(&Key::listed("k".to_owned()), &query)), command);
        }
    }

    #[test]
    fn each_reply_is_read_and_any_other_is_an_error() {
        let x = || Bytes::from("x");
        let lease = || Query::Lease { id: "7".into(), removed: 0 };
        for (query, reply, expected) in [
            (Query::Value, bulk(b"x"), Answer::Found(Some(x()))),
            (Query::Field("f".into()), Value::Nil, Answer::Found(None)),
            (
                Query::Fields(vec!["f".into(), "g".into()]),
                Value::Array(vec![bulk(b"x"), Value::Nil]),
                Answer::Each(vec![Some(x()), None]),
            ),
            (
                Query::Map,
                Value::Array([&b"g"[..], b"x", b"\xff", b"x", b"f", b"x"].map(bulk).to_vec()),
                Answer::Map(vec![("f".into(), x()), ("g".into(), x())]),
            ),
            (
                Query::Names,
                Value::Array([&b"g"[..], b"\xff", b"f"].map(bulk).to_vec()),
                Answer::Names(vec!["f".into(), "g".into()]),
            ),
            (Query::MapLength, Value::Array([&b"g"[..], b"\xff", b"f"].map(bulk).to_vec()), Answer::Count(2)),
            (Query::Bounds, Value::Int(3), Answer::Bounds((0, 3))),
            (Query::Items { from: 0, to: 9 }, Value::Array(vec![bulk(b"x")]), Answer::Items(vec![x()])),
            (lease(), bulk(b"1700000000000000"), Answer::Lease(Some(HeldLease::OnServer))),
            (lease(), Value::Nil, Answer::Lease(None)),
        ] {
            assert_eq!(answered(&query, &[reply]).unwrap(), expected, "{query:?}");
            let failure = answered(&query, &[Value::Okay]).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Protocol, "{query:?}");
        }
    }

    #[test]
    fn presence_has_the_kind_and_the_remaining_ttl() {
        let kind = |name: &str| Value::SimpleString(name.to_owned());
        let present = |kind, left| {
            let deadline = Deadline::from_millis(left);
            Answer::Presence(Some(Presence { kind, deadline }))
        };
        for (left, name, expected) in [
            (-2, "none", Answer::Presence(None)),
            (-1, "hash", present(Some(Kind::Map), 0)),
            (0, "list", present(Some(Kind::Queue), 1)),
            (70, "set", present(None, 70)),
            (70, "none", Answer::Presence(None)),
            (-2, "string", Answer::Presence(None)),
        ] {
            assert_eq!(answered(&Query::Presence, &[Value::Int(left), kind(name)]).unwrap(), expected);
        }
    }
}
