//! The table of entries: its shards, the locks of several of them, what reads see of it, and the ways to go
//! through all of it.

pub(crate) mod bulk_load;
pub(crate) mod cut;
pub(crate) mod fuzzy_scan;
mod listing;
pub(crate) mod locked;
mod originals;
mod read;
mod shard_index;
pub(crate) mod shards;
mod usage;
