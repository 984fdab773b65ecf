//! Owns the leases of queues during an outage, for a program that vouches that nobody else writes. Locally the leases
//! of a queue are one map; on the server they are a sorted set and a hash.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, UNIX_EPOCH};

use smol_str::SmolStr;

use crate::backend::fallback::outage::absolute_actions::{QueueEnds, actions_for};
use crate::backend::fallback::outage::knowledge::Needs;
use crate::backend::fallback::outage::refusal::refused;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::outage::session::Session;
use crate::backend::fallback::queue::group::OpToQueue;
use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry};
use crate::backend::local::leases;
use crate::backend::local::plan_multi::{lease_keys, plan_lease};
use crate::backend::redis::keys;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::{Millis, Now};
use crate::error::Result;
use crate::key::{Companion, Key, is_receipt};
use crate::op::{Answer, EntryAction, HeldLease, LeaseAction, Op, Reply};
use crate::value::Value;

impl Outage {
    /// Leases a value or ends a lease locally, and queues what that changes on the server.
    pub(crate) fn apply_lease(&self, op: &Op<'_, LeaseAction>) -> Result<Reply> {
        // The delayed values of a queue are on the server, whose clock says when they are due.
        if !self.is_exclusive() || matches!(op.action, LeaseAction::PushDelayed { .. }) {
            return Err(refused());
        }
        // No value goes to another queue during an outage.
        let op = &without_dead_letters(op);
        if matches!(op.action, LeaseAction::Lease { .. }) {
            self.check_known(&op.key, Needs::Entry)?;
        }
        let requested_at = Instant::now();
        let session = self.reserve()?;
        let now = self.now();
        let keys = lease_keys(&op.key);
        let locked = self.table().lock(keys.iter().map(|key| &**key));
        let mut leases = LeaseChanges::of(&op.key, locked.find(&op.key.companion(Companion::Leases)));
        let (changes, reply) = match &op.action {
            LeaseAction::EndLease { id, back, .. } if !leases.has(id) && self.is_on_server(id, &session) => {
                // Only the server has the lease, and with it the value.
                if *back {
                    return Err(refused());
                }
                self.check_granted(id)?;
                leases.end(id);
                (Vec::new(), Reply::Flag(true))
            }
            // Only the server knows whether it still has the lease.
            LeaseAction::ExtendLease { id, .. } if !leases.has(id) && self.is_on_server(id, &session) => {
                return Err(refused());
            }
            LeaseAction::EndLease { .. }
            | LeaseAction::ExtendLease { .. }
            | LeaseAction::Lease { .. }
            | LeaseAction::PushDelayed { .. } => plan_lease(op, &locked, &now)?,
        };
        let mut ends = QueueEnds::of(locked.find(&op.key));
        let mut ops = Vec::new();
        for (key, change) in &changes {
            if **key == *op.key {
                let actions = actions_for(ends, change, &now).into_iter();
                ops.extend(actions.map(|action| OpToQueue::new(key, action)));
                ends.apply_change(change);
            } else {
                leases.apply_change(key, change, &now);
            }
        }
        ops.append(&mut leases.ops);
        drop(locked);
        self.commit_changes(changes, ops, leases.ended_on_server, session, &now)?;
        self.granted_leases.record(&op.action, &reply, requested_at);
        Ok(reply)
    }

    /// Ends the leases of all queues that are cleared with the keys that begin with `prefix`, and removes the receipts
    /// that are, as far as they are known locally.
    pub(crate) fn remove_reserved(&self, prefix: &str) -> Result<()> {
        for key in self.table().keys_to_clear(prefix) {
            if is_receipt(&key) {
                self.apply(&Op { key, action: EntryAction::Delete }, Sent::Not)?;
                continue;
            }
            let Some(queue) = Companion::Leases.strip_from(&key) else { continue };
            let queue = Key::listed(queue.to_owned());
            let locked = self.table().lock([&*key]);
            let ids = LeaseChanges::of(&queue, locked.find(&key)).ids;
            drop(locked);
            for id in ids {
                let action = LeaseAction::EndLease { id, back: false, ttl_if_created: None };
                self.apply_lease(&Op { key: queue.clone(), action })?;
            }
        }
        Ok(())
    }

    /// Answers whether a lease still exists. `ask` asks the local map of leases.
    pub(crate) fn ask_lease(
        &self,
        id: &str,
        session: &Session,
        ask: impl FnOnce() -> Result<Answer>,
    ) -> Result<Answer> {
        let held = ask()?.lease()?;
        if held.is_some() || !self.is_on_server(id, session) {
            return Ok(Answer::Lease(held));
        }
        self.check_granted(id)?;
        Ok(Answer::Lease(Some(HeldLease::OnServer)))
    }

