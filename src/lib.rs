//! A synchronous state store over Memory, File and Redis, swapped by configuration, with the same behaviour
//! on all three.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(missing_docs))]

mod backend;
mod batch;
mod bytes;
mod clock;
mod config;
mod error;
mod finite;
mod json;
mod key;
mod op;
mod page;
mod store;
mod value;

pub use crate::backend::Status;
pub use crate::batch::WriteBatch;
pub use crate::bytes::Bytes;
pub use crate::clock::{Clock, ManualClock, SystemClock, Ttl};
pub use crate::config::{Fallback, FileOptions, RedisOptions, StateBackend, StateConfig, SyncPolicy};
pub use crate::error::{Cause, Error, Kind, Result};
pub use crate::store::listing::{Entries, Keys};
pub use crate::store::{FileStore, MemoryStore, StateStore};
