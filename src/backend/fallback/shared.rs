//! Owns the state that all handles on one store share with the thread that reconnects.

use std::sync::Arc;

use crate::backend::fallback::granted_leases::GrantedLeases;
use crate::backend::fallback::marker::Marker;
use crate::backend::fallback::outage::cell::OutageCell;
use crate::backend::fallback::policy::Policy;
use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::reconnector::Reconnector;
use crate::backend::fallback::report::kept::Report;
use crate::backend::fallback::shadow::cache::Shadow;
use crate::backend::redis::client::Redis;
use crate::error::Error;
use crate::event_bus::EventBus;
use crate::key::Key;
use crate::store_clock::StoreClock;

pub(crate) struct Shared {
    pub(crate) redis: Redis,
    pub(crate) clock: StoreClock,
    pub(crate) shadow: Arc<Shadow>,
    pub(crate) granted_leases: Arc<GrantedLeases>,
    pub(crate) policy: Policy,
    pub(crate) outage: OutageCell,
    pub(crate) reconnector: Reconnector,
    pub(crate) report: Report,
    pub(crate) events: EventBus,
    pub(crate) marker: Marker,
    /// Keeps the replay queue on disk too.
    pub(crate) queue_file: Option<Arc<QueueFile>>,
}

impl Shared {
    /// The error of a store whose replay queue in files is a copy, so that the queue must not be replayed.
    #[cold]
    pub(crate) fn stale_queue_error(&self, cause: &str) -> Error {
        let path = self.queue_file.as_ref().map(|file| file.path().display().to_string());
        Error::invalid_config("redis.fallback", format!("{}: {cause}", path.unwrap_or_default()))
    }

    /// If an outage began while operations on these keys were in flight, gives it what the shadow holds of the keys
    /// now.
    pub(crate) fn carry_into_outage<'k>(&self, keys: impl IntoIterator<Item = &'k Key<'k>>) {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return;
        }
        // Not `is_disconnected`: an outage that is just beginning may have read the shadow already.
        if let Some(outage) = &*self.outage.read() {
            keys.for_each(|key| outage.refresh_from_shadow(key));
        }
    }
}
