//! Owns the values of a queue, each at a place that it keeps while it is there. Knows nothing of pushing and
//! popping.

use std::collections::{BTreeMap, VecDeque};

use crate::value::Value;

/// How many bytes one value of a map or a queue takes at least where it is written down as text.
pub(crate) const PART_OVERHEAD: usize = r#"{"v":},"#.len();

/// Up to so many values are dropped where they are.
const FEW: usize = 16;

/// Room for so many values is kept, used or not.
const MIN_CAPACITY: usize = 1024;

/// Values at the places from `begin` on, without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QueueValue {
    begin: i64,
    values: VecDeque<Value>,
    bytes: u64,
    /// Values at places that do not join the others. There are some only while a journal is read over a
    /// snapshot of a later state; the lines behind fill the gap, or cut them off.
    out_of_order: BTreeMap<i64, Value>,
}

impl QueueValue {
    pub(crate) fn new(begin: i64, values: impl IntoIterator<Item = Value>) -> Self {
        let values: VecDeque<Value> = values.into_iter().collect();
        let bytes = values.iter().map(weight).sum();
        Self { begin, values, bytes, out_of_order: BTreeMap::new() }
    }

    pub(crate) fn begin(&self) -> i64 {
        self.begin
    }

    /// The place behind the last value.
    pub(crate) fn end(&self) -> i64 {
        self.begin.saturating_add_unsigned(self.values.len() as u64)
    }

    pub(crate) fn get(&self, at: i64) -> Option<&Value> {
        self.values.get(usize::try_from(at.checked_sub(self.begin)?).ok()?)
    }

    /// The values from the place `from` to before `to`.
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

    /// All the values that are there, in order, with no gap between them.
    pub(crate) fn without_gaps(&self) -> Self {
        let (before, behind) = (self.out_of_order.range(..self.begin), self.out_of_order.range(self.begin..));
        let values = before.map(|(_, value)| value).chain(&self.values).chain(behind.map(|(_, value)| value));
        Self::new(self.begin, values.cloned())
    }

    /// Sets the values at the places from `at` on.
    pub(crate) fn set(&mut self, at: i64, values: Vec<Value>) {
        if at.saturating_add_unsigned(values.len() as u64) == self.begin {
            for value in values.into_iter().rev() {
                self.begin -= 1;
                self.bytes += weight(&value);
                self.values.push_front(value);
            }
            return;
        }
        for (at, value) in (at..).zip(values) {
            if at == self.end() {
                self.bytes += weight(&value);
                self.values.push_back(value);
            } else if let Ok(index) = usize::try_from(at.saturating_sub(self.begin))
                && let Some(known) = self.values.get_mut(index)
            {
                self.bytes += weight(&value);
                self.bytes -= weight(known);
                *known = value;
            } else {
                self.out_of_order.insert(at, value);
            }
        }
        self.join();
    }

    /// Drops the values before the place `begin`, and hands them out where they are many.
    pub(crate) fn drop_before(&mut self, begin: i64) -> VecDeque<Value> {
        let count = usize::try_from(begin.saturating_sub(self.begin)).unwrap_or(0).min(self.values.len());
        self.begin = self.begin.max(begin);
        if self.has_gaps() {
            self.out_of_order = self.out_of_order.split_off(&begin);
        }
        let mut many = VecDeque::new();
        if count > FEW {
            many = self.values.drain(..count).collect();
            self.bytes -= many.iter().map(weight).sum::<u64>();
        } else {
            let few = self.values.drain(..count);
            self.bytes -= few.map(|value| weight(&value)).sum::<u64>();
        }
        self.join();
        self.shrink();
        many
    }

