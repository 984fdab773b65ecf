//! Applying queued operations on the server, each once.

pub(crate) mod args;
pub(crate) mod connection;
pub(crate) mod in_doubt;
pub(crate) mod kept_outcome;
pub(crate) mod marker_claim;
pub(crate) mod observed;
pub(crate) mod outcome;
pub(crate) mod queued_action;
pub(crate) mod queued_op;
mod readiness;
pub(crate) mod reconnect_error;
