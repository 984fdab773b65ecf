//! Owns when the exchanges with the server must be over because the store is being closed. Knows nothing of what they
//! are for.

use std::sync::OnceLock;
use std::time::Instant;

/// The end of all waits for the server, once the store is being closed within a limit.
#[derive(Debug, Default)]
pub(crate) struct Cutoff(OnceLock<Instant>);

impl Cutoff {
    /// Ends all waits at this time, those under way too. Only the first call counts.
    pub(crate) fn set(&self, at: Instant) {
        let _ = self.0.set(at);
    }

    /// Returns when a wait that may last until `end` is over.
    #[inline]
    pub(crate) fn limit(&self, end: Instant) -> Instant {
        self.0.get().map_or(end, |at| end.min(*at))
    }
}
