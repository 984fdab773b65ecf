//! Writing the journal: lines, their durability, and the combining of requests into one line.

pub(crate) mod combining;
pub(crate) mod durability;
pub(crate) mod writer;
