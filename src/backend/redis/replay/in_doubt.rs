//! Owns how the server is asked about an operation in doubt: one that was sent, and whose reply was lost. Knows
//! nothing of queues.

use std::sync::Arc;

use crate::backend::redis::slots::{CallId, SlotCall};
use crate::op::{EntryAction, WindowAdd};

/// A step of a call whose reply was lost. The server knows whether the call was applied; if it was, the step is not
/// applied again. A pop is never applied again: nobody has received its value, so that the value is pushed back if
/// the server had popped it.
#[derive(Debug, Clone)]
pub(crate) struct InDoubt {
    pub(crate) call: CallId,
    /// Which step of the call this is, from 0.
    pub(crate) step: usize,
    /// Keeps the slot of the call until the server was asked. `None` for a call of an earlier run of the program.
    slot_call: Option<Arc<SlotCall>>,
}

impl InDoubt {
    pub(crate) fn new(call: &Arc<SlotCall>, step: usize) -> Self {
        Self { call: call.id(), step, slot_call: Some(Arc::clone(call)) }
    }

    /// Returns whether an action of a call in doubt can be done locally until the server is asked. The other actions
    /// fail, because their replies would tell what only the server knows.
    pub(crate) fn is_settled_later(action: &EntryAction) -> bool {
        match action {
            EntryAction::Put { .. }
            | EntryAction::PutIfPresent { .. }
            | EntryAction::Delete
            | EntryAction::Incr { .. }
            | EntryAction::Expire { .. }
            | EntryAction::Persist
            | EntryAction::MapPut { .. }
            | EntryAction::MapDelete { .. }
            | EntryAction::MapIncr { .. }
            | EntryAction::Push { .. }
            | EntryAction::Pop { .. }
            | EntryAction::Trim { .. }
            | EntryAction::WindowAdd(WindowAdd { limit: None, .. }) => true,
            EntryAction::PutIfAbsent { .. }
            | EntryAction::GetAndPut { .. }
            | EntryAction::Swap { .. }
            | EntryAction::GetAndDelete
            | EntryAction::Touch { .. }
            | EntryAction::Renew { .. }
            | EntryAction::WindowAdd(WindowAdd { limit: Some(_), .. }) => false,
        }
    }

    /// Returns a step of a call that an earlier run of the program has made.
    pub(crate) fn from_earlier_run(call: CallId, step: usize) -> Self {
        Self { call, step, slot_call: None }
    }

    /// Returns how often the server had lost its data when the call was sent, if that is known.
    pub(crate) fn loss_count(&self) -> Option<u64> {
        self.slot_call.as_ref().map(|call| call.loss_count())
    }
}
