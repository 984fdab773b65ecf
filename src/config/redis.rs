//! Owns the options of the Redis variant, their defaults and limits.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::MAX_TTL;
use crate::config::duration;
use crate::config::file_path::{behind_scheme, path_behind_scheme};
use crate::config::range::in_range;
use crate::error::{Error, Result};

/// What serves the program while the Redis server cannot be reached.
///
/// In a configuration: `"memory"`, `"none"`, or `"file:"` and a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Memory serves, and what is written waits in memory to be done on the server when it is back, each
    /// operation once. What still waits when the program ends is lost, with a line in the log.
    #[default]
    Memory,
    /// As [`Memory`](Self::Memory), and what waits is kept in a directory as well before a call returns: a
    /// program that is killed during an outage, and opened again with the same path, goes on with it.
    #[non_exhaustive]
    File {
        /// The directory; it is made where it is missing. One store has it open at a time. When its files
        /// are synced is said by [`FileOptions::sync`](crate::FileOptions::sync).
        path: PathBuf,
    },
    /// Opening, and every operation, fails while the server cannot be reached: at once, where that is known.
    None,
}

impl Fallback {
    /// Memory, and a directory in which what waits is kept.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into() }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File { path } => write!(f, "file:{}", behind_scheme(path)),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Fallback {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "memory" => Ok(Self::Memory),
            "none" => Ok(Self::None),
            _ => match text.strip_prefix("file:") {
                Some(path) => {
                    path_behind_scheme(path).map(Self::file).map_err(|(_, reason)| D::Error::custom(reason))
                }
                None => Err(D::Error::custom("expected \"memory\", \"none\" or \"file:\" and a path")),
            },
        }
    }
}

/// What a read finds of a key of which nothing is known, while the server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unknown {
    /// Nothing: it reads as absent.
    Absent,
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    Error,
}

