//! Owns the rules that hold for the whole of one outage.

use std::time::Duration;

/// The rules of one outage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutageRules {
    /// Whether a key of which nothing is known reads as absent; otherwise it cannot be read.
    pub(crate) unknown_is_absent: bool,
    /// Whether the program vouches that nobody else writes under this prefix.
    pub(crate) exclusive: bool,
    /// After this long, no further operation is queued.
    pub(crate) max_outage: Option<Duration>,
}
