//! Owns the queued operations: their order, their bounds, and which of them are coalesced. Knows nothing of how they
//! are sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::backend::fallback::queue::file::QueueFile;
use crate::backend::fallback::queue::group::{Ops, QueuedGroup};
use crate::backend::fallback::queue::queued_at::QueuedAt;
use crate::backend::fallback::queue::weight;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::backend::redis::replay::queued_op::QueuedOp;
use crate::error::Result;
use crate::text::count;

/// Whether an action was coalesced with an operation that is queued.
pub(crate) enum Coalesced {
    /// It was. `written` is what to wait for until the queue's file is durable.
    Yes { written: Option<u64> },
    /// It was not, and must be queued.
    No(QueuedAction),
}

/// How many operations are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QueuedWrites {
    /// The operations after coalescing.
    pub(crate) operations: u64,
    /// The calls of the program that they stand for.
    pub(crate) calls: u64,
}

/// `97 writes (1 after merging)`.
impl fmt::Display for QueuedWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, calls } = self;
        write!(f, "{}", count(*calls, "write"))?;
        if calls == operations { Ok(()) } else { write!(f, " ({operations} after merging)") }
    }
}

/// How much may be queued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
}

/// How much is sent as one chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkBounds {
    pub(crate) operations: usize,
    pub(crate) bytes: u64,
    /// The words of the command that sends it.
    pub(crate) words: usize,
    /// Whether writes of other clients win, which takes more words.
    pub(crate) remote_wins: bool,
}

/// Whether the queue has room for more operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    Plenty,
    /// More than half is used: each writer must wait for this long.
    Scarce(Duration),
    Full,
}

/// The queued operations, in groups that are numbered in the order in which they were done locally.
///
/// INVARIANT: of two operations on one key the earlier one comes first. No number is used twice.
pub(crate) struct ReplayQueue {
    /// A replay shares the groups that it sends.
    groups: VecDeque<Arc<QueuedGroup>>,
    /// The number of the first group.
    first: u64,
    /// Up to this number the groups were sent, and the server may have done them.
    sent: u64,
    bytes: u64,
    /// The number of the last group with an operation on each key.
    last_by_key: HashMap<SmolStr, u64>,
    bounds: QueueBounds,
}

impl ReplayQueue {
    /// An empty queue. The groups up to the number `done` are done.
    pub(crate) fn new(bounds: QueueBounds, done: u64) -> Self {
        let (groups, last_by_key) = (VecDeque::new(), HashMap::new());
        Self { groups, first: done + 1, sent: done, bytes: 0, last_by_key, bounds }
    }

    /// A queue with the groups that an earlier run of the program left after the number `done`. The server may have
    /// done those up to `sent`.
    pub(crate) fn load(bounds: QueueBounds, done: u64, sent: u64, groups: Vec<QueuedGroup>) -> Self {
        let mut queue = Self::new(bounds, done);
        for group in groups {
            queue.add(group);
        }
        queue.sent = sent.clamp(done, done + queue.len());
        queue
    }

    /// Returns the number of the last group that was sent, and that the server may have done.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Removes the operations that the server may have done and that must not be done twice.
    pub(crate) fn take_in_doubt(&mut self) -> Vec<QueuedOp> {
        let count = self.sent_len();
        let mut in_doubt = Vec::new();
        for group in self.groups.iter_mut().take(count) {
            let (idempotent, others): (Vec<_>, Vec<_>) =
                group.ops.iter().cloned().partition(|op| op.action.is_idempotent());
            Arc::make_mut(group).ops = Ops::Several(idempotent);
            in_doubt.extend(others);
        }
        in_doubt
    }

    /// Returns the groups that the server may have done, with their numbers.
    pub(crate) fn sent_groups(&self) -> impl Iterator<Item = (u64, &QueuedGroup)> {
        (self.first..).zip(self.iter().take(self.sent_len()))
    }

    fn sent_len(&self) -> usize {
        usize::try_from(self.sent.saturating_sub(self.done())).unwrap_or(usize::MAX)
    }

