//! Owns what mutations of leases and locks do; each changes several entries at once. The leases of a queue are a map
//! next to the queue, a lock is a value, and the last token of a store is another value. It only decides and changes
//! nothing; it must not know how the changes are applied.

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, MapValue};
use crate::backend::local::leases::{StoredLease, delayed, extended, new_id};
use crate::backend::local::overlay::Overlay;
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::view::live;
use crate::clock::{Millis, Now};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{
    Answer, DeadLetters, End, EntryAction, Grant, Hold, LeaseAction, LockAction, NewLease, Op, Permit, Query,
    ReadSource, Reply,
};
use crate::value::Value;

/// One lease moves at most this many values to the queue for dead letters, since nobody else can use the shards meanwhile.
const MOST_DEAD_LETTERS: usize = 1000;

/// Changes of several keys, and the reply to the operation that makes them.
pub(crate) type MultiKeyPlan = (Vec<(Key<'static>, Change)>, Reply);

/// Returns the keys whose shards must be locked for a mutation of a queue's leases.
pub(crate) fn lease_keys(queue: &Key<'_>) -> [Key<'static>; 3] {
    [queue.clone().into_owned(), queue.companion(Companion::Leases), Key::fence()]
}

/// Returns the same, with the other queue to which this mutation may move values.
pub(crate) fn all_lease_keys(op: &Op<'_, LeaseAction>) -> Vec<Key<'static>> {
    let dead_letters = match &op.action {
        LeaseAction::Lease { dead_letters, .. } => dead_letters.as_ref(),
        LeaseAction::PushDelayed { .. } | LeaseAction::EndLease { .. } | LeaseAction::ExtendLease { .. } => {
            None
        }
    };
    let other = dead_letters.map(|dead_letters| dead_letters.queue.clone());
    lease_keys(&op.key).into_iter().chain(other).collect()
}

/// Returns the keys whose shards must be locked for a mutation of a lock.
pub(crate) fn lock_keys(op: &Op<'_, LockAction>) -> Vec<Key<'static>> {
    let locks = match op.action {
        LockAction::Permit { most, .. } => 0..most,
        LockAction::Lock { .. } | LockAction::Extend { .. } | LockAction::Unlock { .. } => 0..0,
    };
    let permits = locks.map(|number| op.key.permit(number).companion(Companion::Lock));
    permits.chain([op.key.companion(Companion::Lock), Key::fence()]).collect()
}

/// Decides what a mutation of a queue's leases changes among its [`lease_keys`].
pub(crate) fn plan_lease(
    op: &Op<'_, LeaseAction>,
    locked: &LockedShards<'_>,
    now: &Now<'_>,
) -> Result<MultiKeyPlan> {
    plan(locked, now, |planner| match &op.action {
        LeaseAction::Lease { lease, dead_letters, ttl_if_created } => {
            planner.lease(&op.key, *lease, dead_letters.as_ref(), *ttl_if_created)
        }
        LeaseAction::PushDelayed { value, delay } => planner.push_delayed(&op.key, value, *delay),
        LeaseAction::EndLease { id, back, ttl_if_created } => {
            planner.end_lease(&op.key, id, *back, *ttl_if_created)
        }
        LeaseAction::ExtendLease { id, lease } => planner.extend_lease(&op.key, id, *lease),
    })
}

/// Decides what a mutation of a lock changes among its [`lock_keys`].
pub(crate) fn plan_lock(
    op: &Op<'_, LockAction>,
    locked: &LockedShards<'_>,
    now: &Now<'_>,
) -> Result<MultiKeyPlan> {
    let lock = op.key.companion(Companion::Lock);
    plan(locked, now, |planner| match &op.action {
        LockAction::Lock { ttl } => Ok(Reply::Granted(planner.lock(&lock, *ttl)?)),
        LockAction::Permit { most, ttl } => planner.permit(&op.key, *most, *ttl),
        LockAction::Extend { grant, ttl } => {
            planner.apply_if_held(&lock, *grant, EntryAction::Expire { ttl: *ttl }, *ttl)
        }
        LockAction::Unlock { grant } => {
            planner.apply_if_held(&lock, *grant, EntryAction::Delete, Millis::LEAST)
        }
    })
}

fn plan(
    locked: &LockedShards<'_>,
    now: &Now<'_>,
    decide: impl FnOnce(&mut MultiKeyPlanner<'_, '_>) -> Result<Reply>,
) -> Result<MultiKeyPlan> {
    let mut source = LockedSource { locked, now };
    let mut overlay = Overlay::new(&mut source, now);
    let reply = decide(&mut MultiKeyPlanner { overlay: &mut overlay, locked, now })?;
    Ok((overlay.into_changes(), reply))
}

/// Reads the entries whose shards are locked.
struct LockedSource<'l> {
    locked: &'l LockedShards<'l>,
    now: &'l Now<'l>,
}

impl ReadSource for LockedSource<'_> {
    fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.locked.ask(key, query, self.now)
    }
}

struct MultiKeyPlanner<'p, 'o> {
    overlay: &'p mut Overlay<'o>,
    locked: &'p LockedShards<'p>,
    now: &'p Now<'p>,
}

impl<'p> MultiKeyPlanner<'p, '_> {
    fn apply(&mut self, key: &Key<'_>, action: EntryAction) -> Result<Reply> {
        self.overlay.apply(Op { key: key.clone(), action })
    }

    fn lease(
        &mut self,
        queue: &Key<'_>,
        lease: Millis,
        dead_letters: Option<&DeadLetters>,
        ttl_if_created: Option<Millis>,
    ) -> Result<Reply> {
        let leases = queue.companion(Companion::Leases);
        // If a key holds another kind, this fails before anything is changed.
        self.overlay.ask(queue, &Query::Bounds)?;
        if let Some(dead_letters) = dead_letters {
            self.overlay.ask(&dead_letters.queue, &Query::Bounds)?;
        }
        let waiting = self.values(queue);
        let returned = self.take_back(queue, &leases, ttl_if_created)?;
        let due = self.take_due(queue, &leases, ttl_if_created)?;
        let mut upcoming = returned.into_iter().chain(waiting.into_iter().flatten().cloned()).chain(due);
        for _ in 0..MOST_DEAD_LETTERS {
            let Some(value) = upcoming.next() else { break };
            self.apply(queue, EntryAction::Pop { end: End::Front })?;
            let attempts = u64::from(value.returns) + 1;
            if let Some(dead_letters) = dead_letters.filter(|letters| attempts > letters.most_attempts) {
                let push = EntryAction::Push { end: End::Front, values: vec![value], ttl_if_created };
                self.apply(&dead_letters.queue, push)?;
                continue;
            }
            let id = new_id(self.until(lease), self.next_token()?);
            let bytes = value.bytes.clone();
            let fields = vec![(id.clone(), value)];
            self.apply(&leases, EntryAction::MapPut { fields, ttl_if_created: None })?;
            return Ok(Reply::Leased(Some(Box::new(NewLease { id, bytes, attempts }))));
        }
        Ok(Reply::Leased(None))
    }

    /// Puts the values of expired leases at the front of the queue, and returns them in their order.
    fn take_back(
        &mut self,
        queue: &Key<'_>,
        leases: &Key<'_>,
        ttl_if_created: Option<Millis>,
    ) -> Result<Vec<Value>> {
        let expired = self.leases(leases).map_or_else(Vec::new, |map| map.expired_leases(self.now));
        let mut values = Vec::with_capacity(expired.len());
        for lease in expired {
            self.remove_lease(leases, &lease)?;
            values.push(lease.value.returned());
        }
        if !values.is_empty() {
            // The value that is pushed last becomes the first of the queue.
            let reversed = values.iter().rev().cloned().collect();
            self.apply(queue, EntryAction::Push { end: End::Front, values: reversed, ttl_if_created })?;
        }
        Ok(values)
    }

    /// Adds delayed values that are due at the end of the queue, and returns them.
    fn take_due(
        &mut self,
        queue: &Key<'_>,
        leases: &Key<'_>,
        ttl_if_created: Option<Millis>,
    ) -> Result<Vec<Value>> {
        let due = self.leases(leases).map_or_else(Vec::new, |map| map.due_values(self.now));
        let mut values = Vec::with_capacity(due.len());
        for (field, value) in due {
            self.apply(leases, EntryAction::MapDelete { field })?;
            values.push(value);
        }
        if !values.is_empty() {
            self.apply(queue, EntryAction::Push { end: End::Back, values: values.clone(), ttl_if_created })?;
        }
        Ok(values)
    }

    fn push_delayed(&mut self, queue: &Key<'_>, value: &Value, delay: Millis) -> Result<Reply> {
        // If the key holds another kind, this fails before anything is changed.
        self.overlay.ask(queue, &Query::Bounds)?;
        let field = delayed(self.until(delay), self.next_token()?);
        let fields = vec![(field, value.clone())];
        let leases = queue.companion(Companion::Leases);
        self.apply(&leases, EntryAction::MapPut { fields, ttl_if_created: None })?;
        Ok(Reply::Flag(true))
    }

    fn end_lease(
        &mut self,
        queue: &Key<'_>,
        id: &SmolStr,
        back: bool,
        ttl_if_created: Option<Millis>,
    ) -> Result<Reply> {
        let leases = queue.companion(Companion::Leases);
        let Some(lease) = self.leases(&leases).and_then(|map| map.find_lease(id)) else {
            return Ok(Reply::Flag(false));
        };
        if back {
            let values = vec![lease.value.clone().returned()];
            self.apply(queue, EntryAction::Push { end: End::Front, values, ttl_if_created })?;
        }
        self.remove_lease(&leases, &lease)?;
        Ok(Reply::Flag(true))
    }

    fn extend_lease(&mut self, queue: &Key<'_>, id: &SmolStr, length: Millis) -> Result<Reply> {
        let leases = queue.companion(Companion::Leases);
        let Some(lease) = self.leases(&leases).and_then(|map| map.find_lease(id)) else {
            return Ok(Reply::Flag(false));
        };
        self.remove_lease(&leases, &lease)?;
        let fields = extended(id, self.until(length), lease.value);
        self.apply(&leases, EntryAction::MapPut { fields, ttl_if_created: None })?;
        Ok(Reply::Flag(true))
    }

    fn remove_lease(&mut self, leases: &Key<'_>, lease: &StoredLease) -> Result<()> {
        for field in [Some(&lease.field), lease.end_field.as_ref()].into_iter().flatten() {
            self.apply(leases, EntryAction::MapDelete { field: field.clone() })?;
        }
        Ok(())
    }

    /// Returns the leases as they were before this operation.
    fn leases(&self, leases: &str) -> Option<&'p MapValue> {
        match &live(self.locked.find(leases), self.now)?.content {
            Content::Map(map) => Some(map),
            Content::Value(_) | Content::Queue(_) => None,
        }
    }

    /// Returns the values of the queue as they were before this operation.
    fn values(&self, queue: &str) -> Option<impl Iterator<Item = &'p Value> + use<'p>> {
        match &live(self.locked.find(queue), self.now)?.content {
            Content::Queue(queue) => Some(queue.range(i64::MIN, i64::MAX)),
            Content::Value(_) | Content::Map(_) => None,
        }
    }

    /// Takes the first permit that nobody holds.
    fn permit(&mut self, name: &Key<'_>, most: u32, ttl: Millis) -> Result<Reply> {
        for number in 0..most {
            if let Some(grant) = self.lock(&name.permit(number).companion(Companion::Lock), ttl)? {
                return Ok(Reply::Permit(Some(Permit { number, grant })));
            }
        }
        Ok(Reply::Permit(None))
    }

    fn lock(&mut self, lock: &Key<'_>, ttl: Millis) -> Result<Option<Grant>> {
        if self.overlay.ask(lock, &Query::Value)?.found()?.is_some() {
            return Ok(None);
        }
        let token = self.next_token()?;
        let value = Value::json(token.to_string().as_bytes());
        self.apply(lock, EntryAction::Put { value, ttl: Some(ttl) })?;
        Ok(Some(Grant { token, until: self.until(ttl) }))
    }

    /// Applies `action` to a lock if the caller still holds it.
    fn apply_if_held(
        &mut self,
        lock: &Key<'_>,
        grant: Grant,
        action: EntryAction,
        ttl: Millis,
    ) -> Result<Reply> {
        let holder = self.overlay.ask(lock, &Query::Value)?.found()?;
        Ok(Reply::Hold(match holder {
            Some(token) if *token == *grant.token.to_string().as_bytes() => {
                self.apply(lock, action)?;
                Hold::Held { until: self.until(ttl) }
            }
            Some(_) => Hold::TakenByAnother,
            None if grant.until <= self.now.millis() => Hold::Expired,
            None => Hold::NotHeld,
        }))
    }

    /// Returns a new token.
    fn next_token(&mut self) -> Result<u64> {
        let fence = Key::fence();
        let last = self.overlay.ask(&fence, &Query::Value)?.found()?;
        let last = last.and_then(|text| std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()));
        let token = token_after(last, self.now);
        let value = Value::json(token.to_string().as_bytes());
        self.apply(&fence, EntryAction::Put { value, ttl: None })?;
        Ok(token)
    }

    fn until(&self, ttl: Millis) -> u64 {
        self.now.millis().saturating_add(ttl.get())
    }
}

/// Returns the token after the `last` one.
///
/// INVARIANT: it is larger than every earlier token of this store, even if the clock went back.
pub(crate) fn token_after(last: Option<u64>, now: &Now<'_>) -> u64 {
    last.unwrap_or(0).saturating_add(1).max(now.millis().saturating_mul(1000))
}
