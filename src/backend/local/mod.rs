//! Owns the state that is kept in this process: the table, and what a mutation does to it. Does no I/O and
//! reads no clock of its own.

pub(crate) mod change;
pub(crate) mod plan;
mod reads;
pub(crate) mod table;
