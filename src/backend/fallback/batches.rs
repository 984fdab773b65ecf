//! Owns operations on many keys, which may begin on the server and end here. Knows nothing of when which of the
//! two serves.

use std::cell::RefCell;

use crate::backend::Backend;
use crate::backend::fallback::outage::disconnected::Away;
use crate::backend::fallback::shadow::cache::Known;
use crate::backend::fallback::shared::{Again, Fallback, Inner};
use crate::backend::redis::batch::{Batch, Doubt};
use crate::backend::redis::client::Redis;
use crate::backend::redis::replay::queued_op::Seen;
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
            let mut reading = self.inner.shadow.reading_many(rest.iter().map(|key| &**key).collect());
            let mut more = redis.get_many(rest);
            let stopped = stopped(&mut more);
            for (place, outcome) in more.iter().enumerate() {
                if let Ok(found) = outcome {
                    reading.saw(place, Known::value(found.clone()));
                }
            }
            found.append(&mut more);
            stopped
        };
        let here = |away: &Away, _| {
            let mut found = found.borrow_mut();
            let rest = &keys[found.len()..];
            found.extend(rest.iter().map(|key| away.get(key)));
            Ok(())
        };
        let outcome = self.serve(Again::Harmless, there, here);
        let mut found = found.into_inner();
        found.extend(outcome.err().map(Err));
        found
    }

    /// Where the server goes away in the middle, what it has done stays done, and the rest is done here if that
    /// cannot double anything.
    pub(crate) fn apply_batch(&self, ops: &[Op<'_>]) -> Vec<Result<Reply>> {
        let again = if ops.iter().all(|op| op.action.is_idempotent()) {
            Again::Harmless
        } else if ops.iter().all(|op| self.inner.redis.takes_turns(&op.action)) {
            Again::Told
        } else {
            Again::Harmful
        };
        let progress = RefCell::new(Progress { ops, replies: Vec::with_capacity(ops.len()), doubt: None });
        let there = |redis: &Redis| progress.borrow_mut().there(&self.inner, redis);
        let here = |away: &Away, lost| {
            progress.borrow_mut().here(&self.inner, away, lost);
            Ok(())
        };
        let outcome = self.serve_writes(again, || ops.iter().map(|op| &op.key), there, here);
        let mut replies = progress.into_inner().replies;
        replies.extend(outcome.err().map(Err));
        replies
    }
}

/// How far a batch is.
struct Progress<'o, 'k> {
    ops: &'o [Op<'k>],
    replies: Vec<Result<Reply>>,
    /// What nobody knows of the next operations.
    doubt: Option<Doubt>,
}

impl<'o, 'k> Progress<'o, 'k> {
    fn rest(&self) -> &'o [Op<'k>] {
        &self.ops[self.replies.len()..]
    }

    fn there(&mut self, inner: &Inner, redis: &Redis) -> Result<()> {
        let rest = self.rest();
        let mut writing = inner.shadow.writing_many(rest.iter().map(|op| &*op.key).collect());
        let Batch { mut replies, doubt } = redis.apply_chunks(rest, self.doubt.take());
        let stopped = match doubt {
            Some(_) => replies.pop().map_or(Ok(()), |last| last.map(drop)),
            None => stopped(&mut replies),
        };
        self.doubt = doubt;
        let is_lost = stopped.as_ref().is_err_and(Error::maybe_applied);
        for (place, (op, reply)) in rest.iter().zip(&replies).enumerate() {
            if let Some(known) = reply.as_ref().ok().and_then(|reply| inner.known_after(op, reply)) {
                writing.left(place, known);
            }
        }
        let done = rest.iter().skip(replies.len()).map(|op| Seen::done_by(&op.action));
        writing.not_done_from(replies.len(), is_lost, done);
        self.replies.append(&mut replies);
        stopped
    }

    fn here(&mut self, inner: &Inner, away: &Away, mut lost: bool) {
        if let Some(Doubt { turn, length }) = self.doubt.take() {
            let rest = self.rest();
            let replies = away.apply_told(&rest[..length.min(rest.len())], &turn);
            inner.note_queued(replies.iter().filter(|reply| reply.is_ok()).count() as u64);
            self.replies.extend(replies);
            // Those behind were not sent.
            lost = false;
        }
        for op in self.rest() {
            let reply = away.apply(op, lost).inspect(|_| inner.note_queued(1));
            self.replies.push(reply.map_err(|error| if lost { error.after_lost_answer() } else { error }));
        }
    }
}

/// Takes the error out of a list of outcomes that ends with one because the server went away.
fn stopped<R>(outcomes: &mut Vec<Result<R>>) -> Result<()> {
    match outcomes.pop() {
        Some(Err(error)) if error.unreachable().is_some() => Err(error),
        last => {
            outcomes.extend(last);
            Ok(())
        }
    }
}
