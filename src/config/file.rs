//! Owns the options of the File variant, their defaults and limits. Knows nothing of how files are written.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::duration;
use crate::config::options::options;
use crate::config::range::in_range;
use crate::config::size;
use crate::error::{Error, Result};

/// When a write to the File variant reaches the disk itself, not only the operating system.
///
/// Under every policy a call returns only after its data was handed to the operating system: killing the
/// program loses no acknowledged write. The policy decides which writes a power cut can lose.
///
/// In a configuration: `"always"`, `"never"`, or the interval, `"1s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// A write returns once it is on the disk. Threads that wait at the same time share one sync.
    #[default]
    Always,
    /// Writes are synced in the background at this interval: a power cut loses at most the last interval.
    /// Threads that write at the same time share one call to the operating system.
    Every(Duration),
    /// The operating system decides when: a power cut can lose everything that it had not yet written. Threads
    /// that write at the same time share one call to it.
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
            "always" | "Always" => Ok(Self::Always),
            "never" | "Never" => Ok(Self::Never),
            interval => duration::parse(interval).map(Self::Every).map_err(|error| {
                D::Error::custom(format!("expected \"always\", \"never\" or an interval: {error}"))
            }),
        }
    }
}

options! {
    /// Options of the File variant.
    pub struct FileOptions in "file", at "file:./state" {
        /// When writes are synced to the disk. Defaults to `"always"`.
        sync(sync): SyncPolicy = SyncPolicy::Always, check check_sync, example SyncPolicy::Every(Duration::from_secs(1)) => "1s";

        /// The journal is compacted once it is larger than this part of the live data, plus
        /// `compact_min_bytes`. Defaults to `0.4`; from `0.1` to `1`.
        compact_ratio(ratio): f64 = 0.4, check check_compact_ratio, example 0.2 => "0.2";

        /// How many bytes the journal may grow beyond that part of the live data. Defaults to 524 288 (512 KiB);
        /// from 4096 to 1 GiB. With more than the defaults of these two, writers may have to wait for a
        /// compaction, since the directory stays within 3 times the live data plus 1 MiB.
        #[serde(with = "size")]
        compact_min_bytes(bytes): u64 = 512 * 1024, in 4096..=1 << 30, example 1 << 20 => "1MiB";
    }
}

impl FileOptions {
    fn check_sync(&self, field: &str) -> Result<()> {
        match self.sync {
            SyncPolicy::Every(interval) => {
                in_range(field, interval, Duration::from_millis(1)..=Duration::from_secs(3600))
            }
            SyncPolicy::Always | SyncPolicy::Never => Ok(()),
        }
    }

    fn check_compact_ratio(&self, field: &str) -> Result<()> {
        if (0.1..=1.0).contains(&self.compact_ratio) {
            return Ok(());
        }
        Err(Error::invalid_config(field, format!("{} is not between 0.1 and 1", self.compact_ratio)))
    }
}
