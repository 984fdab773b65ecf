//! Owns how one mutation of an entry or of a queue's leases is carried out, on the server or locally. Knows nothing of
//! how the choice between the two is made.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::route::{OnLostReply, Routed};
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::client::Redis;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::slots::SlotCall;
use crate::error::Result;
use crate::key::Key;
use crate::op::{LeaseAction, Op, Reply};

/// A mutation of one entry.
pub(crate) struct EntryWrite<'w> {
    shared: &'w Shared,
    op: &'w Op<'w>,
    end: Option<Instant>,
    /// How the server recognises the call, from the first attempt on.
    call: Option<Arc<SlotCall>>,
}

impl<'w> EntryWrite<'w> {
    pub(crate) fn new(shared: &'w Shared, op: &'w Op<'w>, end: Option<Instant>) -> Self {
        Self { shared, op, end, call: None }
    }

    pub(crate) fn on_lost_reply(&self) -> OnLostReply {
        if self.shared.redis.is_exact() && InDoubt::is_settled_later(&self.op.action) {
            OnLostReply::AskServer
        } else if self.shared.redis.is_exact() {
            OnLostReply::Fail
        } else if Observed::is_compared(&self.op.action) {
            OnLostReply::Compare
        } else {
            OnLostReply::Fail
        }
    }
}

impl Routed for EntryWrite<'_> {
    type Output = Reply;

    fn on_server(&mut self, redis: &Redis) -> Result<Reply, OperationError> {
        let write = self.shared.shadow.begin_write(&self.op.key);
        if redis.is_exact() && self.call.is_none() {
            self.call = Some(redis.begin_call());
        }
        match redis.apply_in(self.call.as_deref(), self.op, self.end) {
            Ok(reply) => {
                self.shared.shadow.record_reply(write, self.op, &reply, &self.shared.clock);
                Ok(reply)
            }
            Err(error) => {
                write.record_failure(error.maybe_applied(), || Observed::left_by_entry(&self.op.action));
                Err(error)
            }
        }
    }

    fn locally(&mut self, outage: &Outage, sent: Sent) -> Result<Reply> {
        match &self.call {
            Some(call) if sent == Sent::InDoubt => outage.apply_one_in_doubt(self.op, call),
            _ => outage.apply(self.op, sent),
        }
    }

    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        std::iter::once(&self.op.key)
    }
}

/// A mutation of a queue's leases.
pub(crate) struct LeaseWrite<'w> {
    pub(crate) shared: &'w Shared,
    pub(crate) op: &'w Op<'w, LeaseAction>,
    pub(crate) end: Option<Instant>,
}

impl Routed for LeaseWrite<'_> {
    type Output = Reply;

    fn on_server(&mut self, redis: &Redis) -> Result<Reply, OperationError> {
        let write = self.shared.shadow.begin_write(&self.op.key);
        let (granted, requested_at) = (&self.shared.granted_leases, Instant::now());
        match redis.apply_scripted(self.op, self.end) {
            Ok(reply) => {
                write.record_write(Shadowed::NotAValue);
                if let LeaseAction::Lease { dead_letters: Some(dead_letters), .. } = &self.op.action {
                    self.shared.shadow.forget(&dead_letters.queue);
                }
                granted.record(&self.op.action, &reply, requested_at);
                Ok(reply)
            }
            Err(error) => {
                if error.maybe_applied() {
                    granted.record_doubt(&self.op.action);
                }
                write.record_failure(error.maybe_applied(), || Observed::OwnWrite);
                Err(error)
            }
        }
    }

    fn locally(&mut self, outage: &Outage, _sent: Sent) -> Result<Reply> {
        outage.apply_lease(self.op)
    }

    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        std::iter::once(&self.op.key)
    }
}
