//! Owns what a Redis store tells about itself, also while its server is disconnected. Knows nothing of what the server
//! is asked.

use std::time::Duration;

use crate::backend::Backend as _;
use crate::backend::fallback::open::FallbackBackend;
use crate::backend::fallback::outage::refusal::server_disconnected;
use crate::backend::inspect::Inspect;
use crate::backend::redis::client::Redis;
use crate::error::Result;
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo, Severity};
use crate::key::Key;
use crate::outage::Status;

impl FallbackBackend {
    /// Returns why the server is disconnected; `None` if it is connected.
    fn disconnected_because(&self) -> Option<String> {
        match self.status() {
            Status::Disconnected { reason, pending, .. } => {
                let name = self.shared.redis.server_name();
                let reason = self.shared.redis.without_host(&reason);
                Some(format!("Redis {name} is disconnected: {reason}; queued operations: {pending}"))
            }
            Status::Connected | Status::Closed => None,
        }
    }
}

impl Inspect for FallbackBackend {
    fn health(&self) -> Result<Health> {
        self.shared.redis.check_process()?;
        Ok(match self.disconnected_because() {
            Some(details) => Health::unhealthy(Duration::ZERO, details),
            None => self.shared.redis.health(),
        })
    }

    fn server_info(&self) -> Result<ServerInfo> {
        self.read(Redis::server_info, |_| Err(server_disconnected()))
    }

    fn memory_usage(&self) -> Result<MemoryUsage> {
        self.read(Redis::memory_usage, |outage| Ok(outage.table().usage()))
    }

    fn memory_usage_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<(u64, u64)>>> {
        let on_server = |redis: &Redis| {
            let usages = redis.memory_usage_of(keys)?.into_iter();
            Ok(usages.map(|usage| usage.map(|bytes| (bytes, 0))).collect())
        };
        self.read(on_server, |outage| Ok(outage.table().usage_of(keys, &outage.now())))
    }

    fn cleanup_expired(&self) -> u64 {
        self.shared.clock.refresh();
        // The server removes what has expired by itself.
        self.shared.outage.current().map_or(0, |outage| outage.table().reclaim_all(&outage.now()))
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        self.shared.redis.check_process()?;
        if let Some(found) = self.disconnected_because() {
            let advice = "make the server reachable, then run this check again: only then can it be asked";
            return Ok(vec![Finding::new(Severity::Critical, "outage", found, advice)]);
        }
        self.read(Redis::findings, |_| Err(server_disconnected()))
    }
}
