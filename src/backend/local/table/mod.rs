//! The table of entries: its shards, what reading operations see of it, and the two ways to go through all of it.

pub(crate) mod bulk_load;
pub(crate) mod fuzzy_scan;
mod read;
pub(crate) mod shards;
