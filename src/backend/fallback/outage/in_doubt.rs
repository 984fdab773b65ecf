//! Owns how calls in doubt are served locally, until the server is asked whether it has done them.
//! Knows nothing of how the server is asked.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::backend::fallback::outage::refusal::refused;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::outage::session::Session;
use crate::backend::fallback::queue::group::OpToQueue;
use crate::backend::local::change::Change;
use crate::backend::local::overlay::Overlay;
use crate::backend::local::plan::plan_write;
use crate::backend::local::table_source::TableSource;
use crate::backend::redis::replay::in_doubt::InDoubt;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::slots::SlotCall;
use crate::clock::Now;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::op::{EntryAction, Op, Reply, Write};

impl Outage {
    /// Applies a call of one operation locally, as far as that is possible.
    pub(crate) fn apply_one_in_doubt(&self, op: &Op<'_>, call: &Arc<SlotCall>) -> Result<Reply> {
        let reply =
            self.apply_in_doubt(std::slice::from_ref(op), call).pop().unwrap_or_else(|| Err(refused()));
        let is_pop = matches!(op.action, EntryAction::Pop { .. });
        if is_pop && self.is_exclusive() && !matches!(&reply, Err(error) if error.maybe_applied()) {
            // The value that the server may have popped goes back first.
            return self.apply(op, Sent::Not);
        }
        reply
    }

    /// Applies the operations of a call locally, and queues them. Before the replay does one of them, it asks the server
    /// whether it was done already. A pop is refused: the value that the server may have popped goes back to the queue.
    pub(crate) fn apply_in_doubt(&self, ops: &[Op<'_>], call: &Arc<SlotCall>) -> Vec<Result<Reply>> {
        // Not `reserve`: however full the queue is, the server must be asked about these.
        let session = self.session();
        let now = self.now();
        for op in ops.iter().filter(|op| !session.queue.has(&op.key)) {
            self.restore_before_in_doubt(&op.key, &now);
        }
        let mut source = TableSource { table: self.table(), now: &now, read_set: None };
        let mut overlay = Overlay::new(&mut source, &now);
        let mut to_queue = Vec::with_capacity(ops.len());
        let mut replies = Vec::with_capacity(ops.len());
        for (step, op) in ops.iter().enumerate() {
            let (reply, action) = if let EntryAction::Pop { end } = &op.action {
                (Err(refused()), Some(QueuedAction::Pop { end: *end }))
            } else {
                // A local refusal proves nothing: the server may have had another entry.
                let reply = overlay.apply(op.clone()).map_err(Error::in_doubt);
                let action = QueuedAction::from_entry(&op.action).filter(|_| reply.is_ok());
                (reply, action)
            };
            to_queue.extend(action.map(|action| OpToQueue {
                in_doubt: Some(InDoubt::new(call, step)),
                ..OpToQueue::new(&op.key, action)
            }));
            replies.push(reply);
        }
        let changes = overlay.into_changes();
        match self.queue_in_doubt(session, to_queue, changes, &now) {
            Ok(()) => replies,
            Err(error) => {
                let cause = error.to_string();
                ops.iter().map(|_| Err(Error::in_doubt(cause.clone()))).collect()
            }
        }
    }

    /// Applies the writes of a batch locally, and queues them as one group. Before the replay does them, it asks the
    /// server whether they were done already.
    pub(crate) fn commit_in_doubt(&self, writes: &[Op<'_, Write>], call: &Arc<SlotCall>) -> Result<()> {
        let session = self.session();
        let now = self.now();
        let changes = writes.iter().map(|op| (op.key.clone(), plan_write(op.action.clone(), &now))).collect();
        let to_queue = (0..).zip(writes).map(|(step, op)| OpToQueue {
            in_doubt: Some(InDoubt::new(call, step)),
            ..OpToQueue::new(&op.key, op.action.clone().into())
        });
        self.queue_in_doubt(session, to_queue.collect(), changes, &now).map_err(Error::in_doubt)
    }

    /// Queues operations in doubt, and applies their changes locally. If that fails, the server will not be asked.
    fn queue_in_doubt(
        &self,
        mut session: MutexGuard<'_, Session>,
        ops: Vec<OpToQueue>,
        changes: Vec<(Key<'_>, Change)>,
        now: &Now<'_>,
    ) -> Result<()> {
        let queued = session.enqueue(ops, Sent::Not, now, self.queued_at())?;
        self.table().apply_all(changes, now);
        Session::complete(session, queued)
    }
}
