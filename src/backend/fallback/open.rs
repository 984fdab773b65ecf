//! Owns [`FallbackBackend`], a handle on a Redis store, and how it is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::fallback::marker::Marker;
use crate::backend::fallback::outage::cell::OutageCell;
use crate::backend::fallback::policy::Policy;
use crate::backend::fallback::queue::file::{QueueFile, Restored};
use crate::backend::fallback::reconnector::Reconnector;
use crate::backend::fallback::report::kept::Report;
use crate::backend::fallback::shadow::cache::Shadow;
use crate::backend::fallback::shared::Shared;
use crate::backend::redis::client::Redis;
use crate::config::{self, StateConfig};
use crate::error::Result;
use crate::event_bus::EventBus;
use crate::stats::recorder::Recorder;
use crate::store_clock::StoreClock;
use crate::util::log_later::{FlushOnDrop, log_later};
use crate::util::unique_id::unique_id;

/// A handle on a Redis store. Dropping the last one closes the store.
pub(crate) struct FallbackBackend {
    pub(crate) shared: Arc<Shared>,
    owner: Arc<Owner>,
    /// Whether an outage is always an error for this handle.
    pub(crate) is_strict: bool,
}

/// Closes the store when the last handle is dropped.
struct Owner(Arc<Shared>);

impl FallbackBackend {
    pub(crate) fn open(
        url: &str,
        key_prefix: &str,
        config: &StateConfig,
        clock: StoreClock,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        let options = &config.redis;
        let policy = Policy::new(options);
        // The id is unique, so that no other run of a program uses the same reply cache.
        let redis = Redis::new(url, key_prefix, config, unique_id(), recorder)?;
        let (queue_file, restored) = match &options.fallback {
            config::Fallback::File { path } => {
                let (file, restored) =
                    QueueFile::open(path, key_prefix, unique_id(), &config.file, &clock.without_refresh())?;
                (Some(Arc::new(file)), restored)
            }
            config::Fallback::Memory | config::Fallback::None => (None, Restored::nothing(unique_id())),
        };
        // If nothing is served during an outage, nothing is read from the shadow.
        let shadow_bytes = if policy.serves { options.shadow_bytes } else { 0 };
        let events = EventBus::new(format!("Redis {}", redis.server_name()));
        let Restored { identity, done, sent, has_marker, groups, outcomes } = restored;
        let shared = Arc::new(Shared {
            redis,
            clock,
            shadow: Arc::new(Shadow::new(shadow_bytes)),
            granted_leases: Arc::default(),
            policy,
            outage: OutageCell::default(),
            reconnector: Reconnector::default(),
            report: Report::restore(outcomes),
            events,
            marker: Marker::new(identity, unique_id(), done, has_marker),
            queue_file,
        });
        let owner = Arc::new(Owner(Arc::clone(&shared)));
        shared.begin(groups, sent)?;
        shared.redis.begin_keeping_connections();
        Ok(Self { shared, owner, is_strict: false })
    }

    /// Returns a handle on the same store for which an outage is always an error.
    pub(crate) fn without_fallback(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), owner: Arc::clone(&self.owner), is_strict: true }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // In a forked child, the queued operations are those of the parent.
        if self.0.redis.check_process().is_err() {
            return;
        }
        let _lines = FlushOnDrop;
        if let Err(error) = self.0.close(Duration::ZERO) {
            let server = self.0.redis.server_name();
            log_later!(Error, "the store on Redis {server} was dropped and not closed: {error:#}");
        }
    }
}
