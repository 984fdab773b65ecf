//! Applying queued operations on the server, each once.

pub(crate) mod connection;
pub(crate) mod queued_action;
pub(crate) mod queued_op;
