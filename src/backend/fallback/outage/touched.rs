//! Owns what changes together with what is served while the server is away: the queue, and what is known of the
//! keys that were written meanwhile. Knows nothing of what lies under them.

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::backend::fallback::queue::replay_queue::Queue;
use crate::backend::fallback::shadow::cache::Shadow;
use crate::backend::redis::replay::queued_op::Seen;
use crate::clock::Now;
use crate::op::Action;

/// What changes together with the table.
pub(crate) struct State {
    pub(crate) queue: Queue,
    /// The keys that were written or assumed absent here.
    pub(crate) touched: HashMap<SmolStr, Touched>,
}

/// What is known of a key that was written or assumed absent here.
#[derive(Clone)]
pub(crate) struct Touched {
    /// What the next write to it finds there, as far as this process knows.
    pub(crate) seen: Seen,
    /// Whether all of it is known: it was before, or all of it was written here.
    pub(crate) known: bool,
}

impl State {
    /// What was seen of a key before the operation that is queued now. The next one finds there what this one
    /// leaves, however soon this one is done.
    pub(crate) fn see(
        &mut self,
        key: &str,
        action: &Action,
        lost: bool,
        shadow: &Shadow,
        now: &Now<'_>,
    ) -> Seen {
        let touched = self.touched.entry(SmolStr::new(key)).or_insert_with(|| {
            let (seen, known) = shadow.seen(key, now);
            Touched { seen, known }
        });
        touched.known |= is_whole(action);
        let seen = std::mem::replace(&mut touched.seen, Seen::Own);
        match (lost, &seen) {
            (false, _) => seen,
            (true, Seen::Own) => {
                // Several were on their way: any of them may lie there.
                if let Some(first) = self.queue.next_on(key) {
                    first.seen = std::mem::replace(&mut first.seen, Seen::Own).or(Seen::done_by(action));
                }
                seen
            }
            (true, _) => seen.or(Seen::done_by(action)),
        }
    }

    /// Notes that a write was dropped because of what somebody else had written: the next one to the key
    /// does not find there what that one would have left.
    pub(crate) fn note_dropped(&mut self, key: &str) {
        if let Some(next) = self.queue.next_on(key) {
            if next.seen == Seen::Own {
                next.seen = Seen::Assumed;
            }
        } else if let Some(touched) = self.touched.get_mut(key) {
            touched.seen = Seen::Assumed;
        }
    }
}

/// Whether an action leaves nothing of what was there before.
pub(crate) fn is_whole(action: &Action) -> bool {
    matches!(action, Action::Put { .. } | Action::Delete)
}
