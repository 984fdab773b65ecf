//! Owns operations on many keys, which may begin on the server and end here. Knows nothing of when which of the
//! two serves.

use std::cell::RefCell;

use crate::backend::Backend;
use crate::backend::fallback::outage::disconnected::Outage;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::{Fallback, OnLostReply, Shared};
use crate::backend::redis::batch::{Batch, BatchInDoubt};
use crate::backend::redis::client::Redis;
use crate::backend::redis::replay::queued_op::Observed;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply};

impl Fallback {
    pub(crate) fn get_batch(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        let found = RefCell::new(Vec::with_capacity(keys.len()));
        let there = |redis: &Redis| {
            let mut found = found.borrow_mut();
            let rest = &keys[found.len()..];
            let mut reading = self.shared.shadow.begin_reads(rest.iter().map(|key| &**key).collect());
            let mut more = redis.get_many(rest);
            let stopped = take_stop(&mut more);
            for (place, outcome) in more.iter().enumerate() {
                if let Ok(found) = outcome {
                    reading.record_read(place, Shadowed::value(found.clone()));
                }
            }
            found.append(&mut more);
            stopped
        };
        let here = |away: &Outage, _| {
            let mut found = found.borrow_mut();
            let rest = &keys[found.len()..];
            found.extend(rest.iter().map(|key| away.get(key)));
            Ok(())
        };
        let outcome = self.route(OnLostReply::Repeat, there, here);
        let mut found = found.into_inner();
        found.extend(outcome.err().map(Err));
        found
    }

    /// Where the server goes away in the middle, what it has done stays done, and the rest is done here if that
    /// cannot double anything.
    pub(crate) fn apply_batch(&self, ops: &[Op<'_>]) -> Vec<Result<Reply>> {
        let again = if ops.iter().all(|op| op.action.traits().repeat.is_harmless()) {
            OnLostReply::Repeat
        } else if ops.iter().all(|op| self.shared.redis.deduplicates(&op.action)) {
            OnLostReply::AskServer
        } else {
            OnLostReply::Fail
        };
        let progress =
            RefCell::new(BatchProgress { ops, replies: Vec::with_capacity(ops.len()), in_doubt: None });
        let there = |redis: &Redis| progress.borrow_mut().run_on_server(&self.shared, redis);
        let here = |away: &Outage, lost| {
            progress.borrow_mut().run_locally(away, lost);
            Ok(())
        };
        let outcome = self.route_write(again, || ops.iter().map(|op| &op.key), there, here);
        let mut replies = progress.into_inner().replies;
        replies.extend(outcome.err().map(Err));
        replies
    }
}

/// How far a batch is.
struct BatchProgress<'o, 'k> {
    ops: &'o [Op<'k>],
    replies: Vec<Result<Reply>>,
    /// What nobody knows of the next operations.
    in_doubt: Option<BatchInDoubt>,
}

impl<'o, 'k> BatchProgress<'o, 'k> {
    fn rest(&self) -> &'o [Op<'k>] {
        &self.ops[self.replies.len()..]
    }

    fn run_on_server(&mut self, inner: &Shared, redis: &Redis) -> Result<()> {
        let rest = self.rest();
        let mut writing = inner.shadow.begin_writes(rest.iter().map(|op| &*op.key).collect());
        let Batch { mut replies, in_doubt: doubt } = redis.apply_chunks(rest, self.in_doubt.take());
        let stopped = match doubt {
            Some(_) => replies.pop().map_or(Ok(()), |last| last.map(drop)),
            None => take_stop(&mut replies),
        };
        self.in_doubt = doubt;
        let is_lost = stopped.as_ref().is_err_and(Error::maybe_applied);
        for (place, (op, reply)) in rest.iter().zip(&replies).enumerate() {
            if let Some(known) = reply.as_ref().ok().and_then(|reply| inner.shadowed_after(op, reply)) {
                writing.record_write(place, known);
            }
        }
        let done = rest.iter().skip(replies.len()).map(|op| Observed::left_by_entry(&op.action));
        writing.record_failures_from(replies.len(), is_lost, done);
        self.replies.append(&mut replies);
        stopped
    }

    fn run_locally(&mut self, away: &Outage, mut sent: Sent) {
        if let Some(BatchInDoubt { call: turn, length }) = self.in_doubt.take() {
            let rest = self.rest();
            let replies = away.apply_in_doubt(&rest[..length.min(rest.len())], &turn);
            self.replies.extend(replies);
            // Those behind were not sent.
            sent = Sent::Not;
        }
        for op in self.rest() {
            let reply = away.apply(op, sent);
            self.replies.push(
                reply.map_err(|error| if sent == Sent::InDoubt { error.after_lost_answer() } else { error }),
            );
        }
    }
}

/// Takes the error out of a list of outcomes that ends with one because the server went away.
fn take_stop<R>(outcomes: &mut Vec<Result<R>>) -> Result<()> {
    match outcomes.pop() {
        Some(Err(error)) if error.unreachable().is_some() => Err(error),
        last => {
            outcomes.extend(last);
            Ok(())
        }
    }
}
