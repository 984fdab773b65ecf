//! Owns the slots of a store: (slot, sequence) identifies a call, so that the server recognises a repeated call as a
//! duplicate. Knows nothing of what a call does, nor of the reply cache's content.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::backend::redis::keys;
use crate::key::Key;

/// All slots of a store. A call has one to itself until its reply is known or nobody asks for it any more.
#[derive(Debug)]
pub(crate) struct SlotTable {
    store_id: u128,
    key: Key<'static>,
    /// The id of the reply cache on the server; 0 until it is known.
    cache_id: AtomicU64,
    free: Mutex<FreeSlots>,
}

#[derive(Debug, Default)]
struct FreeSlots {
    /// The free slots, each with the sequence of its last call. The slot that was freed last is used next.
    slots: Vec<(u32, u64)>,
    made: u32,
}

/// One call. No other call has its slot until this is dropped.
#[derive(Debug)]
pub(crate) struct SlotCall {
    table: Arc<SlotTable>,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// The id of the reply cache when the call was first sent; 0 until then.
    cache_id: AtomicU64,
    /// How often the server had lost its data by then.
    loss_count: AtomicU64,
}

/// How the server finds the reply to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    /// The store that made the call: it names the reply cache.
    pub(crate) store_id: u128,
    /// The id of that reply cache when the call was sent.
    pub(crate) cache_id: u64,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
}

/// What the server knows of a call whose reply was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recalled {
    Applied,
    /// It was not applied, and cannot be any more: its connection was closed on the server.
    NotApplied,
    /// The server has lost its reply cache.
    Unknown,
}

impl SlotTable {
    pub(crate) fn new(store_id: u128) -> Arc<Self> {
        Arc::new(Self {
            store_id,
            key: keys::reply_cache(store_id),
            cache_id: AtomicU64::new(0),
            free: Mutex::default(),
        })
    }

    /// Returns the key of the reply cache.
    pub(crate) fn key(&self) -> &Key<'static> {
        &self.key
    }

    /// Returns the id of the reply cache, if it is known.
    pub(crate) fn cache_id(&self) -> Option<u64> {
        non_zero(&self.cache_id)
    }

    /// Remembers the id of the reply cache.
    pub(crate) fn set_cache_id(&self, cache_id: u64) {
        self.cache_id.store(cache_id, Ordering::Release);
    }

    /// Begins the next call of a free slot.
    pub(crate) fn begin_call(self: &Arc<Self>) -> SlotCall {
        let mut free = self.free.lock();
        let (slot, last) = free.slots.pop().unwrap_or_else(|| {
            free.made += 1;
            (free.made, 0)
        });
        SlotCall {
            table: Arc::clone(self),
            slot,
            sequence: last + 1,
            cache_id: AtomicU64::new(0),
            loss_count: AtomicU64::new(0),
        }
    }
}

impl SlotCall {
    pub(crate) fn table(&self) -> &SlotTable {
        &self.table
    }

    /// Returns the id of the reply cache when the call was first sent.
    pub(crate) fn cache_id_when_sent(&self) -> Option<u64> {
        non_zero(&self.cache_id)
    }

    /// Returns how often the server had lost its data when the call was first sent.
    pub(crate) fn loss_count(&self) -> u64 {
        self.loss_count.load(Ordering::Acquire)
    }

    /// Remembers how often the server has lost its data, before the call is first sent.
    pub(crate) fn set_loss_count(&self, losses: u64) {
        self.loss_count.store(losses, Ordering::Release);
    }

    /// Returns by what the server finds the call.
    pub(crate) fn id(&self) -> CallId {
        CallId {
            store_id: self.table.store_id,
            cache_id: self.cache_id_when_sent().unwrap_or(0),
            slot: self.slot,
            sequence: self.sequence,
        }
    }

    /// Remembers that the call may be on its way from now on, to the reply cache of this id; `None`: that it is not.
    pub(crate) fn mark_sent(&self, cache_id: Option<u64>) {
        self.cache_id.store(cache_id.unwrap_or(0), Ordering::Release);
    }
}

fn non_zero(cache_id: &AtomicU64) -> Option<u64> {
    Some(cache_id.load(Ordering::Acquire)).filter(|cache_id| *cache_id != 0)
}

impl Drop for SlotCall {
    fn drop(&mut self) {
        self.table.free.lock().slots.push((self.slot, self.sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two calls ever have the same slot and sequence.
    #[test]
    fn a_slot_belongs_to_one_call_at_a_time() {
        let slots = SlotTable::new(7);
        let first = slots.begin_call();
        let second = slots.begin_call();
        assert_eq!([(first.slot, first.sequence), (second.slot, second.sequence)], [(1, 1), (2, 1)]);
        drop(first);
        let first = Arc::new(slots.begin_call());
        assert_eq!((first.slot, first.sequence), (1, 2), "a free slot is used before a new one");
        // An owner that still asks for the reply keeps the slot.
        let kept = Arc::clone(&first);
        drop(first);
        assert_eq!(slots.begin_call().slot, 3);
        drop(kept);
        drop(second);
        assert_eq!(
            (slots.begin_call().slot, slots.begin_call().sequence),
            (2, 3),
            "the slot that was freed last is next"
        );
    }

    #[test]
    fn a_call_remembers_the_cache_to_which_it_was_sent() {
        let slots = SlotTable::new(7);
        let call = slots.begin_call();
        assert_eq!((slots.cache_id(), call.cache_id_when_sent()), (None, None));
        slots.set_cache_id(5);
        call.mark_sent(Some(5));
        slots.set_cache_id(6);
        assert_eq!((slots.cache_id(), call.cache_id_when_sent()), (Some(6), Some(5)));
        assert_eq!(**slots.key(), *keys::reply_cache(7));
    }
}
