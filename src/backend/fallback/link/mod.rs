//! The link to the server: how its loss is detected, how an outage begins, and the way back.

mod begin;
mod data_loss;
mod detect;
mod isolation;
mod never_reached;
pub(crate) mod probe;
mod reconnect;
pub(crate) mod replay_session;
mod thread;
