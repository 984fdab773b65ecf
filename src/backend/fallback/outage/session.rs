//! Owns what changes together with the local state of an outage: the replay queue, and what is known of the keys that
//! were written or assumed absent. Knows nothing of the entries themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use smol_str::SmolStr;

use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::{OpToQueue, QueuedGroup};
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::replay_queue::{Coalesced, ReplayQueue};
use crate::backend::fallback::report::counts::Counts;
use crate::backend::fallback::shadow::cache::{Shadow, Shadowed};
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::clock::Now;
use crate::error::Result;
use crate::key::Key;

pub(crate) struct Session {
    pub(crate) queue: ReplayQueue,
    /// Keeps the queue on disk too, for a program that is killed.
    file: Option<Arc<QueueFile>>,
    touched: HashMap<SmolStr, TouchedKey>,
    shadow: Arc<Shadow>,
    counts: Arc<Counts>,
}

/// What is known of a key that was written or assumed absent in this outage.
#[derive(Clone)]
struct TouchedKey {
    /// What the next write to the key will find on the server, as far as this process knows.
    observed: Observed,
    /// Whether everything about the key is known: it was known before, or all of it was written in this outage.
    is_known: bool,
}

impl Session {
    pub(crate) fn new(
        queue: ReplayQueue,
        file: Option<Arc<QueueFile>>,
        counts: Arc<Counts>,
        shadow: Arc<Shadow>,
    ) -> Self {
        Self { queue, file, touched: HashMap::new(), shadow, counts }
    }

    /// Returns what the next write to a key will find, if the key was written or assumed absent.
    pub(crate) fn observed(&self, key: &str) -> Option<&Observed> {
        self.touched.get(key).map(|touched| &touched.observed)
    }

    /// Returns whether everything about the key is known.
    pub(crate) fn is_known(&self, key: &str, now: &Now<'_>) -> bool {
        match self.touched.get(key) {
            Some(touched) => touched.is_known,
            None => self.shadow.get(key, now).as_ref().is_some_and(Shadowed::is_complete),
        }
    }

    /// Notes that a read returned a key as absent although nothing was known of it.
    pub(crate) fn note_assumed_absent(&mut self, key: &str) {
        let assumed = TouchedKey { observed: Observed::AssumedAbsent, is_known: true };
        self.touched.entry(SmolStr::new(key)).or_insert(assumed);
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.touched.remove(key);
    }

