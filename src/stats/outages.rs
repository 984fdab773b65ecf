//! Owns the counts of outages, as the program sees them. Knows nothing of how an outage is served.

use std::time::Duration;

/// Counts of outages of the Redis server. All of them are zero on Memory and File.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutageStats {
    /// How many outages began.
    pub outages: u64,
    /// Operations that were done in memory and queued for the server. Neighbours on one key may be merged before
    /// they are replayed, so more operations are queued than replayed.
    pub queued: u64,
    /// Queued operations that were done on the server.
    pub replayed: u64,
    /// Operations that are queued now.
    pub pending: u64,
    /// Queued writes that met a value that somebody else had written in the meantime.
    pub conflicts: u64,
    /// Queued operations that the server refused for good.
    pub rejected: u64,
    /// Operations that stay in doubt: nobody can know whether the server has done them.
    pub uncertain: u64,
    /// Connections with an unanswered write that were killed on the server, so that the write cannot be applied
    /// late.
    pub killed_connections: u64,
    /// Rejected, uncertain and conflicting operations that were dropped before the program took them, because they took
    /// more than 16 MiB together. They are counted by their kinds too.
    pub dropped_outcomes: u64,
    /// Events that no listener received, because a listener took so long that more than 1000 were waiting.
    pub dropped_events: u64,
    /// How long the outage has lasted that goes on now.
    pub(crate) disconnected: Duration,
}

impl OutageStats {
    /// Returns what was counted since an earlier snapshot.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            outages: self.outages.saturating_sub(earlier.outages),
            queued: self.queued.saturating_sub(earlier.queued),
            replayed: self.replayed.saturating_sub(earlier.replayed),
            pending: self.pending,
            disconnected: self.disconnected,
            conflicts: self.conflicts.saturating_sub(earlier.conflicts),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            uncertain: self.uncertain.saturating_sub(earlier.uncertain),
            killed_connections: self.killed_connections.saturating_sub(earlier.killed_connections),
            dropped_outcomes: self.dropped_outcomes.saturating_sub(earlier.dropped_outcomes),
            dropped_events: self.dropped_events.saturating_sub(earlier.dropped_events),
        }
    }
}
