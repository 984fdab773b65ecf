//! The server while it answers, and local state while it does not.

mod batches;
mod entry_write;
mod marker;
pub(crate) mod open;
mod operations;
mod outage;
mod policy;
mod queue;
mod reconnector;
mod report;
mod route;
mod shadow;
mod shared;
mod shutdown;
mod transaction;
