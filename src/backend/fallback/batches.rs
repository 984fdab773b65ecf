//! Owns how operations on many keys are carried out: they may begin on the server and end locally. Knows nothing of how
//! the choice between the two is made.

use std::sync::Arc;

use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::route::{OnLostReply, Routed};
use crate::backend::fallback::shadow::after_write::shadowed_after_write;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::batch::{Batch, BatchInDoubt, Outcome};
use crate::backend::redis::client::Redis;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::slots::SlotCall;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{Op, Reply, Write};

impl FallbackBackend {
    pub(crate) fn get_batch(&self, keys: &[Key<'_>]) -> Vec<Result<Option<Bytes>>> {
        let mut read = BatchRead { shared: &self.shared, keys, found: Vec::with_capacity(keys.len()) };
        let outcome = self.route(OnLostReply::Fail, &mut read);
        let mut found = read.found;
        found.extend(outcome.err().map(Err));
        found
    }

    /// Carries out mutations one after another. If the server becomes unreachable in the middle, the mutations that it
    /// has done stay done, and the rest is carried out locally if nothing can be done twice.
    pub(crate) fn apply_batch(&self, ops: &[Op<'_>]) -> Vec<Result<Reply>> {
        let on_lost_reply = if self.shared.redis.is_exact() {
            if ops.iter().all(|op| InDoubt::is_settled_later(&op.action)) {
                OnLostReply::AskServer
            } else {
                OnLostReply::Fail
            }
        } else if ops.iter().all(|op| Observed::is_compared(&op.action)) {
            OnLostReply::Compare
        } else {
            OnLostReply::Fail
        };
        let replies = Vec::with_capacity(ops.len());
        let mut batch = BatchWrite { shared: &self.shared, ops, replies, in_doubt: None };
        let outcome = self.route(on_lost_reply, &mut batch);
        let mut replies = batch.replies;
        replies.extend(outcome.err().map(Err));
        replies
    }

    pub(crate) fn commit_batch(&self, writes: &[Op<'_, Write>]) -> Result<()> {
        let is_exact = self.shared.redis.is_exact();
        let on_lost_reply = if is_exact { OnLostReply::AskServer } else { OnLostReply::Compare };
        self.route(on_lost_reply, &mut AtomicWrite { shared: &self.shared, writes, call: None })
    }
}

struct BatchRead<'r> {
    shared: &'r Shared,
    keys: &'r [Key<'r>],
    found: Vec<Result<Option<Bytes>>>,
}

impl Routed for BatchRead<'_> {
    type Output = ();

    fn on_server(&mut self, redis: &Redis) -> Result<(), OperationError> {
        let rest = &self.keys[self.found.len()..];
        let mut reads = self.shared.shadow.begin_reads(rest.iter().map(|key| &**key).collect());
        let mut found =
            redis.get_many(rest, |index, value| reads.record_read(index, Shadowed::value(value.clone())));
        let stop = take_stop(&mut found);
        self.found.extend(found.into_iter().map(|outcome| outcome.map_err(|error| Error::from(*error))));
        stop
    }

    fn locally(&mut self, outage: &Outage, _sent: Sent) -> Result<()> {
        let rest = &self.keys[self.found.len()..];
        self.found.extend(rest.iter().map(|key| outage.get(key)));
        Ok(())
    }
}

/// Mutations that are carried out one after another, with the replies so far.
struct BatchWrite<'w> {
    shared: &'w Shared,
    ops: &'w [Op<'w>],
    replies: Vec<Result<Reply>>,
    /// The next operations, if they are in doubt and the server can be asked about them.
    in_doubt: Option<BatchInDoubt>,
}

impl<'w> BatchWrite<'w> {
    fn rest(&self) -> &'w [Op<'w>] {
        &self.ops[self.replies.len()..]
    }
}

impl Routed for BatchWrite<'_> {
    type Output = ();

    fn on_server(&mut self, redis: &Redis) -> Result<(), OperationError> {
        let rest = self.rest();
        let Shared { shadow, clock, .. } = self.shared;
        let mut writes = shadow.begin_writes(rest.iter().map(|op| &*op.key).collect());
        // The shadow takes the batch in while the server works on the rest of it.
        let record = |index, reply: &Reply| {
            if let Some(shadowed) =
                rest.get(index).and_then(|op: &Op<'_>| shadow.shadowed_after(op, reply, clock))
            {
                writes.record_write(index, shadowed);
            }
        };
        let Batch { mut replies, in_doubt } = redis.apply_chunks(rest, self.in_doubt.take(), record);
        let stop = match in_doubt {
            Some(_) => replies.pop().map_or(Ok(()), |last| last.map(drop).map_err(|error| *error)),
            None => take_stop(&mut replies),
        };
        self.in_doubt = in_doubt;
        let left = rest.iter().skip(replies.len()).map(|op| Observed::left_by_entry(&op.action));
        writes.record_failures_from(
            replies.len(),
            stop.as_ref().is_err_and(OperationError::maybe_applied),
            left,
        );
        self.replies.extend(replies.into_iter().map(|reply| reply.map_err(|error| Error::from(*error))));
        stop
    }

    fn locally(&mut self, outage: &Outage, sent: Sent) -> Result<()> {
        let mut sent = sent;
        if let Some(BatchInDoubt { call, length }) = self.in_doubt.take() {
            let rest = self.rest();
            self.replies.extend(outage.apply_in_doubt(&rest[..length.min(rest.len())], &call));
            // The operations after these were not sent.
            sent = Sent::Not;
        }
        for op in self.rest() {
            self.replies.push(outage.apply(op, sent).map_err(|error| sent.mark(error)));
        }
        Ok(())
    }

    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        self.ops.iter().map(|op| &op.key)
    }
}

/// Writes of which either all are done or none.
struct AtomicWrite<'w> {
    shared: &'w Shared,
    writes: &'w [Op<'w, Write>],
    /// How the server recognises the writes, from the first attempt on.
    call: Option<Arc<SlotCall>>,
}

impl Routed for AtomicWrite<'_> {
    type Output = ();

    fn on_server(&mut self, redis: &Redis) -> Result<(), OperationError> {
        let keys = self.writes.iter().map(|op| &*op.key).collect();
        let mut shadow_writes = self.shared.shadow.begin_writes(keys);
        if redis.is_exact() && self.call.is_none() {
            self.call = Some(redis.begin_call());
        }
        if let Err(error) = redis.commit(self.call.as_deref(), self.writes) {
            let left = self.writes.iter().map(|op| Observed::left_by_write(&op.action));
            shadow_writes.record_failures_from(0, error.maybe_applied(), left);
            return Err(error);
        }
        for (index, op) in self.writes.iter().enumerate() {
            shadow_writes.record_write(index, shadowed_after_write(&op.action, &self.shared.clock));
        }
        Ok(())
    }

    fn locally(&mut self, outage: &Outage, sent: Sent) -> Result<()> {
        match &self.call {
            Some(call) if sent == Sent::InDoubt => outage.commit_in_doubt(self.writes, call),
            _ => outage.commit(self.writes, sent),
        }
    }

    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        self.writes.iter().map(|op| &op.key)
    }
}

/// Removes and returns the last outcome if it is the error of an unreachable server.
fn take_stop<R>(outcomes: &mut Vec<Outcome<R>>) -> Result<(), OperationError> {
    match outcomes.pop() {
        Some(Err(error)) if error.symptom.is_unreachable() => Err(*error),
        last => {
            outcomes.extend(last);
            Ok(())
        }
    }
}
