//! The bounds of a store in memory.
//!
//! - `accounting`: whatever is done, the store is never beyond its bounds, and counts right;
//! - `refusing`: writes for which there is no room are refused, and change nothing;
//! - `evicting`: which entries go, which stay, and what is reported.

use millpond::{MemoryOptions, StateConfig, StateStore, WhenFull};

mod accounting;
mod evicting;
mod refusing;

fn open(options: MemoryOptions) -> StateStore {
    StateStore::with_config(StateConfig::default().memory(options)).unwrap()
}

fn refusing(entries: u64) -> StateStore {
    open(MemoryOptions::default().max_entries(entries))
}

fn evicting() -> MemoryOptions {
    MemoryOptions::default().when_full(WhenFull::Evict)
}

/// What `max_bytes` bounds.
fn bytes(store: &StateStore) -> u64 {
    let usage = store.memory_usage().unwrap();
    usage.bytes + usage.overhead
}
