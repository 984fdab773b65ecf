//! Owns how an entry is read as a whole: its commands, and what their replies mean. Does no I/O.

#![expect(clippy::wildcard_enum_match_arm, reason = "a server may send any value of the protocol")]

use redis::Value;
use smol_str::SmolStr;

use crate::backend::redis::failure::{Failure, FailureKind};
use crate::backend::redis::keys;
use crate::backend::redis::wire::queries::map;
use crate::backend::redis::wire::replies::{array, bytes, number, parsed, present, refused};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::whole_queue::{QueueParts, stored, whole_queue};
use crate::backend::redis::wire::window_reply;
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};
use crate::key::{Companion, Key, event_of_receipt, key_fault};
use crate::op::{WholeContent, WholeEntry};
use crate::value::Value as Stored;

/// How a key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Value,
    Map,
    /// A list, and what is stored beside it.
    Queue,
    /// It holds something else than was thought: the server is asked for the kind.
    Unknown,
}

/// How the server tells when an entry ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadlineFrom {
    ExpireTime,
    TtlAndTime,
}

/// What a key was found to hold.
#[derive(Debug)]
pub(super) enum Outcome {
    Found(Found),
    /// Nothing, or nothing that a store holds.
    Nothing,
    /// It must be read again, in this way.
    Other(Layout),
}

#[derive(Debug)]
pub(super) struct Found {
    content: WholeContent,
    deadline: Option<Deadline>,
    /// How many values of a queue are under lease. They stay when the queue expires.
    leased: usize,
}

impl Found {
    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        let of = |values: &[Stored]| values.iter().map(|value| value.bytes.len() + 16).sum::<usize>();
        match &self.content {
            WholeContent::Value(value) => value.bytes.len(),
            WholeContent::Map(fields) => {
                fields.iter().map(|(name, value)| name.len() + value.bytes.len() + 16).sum()
            }
            WholeContent::Queue(queue) => {
                let delayed = queue.delayed.iter().map(|(_, value)| value.bytes.len() + 32).sum::<usize>();
                of(&queue.values) + delayed
            }
        }
    }

    /// Returns the entry that is there at a time, if one is.
    pub(super) fn at(self, key: SmolStr, now: &Now<'_>) -> Option<WholeEntry> {
        let Self { content, deadline, leased } = self;
        if !deadline.is_some_and(|deadline| deadline.has_passed(now)) {
            return Some(WholeEntry { key, content, deadline });
        }
        let WholeContent::Queue(mut queue) = content else { return None };
        queue.values.truncate(leased);
        let is_empty = queue.values.is_empty() && queue.delayed.is_empty();
        (!is_empty).then_some(WholeEntry { key, content: WholeContent::Queue(queue), deadline: None })
    }
}

/// Returns the entry to which a key on the server belongs, and how it is read; `None` if it belongs to none that begins
/// with `prefix`.
pub(super) fn entry_of(wire: &[u8], key_prefix: &[u8], prefix: &str) -> Option<(SmolStr, Layout)> {
    let key = std::str::from_utf8(wire.strip_prefix(key_prefix)?).ok()?;
    if !key.starts_with(prefix) {
        return None;
    }
    if key_fault(key).is_none() {
        return Some((SmolStr::new(key), Layout::Value));
    }
    if let Some(queue) = keys::queue_beside(key) {
        let is_covered = queue.starts_with(prefix) && key_fault(queue).is_none();
        return is_covered.then(|| (SmolStr::new(queue), Layout::Queue));
    }
    let is_receipt = event_of_receipt(key).is_some_and(|event| key_fault(&event).is_none());
    let is_covered = is_receipt && keys::is_cleared(key.as_bytes(), prefix.as_bytes());
    is_covered.then(|| (SmolStr::new(key), Layout::Value))
}

/// Writes the commands that read a key.
pub(super) fn write(writer: &mut CommandWriter<'_>, key: &str, layout: Layout, from: DeadlineFrom) {
    if layout == Layout::Unknown {
        writer.command(2, "TYPE").key(key);
        return;
    }
    match from {
        DeadlineFrom::ExpireTime => writer.command(2, "PEXPIRETIME").key(key),
        DeadlineFrom::TtlAndTime => writer.command(1, "TIME").command(2, "PTTL").key(key).command(1, "TIME"),
    };
    match layout {
        Layout::Value => _ = writer.command(2, "GET").key(key),
        Layout::Map => _ = writer.command(2, "HGETALL").key(key),
        Layout::Queue => {
            let queue = Key::listed(key.to_owned());
            let whole = |writer: &mut CommandWriter<'_>, name, key: &Key<'_>| {
                writer.command(4, name).key(key).integer(0).integer(-1);
            };
            writer.command(2, "TYPE").key(key);
            whole(writer, "LRANGE", &queue);
            whole(writer, "ZRANGE", &queue.companion(Companion::Leases));
            writer.command(2, "HGETALL").key(&keys::leased_values(&queue));
            whole(writer, "LRANGE", &keys::returned_values(&queue));
            let delayed = keys::delayed_values(&queue);
            writer.command(5, "ZRANGE").key(&delayed).integer(0).integer(-1).arg(b"WITHSCORES");
        }
        Layout::Unknown => {}
    }
}

