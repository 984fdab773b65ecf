//! Owns which commands a mutation becomes. Does no I/O, and knows nothing of the replies.

use crate::backend::redis::keys;
use crate::backend::redis::wire::resp::{CommandWriter, MAX_ARGS};
use crate::backend::redis::wire::scripts::{
    CREATE, END_LEASE, EXTEND_LEASE, HOLD_LOCK, LEASE, LOCK, PERMIT, PUSH_DELAYED, RENEW, SWAP, ScriptCall,
    WINDOW,
};
use crate::clock::Millis;
use crate::key::{Companion, Key};
use crate::op::{EntryAction, Grant, LeaseAction, LockAction, WindowAdd, Write};
use crate::value::Value;

/// How many microseconds a waiter that does not ask for the lock keeps its position in the queue.
const GRACE_MICROS: u64 = 300_000;

impl CommandWriter<'_> {
    /// Writes a mutation of one entry.
    pub(crate) fn entry_action(&mut self, key: &Key<'_>, action: &EntryAction, call: ScriptCall<'_>) {
        let command = action.traits().command;
        match action {
            EntryAction::Put { value, ttl } => self.set(key, value, &[], *ttl),
            EntryAction::PutIfAbsent { value, ttl } => self.set(key, value, &[b"NX"], *ttl),
            // INVARIANT: without GET a map or a queue would be replaced silently.
            EntryAction::PutIfPresent { value } => self.set(key, value, &[b"XX", b"GET", b"KEEPTTL"], None),
            EntryAction::GetAndPut { value, ttl } => self.set(key, value, &[b"GET"], *ttl),
            EntryAction::Swap { expected, new, ttl_if_created } => {
                self.script(&SWAP, call, &[key], 5).optional(expected.as_deref());
                self.optional(new.as_ref().map(|new| &*new.bytes)).ttl_or_empty(*ttl_if_created);
            }
            EntryAction::Incr { by, ttl_if_created: Some(ttl) } => {
                self.incr_with_creation_ttl(key, *by, *ttl);
            }
            EntryAction::Incr { by, ttl_if_created: None } => {
                self.on(command, key, 1).integer(*by);
            }
            EntryAction::Expire { ttl } => {
                self.on(command, key, 1).number(ttl.get());
            }
            EntryAction::Touch { ttl } => {
                self.on(command, key, 2).ttl(Some(*ttl));
            }
            EntryAction::Renew { ttl } => {
                self.script(&RENEW, call, &[key], 1).number(ttl.get());
            }
            EntryAction::Delete
            | EntryAction::GetAndDelete
            | EntryAction::Persist
            | EntryAction::Pop { .. } => {
                self.on(command, key, 0);
            }
            EntryAction::MapPut { fields, ttl_if_created } => {
                let args = fields.iter().flat_map(|(field, value)| [field.as_bytes(), &*value.bytes]);
                self.create(key, command, &args.collect::<Vec<_>>(), *ttl_if_created, call);
            }
            EntryAction::MapDelete { field } => {
                self.on(command, key, 1).arg(field.as_bytes());
            }
            EntryAction::MapIncr { field, by, ttl_if_created } => {
                let mut digits = itoa::Buffer::new();
                let args = [field.as_bytes(), digits.format(*by).as_bytes()];
                self.create(key, command, &args, *ttl_if_created, call);
            }
            EntryAction::Push { values, ttl_if_created, .. } => {
                let args: Vec<_> = values.iter().map(|value| &*value.bytes).collect();
                self.create(key, command, &args, *ttl_if_created, call);
            }
            EntryAction::Trim { most } => self.trim(key, *most),
            EntryAction::WindowAdd(WindowAdd { width, at, by, limit }) => {
                self.script(&WINDOW, call, &[key], 4).number(width.get()).number_or_empty(*at);
                self.integer(*by).number_or_empty(*limit);
            }
        }
    }

    /// Writes a mutation of a queue's leases.
    pub(crate) fn lease_action(&mut self, queue: &Key<'_>, action: &LeaseAction, call: ScriptCall<'_>) {
        let leases = queue.companion(Companion::Leases);
        let (values, returned) = (keys::leased_values(queue), keys::returned_values(queue));
        match action {
            LeaseAction::Lease { lease, dead_letters, ttl_if_created } => {
                let mut keys = vec![queue, &leases, &values, &returned];
                let (fence, delayed) = (Key::fence(), keys::delayed_values(queue));
                keys.extend([&fence, &delayed]);
                let returned_dead =
                    dead_letters.as_ref().map(|letters| keys::returned_values(&letters.queue));
                if let (Some(letters), Some(returned_dead)) = (dead_letters, &returned_dead) {
                    keys.extend([&letters.queue, returned_dead]);
                }
                let arguments = self.script(&LEASE, call, &keys, 3);
                let arguments = arguments.number(lease.get()).ttl_or_empty(*ttl_if_created);
                arguments.number(dead_letters.as_ref().map_or(0, |letters| letters.most_attempts));
            }
            LeaseAction::PushDelayed { value, delay } => {
                let keys = [queue, &keys::delayed_values(queue), &Key::fence()];
                self.script(&PUSH_DELAYED, call, &keys, 2).arg(&value.bytes).number(delay.get());
            }
            LeaseAction::EndLease { id, back, ttl_if_created } => {
                let arguments = self.script(&END_LEASE, call, &[queue, &leases, &values, &returned], 3);
                arguments.arg(id.as_bytes()).number(u64::from(*back)).ttl_or_empty(*ttl_if_created);
            }
            LeaseAction::ExtendLease { id, lease } => {
                self.script(&EXTEND_LEASE, call, &[&leases], 2).arg(id.as_bytes()).number(lease.get());
            }
        }
    }

    /// Writes a mutation of a lock, by a client that does not wait for it.
    pub(crate) fn lock_action(&mut self, name: &Key<'_>, action: &LockAction, call: ScriptCall<'_>) {
        match action {
            LockAction::Lock { ttl } => self.lock(name, *ttl, "", call),
            LockAction::Permit { most, ttl } => {
                let permits = (0..*most).map(|number| name.permit(number).companion(Companion::Lock));
                let keys: Vec<_> = std::iter::once(Key::fence()).chain(permits).collect();
                self.script(&PERMIT, call, &keys.iter().collect::<Vec<_>>(), 1).number(ttl.get());
            }
            LockAction::Extend { grant, ttl } => self.hold(name, *grant, Some(*ttl), call),
            LockAction::Unlock { grant } => self.hold(name, *grant, None, call),
        }
    }

    /// Writes a write of a batch.
    pub(crate) fn write(&mut self, key: &Key<'_>, write: &Write) {
        match write {
            Write::Put { value, ttl } => self.set(key, value, &[], *ttl),
            Write::Delete => {
                self.on("DEL", key, 0);
            }
        }
    }

    /// Begins a command on a key, with this many arguments behind the key.
    fn on(&mut self, name: &str, key: &str, arguments: usize) -> &mut Self {
        self.command(2 + arguments, name).key(key)
    }

    fn set(&mut self, key: &str, value: &Value, options: &[&[u8]], ttl: Option<Millis>) {
        let arguments = 1 + options.len() + if ttl.is_some() { 2 } else { 0 };
        self.on("SET", key, arguments).arg(&value.bytes);
        for option in options {
            self.arg(option);
        }
        self.ttl(ttl);
    }

    /// Writes the creation and the step as one transaction, so that a counter never exists without its TTL.
    fn incr_with_creation_ttl(&mut self, key: &str, by: i64, ttl: Millis) {
        self.command(1, "MULTI");
        self.on("SET", key, 4).arg(b"0").arg(b"NX").ttl(Some(ttl));
        self.on("INCRBY", key, 1).integer(by);
        self.command(1, "EXEC");
    }

    fn trim(&mut self, key: &str, most: u64) {
        let (first, last) = trim_range(most);
        self.command(1, "MULTI");
        self.on("LLEN", key, 0);
        self.on("LTRIM", key, 2).integer(first).integer(last);
        self.command(1, "EXEC");
    }

    /// Writes the extension of a lock, or its release.
    fn hold(&mut self, name: &Key<'_>, grant: Grant, ttl: Option<Millis>, call: ScriptCall<'_>) {
        let arguments = self.script(&HOLD_LOCK, call, &[&name.companion(Companion::Lock)], 3);
        arguments.number(grant.token).number(grant.until).ttl_or_empty(ttl);
    }

    /// Writes an attempt to take a lock. A `waiter` keeps its position in the queue of the lock; it is empty for a
    /// client that does not wait.
    pub(crate) fn lock(&mut self, name: &Key<'_>, ttl: Millis, waiter: &str, call: ScriptCall<'_>) {
        let lock = name.companion(Companion::Lock);
        let keys = [&lock, &keys::lock_queue(name), &keys::lock_last_seen(name), &Key::fence()];
        self.script(&LOCK, call, &keys, 3).number(ttl.get()).arg(waiter.as_bytes()).number(GRACE_MICROS);
    }

    /// Writes that a waiter leaves the queue of a lock.
    pub(crate) fn leave(&mut self, name: &Key<'_>, waiter: &str) {
        self.command(3, "ZREM").key(&keys::lock_queue(name)).arg(waiter.as_bytes());
        self.command(3, "HDEL").key(&keys::lock_last_seen(name)).arg(waiter.as_bytes());
    }

    /// Writes a command that may create its key. One that is too long becomes several in one transaction.
    fn create(
        &mut self,
        key: &Key<'_>,
        name: &str,
        args: &[&[u8]],
        ttl_if_created: Option<Millis>,
        call: ScriptCall<'_>,
    ) {
        let is_long = args.len() > MAX_ARGS;
        let mut ttl_if_created = ttl_if_created;
        let call = if is_long { ScriptCall::ByText } else { call };
        if is_long {
            self.command(1, "MULTI");
        }
        self.split_args(args, |writer, count| match ttl_if_created.take() {
            None => {
                writer.on(name, key, count);
            }
            Some(ttl) => {
                let arguments = writer.script(&CREATE, call, &[key], 2 + count);
                arguments.number(ttl.get()).arg(name.as_bytes());
            }
        });
        if is_long {
            self.command(1, "EXEC");
        }
    }

    fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            None => self.arg(b"0").arg(b""),
            Some(bytes) => self.arg(b"1").arg(bytes),
        }
    }
}

