//! Owns the options of the File variant, their defaults and limits.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::duration;
use crate::config::range::in_range;
use crate::error::{Error, Result};

/// When a write to the File variant reaches the disk itself, not only the operating system.
///
/// Whatever the policy, a call returns after its data was handed to the operating system: killing the
/// program loses nothing that was acknowledged. The policy decides what a power cut can take.
///
/// In a configuration: `"always"`, `"never"`, or the interval, `"1s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// A write returns once it is on the disk. Threads that wait at the same time share one sync.
    #[default]
    Always,
    /// Writes are synced in the background at this interval: a power cut takes at most the last interval.
    /// Threads that write at the same time share one call to the operating system.
    Every(Duration),
    /// The operating system decides when: a power cut can take what it had not yet written. Threads that write
    /// at the same time share one call to it.
    Never,
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(interval) => f.write_str(&duration::format(*interval)),
            Self::Never => f.write_str("never"),
        }
    }
}

impl Serialize for SyncPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SyncPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match duration::text(deserializer)?.as_str() {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            interval => duration::parse(interval).map(Self::Every).map_err(|error| {
                D::Error::custom(format!("expected \"always\", \"never\" or an interval: {error}"))
            }),
        }
    }
}

/// Options of the File variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileOptions {
    /// When writes are synced to the disk. Defaults to `"always"`.
    pub sync: SyncPolicy,
    /// The journal is compacted once it is larger than this part of the live data, and `compact_min_bytes`
    /// more. Defaults to `0.4`; from `0.1` to `1`.
    pub compact_ratio: f64,
    /// By how many bytes more the journal may grow. Defaults to 512 KiB (`524288`); from 4096 to 1 GiB.
    /// Above the defaults of these two, writers may have to wait for a compaction, since the directory
    /// stays within 3 times the live data plus 1 MiB.
    pub compact_min_bytes: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { sync: SyncPolicy::Always, compact_ratio: 0.4, compact_min_bytes: 512 * 1024 }
    }
}

impl FileOptions {
    /// Sets when writes are synced. Defaults to [`SyncPolicy::Always`].
    #[must_use]
    pub fn sync(mut self, sync: SyncPolicy) -> Self {
        self.sync = sync;
        self
    }

    /// Sets at which part of the live data the journal is compacted. Defaults to 0.4.
    #[must_use]
    pub fn compact_ratio(mut self, ratio: f64) -> Self {
        self.compact_ratio = ratio;
        self
    }

    /// Sets by how many bytes more the journal may grow. Defaults to 512 KiB.
    #[must_use]
    pub fn compact_min_bytes(mut self, bytes: u64) -> Self {
        self.compact_min_bytes = bytes;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if let SyncPolicy::Every(interval) = self.sync {
            in_range("file.sync", interval, Duration::from_millis(1)..=Duration::from_secs(3600))?;
        }
        if !(0.1..=1.0).contains(&self.compact_ratio) {
            let reason = format!("{} is not between 0.1 and 1", self.compact_ratio);
            return Err(Error::invalid_config("file.compact_ratio", reason));
        }
        in_range("file.compact_min_bytes", self.compact_min_bytes, 4096..=1 << 30)
    }
}
