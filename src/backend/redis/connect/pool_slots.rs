//! Owns how many connections a pool may have: a fixed number of slots, each with a connection or empty. Knows
//! nothing of how connections are made, nor of whether they still work. It needs no thread of its own.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::backend::redis::connect::connection::Connection;

/// One of a pool's slots, with a connection or empty.
pub(crate) type PoolSlot = Option<Connection>;

pub(crate) struct PoolSlots {
    size: u32,
    state: Mutex<SlotState>,
    freed: Condvar,
}

#[derive(Default)]
struct SlotState {
    in_use: u32,
    /// The connections of free slots. The one that was used last is used next.
    idle: Vec<Connection>,
}

impl PoolSlots {
    pub(crate) fn new(size: u32) -> Self {
        Self { size, state: Mutex::default(), freed: Condvar::new() }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Takes a slot that is free right now.
    pub(crate) fn try_take(&self) -> Option<CheckedOutSlot<'_>> {
        self.take_from(&mut self.state.lock())
    }

    /// Takes a slot, and waits until `end` for a free one if necessary.
    pub(crate) fn take(&self, end: Instant) -> Option<CheckedOutSlot<'_>> {
        let mut state = self.state.lock();
        loop {
            if let Some(slot) = self.take_from(&mut state) {
                return Some(slot);
            }
            if self.freed.wait_until(&mut state, end).timed_out() {
                return self.take_from(&mut state);
            }
        }
    }

    fn take_from(&self, state: &mut SlotState) -> Option<CheckedOutSlot<'_>> {
        if state.in_use >= self.size {
            return None;
        }
        state.in_use += 1;
        Some(CheckedOutSlot { slot: state.idle.pop(), pool: Some(self) })
    }

    /// Removes the connections of all free slots.
    pub(crate) fn take_idle(&self) -> Vec<Connection> {
        std::mem::take(&mut self.state.lock().idle)
    }
}

/// A slot in use. It returns to its pool when it is dropped.
pub(crate) struct CheckedOutSlot<'p> {
    slot: PoolSlot,
    /// `None`: the slot belongs to no pool, and its connection is closed after use.
    pool: Option<&'p PoolSlots>,
}

impl CheckedOutSlot<'_> {
    /// An empty slot that belongs to no pool.
    pub(crate) fn extra() -> Self {
        Self { slot: None, pool: None }
    }
}

impl Drop for CheckedOutSlot<'_> {
    fn drop(&mut self) {
        let Some(pool) = self.pool else { return };
        let mut state = pool.state.lock();
        state.in_use -= 1;
        state.idle.extend(self.slot.take());
        drop(state);
        pool.freed.notify_one();
    }
}

impl Deref for CheckedOutSlot<'_> {
    type Target = PoolSlot;

    fn deref(&self) -> &PoolSlot {
        &self.slot
    }
}

impl DerefMut for CheckedOutSlot<'_> {
    fn deref_mut(&mut self) -> &mut PoolSlot {
        &mut self.slot
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
        let (first, second) = (slots.try_take(), slots.try_take());
        assert!(first.is_some() && second.is_some() && slots.try_take().is_none());
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
