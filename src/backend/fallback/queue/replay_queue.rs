//! Owns the operations that wait for the server: their order, their bounds, and which of them become one.
//! Knows nothing of how they are sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::{Ops, QueuedGroup};
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::error::Result;

/// Whether an action became one with an operation that is queued.
pub(crate) enum Coalesced {
    /// It did. `written` is what to wait for until the queue's file is durable.
    Yes { written: Option<u64> },
    /// It did not, and must be queued.
    No(QueuedAction),
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
}

/// Whether there is room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    Plenty,
    /// More than half is used: writers are slowed, by this much.
    Scarce(Duration),
    Full,
}

/// The queue, in the order in which operations were done here.
///
/// INVARIANT: of two operations on one key the earlier one comes first. Numbers are never used twice.
pub(crate) struct ReplayQueue {
    /// Whoever sends some of them holds them too.
    waiting: VecDeque<Arc<QueuedGroup>>,
    /// The number of the first that waits.
    first: u64,
    /// Up to here they were sent, and may have been done.
    sent: u64,
    bytes: u64,
    /// The number of the last operation on each key.
    last: HashMap<SmolStr, u64>,
    bounds: QueueBounds,
}

impl ReplayQueue {
    /// A queue that goes on behind the number `done`.
    pub(crate) fn new(bounds: QueueBounds, done: u64) -> Self {
        let (waiting, last) = (VecDeque::new(), HashMap::new());
        Self { waiting, first: done + 1, sent: done, bytes: 0, last, bounds }
    }

    /// A queue in which these waited before the program was started again, behind the number `done`; up to
    /// `sent` they may have been done.
    pub(crate) fn load(bounds: QueueBounds, done: u64, sent: u64, waiting: Vec<QueuedGroup>) -> Self {
        let mut queue = Self::new(bounds, done);
        for pending in waiting {
            queue.add(pending);
        }
        queue.sent = sent.clamp(done, done + queue.len());
        queue
    }

    /// The number of the last one that was sent, and may have been done.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes out of those that may have been done the ones that must not be done twice.
    pub(crate) fn take_in_doubt(&mut self) -> Vec<QueuedOp> {
        let count = self.sent_len();
        let mut doubtful = Vec::new();
        for pending in self.waiting.iter_mut().take(count) {
            let (kept, taken): (Vec<_>, Vec<_>) =
                pending.ops.iter().cloned().partition(|op| op.action.is_idempotent());
            Arc::make_mut(pending).ops = Ops::Several(kept);
            doubtful.extend(taken);
        }
        doubtful
    }

    /// What may have been done, by number.
    pub(crate) fn sent_groups(&self) -> impl Iterator<Item = (u64, &QueuedGroup)> {
        (self.first..).zip(self.iter().take(self.sent_len()))
    }

    fn sent_len(&self) -> usize {
        usize::try_from(self.sent.saturating_sub(self.done())).unwrap_or(usize::MAX)
    }

