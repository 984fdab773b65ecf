//! Owns the values of a queue, each at an index that never changes while the value is in the queue. Knows nothing
//! of pushing and popping.

use std::collections::{BTreeMap, VecDeque};

use crate::value::Value;

/// The fewest bytes that the text form of a map or a queue adds to each of its values.
const PART_OVERHEAD: usize = r#"{"v":},"#.len();

/// At most this many removed values are dropped in place; more are returned to the caller.
const MAX_DROPPED_IN_PLACE: usize = 16;

/// Capacity for this many values is kept, used or not.
const MIN_CAPACITY: usize = 1024;

/// Values at the indices from `begin` on, without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QueueValue {
    begin: i64,
    values: VecDeque<Value>,
    bytes: u64,
    /// Values with a gap between them and the others. They exist only while a journal is read over a snapshot of a
    /// later state: the lines that follow fill the gap or drop the values.
    out_of_order: BTreeMap<i64, Value>,
}

impl QueueValue {
    pub(crate) fn new(begin: i64, values: impl IntoIterator<Item = Value>) -> Self {
        let values: VecDeque<Value> = values.into_iter().collect();
        let bytes = values.iter().map(item_weight).sum();
        Self { begin, values, bytes, out_of_order: BTreeMap::new() }
    }

    pub(crate) fn begin(&self) -> i64 {
        self.begin
    }

    /// Returns the index after the last value.
    pub(crate) fn end(&self) -> i64 {
        self.begin.saturating_add_unsigned(self.values.len() as u64)
    }

    pub(crate) fn get(&self, at: i64) -> Option<&Value> {
        self.values.get(usize::try_from(at.checked_sub(self.begin)?).ok()?)
    }

