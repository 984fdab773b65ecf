//! Owns what this process knows of its marker on the server. The marker records how much of the replay queue the server
//! has done. Knows nothing of how the marker is read or set.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::backend::redis::keys;
use crate::key::Key;

/// The marker of one store. Each store has its own identity.
pub(crate) struct Marker {
    identity: u128,
    /// The number of the last queued operation that is done on the server.
    done: AtomicU64,
    was_set: AtomicBool,
}

impl Marker {
    pub(crate) fn new(identity: u128, done: u64, was_set: bool) -> Self {
        Self { identity, done: AtomicU64::new(done), was_set: AtomicBool::new(was_set) }
    }

    pub(crate) fn key(&self) -> Key<'static> {
        keys::marker(self.identity)
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

    /// Notes that the server has lost the marker.
    pub(crate) fn note_lost(&self) {
        self.was_set.store(false, Ordering::Relaxed);
    }
}
