//! The server while it answers, and local state while it does not.

mod batches;
mod operations;
mod outage;
mod queue;
mod report;
mod shadow;
pub(crate) mod shared;
