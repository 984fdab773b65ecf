//! The search for an order of the calls that explains what they returned.

use std::collections::HashSet;

use super::history::Call;
use super::model::State;

/// After this many steps the search of one history is given up.
const MAX_STEPS: usize = 20_000_000;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Violated,
    /// The search took too long.
    Undecided,
}

/// The beginning or the end of a call, in a list that is sorted by time. Calls that are in the order already are
/// taken out of the list.
struct Event {
    call: usize,
    is_end: bool,
    previous: usize,
    next: usize,
}

/// The events that are left. The event at 0 is the head of the list, and its predecessor is the last one.
struct EventList {
    events: Vec<Event>,
    /// The events of each call; a call that may never be applied has no end.
    of_call: Vec<(usize, Option<usize>)>,
}

impl EventList {
    fn new(calls: &[Call]) -> Self {
        let mut times = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            times.push((call.begun, false, index));
            times.extend(call.returned.map(|returned| (returned.at, true, index)));
        }
        // At the same time beginnings come first: that makes no interval shorter.
        times.sort_unstable();
        let last = times.len();
        let mut events =
            vec![Event { call: usize::MAX, is_end: false, previous: last, next: 1 % (last + 1) }];
        let mut of_call = vec![(0, None); calls.len()];
        for (at, (_, is_end, call)) in (1..).zip(times) {
            events.push(Event { call, is_end, previous: at - 1, next: (at + 1) % (last + 1) });
            if is_end {
                of_call[call].1 = Some(at);
            } else {
                of_call[call].0 = at;
            }
        }
        Self { events, of_call }
    }

    fn first(&self) -> usize {
        self.events[0].next
    }

    fn unlink(&mut self, at: usize) {
        let (previous, next) = (self.events[at].previous, self.events[at].next);
        self.events[previous].next = next;
        self.events[next].previous = previous;
    }

    fn relink(&mut self, at: usize) {
        let (previous, next) = (self.events[at].previous, self.events[at].next);
        self.events[previous].next = at;
        self.events[next].previous = at;
    }

    /// Takes a call out of the list.
    fn remove(&mut self, call: usize) {
        let (begin, end) = self.of_call[call];
        self.unlink(begin);
        if let Some(end) = end {
            self.unlink(end);
        }
    }

    /// Puts the call that was removed last back.
    fn restore(&mut self, call: usize) {
        let (begin, end) = self.of_call[call];
        if let Some(end) = end {
            self.relink(end);
        }
        self.relink(begin);
    }
}

/// The calls that are in the order already, as a set of bits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct CallSet(Vec<u64>);

impl CallSet {
    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

/// Returns whether there is an order of the calls on one object that explains what they returned.
pub(super) fn check(calls: &[Call]) -> Verdict {
    let is_queue = calls.iter().any(|call| call.operation.is_on_queue());
    let mut list = EventList::new(calls);
    let mut state = State::new(is_queue);
    let mut ordered = CallSet(vec![0; calls.len().div_ceil(64)]);
    let mut visited = HashSet::new();
    let mut path: Vec<(usize, State)> = Vec::new();
    let mut unexplained = calls.iter().filter(|call| call.returned.is_some()).count();
    let mut at = list.first();
    for _ in 0..MAX_STEPS {
        if unexplained == 0 {
            return Verdict::Linearizable;
        }
        let is_beginning = at != 0 && !list.events[at].is_end;
        if is_beginning {
            let index = list.events[at].call;
            let call = &calls[index];
            let (after, outcome) = state.after(call.operation);
            if call.returned.is_none_or(|returned| returned.outcome == outcome) {
                ordered.flip(index);
                if visited.insert((ordered.clone(), after.clone())) {
                    path.push((index, std::mem::replace(&mut state, after)));
                    list.remove(index);
                    unexplained -= usize::from(call.returned.is_some());
                    at = list.first();
                    continue;
                }
                ordered.flip(index);
            }
            at = list.events[at].next;
        } else {
            // A call has ended, or all have begun, and none of those under way explains what comes next.
            let Some((index, before)) = path.pop() else { return Verdict::Violated };
            state = before;
            ordered.flip(index);
            list.restore(index);
            unexplained += usize::from(calls[index].returned.is_some());
            at = list.events[list.of_call[index].0].next;
        }
    }
    Verdict::Undecided
}
