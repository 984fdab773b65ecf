//! The table of entries: its shards, the locks of several of them, what reads see of it, the ways to go through all of
//! it, and how it is kept within bounds.

pub(crate) mod bounds;
pub(crate) mod bulk_load;
pub(crate) mod cut;
pub(crate) mod fuzzy_scan;
mod growth;
mod listing;
pub(crate) mod locked;
mod originals;
mod read;
mod recency;
pub(crate) mod room;
mod shard_index;
pub(crate) mod shards;
mod usage;
