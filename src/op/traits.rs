//! Owns the constant properties of each action, one row per action. Knows nothing of how an action is carried out.

use crate::error::Kind;
use crate::op::action::{End, EntryAction, LeaseAction, LockAction};
use crate::op::reply::{Hold, Reply};

/// What the Redis variant must know about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// The command that the action becomes on the server, as errors name it.
    pub(crate) command: &'static str,
    /// The kind of entry that the action works on; `Value` if it works on any kind.
    pub(crate) kind: Kind,
    pub(crate) lost_reply: LostReply,
}

/// What is done about a mutation whose reply was lost. It is never simply repeated: even a mutation that leaves the
/// same state twice would overwrite what other clients have written since the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostReply {
    /// Nothing: nobody can tell what the first attempt did from what other clients did.
    StaysInDoubt,
    /// The server is asked whether the key holds what the mutation leaves. If it does, the mutation is done.
    IsCompared,
    /// The mutation is repeated: it names a lease or a token, which no other client ever gets, and changes nothing if
    /// the first attempt has ended that; or it is a read that renews, which undoes no write of others.
    IsRepeated(RepeatedReply),
}

/// Whether the reply to a repetition is also the reply to the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepeatedReply {
    /// Always.
    Valid,
    /// Only if the repetition changed something. Otherwise the first attempt may have done it already.
    ValidIfItActed,
}

impl LostReply {
    /// Returns whether `reply`, given to a repetition, is also the reply to the first attempt.
    pub(crate) fn reply_survives(self, reply: &Reply) -> bool {
        match self {
            Self::IsRepeated(RepeatedReply::Valid) => true,
            Self::IsRepeated(RepeatedReply::ValidIfItActed) => {
                matches!(reply, Reply::Flag(true) | Reply::Hold(Hold::Held { .. }))
            }
            Self::StaysInDoubt | Self::IsCompared => false,
        }
    }
}

const IN_DOUBT: LostReply = LostReply::StaysInDoubt;
const COMPARED: LostReply = LostReply::IsCompared;
const REPEATED: LostReply = LostReply::IsRepeated(RepeatedReply::Valid);
const REPEATED_IF_IT_ACTED: LostReply = LostReply::IsRepeated(RepeatedReply::ValidIfItActed);

const fn row(command: &'static str, kind: Kind, lost_reply: LostReply) -> Traits {
    Traits { command, kind, lost_reply }
}

impl EntryAction {
    #[expect(clippy::match_same_arms, reason = "a table with one row per action")]
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Put { .. } => row("SET", Kind::Value, COMPARED),
            Self::PutIfAbsent { .. } => row("SET", Kind::Value, IN_DOUBT),
            Self::PutIfPresent { .. } => row("SET", Kind::Value, COMPARED),
            Self::GetAndPut { .. } => row("SET", Kind::Value, IN_DOUBT),
            Self::Swap { .. } => row("EVAL", Kind::Value, IN_DOUBT),
            Self::Delete => row("DEL", Kind::Value, IN_DOUBT),
            Self::GetAndDelete => row("GETDEL", Kind::Value, IN_DOUBT),
            Self::Incr { .. } => row("INCRBY", Kind::Value, IN_DOUBT),
            Self::Expire { .. } => row("PEXPIRE", Kind::Value, IN_DOUBT),
            Self::Persist => row("PERSIST", Kind::Value, IN_DOUBT),
            Self::Touch { .. } => row("GETEX", Kind::Value, IN_DOUBT),
            Self::Renew { .. } => row("EVAL", Kind::Value, REPEATED),
            Self::MapPut { .. } => row("HSET", Kind::Map, IN_DOUBT),
            Self::MapDelete { .. } => row("HDEL", Kind::Map, IN_DOUBT),
            Self::MapIncr { .. } => row("HINCRBY", Kind::Map, IN_DOUBT),
            Self::Push { end: End::Back, .. } => row("RPUSH", Kind::Queue, IN_DOUBT),
            Self::Push { end: End::Front, .. } => row("LPUSH", Kind::Queue, IN_DOUBT),
            Self::Pop { end: End::Back } => row("RPOP", Kind::Queue, IN_DOUBT),
            Self::Pop { end: End::Front } => row("LPOP", Kind::Queue, IN_DOUBT),
            Self::Trim { .. } => row("LTRIM", Kind::Queue, IN_DOUBT),
            Self::WindowAdd(_) => row("EVAL", Kind::Map, IN_DOUBT),
        }
    }
}

impl LeaseAction {
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Lease { .. } | Self::PushDelayed { .. } => row("EVAL", Kind::Queue, IN_DOUBT),
            Self::EndLease { .. } => row("EVAL", Kind::Queue, REPEATED_IF_IT_ACTED),
            Self::ExtendLease { .. } => row("EVAL", Kind::Queue, REPEATED),
        }
    }
}

impl LockAction {
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Lock { .. } | Self::Permit { .. } => row("EVAL", Kind::Value, IN_DOUBT),
            Self::Extend { .. } => row("EVAL", Kind::Value, REPEATED),
            // After a lost reply, another holder may have the lock because the first attempt released it.
            Self::Unlock { .. } => row("EVAL", Kind::Value, REPEATED_IF_IT_ACTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_reply_counts_only_if_it_equals_the_first() {
        let held = Reply::Hold(Hold::Held { until: 1 });
        for (lost_reply, reply, survives) in [
            (REPEATED, Reply::Flag(false), true),
            (REPEATED_IF_IT_ACTED, Reply::Flag(true), true),
            (REPEATED_IF_IT_ACTED, Reply::Flag(false), false),
            (REPEATED_IF_IT_ACTED, held, true),
            (REPEATED_IF_IT_ACTED, Reply::Hold(Hold::NotHeld), false),
            (COMPARED, Reply::Done, false),
            (IN_DOUBT, Reply::Flag(true), false),
        ] {
            assert_eq!(lost_reply.reply_survives(&reply), survives, "{lost_reply:?} {reply:?}");
        }
    }
}
