//! Owns the errors of operations that cannot be served during an outage, and their texts.

use crate::backend::fallback::queue::replay_queue::{QueueBounds, ReplayQueue};
use crate::error::Error;
use crate::key::Key;
use crate::text::count;

/// The error if nothing is served during an outage.
pub(crate) fn server_disconnected() -> Error {
    Error::unavailable("the server is disconnected")
}

pub(crate) fn unknown_key(key: &Key<'_>) -> Error {
    Error::unavailable(format!(
        "the server is disconnected, and this process does not know what the key {:?} holds",
        &**key
    ))
}

/// The error if the result depends on writes of other clients.
pub(crate) fn refused() -> Error {
    Error::unavailable(
        "the server is disconnected, and the result depends on what other clients may have written on it",
    )
}

pub(crate) fn outage_too_long() -> Error {
    Error::unavailable(
        "the server has been disconnected for longer than max_outage, and no further operation is queued",
    )
}

/// Names the limit that is reached.
pub(crate) fn queue_full(queue: &ReplayQueue) -> Error {
    let QueueBounds { operations: max_pending, bytes: max_pending_bytes } = queue.bounds();
    let (operations, bytes) = (count(queue.len(), "operation"), count(queue.bytes(), "byte"));
    let limit = if queue.len() >= max_pending {
        format!("max_pending {max_pending}")
    } else {
        format!("max_pending_bytes {max_pending_bytes}")
    };
    Error::unavailable(format!(
        "the server is disconnected, and the replay queue is full: {operations}, {bytes} ({limit})"
    ))
}
