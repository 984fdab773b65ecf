//! Owns the errors of operations that cannot be served during an outage, and their texts.

use crate::backend::fallback::queue::replay_queue::ReplayQueue;
use crate::error::Error;
use crate::key::Key;

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

pub(crate) fn queue_full(queue: &ReplayQueue) -> Error {
    let (operations, bytes) = (queue.len(), queue.bytes());
    Error::unavailable(format!(
        "the server is disconnected, and the replay queue is full: {operations} operations, {bytes} bytes (see \
         max_pending and max_pending_bytes)"
    ))
}
