//! Owns how an outage begins: when the store is opened, and later. Knows nothing of what is served in an outage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::fallback::outage::serving::{Outage, OutageContext};
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::replay_queue::{QueuedWrites, ReplayQueue};
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::operation_error::{OperationError, Symptom};
use crate::backend::redis::replay::reconnect_error::ReconnectReason;
use crate::error::Result;
use crate::outage::Event;
use crate::util::log_later::log_later;

/// Why an outage begins.
#[derive(Clone, Copy)]
enum OutageReason<'r> {
    Unreachable(&'r str),
    /// Writes that an earlier run of the program kept in files must be applied before anything else.
    EarlierRun(QueuedWrites),
}

impl Shared {
    /// Checks the server, and begins an outage if it is unreachable. The operations that an earlier run of the program
    /// queued are replayed first.
    pub(crate) fn begin(self: &Arc<Self>, queued: Vec<QueuedGroup>, sent: u64) -> Result<()> {
        let has_queued = !queued.is_empty();
        let queue = ReplayQueue::load(self.policy.queue_bounds, self.marker.done(), sent, queued);
        let ready = self.redis.check_ready();
        self.reconnector.set_was_connected(ready.is_ok());
        match ready {
            Ok(()) if !has_queued => Ok(()),
            Ok(()) => {
                self.begin_outage_with(OutageReason::EarlierRun(queue.writes()), || queue);
                match self.try_reconnect() {
                    Err(error) if error.reason == ReconnectReason::StaleQueue => {
                        Err(self.stale_queue_error(&error.cause))
                    }
                    // The outage goes on if it failed.
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Err(error) if error.symptom.is_unreachable() && self.policy.opens_disconnected => {
                self.begin_outage_with(OutageReason::Unreachable(&error.cause()), || queue);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Begins an outage because only the server knows whether an operation was done, and must be asked at the end of
    /// the outage. Returns `false` if asking is of no use.
    pub(crate) fn begin_outage_in_doubt(self: &Arc<Self>, error: &OperationError) -> bool {
        if error.symptom == Symptom::ReplyEvicted || self.reconnector.is_ending() {
            return false;
        }
        self.begin_outage(&error.cause());
        true
    }

    /// Begins an outage, unless there is one.
    pub(crate) fn begin_outage(self: &Arc<Self>, cause: &str) {
        let queue = || ReplayQueue::new(self.policy.queue_bounds, self.marker.done());
        self.begin_outage_with(OutageReason::Unreachable(cause), queue);
    }

    fn log_unreachable(&self, cause: &str) {
        let (server, cause) = (self.redis.server_name(), self.redis.without_host(cause));
        let most = self.policy.queue_bounds.operations;
        match (&self.queue_file, self.policy.serves) {
            (_, false) => {
                log_later!(Warn, "cannot reach Redis {server}: {cause}; operations fail until it is back");
            }
            (None, true) => log_later!(
                Warn,
                "cannot reach Redis {server}: {cause}; serving from memory, writes are queued (at most {most}) and \
                 lost if this program ends before it is back"
            ),
            (Some(file), true) => log_later!(
                Warn,
                "cannot reach Redis {server}: {cause}; serving from memory, writes are queued (at most {most}) and \
                 kept in {}",
                file.path().display()
            ),
        }
    }

    /// INVARIANT: `queue` is called under the lock, and only if there is no outage. An outage that has just ended has
    /// advanced the marker, and the new queue must begin after it.
    fn begin_outage_with(self: &Arc<Self>, reason: OutageReason<'_>, queue: impl FnOnce() -> ReplayQueue) {
        if self.redis.check_process().is_err() {
            return;
        }
        let mut current = self.outage.write();
        if current.is_some() || self.reconnector.is_ending() {
            return;
        }
        let queue = queue();
        let cause = match reason {
            OutageReason::Unreachable(cause) => cause.to_owned(),
            OutageReason::EarlierRun(writes) => {
                format!("{writes} kept from an earlier run are applied first")
            }
        };
        self.redis.suspend();
        self.take_and_report_data_loss();
        let was_connected = self.reconnector.was_connected();
        let rules = self.policy.outage_rules(was_connected);
        let context = OutageContext {
            clock: self.clock.without_refresh(),
            shadow: Arc::clone(&self.shadow),
            granted_leases: Arc::clone(&self.granted_leases),
            queue_file: self.queue_file.clone(),
            counts: Arc::clone(&self.report.counts),
            server: self.redis.server_name().into(),
        };
        let outage = Arc::new(Outage::begin(&cause, rules, queue, context));
        self.report.counts.outages.fetch_add(1, Ordering::Release);
        self.outage.begin(&mut current, Arc::clone(&outage));
        self.events.push(Event::Disconnected { cause });
        drop(current);
        self.reconnector.wake_all();
        match reason {
            OutageReason::Unreachable(cause) if was_connected => self.log_unreachable(cause),
            OutageReason::Unreachable(cause) => self.log_never_reached(cause),
            OutageReason::EarlierRun(writes) => {
                let server = self.redis.server_name();
                log_later!(Info, "Redis {server}: applying {writes} kept from an earlier run");
            }
        }
        self.start_reconnecting(&outage);
        self.events.dispatch();
    }
}
