//! Owns what changes together with the local state of an outage: the replay queue, and what is noted of each key that
//! is written. Knows nothing of the entries themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use parking_lot::MutexGuard;
use smol_str::SmolStr;

use crate::backend::fallback::outage::knowledge::{BeforeWrite, Knowledge, MadeKnown};
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::{OpToQueue, QueuedGroup};
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::replay_queue::{Coalesced, ReplayQueue};
use crate::backend::fallback::report::counts::Counts;
use crate::backend::redis::replay::kept_outcome::KeptOutcome;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::outcome::ReplayOutcome;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::clock::Now;
use crate::error::Result;
use crate::key::Key;
use crate::util::log_later::log_later;

pub(crate) struct Session {
    pub(crate) queue: ReplayQueue,
    /// Keeps the queue on disk too, for a program that is killed.
    file: Option<Arc<QueueFile>>,
    knowledge: Arc<Knowledge>,
    counts: Arc<Counts>,
    /// The leases on the server that were ended in this outage, by id.
    ended_leases: HashSet<SmolStr>,
    /// How log lines name the server.
    server: Arc<str>,
}

/// What follows once queued operations are applied to the table.
pub(crate) struct Queued {
    /// What [`Session::complete`] waits for.
    written: Option<u64>,
    /// What is known once the operations are applied.
    made_known: Vec<(SmolStr, MadeKnown)>,
}

impl Queued {
    pub(crate) const NOTHING: Self = Self { written: None, made_known: Vec::new() };
}

impl Session {
    pub(crate) fn new(
        queue: ReplayQueue,
        file: Option<Arc<QueueFile>>,
        counts: Arc<Counts>,
        knowledge: Arc<Knowledge>,
        server: Arc<str>,
    ) -> Self {
        Self { queue, file, knowledge, counts, ended_leases: HashSet::new(), server }
    }

    /// Returns whether a lease on the server was ended in this outage.
    pub(crate) fn has_ended(&self, lease: &str) -> bool {
        self.ended_leases.contains(lease)
    }

    /// Notes leases on the server that were ended.
    pub(crate) fn note_ended(&mut self, leases: impl IntoIterator<Item = SmolStr>) {
        self.ended_leases.extend(leases);
    }

    /// Calls `apply` with each operation that an earlier run of the program queued, with the TTL that is left, and notes
    /// its key. A pop that must be undone is skipped.
    pub(crate) fn restore(&self, mut apply: impl FnMut(&Key<'static>, &QueuedAction)) {
        for group in self.queue.iter() {
            let age = group.queued_at.age();
            for op in group.ops.iter() {
                let action = op.action.after_waiting(age);
                self.knowledge.note_restored(&op.key, &action, op.observed == Observed::Absent);
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
    ) -> Result<Queued> {
        let action = match sent {
            Sent::InDoubt => action,
            Sent::Not => match self.queue.coalesce(key, action, &queued_at, self.file.as_deref())? {
                Coalesced::Yes { written } => {
                    self.counts.queued.fetch_add(1, Ordering::Relaxed);
                    // What a key is known for does not change: the operation before was of the same kind.
                    return Ok(Queued { written, ..Queued::NOTHING });
                }
                Coalesced::No(action) => action,
            },
        };
        self.enqueue(vec![OpToQueue::new(key, action)], sent, now, queued_at())
    }

    /// Queues operations as one group, after writing them to the queue's file if there is one. The caller applies them
    /// to the table, and passes the result to [`complete`](Self::complete) then.
    pub(crate) fn enqueue(
        &mut self,
        ops: Vec<OpToQueue>,
        sent: Sent,
        now: &Now<'_>,
        queued_at: QueuedAt,
    ) -> Result<Queued> {
        if ops.is_empty() {
            return Ok(Queued::NOTHING);
        }
        let count = ops.len() as u64;
        let mut before = Vec::new();
        if self.file.is_some() {
            let keys = ops.iter().map(|op| SmolStr::new(&*op.key));
            before.extend(keys.map(|key| (self.knowledge.noted(&key), key)));
        }
        let mut made_known = Vec::new();
        let ops = ops.into_iter().map(|OpToQueue { key, action, in_doubt }| {
            let BeforeWrite { observed, makes_known } = self.knowledge.begin_write(&key, &action, now);
            made_known.extend(makes_known.map(|made| (SmolStr::new(&*key), made)));
            let observed = self.observed_if_sent(observed, &key, &action, sent);
            QueuedOp { key, action, observed, in_doubt, calls: 1 }
        });
        let group = QueuedGroup::new(ops.collect(), queued_at);
        let written = self.persist(self.queue.next_number(), &group).inspect_err(|_| {
            // The group is not queued after all. If it has several operations on one key, the state before the first
            // of them must be restored last.
            before.into_iter().rev().for_each(|(noted, key)| self.knowledge.restore(key, noted));
        })?;
        self.queue.add(group);
        self.counts.queued.fetch_add(count, Ordering::Relaxed);
        Ok(Queued { written, made_known })
    }

    fn persist(&self, number: u64, group: &QueuedGroup) -> Result<Option<u64>> {
        self.file.as_ref().map(|file| file.persist(number, group)).transpose()
    }

    /// Notes that queued operations are applied to the table and unlocks the session. Returns once what was written to
    /// the queue's file is as durable as its policy asks for. Threads wait together, without the lock.
    pub(crate) fn complete(session: MutexGuard<'_, Self>, queued: Queued) -> Result<()> {
        let Queued { written, made_known } = queued;
        session.knowledge.end_writes(made_known);
        let file = session.file.clone().zip(written);
        drop(session);
        file.map_or(Ok(()), |(file, written)| file.wait_durable(written))
    }

    /// Returns what was `observed` of a key before an operation that is queued now. If the operation may have been sent
    /// already, what it leaves counts as observed too.
    fn observed_if_sent(
        &mut self,
        observed: Observed,
        key: &str,
        action: &QueuedAction,
        sent: Sent,
    ) -> Observed {
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
        } else {
            self.knowledge.set_observed(key, Observed::AssumedAbsent);
        }
    }

    /// Removes from the queue, and from its files, the operations that the server may have done and that must not be done
    /// twice. Keeps them in the files as uncertain, and calls `report` with them.
    pub(crate) fn take_in_doubt(&mut self, since: SystemTime, report: impl FnOnce(&[KeptOutcome])) {
        let uncertain = |op| KeptOutcome { op, outcome: ReplayOutcome::Uncertain, since };
        let in_doubt: Vec<_> = self.queue.take_in_doubt().into_iter().map(uncertain).collect();
        let Some(file) = &self.file else {
            return report(&in_doubt);
        };
        let groups = self.queue.sent_groups();
        if let Err(error) = file.replace_groups(groups, &in_doubt, || report(&in_doubt)) {
            log_later!(
                Warn,
                "Redis {}: cannot remove operations that must not be done twice from the replay queue in {}: {error:#}",
                self.server,
                file.path().display()
            );
        }
    }
}