    /// Drops the values from the place `end` on, and hands them out where they are many.
    pub(crate) fn drop_from(&mut self, end: i64) -> VecDeque<Value> {
        let left = usize::try_from(end.saturating_sub(self.begin)).unwrap_or(0).min(self.values.len());
        self.begin = self.begin.min(end);
        self.out_of_order.split_off(&end);
        let mut many = VecDeque::new();
        if self.values.len() - left > FEW {
            many = self.values.split_off(left);
            self.bytes -= many.iter().map(weight).sum::<u64>();
        } else {
            let few = self.values.drain(left..);
            self.bytes -= few.map(|value| weight(&value)).sum::<u64>();
        }
        self.join();
        self.shrink();
        many
    }

    /// After a burst the room for it is not kept.
    fn shrink(&mut self) {
        let (room, used) = (self.values.capacity(), self.values.len());
        if room > MIN_CAPACITY && used < room / 4 {
            self.values.shrink_to(used * 2);
        }
    }

    /// Takes in the strays that join the others by now.
    fn join(&mut self) {
        if self.out_of_order.is_empty() {
            return;
        }
        if self.values.is_empty()
            && let Some(first) = self.out_of_order.keys().next()
        {
            self.begin = *first;
        }
        while let Some(value) = self.out_of_order.remove(&self.end()) {
            self.bytes += weight(&value);
            self.values.push_back(value);
        }
        while let Some(value) = self.begin.checked_sub(1).and_then(|before| self.out_of_order.remove(&before))
        {
            self.begin -= 1;
            self.bytes += weight(&value);
            self.values.push_front(value);
        }
    }
}

pub(crate) fn weight(value: &Value) -> u64 {
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
    fn values_keep_their_places() {
        let mut queue = QueueValue::new(0, [value(0), value(1)]);
        queue.set(2, vec![value(2), value(3)]);
        queue.set(-2, vec![value(-2), value(-1)]);
        assert_eq!((queue.begin(), queue.end()), (-2, 4));
        assert_eq!(texts(&queue), [-2, -1, 0, 1, 2, 3]);
        assert_eq!(queue.get(3).map(|found| &*found.bytes), Some(&b"3"[..]));
        assert!(queue.drop_before(-1).is_empty(), "one value is dropped at once");
        assert!(queue.drop_from(3).is_empty());
        assert_eq!(texts(&queue), [-1, 0, 1, 2]);
        assert!(queue.get(3).is_none() && queue.get(-2).is_none());
        assert_eq!(queue.bytes(), texts(&queue).into_iter().map(|n| weight(&value(n))).sum::<u64>());
    }

    #[test]
    fn many_values_are_handed_out() {
        let mut queue = QueueValue::new(0, (0..100).map(value));
        assert_eq!(queue.drop_before(40).len(), 40);
        assert_eq!(queue.drop_from(60).len(), 40);
        assert_eq!((queue.begin(), queue.end()), (40, 60));
        assert_eq!(queue.bytes(), (40..60).map(|number| weight(&value(number))).sum::<u64>());
    }

    /// A snapshot that was read late and in pieces, with the whole journal behind it, gives the last state.
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
            let begun = QueueValue::new(0, (0..5).map(value));
            let (mut queue, mut facts, mut number) = (begun.clone(), Vec::new(), 100);
            // The snapshot sees the places one after another while the queue moves on.
            let (mut seen, mut next): (Vec<(i64, Value)>, i64) = (Vec::new(), i64::MIN);
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
                    seen.extend(queue.get(at).map(|found| (at, found.clone())));
                    next = at.min(queue.end()) + 1;
                }
            }
            let from = queue.begin().max(next);
            seen.extend((from..).zip(queue.range(from, i64::MAX).cloned()));
            let mut late = QueueValue::default();
            for (at, value) in seen {
                late.set(at, vec![value]);
            }
            for fact in &facts {
                apply(&mut late, fact);
            }
            assert!(!late.has_gaps(), "seed {seed}");
            assert_eq!((late.begin(), texts(&late)), (queue.begin(), texts(&queue)), "seed {seed}");
            assert_eq!(late.bytes(), queue.bytes(), "seed {seed}");
        }
    }
}
