//! Owns the options of the Redis variant, their defaults and limits.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::error::{Error, Result};

/// What serves the program while the Redis server cannot be reached.
///
/// In a configuration: `"memory"` or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Fallback {
    /// A store that is opened while the server cannot be reached warns once, serves from memory until the
    /// program ends, and says so in [`StateStore::status`](crate::StateStore::status). What is written to
    /// it stays in memory. When the server goes away later, operations fail as with `None`.
    #[default]
    Memory,
    /// Opening, and every operation, fails while the server cannot be reached.
    None,
}

/// Options of the Redis variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisOptions {
    /// The most connections that are open at a time. Defaults to 16; from 1 to 1024.
    pub pool_size: u32,
    /// The most connections that are open, besides those, for waiting: each
    /// [`pop_front_wait`](crate::StateStore::pop_front_wait) occupies one; beyond that it looks again and
    /// again. Defaults to 16; from 1 to 1024.
    pub wait_connections: u32,
    /// The longest that making a connection takes, its handshake included. Defaults to `"1s"`; from 1 ms
    /// to one hour.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// The longest that an operation takes, with its waits and retries; for operations over many keys, one
    /// chunk of it. Within one answer each wait for its next bytes is held to it, not their sum: a server
    /// that sends an answer in slivers can hold a call for as long as this at each of them. Defaults to
    /// `"3s"`; from 1 ms to one hour.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How often an operation that is harmless to repeat is tried again on a new connection. Defaults to 2;
    /// at most 100.
    pub max_retries: u32,
    /// The wait before the first retry; it doubles with each further one, and half of it is random.
    /// Defaults to `"10ms"`; from 1 ms to one hour.
    #[serde(with = "duration")]
    pub retry_delay: Duration,
    /// The longest wait between two retries. Defaults to `"500ms"`; from 1 ms to one hour.
    #[serde(with = "duration")]
    pub max_retry_delay: Duration,
    /// How many commands of a batch are sent before their answers are read. Defaults to 1000; from 1 to
    /// 100 000.
    pub pipeline_batch_size: usize,
    /// How many keys the server looks at for one page of a listing. Defaults to 1000; from 1 to 100 000.
    pub scan_count: usize,
    /// What serves while the server cannot be reached. Defaults to `"memory"`.
    pub fallback: Fallback,
    /// A PEM file with the certificates to trust for `rediss://`, instead of the system's. Defaults to
    /// none.
    pub tls_ca_file: Option<PathBuf>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            pool_size: 16,
            wait_connections: 16,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(3),
            max_retries: 2,
            retry_delay: Duration::from_millis(10),
            max_retry_delay: Duration::from_millis(500),
            pipeline_batch_size: 1000,
            scan_count: 1000,
            fallback: Fallback::Memory,
            tls_ca_file: None,
        }
    }
}

impl RedisOptions {
    /// Sets the most connections. Defaults to 16.
    #[must_use]
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets the most connections for waiting. Defaults to 16.
    #[must_use]
    pub fn wait_connections(mut self, connections: u32) -> Self {
        self.wait_connections = connections;
        self
    }

    /// Sets the longest that making a connection takes. Defaults to one second.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest that an operation takes. Defaults to three seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a harmless operation is tried again. Defaults to 2.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets the wait before the first retry. Defaults to 10 ms.
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// Sets the longest wait between two retries. Defaults to 500 ms.
    #[must_use]
    pub fn max_retry_delay(mut self, delay: Duration) -> Self {
        self.max_retry_delay = delay;
        self
    }

    /// Sets how many commands are sent at a time. Defaults to 1000.
    #[must_use]
    pub fn pipeline_batch_size(mut self, commands: usize) -> Self {
        self.pipeline_batch_size = commands;
        self
    }

    /// Sets how many keys the server looks at for one page. Defaults to 1000.
    #[must_use]
    pub fn scan_count(mut self, keys: usize) -> Self {
        self.scan_count = keys;
        self
    }

    /// Sets what serves while the server cannot be reached. Defaults to [`Fallback::Memory`].
    #[must_use]
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets the file with the certificates to trust. Defaults to none: the system's.
    #[must_use]
    pub fn tls_ca_file(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.tls_ca_file = file.into();
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        let span = Duration::from_millis(1)..=Duration::from_secs(3600);
        in_range("redis.pool_size", self.pool_size, 1..=1024)?;
        in_range("redis.wait_connections", self.wait_connections, 1..=1024)?;
        in_range("redis.connect_timeout", self.connect_timeout, span.clone())?;
        in_range("redis.timeout", self.timeout, span.clone())?;
        in_range("redis.max_retries", self.max_retries, 0..=100)?;
        in_range("redis.retry_delay", self.retry_delay, span.clone())?;
        in_range("redis.max_retry_delay", self.max_retry_delay, span)?;
        in_range("redis.pipeline_batch_size", self.pipeline_batch_size, 1..=100_000)?;
        in_range("redis.scan_count", self.scan_count, 1..=100_000)
    }
}

/// Checks one option against its limits.
#[expect(clippy::needless_pass_by_value, reason = "a literal range reads better at the call")]
pub(super) fn in_range<T: PartialOrd + Debug>(field: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("{value:?} is not between {:?} and {:?}", range.start(), range.end());
    Err(Error::invalid_config(field, reason))
}
