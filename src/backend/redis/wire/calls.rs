//! Owns how calls are written and read: mutations that the server applies once however often they are sent. Does no
//! I/O, and knows nothing of slots.

use redis::Value;

use crate::backend::redis::failure::Failure;
use crate::backend::redis::wire::action::WireAction;
use crate::backend::redis::wire::commands::trim_range;
use crate::backend::redis::wire::lock_replies;
use crate::backend::redis::wire::replies::{self, NextReply};
use crate::backend::redis::wire::resp::{CommandWriter, MAX_ARGS};
use crate::backend::redis::wire::scripts::{CALL, ScriptCall};
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{EntryAction, Grant, Op, Reply};

/// What a call does.
pub(crate) trait CallBody {
    type Reply;

    /// Returns whether the count of writes rises with it.
    fn is_counted(&self) -> bool;

    /// Writes the call. `call` has a head.
    fn write(&self, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>);

    fn read(&self, reply: Value) -> Result<Self::Reply, Failure>;
}

/// Mutations of entries, one after another. None of them may be a script of its own: a swap, or an addition to a window.
pub(crate) struct Steps<'s>(pub(crate) &'s [Op<'s>]);

impl CallBody for Steps<'_> {
    /// One reply of each step.
    type Reply = Vec<Result<Reply, Failure>>;

    fn is_counted(&self) -> bool {
        self.0.iter().any(|op| op.action.is_counted())
    }

    fn write(&self, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        let keys: Vec<&Key<'_>> = self.0.iter().map(|op| &op.key).collect();
        let arguments = self.0.iter().map(|op| step_length(&op.action)).sum();
        writer.script(&CALL, call, &keys, arguments);
        for op in self.0 {
            writer.step(&op.action);
        }
    }

    fn read(&self, reply: Value) -> Result<Self::Reply, Failure> {
        let replies = replies::array(reply)?;
        if replies.len() != self.0.len() {
            return Err(Failure::unexpected_reply(&Value::Array(replies)));
        }
        Ok(self.0.iter().zip(replies).map(|(op, reply)| replies::step_reply(&op.action, reply)).collect())
    }
}

/// A mutation that is a script of its own.
pub(crate) struct Scripted<'s, A>(pub(crate) &'s Op<'s, A>);

impl<A: WireAction> CallBody for Scripted<'_, A> {
    type Reply = Reply;

    fn is_counted(&self) -> bool {
        self.0.action.is_counted()
    }

    fn write(&self, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        self.0.action.write(&self.0.key, writer, call);
    }

    fn read(&self, reply: Value) -> Result<Reply, Failure> {
        let mut reply = Some(only(reply)?);
        let next: NextReply<'_> = &mut || reply.take().ok_or_else(|| Failure::unexpected_reply(&Value::Nil));
        self.0.action.read(next)
    }
}

/// An attempt of a waiter to take a lock.
pub(crate) struct LockAttempt<'s> {
    pub(crate) name: &'s Key<'s>,
    pub(crate) ttl: Millis,
    pub(crate) waiter: &'s str,
}

impl CallBody for LockAttempt<'_> {
    type Reply = Option<Grant>;

    fn is_counted(&self) -> bool {
        false
    }

    fn write(&self, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        writer.lock(self.name, self.ttl, self.waiter, call);
    }

    fn read(&self, reply: Value) -> Result<Option<Grant>, Failure> {
        lock_replies::granted(only(reply)?)
    }
}

/// The deletion of keys as the server spells them, at least one. Its reply is how many there were.
pub(crate) struct Deletion<'s>(pub(crate) &'s [Vec<u8>]);

impl CallBody for Deletion<'_> {
    type Reply = u64;

    fn is_counted(&self) -> bool {
        true
    }

    fn write(&self, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        let Some((first, others)) = self.0.split_first() else { return };
        writer.script_on_raw_key(&CALL, call, first, STEP_HEAD + others.len());
        writer.step_head("DEL", None, others.len());
        for key in others {
            writer.arg(key);
        }
    }

    fn read(&self, reply: Value) -> Result<u64, Failure> {
        replies::count(only(reply)?)
    }
}

