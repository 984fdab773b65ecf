//! The Redis store: served by the server while it is connected, and from local state during an outage.

mod batches;
mod entry_write;
mod examination;
mod granted_leases;
mod link;
mod marker;
pub(crate) mod open;
mod operations;
mod outage;
mod policy;
mod questions;
mod queue;
mod reconnector;
mod report;
mod route;
mod shadow;
mod shared;
mod shutdown;
mod transaction;
mod transfer;
