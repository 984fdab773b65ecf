//! Owns what is known of an operation that was sent before the outage began.

/// Whether the server may have received an operation before it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Not,
    /// It was sent, and its reply is unknown.
    InDoubt,
}
