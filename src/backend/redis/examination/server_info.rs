//! Owns what the server says of itself, and what the data takes there. Knows nothing of what is wrong with it.

use std::time::Duration;

use redis::Value;

use crate::backend::redis::client::Redis;
use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::failure::{ErrorContext, Failure};
use crate::backend::redis::operation_error::OperationError;
use crate::backend::redis::retry::RetryRule;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::info::Info;
use crate::backend::redis::wire::replies::{at_least, integer, refused};
use crate::inspection::{MemoryUsage, ServerInfo, ServerMemory};
use crate::key::Key;

/// A command: its name, and its arguments.
pub(super) type Words<'w> = (&'w str, &'w [&'w str]);

impl Redis {
    /// Sends commands that read, and returns their replies, refusals included.
    pub(super) fn ask_each(
        &self,
        budget: &TimeBudget,
        commands: &[Words<'_>],
    ) -> Result<Vec<Value>, Failure> {
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            for (name, args) in commands {
                let command = writer.command(1 + args.len(), name);
                for arg in *args {
                    command.arg(arg.as_bytes());
                }
            }
            connection.send(Request { replies: commands.len(), mutation: false, atomic: false }, budget)?;
            commands.iter().map(|_| connection.receive_tolerantly(budget)).collect()
        };
        self.run(RetryRule::Read, budget, work).map(|(replies, _)| replies)
    }

    /// Returns what the server says of itself.
    pub(crate) fn server_info(&self) -> Result<ServerInfo, OperationError> {
        let info =
            self.info().map_err(|failure| OperationError::new(failure, ErrorContext::reading("INFO", "")))?;
        let text = |name: &str| info.text(name).map(ToOwned::to_owned);
        Ok(ServerInfo {
            backend: "redis".to_owned(),
            // Valkey's own version is not the one of Redis that it is compatible with.
            version: text("valkey_version").or_else(|| text("redis_version")),
            address: Some(self.place().host.clone()),
            role: info.role(),
            uptime: info.number("uptime_in_seconds").map(Duration::from_secs),
            used_memory: info.number("used_memory"),
            max_memory: info.limit("maxmemory"),
            eviction_policy: text("maxmemory_policy"),
            aof: info.text("aof_enabled").map(|enabled| enabled == "1"),
            last_save_ok: info.text("rdb_last_bgsave_status").map(|status| status == "ok"),
            replicas: info.number("connected_slaves"),
            clients: info.number("connected_clients"),
            fields: info.fields,
        })
    }

    pub(super) fn info(&self) -> Result<Info, Failure> {
        let reply = self.read(&self.budget(), |writer| _ = writer.command(1, "INFO"), refused)?;
        Ok(Info::from_reply(&reply))
    }

    /// Returns what the server and its data take.
    pub(crate) fn memory_usage(&self) -> Result<MemoryUsage, OperationError> {
        let read = || {
            let info = self.info()?;
            let entries = self.read(&self.budget(), |writer| _ = writer.command(1, "DBSIZE"), integer)?;
            Ok((info, entries))
        };
        let (info, entries) =
            read().map_err(|failure| OperationError::new(failure, ErrorContext::reading("DBSIZE", "")))?;
        let number = |name: &str| info.number(name).unwrap_or_default();
        Ok(MemoryUsage {
            entries: u64::try_from(entries).unwrap_or_default(),
            bytes: number("used_memory_dataset"),
            overhead: number("used_memory_overhead"),
            disk: number("aof_current_size"),
            server: Some(ServerMemory {
                used: number("used_memory"),
                peak: number("used_memory_peak"),
                max: info.limit("maxmemory"),
            }),
        })
    }

    /// Returns what the server counts for each key; `None` for an absent one.
    pub(crate) fn memory_usage_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<u64>>, OperationError> {
        let budget = self.budget();
        let work = |connection: &mut Connection, _| {
            let mut writer = self.writer(connection);
            for key in keys {
                writer.command(3, "MEMORY").arg(b"USAGE").key(key);
            }
            connection.send(Request { replies: keys.len(), mutation: false, atomic: false }, &budget)?;
            let replies: Vec<Value> =
                keys.iter().map(|_| connection.receive(&budget)).collect::<Result<_, _>>()?;
            replies.into_iter().map(usage).collect()
        };
        let outcome = self.run(RetryRule::Read, &budget, work).map(|(usages, _)| usages);
        outcome.map_err(|failure| OperationError::new(failure, ErrorContext::reading("MEMORY USAGE", "")))
    }
}

/// Reads the reply to `MEMORY USAGE`.
fn usage(reply: Value) -> Result<Option<u64>, Failure> {
    if reply == Value::Nil {
        return Ok(None);
    }
    at_least(0, integer(reply)?).map(|bytes| Some(bytes.unsigned_abs()))
}
