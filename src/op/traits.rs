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
    pub(crate) repeat: Repeat,
}

/// What happens if an action is repeated because the reply to the first attempt was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Two attempts leave another state than one.
    Harmful,
    /// Two attempts leave the same state as one.
    Harmless(RepeatedReply),
}

/// Whether the reply to a repetition is also the reply to the first attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepeatedReply {
    /// Always.
    Valid,
    /// Only if the repetition changed something. Otherwise the first attempt may have done it already.
    ValidIfItActed,
    /// Never: only the first attempt can report how much it changed.
    Invalid,
}

impl Repeat {
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::Harmless(_))
    }

    /// Returns whether `reply`, given to a repetition, is also the reply to the first attempt.
    pub(crate) fn reply_survives(self, reply: &Reply) -> bool {
        match self {
            Self::Harmless(RepeatedReply::Valid) => true,
            Self::Harmless(RepeatedReply::ValidIfItActed) => {
                matches!(reply, Reply::Flag(true) | Reply::Hold(Hold::Held { .. }))
            }
            Self::Harmless(RepeatedReply::Invalid) | Self::Harmful => false,
        }
    }
}

const VALID: Repeat = Repeat::Harmless(RepeatedReply::Valid);
const IF_IT_ACTED: Repeat = Repeat::Harmless(RepeatedReply::ValidIfItActed);
const INVALID: Repeat = Repeat::Harmless(RepeatedReply::Invalid);

const fn row(command: &'static str, kind: Kind, repeat: Repeat) -> Traits {
    Traits { command, kind, repeat }
}

impl EntryAction {
    #[expect(clippy::match_same_arms, reason = "a table with one row per action")]
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Put { .. } => row("SET", Kind::Value, VALID),
            Self::PutIfAbsent { .. } => row("SET", Kind::Value, Repeat::Harmful),
            Self::PutIfPresent { .. } => row("SET", Kind::Value, VALID),
            Self::GetAndPut { .. } => row("SET", Kind::Value, Repeat::Harmful),
            Self::Swap { .. } => row("EVAL", Kind::Value, Repeat::Harmful),
            Self::Delete => row("DEL", Kind::Value, IF_IT_ACTED),
            Self::GetAndDelete => row("GETDEL", Kind::Value, Repeat::Harmful),
            Self::Incr { .. } => row("INCRBY", Kind::Value, Repeat::Harmful),
            Self::Expire { .. } => row("PEXPIRE", Kind::Value, VALID),
            Self::Persist => row("PERSIST", Kind::Value, IF_IT_ACTED),
            Self::Touch { .. } => row("GETEX", Kind::Value, VALID),
            Self::MapPut { .. } => row("HSET", Kind::Map, INVALID),
            Self::MapDelete { .. } => row("HDEL", Kind::Map, IF_IT_ACTED),
            Self::MapIncr { .. } => row("HINCRBY", Kind::Map, Repeat::Harmful),
            Self::Push { end: End::Back, .. } => row("RPUSH", Kind::Queue, Repeat::Harmful),
            Self::Push { end: End::Front, .. } => row("LPUSH", Kind::Queue, Repeat::Harmful),
            Self::Pop { end: End::Back } => row("RPOP", Kind::Queue, Repeat::Harmful),
            Self::Pop { end: End::Front } => row("LPOP", Kind::Queue, Repeat::Harmful),
            Self::Trim { .. } => row("LTRIM", Kind::Queue, INVALID),
        }
    }
}

impl LeaseAction {
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Lease { .. } => row("EVAL", Kind::Queue, Repeat::Harmful),
            Self::EndLease { .. } => row("EVAL", Kind::Queue, IF_IT_ACTED),
        }
    }
}

impl LockAction {
    pub(crate) fn traits(&self) -> Traits {
        match self {
            Self::Lock { .. } => row("EVAL", Kind::Value, Repeat::Harmful),
            Self::Extend { .. } => row("EVAL", Kind::Value, VALID),
            // After a lost reply, another holder may have the lock because the first attempt released it.
            Self::Unlock { .. } => row("EVAL", Kind::Value, IF_IT_ACTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_reply_counts_only_if_it_equals_the_first() {
        let held = Reply::Hold(Hold::Held { until: 1 });
        for (repeat, reply, survives) in [
            (VALID, Reply::Flag(false), true),
            (IF_IT_ACTED, Reply::Flag(true), true),
            (IF_IT_ACTED, Reply::Flag(false), false),
            (IF_IT_ACTED, held, true),
            (IF_IT_ACTED, Reply::Hold(Hold::NotHeld), false),
            (INVALID, Reply::Number(1), false),
            (Repeat::Harmful, Reply::Flag(true), false),
        ] {
            assert_eq!(repeat.reply_survives(&reply), survives, "{repeat:?} {reply:?}");
        }
    }
}
