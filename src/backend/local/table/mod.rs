//! The table of entries: its shards, the locks of several of them, what reads see of it, and the two ways to go
//! through all of it.

pub(crate) mod bulk_load;
pub(crate) mod fuzzy_scan;
mod listing;
pub(crate) mod locked;
mod read;
mod shard_index;
pub(crate) mod shards;
mod usage;
