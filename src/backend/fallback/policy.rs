//! Owns the options that decide what is served and queued during an outage. Knows nothing of any outage.

use std::time::Duration;

use crate::backend::fallback::outage::rules::OutageRules;
use crate::backend::fallback::queue::replay_queue::QueueBounds;
use crate::config::{self, AtStart, OnConflict, OnUnknownKey, RedisOptions};

/// The options of a store that its fallback reads.
pub(crate) struct Policy {
    /// Whether anything is served while the server is unreachable.
    pub(crate) serves: bool,
    /// Whether opening succeeds although the server is unreachable.
    pub(crate) opens_disconnected: bool,
    on_unknown_key: OnUnknownKey,
    exclusive: bool,
    pub(crate) on_conflict: OnConflict,
    pub(crate) queue_bounds: QueueBounds,
    max_outage: Option<Duration>,
    /// The longest that an operation on the server may take.
    pub(crate) timeout: Duration,
}

impl Policy {
    pub(crate) fn new(options: &RedisOptions) -> Self {
        let serves = options.fallback != config::Fallback::None;
        Self {
            serves,
            opens_disconnected: serves && options.at_start == AtStart::Serve,
            on_unknown_key: options.on_unknown_key,
            exclusive: options.exclusive,
            on_conflict: options.on_conflict,
            queue_bounds: QueueBounds { operations: options.max_pending, bytes: options.max_pending_bytes },
            max_outage: options.max_outage,
            timeout: options.timeout,
        }
    }

    /// Returns the rules of an outage that begins now.
    pub(crate) fn outage_rules(&self, was_connected: bool) -> OutageRules {
        let unknown_is_absent = match self.on_unknown_key {
            OnUnknownKey::Absent => true,
            OnUnknownKey::Error => false,
            OnUnknownKey::AbsentUntilConnected => !was_connected,
        };
        OutageRules { unknown_is_absent, exclusive: self.exclusive, max_outage: self.max_outage }
    }
}
