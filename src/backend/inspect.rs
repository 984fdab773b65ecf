//! Owns the contract of how a backend is examined: its health, what it says of itself, what it takes, and what is wrong
//! with it. Knows nothing of what the answers are used for.

use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::clock::Millis;
use crate::error::Result;
use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo};
use crate::key::{Key, RESERVED};
use crate::op::{EntryAction, Op, Reply};
use crate::value::Value;

/// For how long the key of a check exists if it cannot be deleted.
const CHECK_TTL: Duration = Duration::from_secs(60);

/// What each variant can tell about itself.
pub(crate) trait Inspect: Backend {
    /// Returns whether the backend serves. What keeps it from serving is in the report; an error means that it could not
    /// even be checked, as in a forked child.
    fn health(&self) -> Result<Health>;

    fn server_info(&self) -> Result<ServerInfo>;

    fn memory_usage(&self) -> Result<MemoryUsage>;

    /// Returns what each entry takes; `None` for an absent one. The numbers are those of `bytes` and `overhead`.
    fn memory_usage_of(&self, keys: &[Key<'_>]) -> Result<Vec<Option<(u64, u64)>>>;

    /// Removes all expired entries from the memory of this process, and returns how many there were.
    fn cleanup_expired(&self) -> u64;

    /// Returns what can lose data or time.
    fn findings(&self) -> Result<Vec<Finding>>;
}

/// Returns whether the backend serves, and takes a write, shows it and deletes it again. The key is of this check alone,
/// and nothing lists it.
pub(crate) fn health_of_writes(backend: &impl Inspect) -> Result<Health> {
    let begun = Instant::now();
    let health = backend.health()?;
    if !health.healthy {
        return Ok(health);
    }
    let outcome = write_and_delete(backend);
    let (healthy, details) = match outcome {
        Ok(true) => (true, format!("{}, and takes writes", health.details)),
        Ok(false) => (false, "a write was acknowledged, and could not be read back".to_owned()),
        Err(error) => (false, format!("{error:#}")),
    };
    Ok(Health { healthy, latency: begun.elapsed(), details, ..health })
}

/// Returns whether the key was there after it was written.
fn write_and_delete(backend: &impl Inspect) -> Result<bool> {
    let id = fastrand::u128(..);
    let key = Key::reserved(format!("{RESERVED}:health:{id:032x}"));
    let text = id.to_string();
    let put = EntryAction::Put { value: Value::json(text.as_bytes()), ttl: Some(Millis::new(CHECK_TTL)?) };
    backend.apply(Op { key: key.clone(), action: put }).and_then(Reply::done)?;
    let found = backend.get(&key)?;
    let was_there = backend.apply(Op { key, action: EntryAction::Delete }).and_then(Reply::flag)?;
    Ok(was_there && found.as_deref() == Some(text.as_bytes()))
}
