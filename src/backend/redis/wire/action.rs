//! Owns what all kinds of mutations have in common on the wire. Knows nothing of connections and attempts.

use crate::backend::redis::failure::{ErrorContext, Failure};
use crate::backend::redis::wire::replies::{self, NextReply};
use crate::backend::redis::wire::resp::CommandWriter;
use crate::backend::redis::wire::scripts::ScriptCall;
use crate::key::Key;
use crate::op::{EntryAction, LeaseAction, LockAction, Op, Reply, Traits};

/// A mutation that becomes commands on a server.
pub(crate) trait WireAction {
    fn traits(&self) -> Traits;

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall);

    /// Reads the replies to all commands, also after one that is an error.
    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure>;
}

impl WireAction for EntryAction {
    fn traits(&self) -> Traits {
        self.traits()
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall) {
        writer.entry_action(key, self, call);
    }

    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure> {
        replies::reply(self, next)
    }
}

impl WireAction for LeaseAction {
    fn traits(&self) -> Traits {
        self.traits()
    }

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall) {
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

    fn write(&self, key: &Key<'_>, writer: &mut CommandWriter<'_>, call: ScriptCall) {
        writer.lock_action(key, self, call);
    }

    fn read(&self, next: NextReply<'_>) -> Result<Reply, Failure> {
        replies::lock_reply(self, next()?)
    }
}

/// Returns what an error about a mutation names.
pub(crate) fn error_context<'a, A: WireAction>(op: &'a Op<'_, A>) -> ErrorContext<'a> {
    let Traits { command, kind, .. } = op.action.traits();
    ErrorContext { command, key: &op.key, mutation: true, expected: kind }
}
