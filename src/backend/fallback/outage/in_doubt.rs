//! Owns what is done here with calls whose answers were lost, and of which the server will tell whether they were
//! done. Knows nothing of how it is asked.

use std::sync::Arc;

use crate::backend::fallback::outage::disconnected::{Outage, refused};
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::local::change::Change;
use crate::backend::local::plan::plan;
use crate::backend::local::view::LiveEntry;
use crate::backend::redis::exactly_once::slots::SlotCall;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::InDoubt;
use crate::clock::Now;
use crate::error::{Cause, Error, Result};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply};

impl Shared {
    /// Does a call of one operation here, as far as that is possible.
    pub(crate) fn apply_in_doubt(&self, away: &Outage, op: &Op<'_>, turn: &Arc<SlotCall>) -> Result<Reply> {
        let reply =
            away.apply_in_doubt(std::slice::from_ref(op), turn).pop().unwrap_or_else(|| Err(refused()));
        let is_pop = matches!(op.action, EntryAction::Pop { .. });
        if is_pop && away.is_exclusive() && !matches!(&reply, Err(error) if error.maybe_applied()) {
            // The value that it may have taken on the server goes back first.
            return away.apply(op, Sent::Not);
        }
        reply
    }
}

impl Outage {
    /// Does the operations of a call here and lets them wait until the server tells whether it has done them. A
    /// pop is refused: what it may have taken goes back there.
    pub(crate) fn apply_in_doubt(&self, ops: &[Op<'_>], turn: &Arc<SlotCall>) -> Vec<Result<Reply>> {
        // However many wait already: of these somebody has to ask.
        let mut state = self.state();
        let now = self.now();
        let mut waiting = Vec::with_capacity(ops.len());
        let mut replies = Vec::with_capacity(ops.len());
        for (place, op) in ops.iter().enumerate() {
            if !state.queue.has(&op.key) {
                self.restore_from_shadow(&op.key, &now);
            }
            let (reply, action) = match &op.action {
                EntryAction::Pop { end } => (Err(refused()), Some(QueuedAction::Pop { end: *end })),
                action => (self.estimate(op, &now), QueuedAction::from_entry(action)),
            };
            let is_pop = matches!(op.action, EntryAction::Pop { .. });
            if let Some(action) = action.filter(|_| is_pop || reply.is_ok()) {
                let told = InDoubt::new(turn, place);
                waiting.push((op.key.clone().into_owned(), action, Some(told)));
            }
            replies.push(reply);
        }
        if waiting.is_empty() {
            return replies;
        }
        let entered = self.enqueue(&mut state, waiting, Sent::Not, &now);
        drop(state);
        match entered.and_then(|written| self.wait_durable(written)) {
            Ok(()) => replies,
            // Nobody will ask.
            Err(error) => {
                let cause = error.to_string();
                ops.iter().map(|_| Err(in_doubt_error(cause.clone().into()))).collect()
            }
        }
    }

    /// Lets what was known of a key before be what the lost answer is estimated from.
    fn restore_from_shadow(&self, key: &Key<'_>, now: &Now<'_>) {
        if self.table().ttl(key, now).is_none()
            && let Some(entry) = self.before_in_doubt(key, now).and_then(Shadowed::entry)
        {
            self.table().apply(key, Change::Set(entry), now);
        }
    }

    fn estimate(&self, op: &Op<'_>, now: &Now<'_>) -> Result<Reply> {
        let Op { key, action } = op;
        let reply = self
            .table()
            .commit(key, now, |found| plan(key, action.clone(), &mut LiveEntry::new(key, found, now), now));
        // What is known here is not what lay there; there it may have been done.
        reply.map_err(|error| in_doubt_error(error.into()))
    }
}

fn in_doubt_error(source: Cause) -> Error {
    Error::Unavailable { maybe_applied: true, source }
}