/// Returns how many replies the commands have.
pub(super) fn replies(layout: Layout, from: DeadlineFrom) -> usize {
    let of_deadline = match from {
        DeadlineFrom::ExpireTime => 1,
        DeadlineFrom::TtlAndTime => 3,
    };
    match layout {
        Layout::Unknown => 1,
        Layout::Value | Layout::Map => of_deadline + 1,
        Layout::Queue => of_deadline + 6,
    }
}

/// Reads the replies to the commands.
pub(super) fn read(
    layout: Layout,
    from: DeadlineFrom,
    replies: &mut dyn Iterator<Item = Value>,
) -> Result<Outcome, Failure> {
    let mut next = || replies.next().unwrap_or(Value::Nil);
    if layout == Layout::Unknown {
        return Ok(match kind_name(refused(next())?)?.as_str() {
            "string" => Outcome::Other(Layout::Value),
            "hash" => Outcome::Other(Layout::Map),
            "list" | "none" => Outcome::Other(Layout::Queue),
            _ => Outcome::Nothing,
        });
    }
    let deadline = match from {
        DeadlineFrom::ExpireTime => positive(number(next())?),
        DeadlineFrom::TtlAndTime => {
            let (before, left) = (window_reply::time(next())?, number(next())?);
            let after = window_reply::time(next())?;
            if left < 0 {
                None
            } else if before == after {
                Deadline::from_millis(after.saturating_add(left.unsigned_abs()))
            } else {
                // A millisecond ended in between, and nobody knows on which side.
                return Ok(Outcome::Other(layout));
            }
        }
    };
    let content = match layout {
        Layout::Value => value(next()),
        Layout::Map => fields(next()),
        Layout::Queue => {
            let kind = kind_name(refused(next())?)?;
            let (items, ids, values) = (next(), next(), next());
            let (records, delayed) = (next(), next());
            match kind.as_str() {
                "string" => return Ok(Outcome::Other(Layout::Value)),
                "hash" => return Ok(Outcome::Other(Layout::Map)),
                "list" | "none" => {}
                _ => return Ok(Outcome::Nothing),
            }
            queue_parts(items, ids, values, records, delayed).map(|parts| {
                let (queue, leased) = whole_queue(parts);
                let is_empty = queue.values.is_empty() && queue.delayed.is_empty();
                (!is_empty).then_some((WholeContent::Queue(queue), leased))
            })
        }
        Layout::Unknown => Ok(None),
    };
    match content {
        Ok(Some((content, leased))) => Ok(Outcome::Found(Found { content, deadline, leased })),
        Ok(None) => Ok(Outcome::Nothing),
        Err(Failure { kind: FailureKind::WrongType, .. }) => Ok(Outcome::Other(Layout::Unknown)),
        Err(failure) => Err(failure),
    }
}

fn positive(millis: i64) -> Option<Deadline> {
    u64::try_from(millis).ok().and_then(Deadline::from_millis)
}

fn kind_name(reply: Value) -> Result<String, Failure> {
    match reply {
        Value::SimpleString(name) => Ok(name),
        other => Err(Failure::unexpected_reply(&other)),
    }
}

fn value(reply: Value) -> Result<Option<(WholeContent, usize)>, Failure> {
    Ok(bytes(reply)?.map(|bytes| (WholeContent::Value(stored(bytes)), 0)))
}

fn fields(reply: Value) -> Result<Option<(WholeContent, usize)>, Failure> {
    let fields: Vec<_> = map(array(reply)?)?.into_iter().map(|(name, bytes)| (name, stored(bytes))).collect();
    Ok((!fields.is_empty()).then_some((WholeContent::Map(fields), 0)))
}

fn queue_parts(
    items: Value,
    ids: Value,
    values: Value,
    records: Value,
    delayed: Value,
) -> Result<QueueParts, Failure> {
    let all = |reply: Value| array(reply)?.into_iter().map(present).collect::<Result<Vec<_>, _>>();
    Ok(QueueParts {
        waiting: all(items)?,
        lease_ids: unless_foreign(all(ids))?,
        leased: unless_foreign(all(values))?,
        records: unless_foreign(all(records))?,
        delayed: unless_foreign(scored(delayed))?,
    })
}

/// Takes a key beside a queue for absent if another program has put something else there.
fn unless_foreign<T: Default>(read: Result<T, Failure>) -> Result<T, Failure> {
    match read {
        Err(Failure { kind: FailureKind::WrongType, .. }) => Ok(T::default()),
        read => read,
    }
}

/// Reads the members of a sorted set with their scores, in pairs or in turn.
fn scored(reply: Value) -> Result<Vec<(u64, Bytes)>, Failure> {
    let mut flat = Vec::new();
    for part in array(reply)? {
        match part {
            Value::Array(pair) => flat.extend(pair),
            other => flat.push(other),
        }
    }
    let mut scored = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let Some(member) = flat.next() {
        let score: f64 = match flat.next().unwrap_or(Value::Nil) {
            Value::Double(score) => score,
            other => parsed(&other)?,
        };
        // A time in microseconds, which is a whole number.
        let due = format!("{:.0}", score.max(0.0)).parse().unwrap_or(u64::MAX);
        scored.push((due, present(member)?));
    }
    Ok(scored)
}
