//! Owns how an outage is detected: one slow command is none, and of many threads that meet a silent server one probes
//! it. Knows nothing of what is served in an outage.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::fallback::reconnector::ProbeResult;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::operation_error::{OperationError, Symptom};

impl Shared {
    /// Returns whether an error means that the server is unreachable, and begins an outage if it does. `outages` is how
    /// many had begun when the operation did: a later one may be over already, and is what the operation met.
    pub(crate) fn is_outage(self: &Arc<Self>, error: &OperationError, outages: u64) -> bool {
        let met_an_outage = || self.outage.is_disconnected() || self.report.counts.outages() != outages;
        match error.symptom {
            Symptom::Unreachable | Symptom::ConnectionLost => {}
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
        let is_alive = error.symptom == Symptom::ConnectionLost && self.probe_once();
        // Another thread may have found the server unreachable meanwhile, although it answers again.
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

    /// Returns whether the server answers. One thread asks for all threads that came before it did.
    pub(crate) fn probe_once(&self) -> bool {
        let came = Instant::now();
        let mut last = self.reconnector.last_probe.lock();
        if self.outage.is_disconnected() {
            return false;
        }
        if let Some(ProbeResult { begun, alive }) = *last
            && begun >= came
        {
            return alive;
        }
        let begun = Instant::now();
        let alive = self.redis.probe();
        *last = Some(ProbeResult { begun, alive });
        alive
    }

    /// Waits until the threads that have all connections have found out whether the server is unreachable, for at most
    /// as long as that takes them.
    fn wait_for_probe(self: &Arc<Self>) {
        let budget = self.redis.probe_budget();
        let end = Instant::now() + budget;
        self.reconnector.wait_until(end, || self.outage.is_disconnected());
        // They may be probing now, or have found out without having begun the outage.
        let last = self.reconnector.last_probe.try_lock_until(end + budget).and_then(|last| *last);
        if last.is_some_and(|last| !last.alive && last.begun + self.policy.timeout > end) {
            self.begin_outage("no answer within the time limit");
        }
    }
}
