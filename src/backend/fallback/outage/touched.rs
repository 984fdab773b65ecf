//! Owns what changes together with what is served while the server is away: the queue, and what is known of the
//! keys that were written meanwhile. Knows nothing of what lies under them.

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::queue::replay_queue::ReplayQueue;
use crate::backend::fallback::shadow::cache::Shadow;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::Observed;
use crate::clock::Now;

/// What changes together with the table.
pub(crate) struct Session {
    pub(crate) queue: ReplayQueue,
    /// The keys that were written or assumed absent here.
    pub(crate) touched: HashMap<SmolStr, TouchedKey>,
}

/// What is known of a key that was written or assumed absent here.
#[derive(Clone)]
pub(crate) struct TouchedKey {
    /// What the next write to it finds there, as far as this process knows.
    pub(crate) observed: Observed,
    /// Whether all of it is known: it was before, or all of it was written here.
    pub(crate) known: bool,
}

impl Session {
    /// What was seen of a key before the operation that is queued now. The next one finds there what this one
    /// leaves, however soon this one is done.
    pub(crate) fn observe_before_write(
        &mut self,
        key: &str,
        action: &QueuedAction,
        sent: Sent,
        shadow: &Shadow,
        now: &Now<'_>,
    ) -> Observed {
        let touched = self.touched.entry(SmolStr::new(key)).or_insert_with(|| {
            let (seen, known) = shadow.observed(key, now);
            TouchedKey { observed: seen, known }
        });
        touched.known |= action.replaces_all();
        let seen = std::mem::replace(&mut touched.observed, Observed::OwnWrite);
        match (sent, &seen) {
            (Sent::Not, _) => seen,
            (Sent::InDoubt, Observed::OwnWrite) => {
                // Several were on their way: any of them may lie there.
                if let Some(first) = self.queue.first_for(key) {
                    first.observed = std::mem::replace(&mut first.observed, Observed::OwnWrite)
                        .or_left(Observed::left_by(action));
                }
                seen
            }
            (Sent::InDoubt, _) => seen.or_left(Observed::left_by(action)),
        }
    }

    /// Notes that a write was dropped because of what somebody else had written: the next one to the key
    /// does not find there what that one would have left.
    pub(crate) fn note_dropped(&mut self, key: &str) {
        if let Some(next) = self.queue.first_for(key) {
            if next.observed == Observed::OwnWrite {
                next.observed = Observed::AssumedAbsent;
            }
        } else if let Some(touched) = self.touched.get_mut(key) {
            touched.observed = Observed::AssumedAbsent;
        }
    }
}
