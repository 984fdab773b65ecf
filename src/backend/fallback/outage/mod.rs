//! One outage: what is served and queued while the server is disconnected.

pub(crate) mod absolute_actions;
mod assumed_keys;
pub(crate) mod cell;
mod in_doubt;
pub(crate) mod knowledge;
pub(crate) mod leases;
pub(crate) mod pace;
pub(crate) mod refusal;
mod restore;
pub(crate) mod rules;
pub(crate) mod sent;
pub(crate) mod serving;
pub(crate) mod session;
mod transaction;
