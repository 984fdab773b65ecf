//! Owns what is done here with calls whose answers were lost, and of which the server will tell whether they were
//! done. Knows nothing of how it is asked.

use std::sync::Arc;

use crate::backend::fallback::outage::disconnected::{Away, refused};
use crate::backend::fallback::shadow::cache::Known;
use crate::backend::fallback::shared::Inner;
use crate::backend::local::change::Change;
use crate::backend::local::plan::plan;
use crate::backend::local::view::Here;
use crate::backend::redis::exactly_once::slots::Turn;
use crate::backend::redis::replay::queued_op::Told;
use crate::clock::Now;
use crate::error::{Cause, Error, Result};
use crate::key::Key;
use crate::op::{Action, Op, Reply};

impl Inner {
    /// Does a call of one operation here, as far as that is possible.
    pub(crate) fn apply_told(&self, away: &Away, op: &Op<'_>, turn: &Arc<Turn>) -> Result<Reply> {
        let reply = away.apply_told(std::slice::from_ref(op), turn).pop().unwrap_or_else(|| Err(refused()));
        let is_pop = matches!(op.action, Action::Pop { .. });
        self.note_queued(u64::from(is_pop || reply.is_ok()));
        if is_pop && away.is_exclusive() && !matches!(&reply, Err(error) if error.maybe_applied()) {
            // The value that it may have taken there goes back first.
            return away.apply(op, false).inspect(|_| self.note_queued(1));
        }
        reply
    }
}

impl Away {
    /// Does the operations of a call here and lets them wait until the server tells whether it has done them. A
    /// pop is refused: what it may have taken goes back there.
    pub(crate) fn apply_told(&self, ops: &[Op<'_>], turn: &Arc<Turn>) -> Vec<Result<Reply>> {
        // However many wait already: of these somebody has to ask.
        let mut state = self.state();
        let now = self.now();
        let mut waiting = Vec::with_capacity(ops.len());
        let mut replies = Vec::with_capacity(ops.len());
        for (place, op) in ops.iter().enumerate() {
            if !state.queue.has(&op.key) {
                self.recall(&op.key, &now);
            }
            let is_pop = matches!(op.action, Action::Pop { .. });
            let reply = if is_pop { Err(refused()) } else { self.estimate(op, &now) };
            if is_pop || reply.is_ok() {
                let told = Told::of(turn, place);
                waiting.push((op.key.clone().into_owned(), op.action.clone(), Some(told)));
            }
            replies.push(reply);
        }
        if waiting.is_empty() {
            return replies;
        }
        let entered = self.enter(&mut state, waiting, false, &now);
        drop(state);
        match entered.and_then(|written| self.settle(written)) {
            Ok(()) => replies,
            // Nobody will ask.
            Err(error) => {
                let cause = error.to_string();
                ops.iter().map(|_| Err(in_doubt(cause.clone().into()))).collect()
            }
        }
    }

    /// Lets what was known of a key before be what the lost answer is estimated from.
    fn recall(&self, key: &Key<'_>, now: &Now<'_>) {
        if self.table().ttl(key, now).is_none()
            && let Some(entry) = self.before(key, now).and_then(Known::entry)
        {
            self.table().apply(key, Change::Set(entry), now);
        }
    }

    fn estimate(&self, op: &Op<'_>, now: &Now<'_>) -> Result<Reply> {
        let Op { key, action } = op;
        let reply = self
            .table()
            .commit(key, now, |found| plan(key, action.clone(), &mut Here::new(key, found, now), now));
        // What is known here is not what lay there; there it may have been done.
        reply.map_err(|error| in_doubt(error.into()))
    }
}

fn in_doubt(source: Cause) -> Error {
    Error::Unavailable { maybe_applied: true, source }
}
