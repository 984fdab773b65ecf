//! The replay queue: operations that were applied locally and must still be sent to the server.

pub(crate) mod codec;
pub(crate) mod file;
#[cfg(test)]
mod frozen_records;
pub(crate) mod group;
pub(crate) mod header;
mod outcome_codec;
mod outcome_index;
pub(crate) mod queued_at;
pub(crate) mod replay_queue;
mod weight;
