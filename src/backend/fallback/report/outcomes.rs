//! Owns what is kept and counted of operations that waited, once the server has said what became of them. Knows
//! nothing of how they were sent.

use std::sync::atomic::Ordering;

use crate::backend::fallback::outage::disconnected::{Away, Tally};
use crate::backend::fallback::shared::{Inner, MOST_TOLD, Told};
use crate::backend::redis::replay::connection::refusal;
use crate::backend::redis::replay::queued_op::{Deferred, Outcome};
use crate::bytes::Bytes;
use crate::outage::{PendingOperation, PendingReason, Rejected, WriteConflict};

impl Inner {
    /// Counts what became of operations that waited.
    pub(crate) fn count(&self, away: &Away, operations: u64, outcomes: &[(usize, Outcome)]) {
        let places = |is: fn(&Outcome) -> bool| {
            let mut places: Vec<_> =
                outcomes.iter().filter(|(_, outcome)| is(outcome)).map(|(at, _)| *at).collect();
            places.dedup();
            places.len() as u64
        };
        let rejected = places(|outcome| matches!(outcome, Outcome::Rejected(_)));
        let conflicts = places(|outcome| matches!(outcome, Outcome::Overwritten(_) | Outcome::Dropped(_)));
        let not_done = places(|outcome| !matches!(outcome, Outcome::Overwritten(_)));
        let replayed = operations.saturating_sub(not_done);
        self.counts.replayed.fetch_add(replayed, Ordering::Relaxed);
        away.add(Tally { replayed, rejected, conflicts });
    }

    /// Keeps what became of an operation for whoever asks.
    pub(crate) fn note(&self, op: &Deferred, outcome: Outcome) {
        let key = op.key.to_string();
        let mine = op.argument();
        let mut told = self.told.lock();
        match outcome {
            Outcome::Rejected(cause) => {
                self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                let (operation, place) = (op.name(), self.redis.place());
                log::warn!("the Redis server {place} refused {operation} {key:?}, which had waited: {cause}");
                let (field, error) = (op.field(), refusal(op, cause));
                told.rejected.push(Rejected { key, operation, field, value: mine, error });
            }
            Outcome::Overwritten(theirs) => self.conflict(&mut told, key, mine, theirs, true),
            Outcome::Dropped(theirs) => self.conflict(&mut told, key, mine, theirs, false),
            Outcome::Uncertain => {}
        }
    }

    fn conflict(
        &self,
        told: &mut Told,
        key: String,
        mine: Option<Bytes>,
        theirs: Option<Vec<u8>>,
        applied: bool,
    ) {
        self.counts.conflicts.fetch_add(1, Ordering::Relaxed);
        if told.conflicts.len() < MOST_TOLD {
            let theirs = theirs.map(Bytes::from);
            told.conflicts.push(WriteConflict { key, mine, theirs, applied });
        }
    }

    pub(crate) fn doubt(&self, doubtful: Vec<Deferred>, away: &Away) {
        self.counts.uncertain.fetch_add(doubtful.len() as u64, Ordering::Relaxed);
        // What is known of these keys is known no more.
        for op in &doubtful {
            drop(self.shadow.writing(&op.key));
        }
        let uncertain = doubtful.into_iter().map(|op| PendingOperation {
            key: op.key.to_string(),
            operation: op.name(),
            field: op.field(),
            value: op.argument(),
            since: away.since,
            reason: PendingReason::Uncertain,
        });
        self.told.lock().uncertain.extend(uncertain);
    }
}
