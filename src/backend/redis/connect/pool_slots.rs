//! Owns how many connections a pool may have: a fixed number of slots, each with a connection or empty. Knows
//! nothing of how connections are made, nor of whether they still work.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use r2d2::ManageConnection;
use scheduled_thread_pool::ScheduledThreadPool;

use crate::backend::redis::connect::connection::Connection;

/// One of a pool's slots, with a connection or empty.
pub(crate) type PoolSlot = Option<Connection>;

/// Makes empty slots. The thread that checks a slot out also fills it, within its own time budget, and so gets
/// its own typed error; the library never waits for a server, retries or logs.
pub(crate) struct SlotManager;

impl ManageConnection for SlotManager {
    type Connection = PoolSlot;
    type Error = Infallible;

    fn connect(&self) -> Result<PoolSlot, Infallible> {
        Ok(None)
    }

    fn is_valid(&self, _: &mut PoolSlot) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut PoolSlot) -> bool {
        false
    }
}

pub(crate) struct PoolSlots(r2d2::Pool<SlotManager>);

impl PoolSlots {
    pub(crate) fn new(size: u32) -> Self {
        let slots = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .thread_pool(worker())
            .build_unchecked(SlotManager);
        Self(slots)
    }

    pub(crate) fn size(&self) -> u32 {
        self.0.max_size()
    }

    /// Returns whether all slots exist, in use or not.
    pub(crate) fn is_full(&self) -> bool {
        self.0.state().connections >= self.0.max_size()
    }

    /// Takes a slot that is free right now.
    pub(crate) fn try_take(&self) -> Option<CheckedOutSlot> {
        self.0.try_get().map(CheckedOutSlot::Pooled)
    }

    /// Takes a slot, and waits for a free one if necessary.
    pub(crate) fn take(&self, wait: Duration) -> Option<CheckedOutSlot> {
        self.0.get_timeout(wait).ok().map(CheckedOutSlot::Pooled)
    }
}

/// Returns the one thread that makes the slots of a pool. It ends with the pool. Each pool has its own, so that
/// a pool made in a forked child works: the child does not inherit the threads of its parent.
fn worker() -> Arc<ScheduledThreadPool> {
    Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("millpond-pool").build())
}

/// A slot in use.
pub(crate) enum CheckedOutSlot {
    /// Returns to its pool when dropped.
    Pooled(r2d2::PooledConnection<SlotManager>),
    /// Belongs to no pool: its connection is closed after use.
    Extra(PoolSlot),
}

impl Deref for CheckedOutSlot {
    type Target = PoolSlot;

    fn deref(&self) -> &PoolSlot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Extra(slot) => slot,
        }
    }
}

impl DerefMut for CheckedOutSlot {
    fn deref_mut(&mut self) -> &mut PoolSlot {
        match self {
            Self::Pooled(slot) => slot,
            Self::Extra(slot) => slot,
        }
    }
}
