//! Owns how an outage begins with operations that an earlier run of the program queued.

use smol_str::SmolStr;

use crate::backend::fallback::outage::leases::local_key;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::local::plan_multi::{lease_keys, plan_lease};
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::{Millis, Now};
use crate::key::{Companion, Key};
use crate::op::{LeaseAction, Op};

impl Outage {
    /// Applies the queued operations locally: a program that was started again finds what it wrote.
    pub(crate) fn apply_restored(&self, now: &Now<'_>) {
        self.session().restore(|key, action| {
            if let QueuedAction::SetLease { id, left } = action {
                return self.restore_lease(key, id, *left, now);
            }
            let key = local_key(key);
            // An action that fails on the part that is known locally may still succeed on the server.
            if let Some(Ok((change, _))) =
                action.to_entry().map(|action| self.table().plan(&key, action, now))
            {
                self.table().apply(&key, change, now);
            }
        });
    }

    /// Sets how much time a lease has left, or removes the lease. Its value was restored before, as a lease that was
    /// never extended.
    fn restore_lease(&self, ids_key: &Key<'static>, id: &SmolStr, left: Option<Millis>, now: &Now<'_>) {
        let Some(queue) = Companion::Leases.strip_from(ids_key) else { return };
        let queue = Key::listed(queue.to_owned());
        let action = match left {
            Some(lease) => LeaseAction::ExtendLease { id: id.clone(), lease },
            None => LeaseAction::EndLease { id: id.clone(), back: false, ttl_if_created: None },
        };
        let locked = self.table().lock(lease_keys(&queue).iter().map(|key| &**key));
        // A lease that has run out has the least time left, and must have ended now: so the time is counted from before.
        let before = Now::at(now.millis().saturating_sub(Millis::LEAST.get()));
        let planned = plan_lease(&Op { key: queue.clone(), action }, &locked, &before);
        drop(locked);
        // The program has no thread yet that could have changed the lease meanwhile.
        for (key, change) in planned.map(|(changes, _)| changes).unwrap_or_default() {
            self.table().apply(&key, change, now);
        }
    }
}