/// Returns the range that LTRIM must keep so that the last `most` values remain.
pub(crate) fn trim_range(most: u64) -> (i64, i64) {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    // INVARIANT: removing all values is also LTRIM and not DEL, because LTRIM refuses what is not a queue.
    if most == 0 { (1, 0) } else { (-most, -1) }
}

/// How the replies to a transaction become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MultiReply {
    /// How many commands are in it.
    pub(crate) commands: usize,
    pub(crate) reply: NumberFrom,
}

/// Which number a transaction replies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberFrom {
    /// The last of the numbers that the commands replied with.
    Last,
    /// The number behind the reply to a SET, which may have set nothing.
    BehindSet,
    /// The sum of all of them.
    Sum,
    /// How much the length before a trim is above this number.
    Above(u64),
}

/// Returns how the replies to a mutation are read if it is a transaction.
pub(crate) fn multi_reply(action: &EntryAction) -> Option<MultiReply> {
    let if_long = |args: usize, reply| {
        (args > MAX_ARGS).then(|| MultiReply { commands: args.div_ceil(MAX_ARGS), reply })
    };
    match action {
        EntryAction::Incr { ttl_if_created: Some(_), .. } => {
            Some(MultiReply { commands: 2, reply: NumberFrom::BehindSet })
        }
        EntryAction::Trim { most } => Some(MultiReply { commands: 2, reply: NumberFrom::Above(*most) }),
        EntryAction::MapPut { fields, .. } => if_long(2 * fields.len(), NumberFrom::Sum),
        EntryAction::Push { values, .. } => if_long(values.len(), NumberFrom::Last),
        EntryAction::Put { .. }
        | EntryAction::PutIfAbsent { .. }
        | EntryAction::PutIfPresent { .. }
        | EntryAction::GetAndPut { .. }
        | EntryAction::Swap { .. }
        | EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::Incr { ttl_if_created: None, .. }
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::Touch { .. }
        | EntryAction::Renew { .. }
        | EntryAction::MapDelete { .. }
        | EntryAction::MapIncr { .. }
        | EntryAction::Pop { .. }
        | EntryAction::WindowAdd(_) => None,
    }
}

