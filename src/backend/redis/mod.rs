//! The Redis variant: operations as exchanges with a server. Nothing in this room knows of the fallback that serves
//! during an outage.

pub(crate) mod batch;
mod blocking;
pub(crate) mod client;
mod comparison;
mod connect;
mod cut;
mod error_replies;
pub(crate) mod exactly_once;
mod examination;
mod exchange;
mod failure;
mod failure_kind;
mod health;
pub(crate) mod keys;
mod listing;
pub(crate) mod operation_error;
pub(crate) mod place;
pub(crate) mod replay;
mod restore;
pub(crate) mod retry;
pub(crate) mod slots;
mod time_budget;
mod transaction;
mod wire;
