//! One outage: how it begins, what is served meanwhile, and the way back.

pub(crate) mod absolute_actions;
mod begin;
pub(crate) mod disconnected;
mod in_doubt;
pub(crate) mod leases;
pub(crate) mod probe;
mod reconnect;
pub(crate) mod sent;
pub(crate) mod touched;
