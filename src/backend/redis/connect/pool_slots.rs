//! Owns how many connections a pool may have: a fixed number of slots, each with a connection or empty. Knows
//! nothing of how connections are made, nor of whether they still work.

use std::convert::Infallible;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::catch_unwind;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use r2d2::ManageConnection;
use scheduled_thread_pool::ScheduledThreadPool;

use crate::backend::redis::connect::connection::Connection;
use crate::util::threads;

/// One of a pool's slots, with a connection or empty.
pub(crate) type PoolSlot = Option<Connection>;

const THREAD: &str = "millpond-pool";

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

/// The slots are made at the first checkout. If the system has no room for the pool's thread, a checkout gets a slot of
/// its own, and the next one tries again.
pub(crate) struct PoolSlots {
    size: u32,
    pool: OnceLock<r2d2::Pool<SlotManager>>,
    making: Mutex<()>,
}

impl PoolSlots {
    pub(crate) fn new(size: u32) -> Self {
        Self { size, pool: OnceLock::new(), making: Mutex::new(()) }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Takes a slot that is free right now, if possible one with a connection.
    pub(crate) fn try_take(&self) -> Option<CheckedOutSlot> {
        if self.made().is_none() {
            return Some(CheckedOutSlot::extra());
        }
        let mut empty = Vec::new();
        while let Some(slot) = self.try_take_idle() {
            if slot.is_some() {
                return Some(slot);
            }
            empty.push(slot);
        }
        empty.pop()
    }

    /// Takes a slot that is free right now, if the slots were ever made.
    pub(crate) fn try_take_idle(&self) -> Option<CheckedOutSlot> {
        self.pool.get().and_then(r2d2::Pool::try_get).map(CheckedOutSlot::Pooled)
    }

    /// Takes a slot, and waits until `end` for a free one if necessary.
    pub(crate) fn take(&self, end: Instant) -> Option<CheckedOutSlot> {
        match self.made() {
            Some(pool) => {
                let wait = end.saturating_duration_since(Instant::now());
                pool.get_timeout(wait).ok().map(CheckedOutSlot::Pooled)
            }
            None => Some(CheckedOutSlot::extra()),
        }
    }

    /// Takes all slots that are free right now: the one that was used last comes first.
    pub(crate) fn take_all_idle(&self) -> Vec<CheckedOutSlot> {
        let most = self.size as usize;
        std::iter::from_fn(|| self.try_take_idle()).take(most).collect()
    }

    /// Gives back slots that [`PoolSlots::take_all_idle`] has taken, so that the next checkout takes the first of those
    /// with a connection.
    pub(crate) fn give_back(idle: Vec<CheckedOutSlot>) {
        let (filled, empty): (Vec<_>, Vec<_>) = idle.into_iter().partition(|slot| slot.is_some());
        drop(empty);
        filled.into_iter().rev().for_each(drop);
    }

    /// Returns how many slots exist, in use or not.
    pub(crate) fn made_count(&self) -> u32 {
        self.pool.get().map_or(0, |pool| pool.state().connections)
    }

    /// Returns whether all slots exist, in use or not.
    pub(crate) fn is_full(&self) -> bool {
        self.made_count() >= self.size
    }

    fn made(&self) -> Option<&r2d2::Pool<SlotManager>> {
        if let Some(pool) = self.pool.get() {
            return Some(pool);
        }
        let _one_at_a_time = self.making.lock();
        if self.pool.get().is_none()
            && let Ok(worker) = worker()
        {
            let pool = r2d2::Pool::builder()
                .max_size(self.size)
                .min_idle(Some(0))
                .test_on_check_out(false)
                .idle_timeout(None)
                .max_lifetime(None)
                .thread_pool(worker)
                .build_unchecked(SlotManager);
            let _ = self.pool.set(pool);
        }
        self.pool.get()
    }
}

/// Starts the one thread that makes the slots of a pool. It ends with the pool. Each pool has its own, so that
/// a pool made in a forked child works: the child does not inherit the threads of its parent.
fn worker() -> io::Result<Arc<ScheduledThreadPool>> {
    // The library panics if it cannot start its thread, so a thread is started first to see whether there is room.
    threads::join(threads::spawn(THREAD, || ())?);
    let start = || ScheduledThreadPool::builder().num_threads(1).thread_name_pattern(THREAD).build();
    catch_unwind(start).map(Arc::new).map_err(|_| io::ErrorKind::WouldBlock.into())
}

/// A slot in use.
pub(crate) enum CheckedOutSlot {
    /// Returns to its pool when dropped.
    Pooled(r2d2::PooledConnection<SlotManager>),
    /// Belongs to no pool: its connection is closed after use.
    Extra(PoolSlot),
}

impl CheckedOutSlot {
    /// An empty slot that belongs to no pool.
    pub(crate) fn extra() -> Self {
        Self::Extra(None)
    }

    /// Returns whether the slot returns to a pool.
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self, Self::Pooled(_))
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pool_hands_out_as_many_slots_as_it_has() {
        let slots = PoolSlots::new(2);
        let soon = Instant::now() + Duration::from_secs(60);
        let (first, second) = (slots.take(soon), slots.take(soon));
        assert!(first.is_some() && second.is_some() && slots.try_take().is_none() && slots.is_full());
        assert!(slots.take(Instant::now() + Duration::from_millis(1)).is_none());
        drop(first);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn threads_wait_for_each_others_slots() {
        let (slots, most, in_use) = (PoolSlots::new(2), AtomicU32::new(0), AtomicU32::new(0));
        let end = Instant::now() + Duration::from_secs(60);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let slot = slots.take(end).expect("the others give theirs back");
                        most.fetch_max(in_use.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        in_use.fetch_sub(1, Ordering::SeqCst);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 2);
    }
}