    /// Returns `Ok` if a lease on the server had surely not expired when the outage began: then nobody else can have
    /// leased its value since. Otherwise only the server knows.
    fn check_granted(&self, id: &str) -> Result<()> {
        if self.granted_leases.lasts_beyond(id, self.begun) { Ok(()) } else { Err(refused()) }
    }

    /// Returns whether the server has the lease of this id, which is not known locally: it was granted before this
    /// outage, and not ended since.
    fn is_on_server(&self, id: &str, session: &Session) -> bool {
        !self.was_leased_in_this_outage(id) && !session.has_ended(id)
    }

    fn was_leased_in_this_outage(&self, id: &str) -> bool {
        let leased = id.split_once('-').and_then(|(_, token)| token.parse::<u128>().ok());
        let since = self.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        // A token is at least the time in microseconds, by a clock that counts whole milliseconds.
        leased.is_some_and(|leased| leased >= since.as_millis() * 1000)
    }
}

fn without_dead_letters<'o>(op: &Op<'o, LeaseAction>) -> Op<'o, LeaseAction> {
    let mut op = op.clone();
    if let LeaseAction::Lease { dead_letters, .. } = &mut op.action {
        *dead_letters = None;
    }
    op
}

/// Returns the local key of a part of a queue's leases on the server.
pub(crate) fn local_key(key: &Key<'static>) -> Key<'static> {
    keys::leases_beside_values(key).unwrap_or_else(|| key.clone())
}

/// The leases of a queue, and the operations that change them on the server.
pub(crate) struct LeaseChanges {
    /// On the server: the ids, by the time at which they expire. Locally: the map of all leases (see
    /// [`local::leases`](leases)).
    ids_key: Key<'static>,
    /// On the server: the leased values, by id.
    values_key: Key<'static>,
    ids: BTreeSet<SmolStr>,
    pub(crate) ops: Vec<OpToQueue>,
    /// The leases that were ended.
    pub(crate) ended: Vec<SmolStr>,
    /// Those of them that only the server had.
    pub(crate) ended_on_server: Vec<SmolStr>,
}

impl LeaseChanges {
    pub(crate) fn of(queue: &Key<'_>, found: Option<&Entry>) -> Self {
        let ids = match found.map(|entry| &entry.content) {
            Some(Content::Map(map)) => {
                map.fields().keys().filter_map(|field| leases::id_of(field)).map(SmolStr::new).collect()
            }
            Some(Content::Value(_) | Content::Queue(_)) | None => BTreeSet::new(),
        };
        let (ids_key, values_key) = (queue.companion(Companion::Leases), keys::leased_values(queue));
        Self { ids_key, values_key, ids, ops: Vec::new(), ended: Vec::new(), ended_on_server: Vec::new() }
    }

    fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Queues what a change of the local map changes on the server.
    pub(crate) fn apply_change(&mut self, key: &Key<'static>, change: &Change, now: &Now<'_>) {
        // The last token is another key: the server has a token of its own.
        if *key != self.ids_key {
            return;
        }
        match change {
            Change::RemoveField(field) => {
                if let Some(id) = leases::id_of(field) {
                    self.end(id);
                }
            }
            Change::Remove => self.ids.clone().iter().for_each(|id| self.end(id)),
            Change::SetFields(fields) => {
                for (field, value) in fields {
                    self.begin(field, value, now);
                }
            }
            Change::Set(Entry { content: Content::Map(map), .. }) => {
                map.fields().iter().for_each(|(field, value)| self.begin(field, value, now));
            }
            Change::Nothing
            | Change::Set(_)
            | Change::SetDeadline(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => {}
        }
    }

    fn end(&mut self, id: &str) {
        let id = SmolStr::new(id);
        if !self.ids.remove(&id) {
            self.ended_on_server.push(id.clone());
        }
        self.ended.push(id.clone());
        self.ops.push(OpToQueue::new(&self.values_key, QueuedAction::MapDelete { field: id.clone() }));
        self.ops.push(OpToQueue::new(&self.ids_key, QueuedAction::SetLease { id, left: None }));
    }

    fn begin(&mut self, field: &str, value: &Value, now: &Now<'_>) {
        let Some(id) = leases::id_of(field).map(SmolStr::new) else { return };
        self.ids.insert(id.clone());
        let left = Millis::new(Duration::from_millis(leases::end_of(field).saturating_sub(now.millis())));
        let left = Some(left.unwrap_or(Millis::LEAST));
        let fields = vec![(id.clone(), value.clone())];
        let put = QueuedAction::MapPut { fields, ttl_if_created: None };
        self.ops.push(OpToQueue::new(&self.values_key, put));
        self.ops.push(OpToQueue::new(&self.ids_key, QueuedAction::SetLease { id: id.clone(), left }));
    }
}