    /// Calls `apply` with each operation that an earlier run of the program queued, with the TTL that is left, and notes
    /// its key. A pop that must be undone is skipped.
    pub(crate) fn restore(&mut self, mut apply: impl FnMut(&Key<'static>, &QueuedAction)) {
        for group in self.queue.iter() {
            let age = group.queued_at.age();
            for op in group.ops.iter() {
                let action = op.action.after_waiting(age);
                let was_absent = op.observed == Observed::Absent;
                let restored = TouchedKey { observed: Observed::OwnWrite, is_known: was_absent };
                let touched = self.touched.entry(SmolStr::new(&*op.key)).or_insert(restored);
                touched.is_known |= action.replaces_all();
                if !op.undoes_pop() {
                    apply(&op.key, &action);
                }
            }
        }
    }

    /// Queues one action. It is coalesced with the last action on its key if possible.
    pub(crate) fn queue_one(
        &mut self,
        key: &Key<'_>,
        action: QueuedAction,
        sent: Sent,
        now: &Now<'_>,
        queued_at: impl Fn() -> QueuedAt,
    ) -> Result<Option<u64>> {
        let action = match sent {
            Sent::InDoubt => action,
            Sent::Not => match self.queue.coalesce(key, action, &queued_at, self.file.as_deref())? {
                Coalesced::Yes { written } => {
                    self.counts.queued.fetch_add(1, Ordering::Relaxed);
                    return Ok(written);
                }
                Coalesced::No(action) => action,
            },
        };
        self.enqueue(vec![OpToQueue::new(key, action)], sent, now, queued_at())
    }

    /// Queues operations as one group, after writing them to the queue's file if there is one. Returns what
    /// [`wait_durable`](Self::wait_durable) must wait for.
    pub(crate) fn enqueue(
        &mut self,
        ops: Vec<OpToQueue>,
        sent: Sent,
        now: &Now<'_>,
        queued_at: QueuedAt,
    ) -> Result<Option<u64>> {
        if ops.is_empty() {
            return Ok(None);
        }
        let count = ops.len() as u64;
        let mut before = Vec::new();
        if self.file.is_some() {
            let keys = ops.iter().map(|op| SmolStr::new(&*op.key));
            before.extend(keys.map(|key| (self.touched.get(&key).cloned(), key)));
        }
        let ops = ops.into_iter().map(|OpToQueue { key, action, in_doubt }| {
            let observed = self.observe_before_write(&key, &action, sent, now);
            QueuedOp { key, action, observed, in_doubt }
        });
        let group = QueuedGroup::new(ops.collect(), queued_at);
        let written = self.persist(self.queue.next_number(), &group).inspect_err(|_| {
            // The group is not queued after all. If it has several operations on one key, the state before the first
            // of them must be restored last.
            for (touched, key) in before.into_iter().rev() {
                match touched {
                    Some(touched) => drop(self.touched.insert(key, touched)),
                    None => drop(self.touched.remove(&key)),
                }
            }
        })?;
        self.queue.add(group);
        self.counts.queued.fetch_add(count, Ordering::Relaxed);
        Ok(written)
    }

    fn persist(&self, number: u64, group: &QueuedGroup) -> Result<Option<u64>> {
        self.file.as_ref().map(|file| file.persist(number, group)).transpose()
    }

    /// Unlocks the session, and returns once what was written to the queue's file is as durable as its policy asks
    /// for. Threads wait together, without the lock.
    pub(crate) fn wait_durable(session: MutexGuard<'_, Self>, written: Option<u64>) -> Result<()> {
        let file = session.file.clone().zip(written);
        drop(session);
        file.map_or(Ok(()), |(file, written)| file.wait_durable(written))
    }

    /// Returns what was observed of a key before the operation that is queued now, and notes that the next write to the
    /// key will find what this operation leaves.
    fn observe_before_write(
        &mut self,
        key: &str,
        action: &QueuedAction,
        sent: Sent,
        now: &Now<'_>,
    ) -> Observed {
        let touched = self.touched.entry(SmolStr::new(key)).or_insert_with(|| {
            let (observed, is_known) = self.shadow.observed(key, now);
            TouchedKey { observed, is_known }
        });
        touched.is_known |= action.replaces_all();
        let observed = std::mem::replace(&mut touched.observed, Observed::OwnWrite);
        match (sent, &observed) {
            (Sent::Not, _) => observed,
            (Sent::InDoubt, Observed::OwnWrite) => {
                // Several writes were in flight: the server may hold the value of any of them.
                if let Some(first) = self.queue.first_for(key) {
                    let before = std::mem::replace(&mut first.observed, Observed::OwnWrite);
                    first.observed = before.or_left(Observed::left_by(action));
                }
                observed
            }
            (Sent::InDoubt, _) => observed.or_left(Observed::left_by(action)),
        }
    }

    /// Notes that the server dropped a write because another client had written to the key: the next write will not
    /// find what the dropped one would have left.
    pub(crate) fn note_dropped(&mut self, key: &str) {
        if let Some(next) = self.queue.first_for(key) {
            if next.observed == Observed::OwnWrite {
                next.observed = Observed::AssumedAbsent;
            }
        } else if let Some(touched) = self.touched.get_mut(key) {
            touched.observed = Observed::AssumedAbsent;
        }
    }

    /// Removes from the queue the operations that the server may have done and that must not be done twice.
    pub(crate) fn take_in_doubt(&mut self) -> Vec<QueuedOp> {
        let in_doubt = self.queue.take_in_doubt();
        let mut groups = self.queue.sent_groups();
        if let Err(error) = groups.try_for_each(|(number, group)| self.persist(number, group).map(drop)) {
            log::warn!(
                "cannot remove operations that must not be done twice from the replay queue's files: {error}"
            );
        }
        in_doubt
    }
}