    /// Forgets what was seen of keys on a server that has lost it: nobody has written over it.
    pub(crate) fn forget_observed(&mut self) {
        for pending in &mut self.waiting {
            for op in Arc::make_mut(pending).ops.iter_mut() {
                match &mut op.observed {
                    Observed::Hash(_) => op.observed = Observed::Nothing,
                    // It may have been done there since.
                    Observed::AnyOf(all) => all.push(Observed::Absent),
                    Observed::Absent
                    | Observed::AssumedAbsent
                    | Observed::Nothing
                    | Observed::NotAValue
                    | Observed::OwnWrite => {}
                }
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
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
    pub(crate) fn first_for(&mut self, key: &str) -> Option<&mut QueuedOp> {
        if !self.has(key) {
            return None;
        }
        let pending = self.waiting.iter_mut().find(|pending| pending.ops.iter().any(|op| *op.key == *key))?;
        Arc::make_mut(pending).ops.iter_mut().find(|op| *op.key == *key)
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let QueueBounds { operations, bytes } = self.bounds;
        let (count, size) = (self.len(), self.bytes);
        if count >= operations || size >= bytes {
            return Capacity::Full;
        }
        if count <= operations / 2 && size <= bytes / 2 {
            return Capacity::Plenty;
        }
        // From half to full the wait grows from nothing to ten milliseconds.
        let used = |part: u64, whole: u64| part.saturating_sub(whole / 2) * 20_000 / whole.max(1);
        Capacity::Scarce(Duration::from_micros(used(count, operations).max(used(size, bytes))))
    }

    /// Makes an action one with the last operation on its key, in the queue's file too if there is one.
    pub(crate) fn coalesce(
        &mut self,
        key: &str,
        action: QueuedAction,
        queued_at: impl FnOnce() -> QueuedAt,
        file: Option<&QueueFile>,
    ) -> Result<Coalesced> {
        let number = self.first;
        let place = self.unsent(key);
        // Nobody else holds a group that was not sent.
        let Some((place, group)) =
            place.and_then(|place| Some((place, Arc::get_mut(self.waiting.get_mut(place)?)?)))
        else {
            return Ok(Coalesced::No(action));
        };
        let before = file.map(|_| group.clone());
        self.bytes -= group.bytes;
        let rest = group.coalesce(action, queued_at);
        self.bytes += group.bytes;
        if let Some(action) = rest {
            return Ok(Coalesced::No(action));
        }
        let written = file.map(|file| file.persist(number + place as u64, group)).transpose();
        if let (Err(_), Some(before)) = (&written, before) {
            self.bytes += before.bytes;
            self.bytes -= group.bytes;
            *group = before;
        }
        written.map(|written| Coalesced::Yes { written })
    }

    /// Where the last operation on a key waits, if it was not sent.
    fn unsent(&self, key: &str) -> Option<usize> {
        let number = self.last.get(key).copied().filter(|number| *number > self.sent)?;
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// The number of what is added next.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.len()
    }

    /// Adds what is done at once behind all others.
    pub(crate) fn add(&mut self, pending: QueuedGroup) {
        let number = self.next();
        for op in pending.ops.iter() {
            self.last.insert(SmolStr::new(&*op.key), number);
        }
        self.bytes += pending.bytes;
        self.waiting.push_back(Arc::new(pending));
    }

    /// The first of those that wait, at most so many operations and bytes, with the number of the last.
    /// From here on they may have been done.
    pub(crate) fn next_chunk(&mut self, operations: usize, bytes: u64) -> (Vec<Arc<QueuedGroup>>, u64) {
        let (mut count, mut size) = (0, 0);
        let fits = |pending: &&Arc<QueuedGroup>| {
            count += pending.ops.len();
            size += pending.bytes;
            count <= operations && size <= bytes
        };
        let chosen = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        let chunk: Vec<_> = self.waiting.iter().take(chosen).cloned().collect();
        let last = self.done() + chunk.len() as u64;
        self.sent = self.sent.max(last);
        (chunk, last)
    }

    /// Takes out all up to a number: they are done.
    pub(crate) fn acknowledge(&mut self, number: u64) -> Vec<Arc<QueuedGroup>> {
        let count = usize::try_from(number.saturating_sub(self.done())).unwrap_or(usize::MAX);
        let done: Vec<_> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.first += done.len() as u64;
        for pending in &done {
            self.bytes -= pending.bytes;
            for op in pending.ops.iter() {
                if self.last.get(&*op.key).is_some_and(|last| *last < self.first) {
                    self.last.remove(&*op.key);
                }
            }
        }
        done
    }

    /// Those that wait, the first in front.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &QueuedGroup> {
        self.waiting.iter().map(|pending| &**pending)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key::Key;
    use crate::value::Value;

    const BOUNDS: QueueBounds = QueueBounds { operations: 10, bytes: 1 << 20 };

    fn op(key: &str, action: QueuedAction) -> QueuedOp {
        QueuedOp { key: Key::listed(key.to_owned()), action, observed: Observed::Nothing, in_doubt: None }
    }

    fn put(number: i64) -> QueuedAction {
        QueuedAction::Put { value: Value::integer(number), ttl: None }
    }

    fn incr(by: i64) -> QueuedAction {
        QueuedAction::Incr { by, ttl_if_created: None }
    }

    fn push(queue: &mut ReplayQueue, key: &str, action: QueuedAction) {
        if let Coalesced::No(action) = queue.coalesce(key, action, stamp, None).unwrap() {
            queue.add(QueuedGroup::new(vec![op(key, action)], stamp()));
        }
    }

    fn stamp() -> QueuedAt {
        QueuedAt::now(SystemTime::UNIX_EPOCH)
    }

    fn texts(queue: &ReplayQueue) -> Vec<String> {
        let one = |op: &QueuedOp| match &op.action {
            QueuedAction::Put { value, .. } => {
                format!("{}={}", &*op.key, String::from_utf8_lossy(&value.bytes))
            }
            QueuedAction::Incr { by, .. } => format!("{}+{by}", &*op.key),
            other => format!("{} {other:?}", &*op.key),
        };
        queue.iter().map(|pending| pending.ops.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn neighbours_on_one_key_become_one() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        for (key, action) in [
            ("a", put(1)),
            ("b", incr(1)),
            ("a", put(2)),
            ("b", incr(2)),
            ("a", QueuedAction::Delete),
            ("a", put(3)),
        ] {
            push(&mut queue, key, action);
        }
        assert_eq!(texts(&queue), ["a=3", "b+3"]);
        push(&mut queue, "a", incr(1));
        push(&mut queue, "a", put(4));
        assert_eq!(texts(&queue), ["a=3", "b+3", "a+1", "a=4"], "another action lies between");
        push(&mut queue, "b", incr(i64::MAX));
        assert_eq!(queue.len(), 5, "what would overflow stays two");
    }

    #[test]
    fn what_was_sent_and_what_is_in_a_batch_stays_as_it_is() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        push(&mut queue, "a", put(1));
        let (chunk, last) = queue.next_chunk(100, 1 << 20);
        assert_eq!((chunk.len(), last), (1, 1));
        push(&mut queue, "a", put(2));
        queue.add(QueuedGroup::new(vec![op("a", put(3)), op("b", put(3))], stamp()));
        push(&mut queue, "b", put(4));
        assert_eq!(texts(&queue), ["a=1", "a=2", "a=3 b=3", "b=4"]);
        assert_eq!(queue.acknowledge(1).len(), 1);
        assert!(queue.has("a"));
        assert_eq!((queue.done(), queue.len()), (1, 3));
        queue.acknowledge(4);
        assert!(queue.is_empty() && !queue.has("a") && !queue.has("b"));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_queue_goes_on_where_it_was_left() {
        let before = |key: &str, n| QueuedGroup::new(vec![op(key, put(n))], stamp());
        let mut queue = ReplayQueue::load(BOUNDS, 7, 8, vec![before("a", 1), before("b", 2)]);
        assert_eq!((queue.done(), queue.sent(), queue.next(), queue.len()), (7, 8, 10, 2));
        push(&mut queue, "a", put(3));
        push(&mut queue, "b", put(4));
        assert_eq!(texts(&queue), ["a=1", "b=4", "a=3"], "the first may have been sent");
        push(&mut queue, "b", put(5));
        assert_eq!(texts(&queue)[1], "b=5");
        queue.acknowledge(10);
        assert_eq!((queue.bytes, queue.done()), (0, 10));
    }

    #[test]
    fn a_chunk_is_bounded_and_never_empty() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        for number in 0..5 {
            push(&mut queue, &format!("k{number}"), put(number));
        }
        assert_eq!(queue.next_chunk(2, 1 << 20).1, 2);
        assert_eq!(queue.next_chunk(100, 1).1, 1, "one goes whatever its size");
        assert_eq!(queue.next_chunk(100, 1 << 20).1, 5);
    }

    #[test]
    fn it_slows_and_then_refuses() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        let mut rooms = Vec::new();
        for number in 0..10 {
            rooms.push(queue.capacity());
            push(&mut queue, &format!("k{number}"), put(number));
        }
        assert!(rooms[..6].iter().all(|room| *room == Capacity::Plenty));
        assert!(rooms[6..].windows(2).all(|pair| match pair {
            [Capacity::Scarce(one), Capacity::Scarce(other)] => one < other,
            _ => false,
        }));
        assert_eq!(queue.capacity(), Capacity::Full);
    }
}
