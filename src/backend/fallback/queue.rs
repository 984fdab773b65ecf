//! Owns the operations that wait for the server: their order, their bounds, and which of them become one.
//! Knows nothing of how they are sent.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use smol_str::SmolStr;

use crate::clock::Millis;
use crate::deferred::{Deferred, Seen};
use crate::op::Action;

/// What an operation takes besides what it carries, roughly.
const AROUND: u64 = 160;

/// What is done at once: one operation, or all of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) ops: Vec<Deferred>,
    pub(crate) queued: Stamp,
    bytes: u64,
}

/// When an operation was queued: times to live go on running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
}

impl Stamp {
    pub(crate) fn now(wall: SystemTime) -> Self {
        Self { at: Instant::now(), wall }
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
}

/// Whether there is room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Plenty,
    /// More than half is used: writers are slowed, by this much.
    Scarce(Duration),
    None,
}

/// The queue, in the order in which operations were done here.
///
/// INVARIANT: of two operations on one key the earlier one comes first. Numbers are never used twice.
pub(crate) struct Queue {
    waiting: VecDeque<Pending>,
    /// The number of the first that waits.
    first: u64,
    /// Up to here they were sent, and may have been done.
    sent: u64,
    bytes: u64,
    /// The number of the last operation on each key.
    last: HashMap<SmolStr, u64>,
    bounds: Bounds,
}

impl Queue {
    /// A queue that goes on behind the number `done`.
    pub(crate) fn new(bounds: Bounds, done: u64) -> Self {
        let (waiting, last) = (VecDeque::new(), HashMap::new());
        Self { waiting, first: done + 1, sent: done, bytes: 0, last, bounds }
    }

    /// The number of the last one that was sent, and may have been done.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes out of those that may have been done the ones that must not be done twice.
    pub(crate) fn take_doubtful(&mut self) -> Vec<Deferred> {
        let count = usize::try_from(self.sent.saturating_sub(self.done())).unwrap_or(usize::MAX);
        let mut doubtful = Vec::new();
        for pending in self.waiting.iter_mut().take(count) {
            let (kept, taken) = pending.ops.drain(..).partition(|op| op.action.is_idempotent());
            pending.ops = kept;
            doubtful.extend::<Vec<Deferred>>(taken);
        }
        doubtful
    }