/// What becomes of a write that waited for the server where somebody else has written the key meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnConflict {
    /// It is made all the same, except where it rests on a read that was told of nothing there.
    #[default]
    LocalWins,
    /// It is dropped.
    RemoteWins,
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
    /// What a read finds, while the server is away, of a key that this process has neither read nor written.
    /// Defaults to none: `"absent"` until the server was reached once, `"error"` from then on.
    pub unknown: Option<Unknown>,
    /// Vouches that nobody else writes under the store's prefix. Then operations are served too, while the
    /// server is away, whose answer depends on what is there, but not locks. Defaults to `false`.
    pub exclusive: bool,
    /// Lets increments, pushes and pops be done exactly once, also where an answer is lost: each is one
    /// script, which notes on the server that it was done and what it answered, so that it is safe to try
    /// again. An attempt takes at most half of what is left of `timeout`, except the last one.
    ///
    /// Where every attempt is lost and something serves in the server's place, an outage begins, also if the
    /// server answers others: the operation is done here, with what is known here as its answer, and the
    /// server is asked at the end whether it had done it. A pop is refused, with nothing applied: what it may
    /// have taken goes back to its end of the queue. With `fallback` `"none"`, and for a `strict` handle,
    /// nobody asks: then [`Unavailable`](crate::Error::Unavailable) says `maybe_applied`, as it does without
    /// this option. It also does where only the notes are gone before the next attempt, dropped by the server
    /// to make room; an operation that waits is uncertain then. A server that has lost all it held is found
    /// out, and the operation is done there anew.
    ///
    /// It holds for [`incr`](crate::StateStore::incr), `incr_with_ttl`, `decr`, `batch_incr`, `map_incr`,
    /// `push_back`, `push_front`, `push_back_many` of up to 500 000 values, `pop_front`, `pop_back` and
    /// `pop_front_wait`, which looks again and again instead of using `BLPOP`. It does not hold for
    /// transactions, locks, [`take`](crate::StateStore::take), `set_if_not_exists`, `compare_and_set`,
    /// `modify`, `get_and_put` and `get_and_delete`.
    ///
    /// The notes are one hash for each open store, `__millpond:replies:…` under the prefix. It holds the last
    /// answers, as many as there were calls at a time, lives 30 days, and goes when the store is closed.
    /// Defaults to `false`.
    pub exactly_once: bool,
    /// What becomes of a write that waited where somebody else has written meanwhile. Defaults to
    /// `"local_wins"`.
    pub on_conflict: OnConflict,
    /// How many operations may wait for the server. The queue is bounded by this, by `max_pending_bytes` and
    /// by `max_away`: beyond them writes are refused with [`Unavailable`](crate::Error::Unavailable), and
    /// nothing that waits is ever dropped. From half of it on, writers are slowed. Defaults to 1 000 000;
    /// from 1 to 1 000 000 000.
    pub max_pending: u64,
    /// How many bytes the operations that wait may take, roughly; beyond them writes are refused. Defaults
    /// to 268 435 456 (256 MiB); from 1024.
    pub max_pending_bytes: u64,
    /// How long the server may be away until writes are refused that would have to wait for it. Reads go on,
    /// and what waits stays. Defaults to none: for however long; from 1 ms to 1000 years.
    #[serde(with = "duration::option")]
    pub max_away: Option<Duration>,
    /// How many bytes of values that were seen are kept, so that they can be read while the server is away.
    /// Defaults to 16 777 216 (16 MiB); a value of more than a sixteenth of it is not kept. 0 keeps none: then each
    /// put that waits and meets a key which is there counts as a conflict.
    pub shadow_bytes: u64,
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
            unknown: None,
            exclusive: false,
            exactly_once: false,
            on_conflict: OnConflict::LocalWins,
            max_pending: 1_000_000,
            max_pending_bytes: 256 << 20,
            max_away: None,
            shadow_bytes: 16 << 20,
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

    /// Sets what a read finds, while the server is away, of a key of which nothing is known.
    #[must_use]
    pub fn unknown(mut self, unknown: impl Into<Option<Unknown>>) -> Self {
        self.unknown = unknown.into();
        self
    }

    /// Vouches that nobody else writes under the store's prefix. Defaults to `false`.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Lets increments, pushes and pops be done exactly once, also where an answer is lost. Defaults to
    /// `false`.
    #[must_use]
    pub fn exactly_once(mut self, exactly_once: bool) -> Self {
        self.exactly_once = exactly_once;
        self
    }

    /// Sets whose write stays where two have written. Defaults to [`OnConflict::LocalWins`].
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Sets how many operations may wait. Defaults to 1 000 000.
    #[must_use]
    pub fn max_pending(mut self, operations: u64) -> Self {
        self.max_pending = operations;
        self
    }

    /// Sets how many bytes may wait. Defaults to 256 MiB.
    #[must_use]
    pub fn max_pending_bytes(mut self, bytes: u64) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// Sets how long the server may be away until writes are refused. Defaults to none: for however long.
    #[must_use]
    pub fn max_away(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_away = time.into();
        self
    }

    /// Sets how many bytes of values that were seen are kept. Defaults to 16 MiB.
    #[must_use]
    pub fn shadow_bytes(mut self, bytes: u64) -> Self {
        self.shadow_bytes = bytes;
        self
    }

    /// Sets the file with the certificates to trust. Defaults to none: the system's.
    #[must_use]
    pub fn tls_ca_file(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.tls_ca_file = file.into();
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let span = Duration::from_millis(1)..=Duration::from_secs(3600);
        in_range("redis.pool_size", self.pool_size, 1..=1024)?;
        in_range("redis.wait_connections", self.wait_connections, 1..=1024)?;
        in_range("redis.connect_timeout", self.connect_timeout, span.clone())?;
        in_range("redis.timeout", self.timeout, span.clone())?;
        in_range("redis.max_retries", self.max_retries, 0..=100)?;
        in_range("redis.retry_delay", self.retry_delay, span.clone())?;
        in_range("redis.max_retry_delay", self.max_retry_delay, span)?;
        in_range("redis.pipeline_batch_size", self.pipeline_batch_size, 1..=100_000)?;
        in_range("redis.scan_count", self.scan_count, 1..=100_000)?;
        if let Fallback::File { path } = &self.fallback
            && path.as_os_str().is_empty()
        {
            return Err(Error::invalid_config("redis.fallback", "its path is empty"));
        }
        in_range("redis.max_pending", self.max_pending, 1..=1_000_000_000)?;
        in_range("redis.max_pending_bytes", self.max_pending_bytes, 1024..=u64::MAX)?;
        match self.max_away {
            None => Ok(()),
            Some(time) => in_range("redis.max_away", time, Duration::from_millis(1)..=MAX_TTL),
        }
    }
}