    /// Returns the values from index `from` to before `to`.
    pub(crate) fn range(&self, from: i64, to: i64) -> impl Iterator<Item = &Value> {
        let index = |at: i64| usize::try_from(at.saturating_sub(self.begin).max(0)).unwrap_or(usize::MAX);
        let to = index(to).min(self.values.len());
        self.values.range(index(from).min(to)..to)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn has_gaps(&self) -> bool {
        !self.out_of_order.is_empty()
    }

    /// Returns all the values in order, moved together so that no gap is left.
    pub(crate) fn without_gaps(&self) -> Self {
        let (before, after) = (self.out_of_order.range(..self.begin), self.out_of_order.range(self.begin..));
        let values = before.map(|(_, value)| value).chain(&self.values).chain(after.map(|(_, value)| value));
        Self::new(self.begin, values.cloned())
    }

    /// Sets the values at the indices from `at` on.
    pub(crate) fn set(&mut self, at: i64, values: Vec<Value>) {
        if at.saturating_add_unsigned(values.len() as u64) == self.begin {
            for value in values.into_iter().rev() {
                self.begin -= 1;
                self.bytes += item_weight(&value);
                self.values.push_front(value);
            }
            return;
        }
        for (at, value) in (at..).zip(values) {
            if at == self.end() {
                self.bytes += item_weight(&value);
                self.values.push_back(value);
            } else if let Ok(index) = usize::try_from(at.saturating_sub(self.begin))
                && let Some(slot) = self.values.get_mut(index)
            {
                self.bytes += item_weight(&value);
                self.bytes -= item_weight(slot);
                *slot = value;
            } else {
                self.out_of_order.insert(at, value);
            }
        }
        self.close_gaps();
    }

    /// Removes the values before index `begin`, and returns them if there are many.
    pub(crate) fn drop_before(&mut self, begin: i64) -> VecDeque<Value> {
        let count = usize::try_from(begin.saturating_sub(self.begin)).unwrap_or(0).min(self.values.len());
        self.begin = self.begin.max(begin);
        if self.has_gaps() {
            self.out_of_order = self.out_of_order.split_off(&begin);
        }
        let mut many = VecDeque::new();
        if count > MAX_DROPPED_IN_PLACE {
            many = self.values.drain(..count).collect();
            self.bytes -= many.iter().map(item_weight).sum::<u64>();
        } else {
            let few = self.values.drain(..count);
            self.bytes -= few.map(|value| item_weight(&value)).sum::<u64>();
        }
        self.close_gaps();
        self.shrink();
        many
    }

    /// Removes the values from index `end` on, and returns them if there are many.
    pub(crate) fn drop_from(&mut self, end: i64) -> VecDeque<Value> {
        let kept = usize::try_from(end.saturating_sub(self.begin)).unwrap_or(0).min(self.values.len());
        self.begin = self.begin.min(end);
        self.out_of_order.split_off(&end);
        let mut many = VecDeque::new();
        if self.values.len() - kept > MAX_DROPPED_IN_PLACE {
            many = self.values.split_off(kept);
            self.bytes -= many.iter().map(item_weight).sum::<u64>();
        } else {
            let few = self.values.drain(kept..);
            self.bytes -= few.map(|value| item_weight(&value)).sum::<u64>();
        }
        self.close_gaps();
        self.shrink();
        many
    }

    /// Releases the capacity that a burst of values needed.
    fn shrink(&mut self) {
        let (capacity, used) = (self.values.capacity(), self.values.len());
        if capacity > MIN_CAPACITY && used < capacity / 4 {
            self.values.shrink_to(used * 2);
        }
    }

    /// Moves values that are no longer separated by a gap to the others.
    fn close_gaps(&mut self) {
        if self.out_of_order.is_empty() {
            return;
        }
        if self.values.is_empty()
            && let Some(first) = self.out_of_order.keys().next()
        {
            self.begin = *first;
        }
        while let Some(value) = self.out_of_order.remove(&self.end()) {
            self.bytes += item_weight(&value);
            self.values.push_back(value);
        }
        while let Some(value) = self.begin.checked_sub(1).and_then(|before| self.out_of_order.remove(&before))
        {
            self.begin -= 1;
            self.bytes += item_weight(&value);
            self.values.push_front(value);
        }
    }
}

/// Returns the fewest bytes that a value of a map or a queue takes in text form.
pub(crate) fn item_weight(value: &Value) -> u64 {
    PART_OVERHEAD as u64 + value.weight()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(number: i64) -> Value {
        Value::integer(number)
    }

    fn texts(queue: &QueueValue) -> Vec<i64> {
        let number = |value: &Value| String::from_utf8_lossy(&value.bytes).parse().unwrap();
        queue.range(i64::MIN, i64::MAX).map(number).collect()
    }

    #[test]
    fn values_keep_their_indices() {
        let mut queue = QueueValue::new(0, [value(0), value(1)]);
        queue.set(2, vec![value(2), value(3)]);
        queue.set(-2, vec![value(-2), value(-1)]);
        assert_eq!((queue.begin(), queue.end()), (-2, 4));
        assert_eq!(texts(&queue), [-2, -1, 0, 1, 2, 3]);
        assert_eq!(queue.get(3).map(|found| &*found.bytes), Some(&b"3"[..]));
        assert!(queue.drop_before(-1).is_empty(), "a single value is dropped in place");
        assert!(queue.drop_from(3).is_empty());
        assert_eq!(texts(&queue), [-1, 0, 1, 2]);
        assert!(queue.get(3).is_none() && queue.get(-2).is_none());
        assert_eq!(queue.bytes(), texts(&queue).into_iter().map(|n| item_weight(&value(n))).sum::<u64>());
    }

    #[test]
    fn many_removed_values_are_returned() {
        let mut queue = QueueValue::new(0, (0..100).map(value));
        assert_eq!(queue.drop_before(40).len(), 40);
        assert_eq!(queue.drop_from(60).len(), 40);
        assert_eq!((queue.begin(), queue.end()), (40, 60));
        assert_eq!(queue.bytes(), (40..60).map(|number| item_weight(&value(number))).sum::<u64>());
    }

    /// A snapshot that was read late and in pieces, followed by the whole journal, gives the last state.
    #[test]
    fn facts_over_a_later_state_give_the_last_state() {
        enum Fact {
            Set(i64, i64),
            Before(i64),
            From(i64),
        }
        let apply = |queue: &mut QueueValue, fact: &Fact| match fact {
            Fact::Set(at, number) => queue.set(*at, vec![value(*number)]),
            Fact::Before(at) => drop(queue.drop_before(*at)),
            Fact::From(at) => drop(queue.drop_from(*at)),
        };
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut queue = QueueValue::new(0, (0..5).map(value));
            let (mut facts, mut number) = (Vec::new(), 100);
            // The snapshot reads one index after another while the queue changes.
            let (mut snapshot, mut next): (Vec<(i64, Value)>, i64) = (Vec::new(), i64::MIN);
            for _ in 0..40 {
                number += 1;
                let fact = match random.u32(..4) {
                    0 | 1 => Fact::Set(queue.end(), number),
                    2 => Fact::Set(queue.begin() - 1, number),
                    _ if queue.end() - queue.begin() < 3 => Fact::Set(queue.end(), number),
                    _ if random.bool() => Fact::Before(queue.begin() + random.i64(1..3)),
                    _ => Fact::From(queue.end() - random.i64(1..3)),
                };
                apply(&mut queue, &fact);
                facts.push(fact);
                if random.bool() {
                    let at = queue.begin().max(next);
                    snapshot.extend(queue.get(at).map(|found| (at, found.clone())));
                    next = at.min(queue.end()) + 1;
                }
            }
            let from = queue.begin().max(next);
            snapshot.extend((from..).zip(queue.range(from, i64::MAX).cloned()));
            let mut restored = QueueValue::default();
            for (at, value) in snapshot {
                restored.set(at, vec![value]);
            }
            for fact in &facts {
                apply(&mut restored, fact);
            }
            assert!(!restored.has_gaps(), "seed {seed}");
            assert_eq!((restored.begin(), texts(&restored)), (queue.begin(), texts(&queue)), "seed {seed}");
            assert_eq!(restored.bytes(), queue.bytes(), "seed {seed}");
        }
    }
}
