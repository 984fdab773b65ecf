//! The configuration of a store: its options, their defaults and limits, and its two notations (serde and URL).

mod any_value;
mod duration;
mod environment;
mod file;
mod file_path;
mod from_text;
mod lint;
mod meant;
mod memory;
mod options;
mod percent;
mod range;
mod redis;
mod redis_address;
mod size;
mod state_backend;
mod state_config;
mod url;

pub(crate) use self::environment::config_from_env;
pub use self::file::{FileOptions, SyncPolicy};
pub(crate) use self::lint::sync_finding;
#[cfg(feature = "redis")]
pub(crate) use self::meant::check_password;
pub(crate) use self::meant::check_path;
pub use self::memory::{MemoryOptions, WhenFull};
pub use self::redis::{AtStart, Fallback, OnConflict, OnUnknownKey, RedisOptions};
#[cfg(feature = "redis")]
pub(crate) use self::redis_address::{DEFAULT_USER, Endpoint, Login, RedisAddress};
pub use self::state_backend::StateBackend;
pub use self::state_config::StateConfig;
