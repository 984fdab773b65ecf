//! Owns an operation that was applied locally and must still be applied on the server. Knows nothing of the queue.

use crate::backend::redis::replay::args::{WORDS_IN_DOUBT, most_words};
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::key::Key;
use crate::op::End;

/// A queued operation.
#[derive(Debug, Clone)]
pub(crate) struct QueuedOp {
    pub(crate) key: Key<'static>,
    pub(crate) action: QueuedAction,
    pub(crate) observed: Observed,
    /// Set if the server may have applied it already: how the server is asked.
    pub(crate) in_doubt: Option<InDoubt>,
    /// How many calls of the program it stands for: neighbours on one key are coalesced.
    pub(crate) calls: u64,
}

impl QueuedOp {
    /// Returns the Redis command that it becomes, as reports name it.
    pub(crate) fn command(&self) -> &'static str {
        if let QueuedAction::Pop { end } = &self.action
            && self.in_doubt.is_some()
        {
            return match end {
                End::Front => "LPUSH",
                End::Back => "RPUSH",
            };
        }
        self.action.traits().command
    }

    /// Returns how many words of the replay's command it takes at most, its key included.
    pub(crate) fn words(&self, remote_wins: bool) -> usize {
        let doubt = if self.in_doubt.is_some() { WORDS_IN_DOUBT } else { 0 };
        1 + doubt + most_words(&self.action, &self.observed, remote_wins)
    }

    /// Returns whether it is a pop whose value nobody received: it is not applied, and undone if it was.
    pub(crate) fn undoes_pop(&self) -> bool {
        self.in_doubt.is_some() && matches!(self.action, QueuedAction::Pop { .. })
    }
}
