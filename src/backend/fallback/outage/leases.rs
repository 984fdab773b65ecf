//! Owns what is taken from queues while the server is away, by a program that vouches that nobody else writes.
//! Here the leases of a queue are one map; there they are a sorted set and a hash.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use smol_str::SmolStr;

use crate::backend::fallback::outage::absolute_actions::{QueueEnds, actions_for};
use crate::backend::fallback::outage::disconnected::{OpToQueue, Outage, refused};
use crate::backend::local::change::{Change, Content, Entry};
use crate::backend::local::plan_multi::{lease_keys, plan_lease};
use crate::backend::redis::keys;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::{Millis, Now};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{LeaseAction, Op, Reply};
use crate::value::Value;

impl Outage {
    /// Takes from a queue or ends a lease, and lets what that led to wait.
    pub(crate) fn apply_lease(&self, op: &Op<'_, LeaseAction>) -> Result<Reply> {
        if !self.is_exclusive() {
            return Err(refused());
        }
        let keys = lease_keys(&op.key);
        if matches!(op.action, LeaseAction::Lease { .. }) {
            self.check_absent(&op.key)?;
        }
        let state = self.reserve()?;
        let now = self.now();
        let locked = self.table().lock(keys.iter().map(|key| &**key));
        let mut leases = LeaseChanges::of(&op.key, locked.find(&op.key.companion(Companion::Leases)));
        let (changes, reply) = match &op.action {
            LeaseAction::EndLease { id, back, .. }
                if !leases.has(id) && !self.was_leased_in_this_outage(id) =>
            {
                // The server has it, and so the value. Nobody else can have taken that since.
                if *back {
                    return Err(refused());
                }
                leases.drop(id);
                (Vec::new(), Reply::Flag(true))
            }
            _ => plan_lease(op, &locked, &now)?,
        };
        let mut place = QueueEnds::of(locked.find(&op.key));
        let mut waiting: Vec<OpToQueue> = Vec::new();
        for (key, change) in &changes {
            if **key == *op.key {
                let actions = actions_for(place, change, &now).into_iter();
                waiting.extend(actions.map(|action| (key.clone(), action, None)));
                place.apply_change(change);
            } else {
                leases.apply_change(key, change, &now);
            }
        }
        waiting.append(&mut leases.waiting);
        self.make(changes, locked, waiting, state, &now)?;
        Ok(reply)
    }

    /// Whether a lease was given here in this outage.
    fn was_leased_in_this_outage(&self, id: &str) -> bool {
        let taken = id.split_once('-').and_then(|(_, taken)| taken.parse::<u128>().ok());
        let since = self.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        // The clock that gave it counts whole milliseconds.
        taken.is_some_and(|taken| taken >= since.as_millis() * 1000)
    }
}

/// What lies here in the place of what waits to be done to a part of a queue's leases.
pub(crate) fn local_key(key: &Key<'static>) -> Key<'static> {
    keys::leases_beside_values(key).unwrap_or_else(|| key.clone())
}

/// The leases of a queue, and what is to be done to them there.
struct LeaseChanges {
    /// Where the server keeps their names and when they run out, and here all of them lie.
    names: Key<'static>,
    /// Where the server keeps the values that they are on.
    values: Key<'static>,
    ids: BTreeSet<SmolStr>,
    waiting: Vec<OpToQueue>,
}

impl LeaseChanges {
    fn of(queue: &Key<'_>, found: Option<&Entry>) -> Self {
        let ids = match found.map(|entry| &entry.content) {
            Some(Content::Map(map)) => map.fields().keys().cloned().collect(),
            Some(Content::Value(_) | Content::Queue(_)) | None => BTreeSet::new(),
        };
        let (names, values) = (queue.companion(Companion::Leases), keys::leased_values(queue));
        Self { names, values, ids, waiting: Vec::new() }
    }

    fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Follows a change of the map here.
    fn apply_change(&mut self, key: &Key<'static>, change: &Change, now: &Now<'_>) {
        // Not so the last token: the server has its own.
        if *key != self.names {
            return;
        }
        match change {
            Change::RemoveField(id) => self.drop(id),
            Change::Remove => std::mem::take(&mut self.ids).iter().for_each(|id| self.drop(id)),
            Change::SetFields(fields) => fields.iter().for_each(|(id, value)| self.keep(id, value, now)),
            Change::Set(Entry { content: Content::Map(map), .. }) => {
                map.fields().iter().for_each(|(id, value)| self.keep(id, value, now));
            }
            Change::Nothing
            | Change::Set(_)
            | Change::SetDeadline(_)
            | Change::SetItems { .. }
            | Change::DropBefore(_)
            | Change::DropFrom(_) => {}
        }
    }

    fn drop(&mut self, id: &SmolStr) {
        self.ids.remove(id);
        self.waiting.push((self.values.clone(), QueuedAction::MapDelete { field: id.clone() }, None));
        self.waiting.push((self.names.clone(), QueuedAction::SetLease { id: id.clone(), left: None }, None));
    }

    fn keep(&mut self, id: &SmolStr, value: &Value, now: &Now<'_>) {
        self.ids.insert(id.clone());
        // A name begins with the time at which the lease runs out.
        let until: u64 = id.split('-').next().and_then(|until| until.parse().ok()).unwrap_or_default();
        let left = Millis::new(Duration::from_millis(until.saturating_sub(now.millis())));
        let fields = vec![(id.clone(), value.clone())];
        self.waiting.push((self.values.clone(), QueuedAction::MapPut { fields, ttl_if_created: None }, None));
        let note = QueuedAction::SetLease { id: id.clone(), left: Some(left.unwrap_or(Millis::LEAST)) };
        self.waiting.push((self.names.clone(), note, None));
    }
}
