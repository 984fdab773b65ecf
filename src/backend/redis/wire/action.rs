//! Owns what all kinds of mutations have in common on the wire. Knows nothing of connections and attempts.

use crate::backend::redis::failure::{ErrorContext, Failure};
use crate::backend::redis::wire::replies::{self, NextReply};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::backend::redis::wire::{commands, lock_replies, window_reply};
use crate::clock::Millis;
use crate::key::Key;
use crate::op::{EntryAction, LeaseAction, LockAction, Op, Reply, Traits, Write};

/// A mutation that becomes commands on a server.
pub(crate) trait WireAction {
    fn traits(&self) -> Traits;

    /// Returns whether the count of writes rises with it. What a program repeats until it finds something is not
    /// counted, since it usually changes nothing.
    fn is_counted(&self) -> bool;

    /// Returns whether its commands are a transaction: MULTI, the commands, EXEC.
    fn is_transaction(&self) -> bool {
        false
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>);

    /// Reads the replies to all commands, also after one that is an error.
    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure>;

    /// Returns what the mutation leaves under its key, and its reply if the key holds that; `None` if what the key
    /// holds proves nothing.
    fn reply_if_left(&self) -> Option<(Left<'_>, Reply)> {
        None
    }
}

/// What a write leaves under its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left<'a> {
    Absent,
    /// A value with this TTL, counted from the write.
    Value(&'a [u8], Option<Millis>),
    /// A value with any TTL.
    ValueWithAnyTtl(&'a [u8]),
}

impl<'a> Left<'a> {
    pub(crate) fn by(write: &'a Write) -> Self {
        match write {
            Write::Put { value, ttl } => Self::Value(&value.bytes, *ttl),
            Write::Delete => Self::Absent,
        }
    }
}

impl WireAction for EntryAction {
    fn traits(&self) -> Traits {
        self.traits()
    }

    fn is_counted(&self) -> bool {
        !matches!(self, Self::Pop { .. })
    }

    fn is_transaction(&self) -> bool {
        commands::is_transaction(self)
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        writer.entry_action(key, self, call);
    }

    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure> {
        if let Self::WindowAdd(add) = self {
            return Ok(Reply::Window(Box::new(window_reply::added(add, next()?)?)));
        }
        replies::reply(self, next)
    }

    fn reply_if_left(&self) -> Option<(Left<'_>, Reply)> {
        match self {
            Self::Put { value, ttl } => Some((Left::Value(&value.bytes, *ttl), Reply::Done)),
            Self::PutIfPresent { value } => Some((Left::ValueWithAnyTtl(&value.bytes), Reply::Flag(true))),
            Self::PutIfAbsent { .. }
            | Self::GetAndPut { .. }
            | Self::Swap { .. }
            | Self::Delete
            | Self::GetAndDelete
            | Self::Incr { .. }
            | Self::Expire { .. }
            | Self::Persist
            | Self::Touch { .. }
            | Self::Renew { .. }
            | Self::MapPut { .. }
            | Self::MapDelete { .. }
            | Self::MapIncr { .. }
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Trim { .. }
            | Self::WindowAdd(_) => None,
        }
    }
}

impl WireAction for LeaseAction {
    fn traits(&self) -> Traits {
        self.traits()
    }

    fn is_counted(&self) -> bool {
        match self {
            Self::EndLease { .. } | Self::PushDelayed { .. } => true,
            Self::Lease { .. } | Self::ExtendLease { .. } => false,
        }
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        writer.lease_action(key, self, call);
    }

    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure> {
        replies::lease_reply(self, next()?)
    }
}

impl WireAction for LockAction {
    fn traits(&self) -> Traits {
        self.traits()
    }

    fn is_counted(&self) -> bool {
        false
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall<'_>) {
        writer.lock_action(key, self, call);
    }

    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure> {
        lock_replies::lock_reply(self, next()?)
    }
}

/// Returns what an error about a mutation names.
pub(crate) fn error_context<'a, A: WireAction>(op: &'a Op<'_, A>) -> ErrorContext<'a> {
    let Traits { command, kind, .. } = op.action.traits();
    ErrorContext { command, key: &op.key, mutation: true, expected: kind }
}
