//! Owns the lanes of a store: by its lane and its number a call is known to the server, however often it is
//! made. Knows nothing of what is called, nor of what the server notes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::backend::redis::keys;
use crate::key::Key;

/// All lanes of a store. A call has one to itself until its answer is known or nobody asks for it any more.
#[derive(Debug)]
pub(crate) struct SlotTable {
    identity: u128,
    key: Key<'static>,
    /// What the notes on the server are called since they were begun there; 0 where they are not.
    cache_id: AtomicU64,
    free: Mutex<FreeSlots>,
}

#[derive(Debug, Default)]
struct FreeSlots {
    /// Lanes that nobody has, each with the number of its last call; the one used last is used next.
    slots: Vec<(u32, u64)>,
    made: u32,
}

/// One call: as long as it lives, no other has its lane.
#[derive(Debug)]
pub(crate) struct SlotCall {
    table: Arc<SlotTable>,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// What the notes on the server were called when it was sent first; 0 before that.
    cache_id: AtomicU64,
    /// How often the server had lost its memory by then.
    loss_count: AtomicU64,
}

/// How the server finds what it has noted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    /// Whose notes, and what they were called when it was sent.
    pub(crate) store_id: u128,
    pub(crate) cache_id: u64,
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
}

impl SlotTable {
    pub(crate) fn new(identity: u128) -> Arc<Self> {
        let (key, born, free) = (keys::reply_cache(identity), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { identity, key, cache_id: born, free })
    }

    /// Where the notes lie on the server.
    pub(crate) fn key(&self) -> &Key<'static> {
        &self.key
    }

    /// What the notes on the server are called, where they were begun.
    pub(crate) fn cache_id(&self) -> Option<u64> {
        Some(self.cache_id.load(Ordering::Acquire)).filter(|born| *born != 0)
    }

    /// Notes that they were begun, and what they are called.
    pub(crate) fn set_cache_id(&self, born: u64) {
        self.cache_id.store(born, Ordering::Release);
    }

    /// The next call of a lane that nobody has.
    pub(crate) fn begin_call(self: &Arc<Self>) -> SlotCall {
        let mut free = self.free.lock();
        let (lane, last) = free.slots.pop().unwrap_or_else(|| {
            free.made += 1;
            (free.made, 0)
        });
        SlotCall {
            table: Arc::clone(self),
            slot: lane,
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

    /// What the notes on the server were called when it was sent first.
    pub(crate) fn cache_id_when_sent(&self) -> Option<u64> {
        Some(self.cache_id.load(Ordering::Acquire)).filter(|born| *born != 0)
    }

    /// How often the server had lost its memory when it was sent first.
    pub(crate) fn loss_count(&self) -> u64 {
        self.loss_count.load(Ordering::Acquire)
    }

    /// Notes how often the server has lost its memory, before it is sent first.
    pub(crate) fn set_loss_count(&self, losses: u64) {
        self.loss_count.store(losses, Ordering::Release);
    }

    /// How the server is asked what became of it.
    pub(crate) fn id(&self) -> CallId {
        let born = self.cache_id_when_sent().unwrap_or(0);
        CallId { store_id: self.table.identity, cache_id: born, slot: self.slot, sequence: self.sequence }
    }

    /// Notes that it may be on its way from now on; with nothing, that it is not.
    pub(crate) fn mark_sent(&self, born: Option<u64>) {
        self.cache_id.store(born.unwrap_or(0), Ordering::Release);
    }
}

impl Drop for SlotCall {
    fn drop(&mut self) {
        self.table.free.lock().slots.push((self.slot, self.sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_given_to_one_at_a_time_and_never_the_same_number_twice() {
        let lanes = SlotTable::new(7);
        let one = lanes.begin_call();
        let other = lanes.begin_call();
        assert_eq!([(one.slot, one.sequence), (other.slot, other.sequence)], [(1, 1), (2, 1)]);
        drop(one);
        let one = Arc::new(lanes.begin_call());
        assert_eq!((one.slot, one.sequence), (1, 2), "a lane that is free goes before a new one");
        // Whatever still asks for the answer keeps the lane.
        let kept = Arc::clone(&one);
        drop(one);
        assert_eq!(lanes.begin_call().slot, 3);
        drop(kept);
        drop(other);
        assert_eq!(
            (lanes.begin_call().slot, lanes.begin_call().sequence),
            (2, 3),
            "the one that became free last is next"
        );
    }

    #[test]
    fn a_turn_remembers_what_the_notes_were_called_when_it_was_sent() {
        let lanes = SlotTable::new(7);
        let turn = lanes.begin_call();
        assert_eq!((lanes.cache_id(), turn.cache_id_when_sent()), (None, None));
        lanes.set_cache_id(5);
        turn.mark_sent(Some(5));
        lanes.set_cache_id(6);
        assert_eq!((lanes.cache_id(), turn.cache_id_when_sent()), (Some(6), Some(5)));
        assert_eq!(&**lanes.key(), "__millpond:replies:00000000000000000000000000000007");
    }
}