/// Returns whether the commands of a mutation are a transaction.
pub(crate) fn is_transaction(action: &EntryAction) -> bool {
    match action {
        EntryAction::Incr { ttl_if_created, .. } => ttl_if_created.is_some(),
        EntryAction::Trim { .. } => true,
        EntryAction::MapPut { fields, .. } => 2 * fields.len() > MAX_ARGS,
        EntryAction::Push { values, .. } => values.len() > MAX_ARGS,
        EntryAction::Put { .. }
        | EntryAction::PutIfAbsent { .. }
        | EntryAction::PutIfPresent { .. }
        | EntryAction::GetAndPut { .. }
        | EntryAction::Swap { .. }
        | EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::Touch { .. }
        | EntryAction::Renew { .. }
        | EntryAction::MapDelete { .. }
        | EntryAction::MapIncr { .. }
        | EntryAction::Pop { .. }
        | EntryAction::WindowAdd(_) => false,
    }
}

/// Returns the approximate size of a mutation in bytes.
pub(crate) fn weight(action: &EntryAction) -> usize {
    let script = |ttl_if_created: &Option<Millis>| ttl_if_created.map_or(0, |_| CREATE.text().len());
    match action {
        EntryAction::Put { value, .. }
        | EntryAction::PutIfAbsent { value, .. }
        | EntryAction::PutIfPresent { value }
        | EntryAction::GetAndPut { value, .. } => value.bytes.len(),
        EntryAction::Swap { expected, new, .. } => {
            let expected = expected.as_ref().map_or(0, |expected| expected.len());
            SWAP.text().len() + expected + new.as_ref().map_or(0, |new| new.bytes.len())
        }
        EntryAction::MapPut { fields, ttl_if_created } => {
            let parts = fields.iter().map(|(field, value)| field.len() + value.bytes.len());
            script(ttl_if_created) + parts.sum::<usize>()
        }
        EntryAction::Push { values, ttl_if_created, .. } => {
            script(ttl_if_created) + values.iter().map(|value| value.bytes.len()).sum::<usize>()
        }
        EntryAction::MapIncr { field, ttl_if_created, .. } => script(ttl_if_created) + field.len(),
        EntryAction::MapDelete { field } => field.len(),
        EntryAction::WindowAdd(_) => WINDOW.text().len(),
        EntryAction::Renew { .. } => RENEW.text().len(),
        EntryAction::Delete
        | EntryAction::GetAndDelete
        | EntryAction::Incr { .. }
        | EntryAction::Expire { .. }
        | EntryAction::Persist
        | EntryAction::Touch { .. }
        | EntryAction::Pop { .. }
        | EntryAction::Trim { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::wire::action::WireAction;
    use crate::backend::redis::wire::resp::words;
    use crate::backend::redis::wire::scripts::{Script, ScriptCall};
    use crate::bytes::Bytes;
    use crate::op::End;
    use crate::value::Value as Stored;

    fn text(action: &impl WireAction, call: ScriptCall<'_>) -> String {
        words(|writer| action.write(&Key::listed("k".to_owned()), writer, call))
    }

    fn ttl() -> Millis {
        Millis::new(Duration::from_millis(1500)).unwrap()
    }

    #[test]
    fn each_action_on_a_value_is_its_command() {
        let value = || Stored::json(b"1");
        let ttl = ttl();
        for (action, command) in [
            (EntryAction::Put { value: value(), ttl: None }, "SET p:k 1"),
            (EntryAction::Put { value: value(), ttl: Some(ttl) }, "SET p:k 1 PX 1500"),
            (EntryAction::PutIfAbsent { value: value(), ttl: None }, "SET p:k 1 NX"),
            (EntryAction::PutIfAbsent { value: value(), ttl: Some(ttl) }, "SET p:k 1 NX PX 1500"),
            (EntryAction::PutIfPresent { value: value() }, "SET p:k 1 XX GET KEEPTTL"),
            (EntryAction::GetAndPut { value: value(), ttl: Some(ttl) }, "SET p:k 1 GET PX 1500"),
            (EntryAction::Delete, "DEL p:k"),
            (EntryAction::GetAndDelete, "GETDEL p:k"),
            (EntryAction::Incr { by: -3, ttl_if_created: None }, "INCRBY p:k -3"),
            (
                EntryAction::Incr { by: 3, ttl_if_created: Some(ttl) },
                "MULTI SET p:k 0 NX PX 1500 INCRBY p:k 3 EXEC",
            ),
            (EntryAction::Expire { ttl }, "PEXPIRE p:k 1500"),
            (EntryAction::Persist, "PERSIST p:k"),
            (EntryAction::Touch { ttl }, "GETEX p:k PX 1500"),
        ] {
            assert_eq!(text(&action, ScriptCall::ByText), command);
        }
        let swap =
            EntryAction::Swap { expected: Some(Bytes::from("a")), new: None, ttl_if_created: Some(ttl) };
        let sha = SWAP.sha();
        assert_eq!(text(&swap, ScriptCall::BySha), format!("EVALSHA {sha} 1 p:k 1 a 0  1500"));
    }

    #[test]
    fn each_action_on_a_map_or_a_queue_is_its_command() {
        let values = || vec![Stored::json(b"1"), Stored::json(b"2")];
        let fields = || vec![("f".into(), Stored::json(b"1")), ("".into(), Stored::json(b"2"))];
        let push = |end| EntryAction::Push { end, values: values(), ttl_if_created: None };
        let create = CREATE.sha();
        for (action, command) in [
            (EntryAction::MapPut { fields: fields(), ttl_if_created: None }, "HSET p:k f 1  2".to_owned()),
            (
                EntryAction::MapPut { fields: fields(), ttl_if_created: Some(ttl()) },
                format!("EVALSHA {create} 1 p:k 1500 HSET f 1  2"),
            ),
            (EntryAction::MapDelete { field: "f".into() }, "HDEL p:k f".to_owned()),
            (
                EntryAction::MapIncr { field: "f".into(), by: -2, ttl_if_created: None },
                "HINCRBY p:k f -2".to_owned(),
            ),
            (
                EntryAction::MapIncr { field: "f".into(), by: 2, ttl_if_created: Some(ttl()) },
                format!("EVALSHA {create} 1 p:k 1500 HINCRBY f 2"),
            ),
            (push(End::Back), "RPUSH p:k 1 2".to_owned()),
            (push(End::Front), "LPUSH p:k 1 2".to_owned()),
            (
                EntryAction::Push { end: End::Back, values: values(), ttl_if_created: Some(ttl()) },
                format!("EVALSHA {create} 1 p:k 1500 RPUSH 1 2"),
            ),
            (
                EntryAction::WindowAdd(WindowAdd { width: ttl(), at: None, by: -2, limit: Some(9) }),
                format!("EVALSHA {} 1 p:k 1500  -2 9", WINDOW.sha()),
            ),
            (EntryAction::Pop { end: End::Back }, "RPOP p:k".to_owned()),
            (EntryAction::Pop { end: End::Front }, "LPOP p:k".to_owned()),
            (EntryAction::Trim { most: 3 }, "MULTI LLEN p:k LTRIM p:k -3 -1 EXEC".to_owned()),
            (EntryAction::Trim { most: 0 }, "MULTI LLEN p:k LTRIM p:k 1 0 EXEC".to_owned()),
            (
                EntryAction::Trim { most: u64::MAX },
                "MULTI LLEN p:k LTRIM p:k -9223372036854775807 -1 EXEC".to_owned(),
            ),
        ] {
            assert_eq!(text(&action, ScriptCall::BySha), command);
        }
    }

    #[test]
    fn each_action_on_a_lease_or_a_lock_is_its_script() {
        let grant = Grant { token: 7, until: 99 };
        let [lease, end, extend, lock, permit, hold] =
            [&LEASE, &END_LEASE, &EXTEND_LEASE, &LOCK, &PERMIT, &HOLD_LOCK].map(Script::sha);
        let queue = "p:k p:k:__millpond:leases p:k:__millpond:leased";
        for (action, command) in [
            (
                LeaseAction::Lease { lease: ttl(), dead_letters: None, ttl_if_created: None },
                format!(
                    "{lease} 6 {queue} p:k:__millpond:returned p:__millpond:fence p:k:__millpond:delayed 1500  0"
                ),
            ),
            (
                LeaseAction::EndLease { id: "7".into(), back: true, ttl_if_created: Some(ttl()) },
                format!("{end} 4 {queue} p:k:__millpond:returned 7 1 1500"),
            ),
            (
                LeaseAction::ExtendLease { id: "7".into(), lease: ttl() },
                format!("{extend} 1 p:k:__millpond:leases 7 1500"),
            ),
        ] {
            assert_eq!(text(&action, ScriptCall::BySha), format!("EVALSHA {command}"));
        }
        for (action, command) in [
            (
                LockAction::Lock { ttl: ttl() },
                format!(
                    "{lock} 4 p:k:__millpond:lock p:k:__millpond:lock_queue p:k:__millpond:lock_seen \
                     p:__millpond:fence 1500  300000"
                ),
            ),
            (
                LockAction::Permit { most: 2, ttl: ttl() },
                format!(
                    "{permit} 3 p:__millpond:fence p:k:__millpond:permit:0:__millpond:lock \
                     p:k:__millpond:permit:1:__millpond:lock 1500"
                ),
            ),
            (LockAction::Extend { grant, ttl: ttl() }, format!("{hold} 1 p:k:__millpond:lock 7 99 1500")),
            (LockAction::Unlock { grant }, format!("{hold} 1 p:k:__millpond:lock 7 99")),
        ] {
            assert_eq!(text(&action, ScriptCall::BySha), format!("EVALSHA {command}"));
        }
    }

    #[test]
    fn a_push_of_many_values_is_one_transaction_with_its_ttl() {
        let values = vec![Stored::json(b"1"); MAX_ARGS + 1];
        let mut action = EntryAction::Push { end: End::Back, values, ttl_if_created: Some(ttl()) };
        assert_eq!(multi_reply(&action), Some(MultiReply { commands: 2, reply: NumberFrom::Last }));
        let text_of_long = text(&action, ScriptCall::BySha);
        assert!(
            text_of_long.starts_with(&format!("MULTI EVAL {} 1 p:k 1500 RPUSH 1 1", CREATE.text())),
            "{text_of_long:.99}"
        );
        assert!(text_of_long.ends_with(" 1 RPUSH p:k 1 EXEC"));
        if let EntryAction::Push { values, .. } = &mut action {
            values.pop();
        }
        assert_eq!(multi_reply(&action), None);
        assert!(text(&action, ScriptCall::BySha).starts_with("EVALSHA"));
    }
}