    /// Forgets what was seen of keys on a server that has lost it: nobody has written over it.
    pub(crate) fn forget_seen(&mut self) {
        for op in self.waiting.iter_mut().flat_map(|pending| &mut pending.ops) {
            match &mut op.seen {
                Seen::Value(_) => op.seen = Seen::Unknown,
                // It may have been done there since.
                Seen::Either(all) => all.push(None),
                Seen::Absent | Seen::Assumed | Seen::Unknown | Seen::Own => {}
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the last one that is done.
    pub(crate) fn done(&self) -> u64 {
        self.first - 1
    }

    /// Whether an operation on the key waits.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.last.contains_key(key)
    }

    /// The next operation on the key.
    pub(crate) fn next_on(&mut self, key: &str) -> Option<&mut Deferred> {
        if !self.has(key) {
            return None;
        }
        self.waiting.iter_mut().flat_map(|pending| &mut pending.ops).find(|op| *op.key == *key)
    }

    pub(crate) fn room(&self) -> Room {
        let Bounds { operations, bytes } = self.bounds;
        let (count, size) = (self.len(), self.bytes);
        if count >= operations || size >= bytes {
            return Room::None;
        }
        if count <= operations / 2 && size <= bytes / 2 {
            return Room::Plenty;
        }
        // From half to full the wait grows from nothing to ten milliseconds.
        let used = |part: u64, whole: u64| part.saturating_sub(whole / 2) * 20_000 / whole.max(1);
        Room::Scarce(Duration::from_micros(used(count, operations).max(used(size, bytes))))
    }

    /// Adds an operation behind all others, or makes it one with the last one on its key.
    pub(crate) fn push(&mut self, op: Deferred, queued: Stamp) {
        let number = self.last.get(&*op.key).copied().filter(|number| *number > self.sent);
        let place = number.and_then(|number| usize::try_from(number.checked_sub(self.first)?).ok());
        if let Some(pending) = place.and_then(|place| self.waiting.get_mut(place))
            && let [before] = &mut pending.ops[..]
            && let Some(action) = merged(&before.action, &op.action)
        {
            before.action = action;
            self.bytes -= pending.bytes;
            pending.bytes = weight(before);
            self.bytes += pending.bytes;
            pending.queued = queued;
            return;
        }
        self.push_all(vec![op], queued);
    }

    /// Adds what is done at once.
    pub(crate) fn push_all(&mut self, ops: Vec<Deferred>, queued: Stamp) {
        let number = self.first + self.len();
        for op in &ops {
            self.last.insert(SmolStr::new(&*op.key), number);
        }
        let bytes = ops.iter().map(weight).sum();
        self.bytes += bytes;
        self.waiting.push_back(Pending { ops, queued, bytes });
    }

    /// The first of those that wait, at most so many operations and bytes, with the number of the last.
    /// From here on they may have been done.
    pub(crate) fn chunk(&mut self, operations: usize, bytes: u64) -> (Vec<Pending>, u64) {
        let (mut count, mut size) = (0, 0);
        let fits = |pending: &&Pending| {
            count += pending.ops.len();
            size += pending.bytes;
            count <= operations && size <= bytes
        };
        let chosen = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        let chunk: Vec<Pending> = self.waiting.iter().take(chosen).cloned().collect();
        let last = self.done() + chunk.len() as u64;
        self.sent = self.sent.max(last);
        (chunk, last)
    }

    /// Takes out all up to a number: they are done.
    pub(crate) fn finish(&mut self, number: u64) -> Vec<Pending> {
        let count = usize::try_from(number.saturating_sub(self.done())).unwrap_or(usize::MAX);
        let done: Vec<Pending> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.first += done.len() as u64;
        for pending in &done {
            self.bytes -= pending.bytes;
            for op in &pending.ops {
                if self.last.get(&*op.key).is_some_and(|last| *last < self.first) {
                    self.last.remove(&*op.key);
                }
            }
        }
        done
    }

    /// Those that wait, the first in front.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.waiting.iter()
    }
}

fn weight(op: &Deferred) -> u64 {
    AROUND + (op.key.len() + op.action.bytes()) as u64
}

/// The one action that does what the two do one after the other, if there is one that may be sent in the
/// place of the first.
fn merged(before: &Action, after: &Action) -> Option<Action> {
    match (before, after) {
        // What lay there before does not matter to either, and the second replaces all of the first.
        (Action::Put { .. } | Action::Delete, Action::Put { .. } | Action::Delete) => Some(after.clone()),
        (Action::Incr { by, birth_ttl }, Action::Incr { by: more, birth_ttl: other })
            if same(*birth_ttl, *other) =>
        {
            Some(Action::Incr { by: by.checked_add(*more)?, birth_ttl: *birth_ttl })
        }
        _ => None,
    }
}

fn same(one: Option<Millis>, other: Option<Millis>) -> bool {
    // With a time to live at birth the first of them decides when it ends.
    one.is_none() && other.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::value::Value;

    const BOUNDS: Bounds = Bounds { operations: 10, bytes: 1 << 20 };

    fn op(key: &str, action: Action) -> Deferred {
        Deferred { key: Key::listed(key.to_owned()), action, seen: Seen::Unknown }
    }

    fn put(number: i64) -> Action {
        Action::Put { value: Value::integer(number), ttl: None }
    }

    fn incr(by: i64) -> Action {
        Action::Incr { by, birth_ttl: None }
    }

    fn stamp() -> Stamp {
        Stamp::now(SystemTime::UNIX_EPOCH)
    }

    fn texts(queue: &Queue) -> Vec<String> {
        let one = |op: &Deferred| match &op.action {
            Action::Put { value, .. } => {
                format!("{}={}", &*op.key, String::from_utf8_lossy(&value.bytes))
            }
            Action::Incr { by, .. } => format!("{}+{by}", &*op.key),
            other => format!("{} {other:?}", &*op.key),
        };
        queue.iter().map(|pending| pending.ops.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn neighbours_on_one_key_become_one() {
        let mut queue = Queue::new(BOUNDS, 0);
        for (key, action) in [
            ("a", put(1)),
            ("b", incr(1)),
            ("a", put(2)),
            ("b", incr(2)),
            ("a", Action::Delete),
            ("a", put(3)),
        ] {
            queue.push(op(key, action), stamp());
        }
        assert_eq!(texts(&queue), ["a=3", "b+3"]);
        queue.push(op("a", incr(1)), stamp());
        queue.push(op("a", put(4)), stamp());
        assert_eq!(texts(&queue), ["a=3", "b+3", "a+1", "a=4"], "another action lies between");
        queue.push(op("b", incr(i64::MAX)), stamp());
        assert_eq!(queue.len(), 5, "what would overflow stays two");
    }

    #[test]
    fn what_was_sent_and_what_is_in_a_batch_stays_as_it_is() {
        let mut queue = Queue::new(BOUNDS, 0);
        queue.push(op("a", put(1)), stamp());
        let (chunk, last) = queue.chunk(100, 1 << 20);
        assert_eq!((chunk.len(), last), (1, 1));
        queue.push(op("a", put(2)), stamp());
        queue.push_all(vec![op("a", put(3)), op("b", put(3))], stamp());
        queue.push(op("b", put(4)), stamp());
        assert_eq!(texts(&queue), ["a=1", "a=2", "a=3 b=3", "b=4"]);
        assert_eq!(queue.finish(1).len(), 1);
        assert!(queue.has("a"));
        assert_eq!((queue.done(), queue.len()), (1, 3));
        queue.finish(4);
        assert!(queue.is_empty() && !queue.has("a") && !queue.has("b"));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_chunk_is_bounded_and_never_empty() {
        let mut queue = Queue::new(BOUNDS, 0);
        for number in 0..5 {
            queue.push(op(&format!("k{number}"), put(number)), stamp());
        }
        assert_eq!(queue.chunk(2, 1 << 20).1, 2);
        assert_eq!(queue.chunk(100, 1).1, 1, "one goes whatever its size");
        assert_eq!(queue.chunk(100, 1 << 20).1, 5);
    }

    #[test]
    fn it_slows_and_then_refuses() {
        let mut queue = Queue::new(BOUNDS, 0);
        let mut rooms = Vec::new();
        for number in 0..10 {
            rooms.push(queue.room());
            queue.push(op(&format!("k{number}"), put(number)), stamp());
        }
        assert!(rooms[..6].iter().all(|room| *room == Room::Plenty));
        assert!(rooms[6..].windows(2).all(|pair| match pair {
            [Room::Scarce(one), Room::Scarce(other)] => one < other,
            _ => false,
        }));
        assert_eq!(queue.room(), Room::None);
    }
}
