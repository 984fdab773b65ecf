//! Owns how a transaction is carried out, on the server or locally. Knows nothing of how the choice between the two is
//! made.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::backend::TransactionBody;
use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::sent::Sent;
use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::route::{OnLostReply, Routed};
use crate::backend::fallback::shadow::after_write;
use crate::backend::fallback::shadow::cache::Shadowed;
use crate::backend::fallback::shared::Shared;
use crate::backend::local::change::Change;
use crate::backend::redis::client::Redis;
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::replay::observed::Observed;
use crate::error::{Error, Result};
use crate::key::{Companion, Key};

struct RoutedTransaction<'t, 'b> {
    shared: &'t Shared,
    body: &'t mut TransactionBody<'b>,
    written: Vec<Key<'static>>,
}

/// Where a transaction is carried out.
enum Place {
    /// On the server, and whether its read set was still valid.
    Server(bool),
    /// Locally, but not yet: its body must not run while the lock of the outage is held, since it may use the store.
    Local,
}

impl Routed for RoutedTransaction<'_, '_> {
    type Output = Place;

    fn on_server(&mut self, redis: &Redis) -> Result<Place, OperationError> {
        let mut shadow_writes = None;
        let mut after = Vec::new();
        let mut ended_leases = Vec::new();
        let outcome = redis.transact(&mut |source, now| {
            let changes = (self.body)(source, now);
            ended_leases.clear();
            ended_leases.extend(changes.iter().filter_map(ended_lease));
            // The shadow holds no leases.
            let shadowed = || changes.iter().filter(|(key, _)| !Key::is_companion(key, Companion::Leases));
            after = after_write::shadowed_after_changes(shadowed(), now, &self.shared.clock);
            self.written = shadowed().map(|(key, _)| key.clone()).collect();
            shadow_writes = Some(self.shared.shadow.begin_writes(self.written.clone()));
            changes
        });
        if matches!(outcome, Ok(true)) || outcome.as_ref().is_err_and(OperationError::maybe_applied) {
            self.shared.granted_leases.forget_all(&ended_leases);
        }
        if let Some(mut writes) = shadow_writes {
            if matches!(outcome, Ok(true)) {
                for (index, shadowed) in after.into_iter().enumerate() {
                    if let Some(shadowed) = shadowed {
                        writes.record_write(index, shadowed);
                    }
                }
            } else {
                let in_doubt = outcome.as_ref().is_err_and(OperationError::maybe_applied);
                let left = |shadowed: Option<Shadowed>| {
                    shadowed.map_or(Observed::OwnWrite, |shadowed| shadowed.observed())
                };
                writes.record_failures_from(0, in_doubt, after.into_iter().map(left));
            }
        }
        outcome.map(Place::Server)
    }

    fn locally(&mut self, _outage: &Outage, _sent: Sent) -> Result<Place> {
        Ok(Place::Local)
    }

    /// A commit that depends on reads is sent once: what was watched is gone with the connection.
    fn is_retried(&self) -> bool {
        false
    }

    fn written_keys(&self) -> impl Iterator<Item = &Key<'_>> {
        self.written.iter()
    }
}

/// Returns the id of the lease that a change on the server ends.
fn ended_lease((key, change): &(Key<'static>, Change)) -> Option<SmolStr> {
    if let Change::RemoveField(id) = change {
        return Key::is_companion(key, Companion::Leases).then(|| id.clone());
    }
    None
}

impl FallbackBackend {
    pub(crate) fn run_transaction(&self, body: &mut TransactionBody<'_>) -> Result<bool> {
        let mut transaction = RoutedTransaction { shared: &self.shared, body, written: Vec::new() };
        match self.route(OnLostReply::Fail, &mut transaction)? {
            Place::Server(was_valid) => Ok(was_valid),
            Place::Local => self.transact_locally(body),
        }
    }

    fn transact_locally(&self, body: &mut TransactionBody<'_>) -> Result<bool> {
        let Some(outage) = self.shared.outage.current() else {
            return Ok(false);
        };
        let run = outage.run(body)?;
        // The body may have forked.
        self.shared.redis.check_process()?;
        self.shared.clock.refresh();
        let current = self.shared.outage.read();
        // A close that came meanwhile has counted the pending operations already.
        if self.shared.outage.has_ended() {
            return Err(Error::closed());
        }
        match &*current {
            Some(current) if Arc::ptr_eq(current, &outage) => outage.finish(run),
            // The outage is over: what was read locally must be read on the server.
            Some(_) | None => Ok(false),
        }
    }
}
