//! The Redis variant: operations as exchanges with a server. What serves while the server is unreachable is not
//! known in this room.

pub(crate) mod batch;
mod blocking;
pub(crate) mod client;
mod connect;
pub(crate) mod exactly_once;
mod failure;
mod health;
pub(crate) mod keys;
mod listing;
pub(crate) mod replay;
mod retry;
mod time_budget;
mod transaction;
mod wire;