    /// Forgets what was observed of keys on a server that has lost its data: a key that differs now was not written
    /// by another client.
    pub(crate) fn forget_observed(&mut self) {
        for group in &mut self.groups {
            for op in Arc::make_mut(group).ops.iter_mut() {
                match &mut op.observed {
                    Observed::Hash(_) => op.observed = Observed::Nothing,
                    // The write in doubt may have been done after the data loss: then its value is still stored.
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

    /// After a rollback, the server holds values that are older than those that this process had observed: they are no
    /// conflict.
    pub(crate) fn accept_older_values(&mut self) {
        for group in &mut self.groups {
            for op in Arc::make_mut(group).ops.iter_mut() {
                match op.observed {
                    Observed::Hash(_) | Observed::AnyOf(_) | Observed::Absent | Observed::NotAValue => {
                        op.observed = Observed::OwnWrite;
                    }
                    Observed::AssumedAbsent | Observed::Nothing | Observed::OwnWrite => {}
                }
            }
        }
    }

    /// Returns how many groups are queued.
    pub(crate) fn len(&self) -> u64 {
        self.groups.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how much may be queued.
    pub(crate) fn bounds(&self) -> QueueBounds {
        self.bounds
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns how many operations are queued, and for how many calls of the program they stand.
    pub(crate) fn writes(&self) -> QueuedWrites {
        let ops = || self.iter().flat_map(|group| group.ops.iter());
        QueuedWrites { operations: ops().count() as u64, calls: ops().map(|op| op.calls).sum() }
    }

    /// Returns the groups behind a number, with their numbers.
    pub(crate) fn behind(&self, number: u64) -> impl Iterator<Item = (u64, &QueuedGroup)> {
        let skipped = usize::try_from(number.saturating_sub(self.done())).unwrap_or(usize::MAX);
        (self.first..).zip(self.iter()).skip(skipped)
    }

    /// Returns the number of the last group that is done.
    pub(crate) fn done(&self) -> u64 {
        self.first - 1
    }

    /// Returns whether an operation on the key is queued.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.last_by_key.contains_key(key)
    }

    /// Returns the first queued operation on the key.
    pub(crate) fn first_for(&mut self, key: &str) -> Option<&mut QueuedOp> {
        if !self.has(key) {
            return None;
        }
        let group = self.groups.iter_mut().find(|group| group.ops.iter().any(|op| *op.key == *key))?;
        Arc::make_mut(group).ops.iter_mut().find(|op| *op.key == *key)
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
        // From half full to full, the pause grows from nothing to ten milliseconds.
        let used = |part: u64, whole: u64| part.saturating_sub(whole / 2) * 20_000 / whole.max(1);
        Capacity::Scarce(Duration::from_micros(used(count, operations).max(used(size, bytes))))
    }

    /// Coalesces an action with the last operation on its key if it can, in the queue's file too if there is one.
    pub(crate) fn coalesce(
        &mut self,
        key: &str,
        action: QueuedAction,
        queued_at: impl FnOnce() -> QueuedAt,
        file: Option<&QueueFile>,
    ) -> Result<Coalesced> {
        let first = self.first;
        let index = self.unsent_index(key);
        // A replay shares only groups that were sent.
        let Some((index, group)) =
            index.and_then(|index| Some((index, Arc::get_mut(self.groups.get_mut(index)?)?)))
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
        let written = file.map(|file| file.persist(first + index as u64, group)).transpose();
        if let (Err(_), Some(before)) = (&written, before) {
            self.bytes += before.bytes;
            self.bytes -= group.bytes;
            *group = before;
        }
        written.map(|written| Coalesced::Yes { written })
    }

    /// Returns the index of the last group with an operation on the key, unless that group was sent.
    fn unsent_index(&self, key: &str) -> Option<usize> {
        let number = self.last_by_key.get(key).copied().filter(|number| *number > self.sent)?;
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// Returns the number of the group that is added next.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.len()
    }

    /// Adds a group at the end.
    pub(crate) fn add(&mut self, mut group: QueuedGroup) {
        let number = self.next_number();
        group.key_bytes = 0;
        for op in group.ops.iter() {
            if self.last_by_key.insert(SmolStr::new(&*op.key), number).is_none() {
                group.key_bytes += weight::of_key(op);
            }
        }
        self.bytes += group.bytes + group.key_bytes;
        self.groups.push_back(Arc::new(group));
    }

    /// Returns the first groups within the bounds, but at least one group, and the number of the last of them. They
    /// count as sent from now on.
    pub(crate) fn next_chunk(&mut self, bounds: ChunkBounds) -> (Vec<Arc<QueuedGroup>>, u64) {
        let (mut count, mut size, mut words) = (0, 0, 0);
        let fits = |group: &&Arc<QueuedGroup>| {
            count += group.ops.len();
            size += group.bytes;
            words += group.ops.iter().map(|op| op.words(bounds.remote_wins)).sum::<usize>();
            count <= bounds.operations && size <= bounds.bytes && words <= bounds.words
        };
        let chosen = self.groups.iter().take_while(fits).count().max(1).min(self.groups.len());
        let chunk: Vec<_> = self.groups.iter().take(chosen).cloned().collect();
        let last = self.done() + chunk.len() as u64;
        self.sent = self.sent.max(last);
        (chunk, last)
    }

    /// Returns at most `count` of the groups behind a number, spread over the queue.
    pub(crate) fn sample_behind(&self, number: u64, count: usize) -> Vec<Arc<QueuedGroup>> {
        let skipped = usize::try_from(number.saturating_sub(self.done())).unwrap_or(usize::MAX);
        let step = self.groups.len().saturating_sub(skipped).div_ceil(count.max(1)).max(1);
        self.groups.iter().skip(skipped).step_by(step).cloned().collect()
    }

    /// Removes the groups up to a number, which are done, and returns them.
    pub(crate) fn acknowledge(&mut self, number: u64) -> Vec<Arc<QueuedGroup>> {
        let count = usize::try_from(number.saturating_sub(self.done())).unwrap_or(usize::MAX);
        let done: Vec<_> = self.groups.drain(..count.min(self.groups.len())).collect();
        self.first += done.len() as u64;
        for group in &done {
            self.bytes -= group.bytes + group.key_bytes;
            for op in group.ops.iter() {
                if self.last_by_key.get(&*op.key).is_some_and(|last| *last < self.first) {
                    self.last_by_key.remove(&*op.key);
                }
            }
        }
        done
    }

    /// Returns the groups in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &QueuedGroup> {
        self.groups.iter().map(|group| &**group)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key::Key;
    use crate::value::Value;

    const BOUNDS: QueueBounds = QueueBounds { operations: 10, bytes: 1 << 20 };

    fn bounds(operations: usize, bytes: u64, words: usize) -> ChunkBounds {
        ChunkBounds { operations, bytes, words, remote_wins: false }
    }

    fn op(key: &str, action: QueuedAction) -> QueuedOp {
        QueuedOp {
            key: Key::listed(key.to_owned()),
            action,
            observed: Observed::Nothing,
            in_doubt: None,
            calls: 1,
        }
    }

    fn put(number: i64) -> QueuedAction {
        QueuedAction::Put { value: Value::integer(number), ttl: None }
    }

    fn incr(by: i64) -> QueuedAction {
        QueuedAction::Incr { by, ttl_if_created: None }
    }

    fn push(queue: &mut ReplayQueue, key: &str, action: QueuedAction) {
        if let Coalesced::No(action) = queue.coalesce(key, action, queued_at, None).unwrap() {
            queue.add(QueuedGroup::new(vec![op(key, action)], queued_at()));
        }
    }

    fn queued_at() -> QueuedAt {
        QueuedAt::now(SystemTime::UNIX_EPOCH)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "these tests queue few actions")]
    fn texts(queue: &ReplayQueue) -> Vec<String> {
        let one = |op: &QueuedOp| match &op.action {
            QueuedAction::Put { value, .. } => {
                format!("{}={}", &*op.key, String::from_utf8_lossy(&value.bytes))
            }
            QueuedAction::Incr { by, .. } => format!("{}+{by}", &*op.key),
            other => format!("{} {other:?}", &*op.key),
        };
        queue.iter().map(|group| group.ops.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn neighbours_on_one_key_are_coalesced() {
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
        assert_eq!(queue.writes(), QueuedWrites { operations: 2, calls: 6 });
        assert_eq!(queue.writes().to_string(), "6 writes (2 after merging)");
        push(&mut queue, "a", incr(1));
        push(&mut queue, "a", put(4));
        assert_eq!(texts(&queue), ["a=3", "b+3", "a+1", "a=4"], "another action comes between");
        push(&mut queue, "b", incr(i64::MAX));
        assert_eq!(queue.len(), 5, "a sum that overflows is not coalesced");
    }

    #[test]
    fn sent_operations_and_batches_are_not_coalesced() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        push(&mut queue, "a", put(1));
        let (chunk, last) = queue.next_chunk(bounds(100, 1 << 20, 1000));
        assert_eq!((chunk.len(), last), (1, 1));
        push(&mut queue, "a", put(2));
        queue.add(QueuedGroup::new(vec![op("a", put(3)), op("b", put(3))], queued_at()));
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
    fn a_loaded_queue_continues_its_numbers() {
        let before = |key: &str, n| QueuedGroup::new(vec![op(key, put(n))], queued_at());
        let mut queue = ReplayQueue::load(BOUNDS, 7, 8, vec![before("a", 1), before("b", 2)]);
        assert_eq!((queue.done(), queue.sent(), queue.next_number(), queue.len()), (7, 8, 10, 2));
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
        assert_eq!(queue.next_chunk(bounds(2, 1 << 20, 1000)).1, 2);
        assert_eq!(queue.next_chunk(bounds(100, 1, 1000)).1, 1, "one group is sent whatever its size");
        assert_eq!(queue.next_chunk(bounds(100, 1 << 20, 7)).1, 1, "two puts are too long");
        assert_eq!(queue.next_chunk(bounds(100, 1 << 20, 8)).1, 2);
        assert_eq!(queue.next_chunk(bounds(100, 1 << 20, 1000)).1, 5);
    }

    #[test]
    fn a_queue_that_fills_up_slows_writers_and_then_is_full() {
        let mut queue = ReplayQueue::new(BOUNDS, 0);
        let mut capacities = Vec::new();
        for number in 0..10 {
            capacities.push(queue.capacity());
            push(&mut queue, &format!("k{number}"), put(number));
        }
        assert!(capacities[..6].iter().all(|capacity| *capacity == Capacity::Plenty));
        assert!(capacities[6..].windows(2).all(|pair| match pair {
            [Capacity::Scarce(one), Capacity::Scarce(other)] => one < other,
            _ => false,
        }));
        assert_eq!(queue.capacity(), Capacity::Full);
    }
}
