//! Owns the lanes of a store: by its lane and its number a call is known to the server, however often it is
//! made. Knows nothing of what is called, nor of what the server notes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::key::Key;

/// All lanes of a store. A call has one to itself until its answer is known or nobody asks for it any more.
#[derive(Debug)]
pub(crate) struct Lanes {
    identity: u128,
    key: Key<'static>,
    /// What the notes on the server are called since they were begun there; 0 where they are not.
    born: AtomicU64,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// Lanes that nobody has, each with the number of its last call; the one used last is used next.
    lanes: Vec<(u32, u64)>,
    made: u32,
}

/// One call: as long as it lives, no other has its lane.
#[derive(Debug)]
pub(crate) struct Turn {
    lanes: Arc<Lanes>,
    pub(crate) lane: u32,
    pub(crate) number: u64,
    /// What the notes on the server were called when it was sent first; 0 before that.
    born: AtomicU64,
    /// How often the server had lost its memory by then.
    losses: AtomicU64,
}

/// How the server finds what it has noted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    /// Whose notes, and what they were called when it was sent.
    pub(crate) notes: u128,
    pub(crate) born: u64,
    pub(crate) lane: u32,
    pub(crate) number: u64,
}

impl Lanes {
    pub(crate) fn new(identity: u128) -> Arc<Self> {
        let (key, born, free) = (Key::lanes(identity), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { identity, key, born, free })
    }

    /// Where the notes lie on the server.
    pub(crate) fn key(&self) -> &Key<'static> {
        &self.key
    }

    /// What the notes on the server are called, where they were begun.
    pub(crate) fn born(&self) -> Option<u64> {
        Some(self.born.load(Ordering::Acquire)).filter(|born| *born != 0)
    }

    /// Notes that they were begun, and what they are called.
    pub(crate) fn begin(&self, born: u64) {
        self.born.store(born, Ordering::Release);
    }

    /// The next call of a lane that nobody has.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        let mut free = self.free.lock();
        let (lane, last) = free.lanes.pop().unwrap_or_else(|| {
            free.made += 1;
            (free.made, 0)
        });
        Turn {
            lanes: Arc::clone(self),
            lane,
            number: last + 1,
            born: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }
}

impl Turn {
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// What the notes on the server were called when it was sent first.
    pub(crate) fn sent(&self) -> Option<u64> {
        Some(self.born.load(Ordering::Acquire)).filter(|born| *born != 0)
    }

    /// How often the server had lost its memory when it was sent first.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Notes how often the server has lost its memory, before it is sent first.
    pub(crate) fn begin(&self, losses: u64) {
        self.losses.store(losses, Ordering::Release);
    }

    /// How the server is asked what became of it.
    pub(crate) fn call(&self) -> CallId {
        let born = self.sent().unwrap_or(0);
        CallId { notes: self.lanes.identity, born, lane: self.lane, number: self.number }
    }

    /// Notes that it may be on its way from now on; with nothing, that it is not.
    pub(crate) fn send(&self, born: Option<u64>) {
        self.born.store(born.unwrap_or(0), Ordering::Release);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lanes.free.lock().lanes.push((self.lane, self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_given_to_one_at_a_time_and_never_the_same_number_twice() {
        let lanes = Lanes::new(7);
        let one = lanes.turn();
        let other = lanes.turn();
        assert_eq!([(one.lane, one.number), (other.lane, other.number)], [(1, 1), (2, 1)]);
        drop(one);
        let one = Arc::new(lanes.turn());
        assert_eq!((one.lane, one.number), (1, 2), "a lane that is free goes before a new one");
        // Whatever still asks for the answer keeps the lane.
        let kept = Arc::clone(&one);
        drop(one);
        assert_eq!(lanes.turn().lane, 3);
        drop(kept);
        drop(other);
        assert_eq!((lanes.turn().lane, lanes.turn().number), (2, 3), "the one that became free last is next");
    }

    #[test]
    fn a_turn_remembers_what_the_notes_were_called_when_it_was_sent() {
        let lanes = Lanes::new(7);
        let turn = lanes.turn();
        assert_eq!((lanes.born(), turn.sent()), (None, None));
        lanes.begin(5);
        turn.send(Some(5));
        lanes.begin(6);
        assert_eq!((lanes.born(), turn.sent()), (Some(6), Some(5)));
        assert_eq!(&**lanes.key(), "__millpond:lanes:00000000000000000000000000000007");
    }
}
