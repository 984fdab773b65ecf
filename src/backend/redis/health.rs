//! Owns whether the server serves right now. Knows nothing of what follows if it does not.

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::Request;
use crate::backend::redis::failure::{ErrorContext, Failure, FailureKind};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::info::Info;
use crate::backend::redis::wire::replies::refused;
use crate::config::Fallback;
use crate::util::log_later::log_later;

impl Redis {
    /// Makes the first connection, within `connect_timeout`, and checks that the server serves: one that is still
    /// loading its data does not. With a fallback, it must also take what the replay needs.
    pub(crate) fn check_ready(&self) -> Result<(), OperationError> {
        let budget = TimeBudget::new(self.options.connect_timeout);
        let check = || {
            let mut pooled = self.pool.checkout(&budget)?;
            let connection = pooled.connection()?;
            let mut writer = self.writer(connection);
            writer.command(1, "PING");
            writer.command(2, "INFO").arg(b"memory");
            connection.send(Request { replies: 2, mutation: false, atomic: true }, &budget)?;
            let pong = connection.receive(&budget)?;
            let memory = connection.receive(&budget)?;
            match refused(pong) {
                Err(failure) if failure.kind != FailureKind::Denied => return Err(failure),
                Ok(_) | Err(_) => {}
            }
            self.warn_of_eviction(&Info::from_reply(&memory));
            drop(pooled);
            if self.options.fallback == Fallback::None { Ok(()) } else { self.check_can_replay(&budget) }
        };
        check().map_err(|failure: Failure| {
            OperationError::new(self.link.diagnose(failure), ErrorContext::reading("HELLO", ""))
        })
    }

    /// Returns whether the server serves on a fresh connection: one slow reply does not make it unreachable. Serving
    /// includes writes: a server that replies to `PING` may hold every write back, as during a failover.
    pub(crate) fn probe(&self) -> bool {
        let budget = TimeBudget::new(self.probe_budget());
        let probe = || -> Result<[Value; 2], Failure> {
            let mut connection = self.link.dial(&budget)?;
            let epoch = self.link.epoch();
            let begun = epoch.begin_probe();
            let mut writer = self.writer(&mut connection);
            writer.command(1, "PING");
            epoch.write_create(&mut writer);
            // If the write arrives late, it finds an epoch or creates one, so a lost reply does no harm.
            connection.send(Request { replies: 3, mutation: false, atomic: false }, &budget)?;
            let pong = connection.receive(&budget)?;
            let created = connection.receive(&budget)?;
            epoch.on_create(begun, &created, connection.receive(&budget)?);
            Ok([pong, created])
        };
        // A server that replies that it is loading or busy does not serve. Any other refusal concerns this command alone.
        let serves =
            |reply| refused(reply).map_or_else(|failure| failure.kind != FailureKind::Busy, |_| true);
        probe().is_ok_and(|replies| replies.into_iter().all(serves))
    }

    /// Warns if the server may evict this crate's own keys, which record how much of a replay queue and which calls
    /// are done. A policy of `volatile-*` evicts none of them. The user may lack the permission to read the policy.
    fn warn_of_eviction(&self, memory: &Info) {
        let needs_it = self.options.fallback != Fallback::None || self.options.exactly_once;
        let policy = memory.eviction_policy().filter(|policy| needs_it && policy.starts_with("allkeys-"));
        if let Some(policy) = policy {
            log_later!(
                Warn,
                "Redis {} evicts keys (maxmemory-policy {policy}): if it evicts those of `__millpond`, \
                 operations that were in progress when an outage began can stay in doubt",
                self.server_name()
            );
        }
    }
}
