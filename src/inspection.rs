//! Owns the reports on the state of a store and of its backend: health, server, memory, and findings. Knows nothing of
//! how they are made.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::text::count;

/// Whether a store works right now: see [`StateStore::health_check`](crate::StateStore::health_check).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the backend serves operations.
    pub healthy: bool,
    /// How long the check took: on Redis, the round trip to the server.
    pub latency: Duration,
    /// The role of the Redis server, as it says: `master` or `replica`. `None` on the other variants, during an outage,
    /// and if the user may not ask for it.
    pub role: Option<String>,
    /// What was found, in words: why the store is unhealthy, or what was checked.
    pub details: String,
}

impl Health {
    pub(crate) fn unhealthy(latency: Duration, details: String) -> Self {
        Self { healthy: false, latency, role: None, details }
    }
}

/// Writes `healthy: …` or `unhealthy: …`, and the latency.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.healthy { "healthy" } else { "unhealthy" };
        write!(f, "{word}: {} ({:?})", self.details, self.latency)
    }
}

/// What a backend says of itself: see [`StateStore::server_info`](crate::StateStore::server_info).
///
/// A value that the backend does not have, or does not tell, is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `memory`, `file` or `redis`.
    pub backend: String,
    /// The version of the Redis server, or of the format of the files.
    pub version: Option<String>,
    /// The host and port or the socket of the server, or the directory of the files.
    pub address: Option<String>,
    /// `master` or `replica`.
    pub role: Option<String>,
    /// For how long the server has been running.
    pub uptime: Option<Duration>,
    /// How many bytes of memory the server has allocated.
    pub used_memory: Option<u64>,
    /// How many bytes of memory the server may use; `None` if it has no limit.
    pub max_memory: Option<u64>,
    /// What the server does if it needs more memory than that: its `maxmemory-policy`.
    pub eviction_policy: Option<String>,
    /// Whether the server writes an append-only file.
    pub aof: Option<bool>,
    /// Whether the last snapshot of the server was saved.
    pub last_save_ok: Option<bool>,
    /// How many replicas are connected to the server.
    pub replicas: Option<u64>,
    /// How many clients are connected to the server, this store's connections included.
    pub clients: Option<u64>,
    /// Everything that the backend says, by its own names. On Redis these are the fields of `INFO`; on File
    /// `directory`, `format`, `sync`, `journal_bytes` and `snapshot_bytes`.
    pub fields: BTreeMap<String, String>,
}

/// How much memory and disk a store takes: see [`StateStore::memory_usage`](crate::StateStore::memory_usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// How many entries there are. On Redis, how many keys the database has, also those of other programs.
    pub entries: u64,
    /// How many bytes the data takes. On Memory and File, keys and values as text; on Redis, what the server counts as
    /// its dataset.
    pub bytes: u64,
    /// How many bytes more are needed to keep the data. On Memory and File, an estimate.
    pub overhead: u64,
    /// How many bytes the data takes on disk: the files of a File store, or the append-only file of a Redis server.
    pub disk: u64,
    /// The memory of the Redis server, all databases together; `None` on the other variants and during an outage.
    pub server: Option<ServerMemory>,
}

/// The memory of a Redis server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerMemory {
    /// How many bytes it has allocated.
    pub used: u64,
    /// The most that it has ever allocated since it was started.
    pub peak: u64,
    /// The most that it may allocate; `None` if it has no limit.
    pub max: Option<u64>,
}

/// Something about a configuration, a server or a directory that can lose data or time: see
/// [`StateStore::doctor`](crate::StateStore::doctor) and [`StateConfig::lint`](crate::StateConfig::lint).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in a word or two: `persistence`, `eviction`, `permissions`. Findings of one kind have the same
    /// topic in every version of this crate.
    pub topic: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        topic: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { severity, topic, found: found.into(), advice: advice.into() }
    }
}

/// Writes `warning (persistence): …; …`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}; {}", self.severity, self.topic, self.found, self.advice)
    }
}

/// How bad a [`Finding`] is; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// It is good to know, and may be intended.
    Info,
    /// It can lose data, or make operations fail, if something else goes wrong.
    Warning,
    /// It makes operations fail or loses data now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// Writes `3 entries, 120 bytes and 480 bytes of overhead`.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = if self.entries == 1 { "entry" } else { "entries" };
        let [bytes, overhead] = [self.bytes, self.overhead].map(|bytes| count(bytes, "byte"));
        write!(f, "{} {entries}, {bytes} and {overhead} of overhead", self.entries)
    }
}