/// Returns the only reply of a list.
fn only(reply: Value) -> Result<Value, Failure> {
    let [reply] = <[Value; 1]>::try_from(replies::array(reply)?)
        .map_err(|replies| Failure::unexpected_reply(&Value::Array(replies)))?;
    replies::refused(reply)
}

/// How many arguments of a step are in front of those of its command.
const STEP_HEAD: usize = 3;

/// Returns how many arguments a step has.
fn step_length(action: &EntryAction) -> usize {
    let arguments = match action {
        EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::Persist
        | EntryAction::Pop { .. }
        // They are scripts of their own.
        | EntryAction::Swap { .. }
        | EntryAction::WindowAdd(_) => 0,
        EntryAction::Incr { .. }
        | EntryAction::Expire { .. }
        | EntryAction::Renew { .. }
        | EntryAction::MapDelete { .. }
        | EntryAction::PutIfPresent { .. } => 1,
        EntryAction::MapIncr { .. } | EntryAction::Touch { .. } => 2,
        EntryAction::Put { ttl, .. } => 1 + ttl_length(*ttl),
        EntryAction::PutIfAbsent { ttl, .. } | EntryAction::GetAndPut { ttl, .. } => 2 + ttl_length(*ttl),
        EntryAction::Trim { .. } => 3,
        EntryAction::MapPut { fields, .. } => list_length(2 * fields.len()),
        EntryAction::Push { values, .. } => list_length(values.len()),
    };
    STEP_HEAD + arguments
}

fn ttl_length(ttl: Option<Millis>) -> usize {
    if ttl.is_some() { 2 } else { 0 }
}

/// A list that is too long for the arguments of a command is packed into one.
fn list_length(count: usize) -> usize {
    if count > MAX_ARGS { 1 } else { count }
}

impl CommandWriter<'_> {
    fn step_head(&mut self, command: &str, ttl_if_created: Option<Millis>, arguments: usize) -> &mut Self {
        self.arg(command.as_bytes()).ttl_or_empty(ttl_if_created).number(arguments as u64)
    }

    fn step(&mut self, action: &EntryAction) {
        let command = action.traits().command;
        match action {
            EntryAction::Put { value, ttl } => {
                self.step_head(command, None, 1 + ttl_length(*ttl)).arg(&value.bytes).ttl(*ttl);
            }
            EntryAction::PutIfAbsent { value, ttl } => {
                self.step_head(command, None, 2 + ttl_length(*ttl)).arg(&value.bytes).arg(b"NX").ttl(*ttl);
            }
            EntryAction::GetAndPut { value, ttl } => {
                self.step_head(command, None, 2 + ttl_length(*ttl)).arg(&value.bytes).arg(b"GET").ttl(*ttl);
            }
            EntryAction::PutIfPresent { value } => {
                self.step_head("UPDATE", None, 1).arg(&value.bytes);
            }
            EntryAction::Delete
            | EntryAction::GetAndDelete
            | EntryAction::Persist
            | EntryAction::Pop { .. } => {
                self.step_head(command, None, 0);
            }
            EntryAction::Incr { by, ttl_if_created } => {
                self.step_head(command, *ttl_if_created, 1).integer(*by);
            }
            EntryAction::Expire { ttl } => {
                self.step_head(command, None, 1).number(ttl.get());
            }
            EntryAction::Touch { ttl } => {
                self.step_head(command, None, 2).ttl(Some(*ttl));
            }
            EntryAction::Renew { ttl } => {
                self.step_head("RENEW", None, 1).number(ttl.get());
            }
            EntryAction::MapPut { fields, ttl_if_created } => {
                let args = fields.iter().flat_map(|(field, value)| [field.as_bytes(), &*value.bytes]);
                self.step_list(command, *ttl_if_created, 2 * fields.len(), args);
            }
            EntryAction::MapDelete { field } => {
                self.step_head(command, None, 1).arg(field.as_bytes());
            }
            EntryAction::MapIncr { field, by, ttl_if_created } => {
                self.step_head(command, *ttl_if_created, 2).arg(field.as_bytes()).integer(*by);
            }
            EntryAction::Push { values, ttl_if_created, .. } => {
                let args = values.iter().map(|value| &*value.bytes);
                self.step_list(command, *ttl_if_created, values.len(), args);
            }
            EntryAction::Trim { most } => {
                let (first, last) = trim_range(*most);
                self.step_head("TRIM", None, 3).number(*most).integer(first).integer(last);
            }
            EntryAction::Swap { .. } | EntryAction::WindowAdd(_) => {}
        }
    }

    fn step_list<'v>(
        &mut self,
        command: &str,
        ttl_if_created: Option<Millis>,
        count: usize,
        args: impl Iterator<Item = &'v [u8]>,
    ) {
        if list_length(count) == count {
            self.step_head(command, ttl_if_created, count);
            for arg in args {
                self.arg(arg);
            }
        } else {
            self.arg(command.as_bytes())
                .ttl_or_empty(ttl_if_created)
                .arg(b"packed")
                .arg(&packed(count, args));
        }
    }
}

