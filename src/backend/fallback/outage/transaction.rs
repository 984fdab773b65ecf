//! Owns transactions during an outage, for a program that vouches that nobody else writes.

use std::collections::HashMap;

use parking_lot::MutexGuard;
use smol_str::SmolStr;

use crate::backend::TransactionBody;
use crate::backend::fallback::outage::absolute_actions::{QueueEnds, actions_for};
use crate::backend::fallback::outage::leases::LeaseChanges;
use crate::backend::fallback::outage::refusal::refused;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::outage::session::Session;
use crate::backend::fallback::queue::group::OpToQueue;
use crate::backend::local::change::Change;
use crate::backend::local::read_set::ReadSet;
use crate::clock::Now;
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{Answer, Query, ReadSource};

/// What a transaction reads during an outage.
struct DisconnectedSource<'a> {
    outage: &'a Outage,
    read_set: &'a mut ReadSet,
}

impl ReadSource for DisconnectedSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.outage.check_not_in_doubt(key)?;
        let outcome = self.outage.ask(key, query);
        self.read_set.record(key, query, &outcome);
        outcome
    }
}

/// What a transaction has read, and what it will change.
pub(crate) struct TransactionRun {
    read_set: ReadSet,
    changes: Vec<(Key<'static>, Change)>,
}

impl Outage {
    /// Lets a transaction read and decide. No lock is held meanwhile.
    pub(crate) fn run(&self, body: &mut TransactionBody<'_>) -> Result<TransactionRun> {
        if !self.is_exclusive() {
            return Err(refused());
        }
        let mut read_set = ReadSet::default();
        let now = self.now();
        let changes = body(&mut DisconnectedSource { outage: self, read_set: &mut read_set }, &now);
        Ok(TransactionRun { read_set, changes })
    }

    /// Applies the changes of a transaction locally and queues them, if its read set is still valid.
    pub(crate) fn finish(&self, run: TransactionRun) -> Result<bool> {
        let TransactionRun { read_set, changes } = run;
        let session = self.reserve()?;
        let now = self.now();
        let written = changes.iter().map(|(key, _)| &**key);
        let locked = self.table().lock(written.chain(read_set.keys().map(|key| &**key)));
        let ask_now = |key: &Key<'_>, query: &Query| {
            let ask_table = || locked.ask(key, query, &now);
            if let Query::Lease { id, .. } = query {
                self.ask_lease(id, &session, ask_table)
            } else {
                ask_table()
            }
        };
        if !read_set.is_still_valid(ask_now) {
            return Ok(false);
        }
        let mut ops = Vec::new();
        let mut queues = HashMap::new();
        let mut leases = HashMap::new();
        for (key, change) in &changes {
            if let Some(queue) = Companion::Leases.strip_from(key) {
                let queue = Key::listed(queue.to_owned());
                let leases = leases.entry(key).or_insert_with(|| LeaseChanges::of(&queue, locked.find(key)));
                leases.apply_change(key, change, &now);
                ops.append(&mut leases.ops);
                continue;
            }
            let ends = queues.entry(&**key).or_insert_with(|| QueueEnds::of(locked.find(key)));
            let actions = actions_for(*ends, change, &now).into_iter();
            ops.extend(actions.map(|action| OpToQueue::new(key, action)));
            ends.apply_change(change);
        }
        let (mut ended, mut ended_on_server) = (Vec::new(), Vec::new());
        for changed in leases.into_values() {
            ended.extend(changed.ended);
            ended_on_server.extend(changed.ended_on_server);
        }
        drop(queues);
        drop(locked);
        self.commit_changes(changes, ops, ended_on_server, session, &now)?;
        self.granted_leases.forget_all(&ended);
        Ok(true)
    }

    /// Queues operations, then applies the changes that they set on the server to the local state, and notes the leases
    /// that were ended and that only the server has. While the session is
    /// locked nobody else changes that state, so the caller need not hold a lock of the table, and must not.
    pub(crate) fn commit_changes(
        &self,
        changes: Vec<(Key<'static>, Change)>,
        ops: Vec<OpToQueue>,
        ended_on_server: Vec<SmolStr>,
        mut session: MutexGuard<'_, Session>,
        now: &Now<'_>,
    ) -> Result<()> {
        let queued = session.enqueue(ops, Sent::Not, now, self.queued_at())?;
        self.table().apply_all(changes, now);
        session.note_ended(ended_on_server);
        Session::complete(session, queued)
    }
}
