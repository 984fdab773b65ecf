//! Owns how an outage begins: when the store is opened, and later. Knows nothing of what is served in an outage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::fallback::outage::serving::{Outage, OutageContext};
use crate::backend::fallback::queue::group::QueuedGroup;
use crate::backend::fallback::queue::replay_queue::ReplayQueue;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::operation_error::{OperationError, Symptom};
use crate::backend::redis::replay::reconnect_error::ReconnectReason;
use crate::error::Result;
use crate::outage::Event;
use crate::util::log_later::log_later;

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
                let cause = format!("{} operations of an earlier run are replayed first", queue.len());
                self.begin_outage_with(&cause, || queue);
                match self.try_reconnect() {
                    Err(error) if error.reason == ReconnectReason::StaleQueue => {
                        Err(self.stale_queue_error(&error.cause))
                    }
                    // The outage goes on if it failed.
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Err(error) if error.symptom.is_unreachable() && self.policy.opens_disconnected => {
                self.begin_outage_with(&error.cause(), || queue);
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
        self.begin_outage_with(cause, || ReplayQueue::new(self.policy.queue_bounds, self.marker.done()));
    }

    /// INVARIANT: `queue` is called under the lock, and only if there is no outage. An outage that has just ended has
    /// advanced the marker, and the new queue must begin after it.
    fn begin_outage_with(self: &Arc<Self>, cause: &str, queue: impl FnOnce() -> ReplayQueue) {
        if self.redis.check_process().is_err() {
            return;
        }
        let mut current = self.outage.write();
        if current.is_some() || self.reconnector.is_ending() {
            return;
        }
        let queue = queue();
        self.redis.suspend();
        self.take_and_report_data_loss();
        let was_connected = self.reconnector.was_connected();
        let rules = self.policy.outage_rules(was_connected);
        let context = OutageContext {
            clock: self.clock.without_refresh(),
            shadow: Arc::clone(&self.shadow),
            queue_file: self.queue_file.clone(),
            counts: Arc::clone(&self.report.counts),
        };
        let outage = Arc::new(Outage::begin(cause, rules, queue, context));
        self.report.counts.outages.fetch_add(1, Ordering::Release);
        self.outage.begin(&mut current, Arc::clone(&outage));
        self.events.push(Event::Disconnected { cause: cause.to_owned() });
        drop(current);
        self.reconnector.wake_all();
        if was_connected {
            log_later!(Warn, "the Redis server {} is unreachable: {cause}", self.redis.server_name());
        } else {
            self.log_never_reached(cause);
        }
        self.start_reconnecting(&outage);
        self.events.dispatch();
    }
}