/// Returns a list of strings in `MessagePack`, which a script can read.
fn packed<'v>(count: usize, args: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut packed = vec![0xdd];
    packed.extend_from_slice(&length(count));
    for arg in args {
        packed.push(0xdb);
        packed.extend_from_slice(&length(arg.len()));
        packed.extend_from_slice(arg);
    }
    packed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::failure::{FailureKind, Stage};
    use crate::backend::redis::keys;
    use crate::backend::redis::wire::resp::words;
    use crate::backend::redis::wire::scripts::{CallHead, LEASE, SWAP};
    use crate::bytes::Bytes;
    use crate::op::{End, LeaseAction};
    use crate::value::Value as Stored;

    fn op(key: &str, action: EntryAction) -> Op<'static> {
        Op { key: Key::listed(key.to_owned()), action }
    }

    fn ttl() -> Option<Millis> {
        Millis::new(Duration::from_millis(1500)).ok()
    }

    fn push(values: usize) -> EntryAction {
        EntryAction::Push { end: End::Back, values: vec![Stored::json(b"1"); values], ttl_if_created: None }
    }

    /// Returns the text of a call in slot 3 with the sequence 7, without the name and the keys of the cache.
    fn text(body: &impl CallBody, is_first: bool) -> String {
        let cache = keys::reply_cache(1);
        let head = CallHead { cache: &cache, cache_id: 5, slot: 3, sequence: 7, is_first, renews: !is_first };
        let text = words(|writer| body.write(writer, ScriptCall::BySha.with_head(&head)));
        text.replace(&format!("p:{} ", &*cache), "")
    }

    #[test]
    fn a_call_names_its_cache_its_slot_its_sequence_and_its_steps() {
        let ops = [
            op("n", EntryAction::Incr { by: -3, ttl_if_created: ttl() }),
            op("m", EntryAction::MapIncr { field: "f".into(), by: 2, ttl_if_created: None }),
            op("q", push(2)),
            op("q", EntryAction::Pop { end: End::Back }),
        ];
        let sha = CALL.as_call().1;
        let steps = "INCRBY 1500 1 -3 HINCRBY  2 f 2 RPUSH  2 1 1 RPOP  0";
        assert_eq!(text(&Steps(&ops), true), format!("EVALSHA {sha} 5 p:n p:m p:q p:q 5 3 7 1  {steps}"));
        let renewed = format!("EVALSHA {sha} 5 p:n p:m p:q p:q 5 3 7  2592000000 {steps}");
        assert_eq!(text(&Steps(&ops), false), renewed);
    }

    #[test]
    fn every_action_on_an_entry_is_a_step() {
        let value = || Stored::json(b"1");
        let sha = CALL.as_call().1;
        for (action, step) in [
            (EntryAction::Put { value: value(), ttl: ttl() }, "SET  3 1 PX 1500"),
            (EntryAction::PutIfAbsent { value: value(), ttl: None }, "SET  2 1 NX"),
            (EntryAction::PutIfPresent { value: value() }, "UPDATE  1 1"),
            (EntryAction::GetAndPut { value: value(), ttl: None }, "SET  2 1 GET"),
            (EntryAction::Delete, "DEL  0"),
            (EntryAction::GetAndDelete, "GETDEL  0"),
            (EntryAction::Expire { ttl: ttl().unwrap() }, "PEXPIRE  1 1500"),
            (EntryAction::Persist, "PERSIST  0"),
            (EntryAction::Touch { ttl: ttl().unwrap() }, "GETEX  2 PX 1500"),
            (EntryAction::Renew { ttl: ttl().unwrap() }, "RENEW  1 1500"),
            (
                EntryAction::MapPut { fields: vec![("f".into(), value())], ttl_if_created: ttl() },
                "HSET 1500 2 f 1",
            ),
            (EntryAction::MapDelete { field: "f".into() }, "HDEL  1 f"),
            (EntryAction::Trim { most: 3 }, "TRIM  3 3 -3 -1"),
        ] {
            let ops = [op("k", action)];
            assert_eq!(text(&Steps(&ops), true), format!("EVALSHA {sha} 2 p:k 5 3 7 1  {step}"));
        }
    }

    #[test]
    fn a_script_of_its_own_gets_its_arguments_behind_those_of_the_call() {
        let expected = Some(Bytes::from("a"));
        let swap = op("k", EntryAction::Swap { expected, new: None, ttl_if_created: None });
        let sha = SWAP.as_call().1;
        assert_eq!(text(&Scripted(&swap), true), format!("EVALSHA {sha} 2 p:k 5 3 7 1  1 a 0"));
        let action = LeaseAction::Lease { lease: ttl().unwrap(), dead_letters: None, ttl_if_created: None };
        let lease = Op { key: Key::listed("k".to_owned()), action };
        let begin = format!("EVALSHA {} 7 p:k ", LEASE.as_call().1);
        assert!(text(&Scripted(&lease), true).starts_with(&begin));
        let raw = [b"x:a".to_vec(), b"x:b".to_vec()];
        let sha = CALL.as_call().1;
        assert_eq!(text(&Deletion(&raw), true), format!("EVALSHA {sha} 2 x:a 5 3 7 1  DEL  1 x:b"));
    }

    #[test]
    fn each_step_has_its_own_reply() {
        let ops = [
            op("n", EntryAction::Incr { by: 1, ttl_if_created: None }),
            op("q", EntryAction::Pop { end: End::Front }),
            op("k", EntryAction::Put { value: Stored::json(b"1"), ttl: None }),
            op("k", EntryAction::PutIfPresent { value: Stored::json(b"1") }),
        ];
        let read = |text: &[u8]| Steps(&ops).read(redis::parse_redis_value(text).unwrap());
        let replies = read(b"*4\r\n$19\r\n9223372036854775807\r\n$-1\r\n+OK\r\n:0\r\n").unwrap();
        let replies: Vec<Reply> = replies.into_iter().map(Result::unwrap).collect();
        let expected = [Reply::Number(i64::MAX), Reply::Found(None), Reply::Done, Reply::Flag(false)];
        assert_eq!(replies, expected);
        let replies =
            read(b"*4\r\n-ERR increment or decrement would overflow\r\n$1\r\nx\r\n+OK\r\n:1\r\n").unwrap();
        assert!(matches!(&replies[0], Err(failure) if failure.kind == FailureKind::Overflow));
        assert!(matches!(&replies[1], Ok(Reply::Found(Some(_)))));
        assert!(read(b"*1\r\n:1\r\n").is_err(), "a reply is missing");
        let refused = read(b"-OOM command not allowed\r\n").unwrap_err();
        assert_eq!(refused.stage, Stage::Rejected);
    }

    #[test]
    fn a_list_that_is_too_long_for_a_command_is_packed() {
        let ops = [op("q", push(MAX_ARGS))];
        assert!(text(&Steps(&ops), true).contains(&format!(" RPUSH  {MAX_ARGS} 1 1 ")));
        assert_eq!(step_length(&push(MAX_ARGS + 1)), STEP_HEAD + 1);
        let packed = packed(2, [&b"a"[..], b"bc"].into_iter());
        assert_eq!(packed, b"\xdd\0\0\0\x02\xdb\0\0\0\x01a\xdb\0\0\0\x02bc");
    }
}
