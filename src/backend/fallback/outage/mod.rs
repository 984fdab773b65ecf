//! One outage: how it is detected and begins, what is served meanwhile, and the way back.

pub(crate) mod absolute_actions;
mod begin;
pub(crate) mod cell;
mod detect;
mod in_doubt;
pub(crate) mod leases;
pub(crate) mod pace;
pub(crate) mod probe;
mod reconnect;
pub(crate) mod refusal;
pub(crate) mod replay_session;
mod restore;
pub(crate) mod rules;
pub(crate) mod sent;
pub(crate) mod serving;
pub(crate) mod session;
mod transaction;
