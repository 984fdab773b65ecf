//! Owns the current outage, if there is one. Knows nothing of how an outage begins or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::backend::fallback::outage::serving::Outage;
use crate::backend::fallback::queue::replay_queue::QueuedWrites;

#[derive(Default)]
pub(crate) struct OutageCell {
    /// Whether there is an outage. Every operation checks it first.
    is_disconnected: AtomicBool,
    /// INVARIANT: an operation that is carried out locally holds this lock for reading, so that none is under way
    /// when the outage ends.
    current: RwLock<Option<Arc<Outage>>>,
    /// Whether no further operation is carried out locally. The pending ones were counted, and another one would be
    /// lost unnoticed.
    has_ended: AtomicBool,
}

impl OutageCell {
    #[inline]
    pub(crate) fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> Option<Arc<Outage>> {
        self.current.read().clone()
    }

    /// Returns how many operations are pending.
    pub(crate) fn pending(&self) -> u64 {
        self.current().map_or(0, |outage| outage.session().queue.len())
    }

    /// Returns how many operations are pending, and for how many calls they stand.
    pub(crate) fn writes(&self) -> QueuedWrites {
        self.current().map(|outage| outage.session().queue.writes()).unwrap_or_default()
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Option<Arc<Outage>>> {
        self.current.read()
    }

    /// Waits until no operation is being carried out locally. None can begin while the lock is held.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Option<Arc<Outage>>> {
        self.current.write()
    }

    pub(crate) fn begin(&self, current: &mut Option<Arc<Outage>>, outage: Arc<Outage>) {
        *current = Some(outage);
        self.is_disconnected.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self, current: &mut Option<Arc<Outage>>) {
        self.is_disconnected.store(false, Ordering::Release);
        *current = None;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Lets no further operation be carried out locally, and waits for the ones under way.
    pub(crate) fn close(&self) {
        self.has_ended.store(true, Ordering::Release);
        drop(self.current.write());
    }
}
