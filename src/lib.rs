//! A synchronous state store over Memory, File and Redis, swapped by configuration, with the same behaviour
//! on all three.
//!
//! [`StateStore`] is the type to begin with. Open one by a URL ([`StateStore::open`]), from the
//! environment ([`StateStore::from_env`]), by a backend ([`StateStore::new`]) or by a whole configuration
//! ([`StateStore::with_config`]). Its operations are documented in groups: values, expiry, atomic steps,
//! counters, transactions, maps, queues, leases, locks, listing, batches, handles, namespaces, outages. The variants of
//! [`Error`] are sorted by what a caller would do about them.
//!
//! ```
//! use millpond::StateStore;
//! use std::time::Duration;
//!
//! let store = StateStore::open("memory:")?; // or file:./state, or redis://127.0.0.1:6379
//! store.put_with_ttl("session:7", "anna", Duration::from_secs(3600))?;
//! assert_eq!(store.get::<String>("session:7")?.as_deref(), Some("anna"));
//! assert_eq!(store.incr("visits", 1)?, 1);
//! assert_eq!(store.keys("session:")?, ["session:7"]);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # Rules that hold on every backend
//!
//! - **Keys** are 1 to 512 bytes of UTF-8, namespace included, without control characters and without a
//!   `:`-separated part `__millpond`. All other characters are ordinary, glob characters too.
//! - **Values** are the JSON text of what was put, or any bytes ([`Bytes`], [`StateStore::put_bytes`]).
//! - **Time to live**: an operation that sets an entry from scratch (`put*`, `set_if_not_exists`, `get_and_put`)
//!   replaces its time to live by the given one, by `default_ttl`, or by none. An operation that changes an entry in
//!   place (`update`, `modify`, `compare_and_set`, `incr`, writes to maps and queues) keeps it. If such an operation
//!   creates the entry, it gets `default_ttl`. An expired entry is absent for every operation.
//! - **Kinds**: a key holds a value, a map or a queue. Putting, deleting, expiry and listing work on any kind;
//!   every other operation on another kind returns [`Error::WrongType`] and changes nothing. A map or a queue that
//!   becomes empty is gone.
//! - **Errors** mean that nothing was changed, or say in their type that nobody can know.
//!
//! # Features
//!
//! - `redis` (default): the Redis variant. Without it the crate has few dependencies.
//! - `tls`: `rediss://` URLs.
//! - `metrics`: the numbers of [`StateStore::stats`] for a recorder of the crate
//!   [`metrics`](https://docs.rs/metrics). [`Stats::to_prometheus`] needs no feature.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "redis"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "without the Redis variant, the links to it lead nowhere"
    )
)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod backend;
mod bytes;
mod clock;
pub mod config;
mod error;
mod event_bus;
mod export;
mod exports;
pub mod inspection;
mod json;
mod key;
mod op;
pub mod outage;
pub mod stats;
mod store;
mod store_clock;
mod text;
mod util;
mod value;
mod value_text;

pub use crate::bytes::Bytes;
pub use crate::clock::{Clock, ManualClock, SystemClock, Ttl};
#[doc(no_inline)]
pub use crate::config::{
    AtStart, Fallback, FileOptions, MemoryOptions, OnConflict, OnUnknownKey, RedisOptions, StateBackend,
    StateConfig, SyncPolicy, WhenFull,
};
pub use crate::error::{Cause, Error, Kind, LeaseId, LockLoss, Result};
pub use crate::exports::{ExportOptions, Exported, Import, Imported, Isolation};
#[doc(no_inline)]
pub use crate::file::{DamagedRegion, Progress, Repair};
#[doc(no_inline)]
pub use crate::inspection::{Finding, Health, MemoryUsage, ServerInfo, ServerMemory, Severity};
#[doc(no_inline)]
pub use crate::outage::{
    Event, ListenerHandle, PendingOperation, PendingReason, Rejected, Status, WriteConflict,
};
#[doc(no_inline)]
pub use crate::stats::Stats;
pub use crate::store::events::Operator;
pub use crate::store::failing::ErrorKind;
#[doc(no_inline)]
pub use crate::store::gate::Gate;
pub use crate::store::leases::Leased;
pub use crate::store::listing::{Entries, Keys};
pub use crate::store::lock_guard::LockGuard;
pub use crate::store::open_options::OpenOptions;
pub use crate::store::permits::Permits;
pub use crate::store::revisions::Revisions;
#[cfg(feature = "redis")]
pub use crate::store::state_store::RedisStore;
pub use crate::store::state_store::{FileStore, MemoryStore, StateStore};
pub use crate::store::transaction::Transaction;
pub use crate::store::windows::{Decision, Window};
pub use crate::store::write_batch::WriteBatch;

/// The files of a File store: how a damaged one is repaired, and how far an opening has come.
pub mod file {
    pub use crate::backend::file::report::{DamagedRegion, Progress, Repair};
}

/// The gate of a store, by which the threads of a process agree on moments at which none of them is in the middle of its
/// work.
pub mod gate {
    pub use crate::store::gate::{Closed, Entered, Gate};
}

/// Handles on a single key. They have no logic of their own: their methods are those of the store on that key.
pub mod handle {
    pub use crate::store::handle::{Counter, Map, Queue, Value};
    #[doc(no_inline)]
    pub use crate::store::windows::Window;
}

/// Guides: each is one page, and its program is compiled and run by the tests.
#[cfg(feature = "redis")]
pub mod guide {
    #[doc = include_str!("../docs/guide/outages.md")]
    pub mod outages {}

    #[doc = include_str!("../docs/guide/streams.md")]
    pub mod streams {}

    #[doc = include_str!("../docs/guide/jobs.md")]
    pub mod jobs {}

    #[doc = include_str!("../docs/guide/web.md")]
    pub mod web {}

    #[doc = include_str!("../docs/guide/configuration.md")]
    pub mod configuration {}

    #[doc = include_str!("../docs/guide/files.md")]
    pub mod files {}

    #[doc = include_str!("../docs/guide/exports.md")]
    pub mod exports {}

    #[doc = include_str!("../docs/guide/testing.md")]
    pub mod testing {}

    #[doc = include_str!("../docs/guide/async_programs.md")]
    pub mod async_programs {}

    #[doc = include_str!("../docs/guide/migrating.md")]
    pub mod migrating {}

    #[doc = include_str!("../docs/guide/troubleshooting.md")]
    pub mod troubleshooting {}
}

/// The snippets of the README, compiled and run.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../README.md")]
struct Readme;
