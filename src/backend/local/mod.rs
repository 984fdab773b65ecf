//! The state that is kept in this process: the table, and what a mutation does to it. Nothing in this room does
//! I/O or reads a clock of its own.

pub(crate) mod change;
pub(crate) mod entry;
pub(crate) mod leases;
pub(crate) mod overlay;
pub(crate) mod plan;
pub(crate) mod plan_multi;
pub(crate) mod plan_whole;
mod plan_window;
pub(crate) mod queue;
pub(crate) mod read_set;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod table_source;
pub(crate) mod view;
pub(crate) mod wait_list;
pub(crate) mod whole;
