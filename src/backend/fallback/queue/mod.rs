//! The replay queue: operations that were applied locally and must still be sent to the server.

pub(crate) mod codec;
pub(crate) mod file;
pub(crate) mod group;
pub(crate) mod queued_at;
pub(crate) mod replay_queue;
