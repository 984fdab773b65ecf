//! The configuration of a store: its options, their defaults and limits, and its two notations (serde and URL).

mod any_value;
mod duration;
mod file;
mod file_path;
mod meant;
mod options;
mod percent;
mod range;
mod redis;
mod redis_address;
mod state_backend;
mod state_config;
mod url;

pub use self::file::{FileOptions, SyncPolicy};
pub use self::redis::{AtStart, Fallback, OnConflict, OnUnknownKey, RedisOptions};
#[cfg(feature = "redis")]
pub(crate) use self::redis_address::{Login, RedisAddress};
pub use self::state_backend::StateBackend;
pub use self::state_config::StateConfig;
