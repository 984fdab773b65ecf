//! Owns until when the leases surely last that the server has granted to this process. Knows nothing of what is leased.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use smol_str::SmolStr;

use crate::op::{LeaseAction, NewLease, Reply};

/// How many leases may be noted before those that have expired are looked for.
const FEW: usize = 64;

/// The leases that this process was granted, by id, and until when each surely lasts.
#[derive(Default)]
pub(crate) struct GrantedLeases(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    ends: HashMap<SmolStr, Instant>,
    /// How many were left when those that had expired were forgotten.
    left: usize,
}

impl GrantedLeases {
    /// Notes what a mutation of leases has done that was requested at this time.
    pub(crate) fn record(&self, action: &LeaseAction, reply: &Reply, requested_at: Instant) {
        match (action, reply) {
            (LeaseAction::Lease { lease, .. }, Reply::Leased(Some(granted))) => {
                let NewLease { id, .. } = &**granted;
                self.note(id, requested_at + lease.duration());
            }
            (LeaseAction::ExtendLease { id, lease }, Reply::Flag(true)) => {
                self.note(id, requested_at + lease.duration());
            }
            (LeaseAction::ExtendLease { id, .. } | LeaseAction::EndLease { id, .. }, _) => self.forget(id),
            (LeaseAction::Lease { .. } | LeaseAction::PushDelayed { .. }, _) => {}
        }
    }

    /// Notes that a mutation of leases may have been carried out.
    pub(crate) fn record_doubt(&self, action: &LeaseAction) {
        match action {
            LeaseAction::ExtendLease { id, .. } | LeaseAction::EndLease { id, .. } => self.forget(id),
            LeaseAction::Lease { .. } | LeaseAction::PushDelayed { .. } => {}
        }
    }

    /// Forgets leases that have ended, or may have ended.
    pub(crate) fn forget_all(&self, ids: &[SmolStr]) {
        let mut noted = self.0.lock();
        for id in ids {
            noted.ends.remove(id);
        }
    }

    fn forget(&self, id: &SmolStr) {
        self.forget_all(std::slice::from_ref(id));
    }

    /// Returns whether the lease with this id surely lasts beyond this time, unless it is ended.
    pub(crate) fn lasts_beyond(&self, id: &str, time: Instant) -> bool {
        self.0.lock().ends.get(id).is_some_and(|end| *end > time)
    }

    fn note(&self, id: &SmolStr, end: Instant) {
        let mut noted = self.0.lock();
        noted.ends.insert(id.clone(), end);
        if noted.ends.len() > 2 * noted.left + FEW {
            let now = Instant::now();
            noted.ends.retain(|_, end| *end > now);
            noted.left = noted.ends.len();
        }
    }
}
