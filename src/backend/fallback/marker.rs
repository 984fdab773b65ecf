//! Owns what this process knows of its marker on the server. The marker records how much of the replay queue the server
//! has done. Knows nothing of how the marker is read or set.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::backend::redis::keys;
use crate::backend::redis::replay::marker_claim::ClaimedMarker;
use crate::key::Key;

/// The marker of one store. Each store has its own identity.
pub(crate) struct Marker {
    identity: u128,
    /// The id of this store, which the marker names as the holder of the replay queue. If the queue is in files, the
    /// next program that opens them has the same marker and another id.
    holder: u128,
    /// The number of the last queued operation that is done on the server.
    done: AtomicU64,
    was_set: AtomicBool,
    /// Whether a data loss was reported since the marker was last claimed.
    loss_told: AtomicBool,
}

impl Marker {
    pub(crate) fn new(identity: u128, holder: u128, done: u64, was_set: bool) -> Self {
        Self {
            identity,
            holder,
            done: AtomicU64::new(done),
            was_set: AtomicBool::new(was_set),
            loss_told: AtomicBool::new(false),
        }
    }

    pub(crate) fn claimed(&self) -> ClaimedMarker {
        ClaimedMarker { key: keys::marker(self.identity), holder: self.holder }
    }

    /// Returns its key, if there is a marker on the server.
    pub(crate) fn on_server(&self) -> Option<Key<'static>> {
        self.was_set.load(Ordering::Relaxed).then(|| keys::marker(self.identity))
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn set_done(&self, number: u64) {
        self.done.store(number, Ordering::Relaxed);
    }

    /// Notes that there is a marker on the server, and returns whether there was one before.
    pub(crate) fn note_set(&self) -> bool {
        self.was_set.swap(true, Ordering::Relaxed)
    }

    /// Notes that a data loss is reported, which the marker must not show a second time.
    pub(crate) fn note_loss_told(&self) {
        self.loss_told.store(true, Ordering::Relaxed);
    }

    /// Returns whether such a loss was reported since the last call.
    pub(crate) fn take_loss_told(&self) -> bool {
        self.loss_told.swap(false, Ordering::Relaxed)
    }

    /// Notes that the server has lost the marker.
    pub(crate) fn note_lost(&self) {
        self.was_set.store(false, Ordering::Relaxed);
    }
}
