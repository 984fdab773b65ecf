//! Owns how an outage is detected: one slow command is not enough, and if many threads get no reply, one of them probes
//! the server for all. Knows nothing of what is served in an outage.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::fallback::reconnector::ProbeResult;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::operation_error::{OperationError, Symptom};

impl Shared {
    /// Returns whether an error means that the server is unreachable, and begins an outage if it does. `outages` is how
    /// many outages had begun when the operation began: a later one caused the error, even if it is over already.
    pub(crate) fn is_outage(self: &Arc<Self>, error: &OperationError, outages: u64) -> bool {
        let met_an_outage = || self.outage.is_disconnected() || self.report.counts.outages() != outages;
        match error.symptom {
            Symptom::Unreachable | Symptom::ConnectionLost | Symptom::RequestCut => {}
            Symptom::Exhausted => {
                if !met_an_outage() {
                    self.wait_for_probe();
                }
                return met_an_outage();
            }
            Symptom::None | Symptom::ReplyEvicted => return false,
        }
        if met_an_outage() {
            return true;
        }
        // One slow command is no outage, and neither is one connection that was closed.
        let is_alive = error.symptom != Symptom::Unreachable && self.probe_once();
        // Another thread may have begun an outage meanwhile, even if the server replies again now.
        if met_an_outage() {
            return true;
        }
        if is_alive {
            self.check_data_loss();
        } else {
            self.begin_outage(&error.cause());
        }
        !is_alive
    }

    /// Returns whether the server replies. One thread probes for all threads that called this before its probe.
    pub(crate) fn probe_once(&self) -> bool {
        let called = Instant::now();
        let mut last = self.reconnector.last_probe.lock();
        if self.outage.is_disconnected() {
            return false;
        }
        // A probe that was under way already tells as much: an operation waits for one probe at most, so that it ends
        // within its limit.
        if let Some(ProbeResult { ended, alive, .. }) = *last
            && ended >= called
        {
            return alive;
        }
        let begun = Instant::now();
        let alive = self.redis.probe();
        *last = Some(ProbeResult { begun, ended: Instant::now(), alive });
        alive
    }

    /// Waits while the threads that use all connections find out whether the server is unreachable, for at most as long
    /// as that can take.
    fn wait_for_probe(self: &Arc<Self>) {
        let budget = self.redis.probe_budget();
        let end = Instant::now() + budget;
        self.reconnector.wait_until(end, || self.outage.is_disconnected());
        // They may still be probing, or may not have begun the outage yet.
        let last = self.reconnector.last_probe.try_lock_until(end + budget).and_then(|last| *last);
        if last.is_some_and(|last| !last.alive && last.begun + self.policy.timeout > end) {
            self.begin_outage("no reply within the time limit");
        }
    }
}
