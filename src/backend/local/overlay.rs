//! Owns changes that are not made yet, over what they are based on, and what one sees through them. Knows
//! nothing of where the base lies, nor of how the changes are made.

use std::collections::{BTreeMap, HashMap};

use smol_str::SmolStr;

use crate::backend::local::change::{Change, Entry};
use crate::backend::local::plan::plan;
use crate::backend::local::view::{Found, Here};
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Base, Presence, Query};
use crate::op::{Op, Reply};
use crate::value::Value;

/// Operations carried out one after another, each on what those before it leave.
pub(crate) struct Overlay<'b> {
    base: &'b mut dyn Base,
    now: &'b Now<'b>,
    states: HashMap<Key<'static>, State>,
    changes: Vec<(Key<'static>, Change)>,
}

/// What is known of one key.
#[derive(Default)]
struct State {
    /// What the base answered: it is asked once, so that a second look sees the same.
    answers: HashMap<Query, Answer>,
    made: Made,
}

/// What the changes so far have made of a key.
enum Made {
    /// What the base holds, but for these.
    Amended(Amendments),
    /// This, whatever the base holds.
    Whole(Option<Entry>),
}

impl Default for Made {
    fn default() -> Self {
        Self::Amended(Amendments::default())
    }
}

/// What differs from the base in a map or a queue that is there.
#[derive(Default)]
struct Amendments {
    deadline: Renewed,
    /// `None` is a field that is gone.
    fields: BTreeMap<SmolStr, Option<Value>>,
    /// How many fields there are by now; it is known before the first of them changes.
    length: Option<u64>,
    /// The same of a queue: where it begins and ends by now.
    bounds: Option<(i64, i64)>,
    items: BTreeMap<i64, Value>,
}

/// Whether the deadline is still that of the base.
#[derive(Default, Clone, Copy)]
enum Renewed {
    #[default]
    No,
    To(Option<Deadline>),
}

impl<'b> Overlay<'b> {
    pub(crate) fn new(base: &'b mut dyn Base, now: &'b Now<'b>) -> Self {
        Self { base, now, states: HashMap::new(), changes: Vec::new() }
    }

    /// Carries out one operation.
    pub(crate) fn apply(&mut self, op: Op<'_>) -> Result<Reply> {
        let key = op.key.into_owned();
        let now = self.now;
        let (change, reply) = plan(&key, op.action, &mut self.view(&key), now)?;
        if change != Change::Nothing {
            self.states.entry(key.clone()).or_default().take_in(&change);
            self.changes.push((key, change));
        }
        Ok(reply)
    }

    /// Answers a question about one key.
    pub(crate) fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.view(&key.clone().into_owned()).answer(query)
    }

    /// The changes, in order.
    pub(crate) fn into_changes(self) -> Vec<(Key<'static>, Change)> {
        self.changes
    }

    fn view<'v>(&'v mut self, key: &'v Key<'static>) -> View<'v> {
        let State { answers, made } = self.states.entry(key.clone()).or_default();
        View { key, below: Below { key, base: &mut *self.base, answers }, made }
    }
}

impl State {
    fn take_in(&mut self, change: &Change) {
        match (&mut self.made, change) {
            (made, Change::Set(entry)) => *made = Made::Whole(Some(entry.clone())),
            (made, Change::Remove) => *made = Made::Whole(None),
            (Made::Whole(None), _) => {}
            (Made::Whole(Some(entry)), change) => drop(entry.amend(change.clone())),
            (Made::Amended(amendments), change) => amendments.take_in(change, &self.answers),
        }
    }
}

impl Amendments {
    /// `below`: what is known of the base.
    fn take_in(&mut self, change: &Change, below: &HashMap<Query, Answer>) {
        match change {
            Change::Nothing | Change::Set(_) | Change::Remove => {}
            Change::SetDeadline(deadline) => self.deadline = Renewed::To(*deadline),
            Change::SetFields(fields) => {
                for (name, value) in fields {
                    self.set_field(name, Some(value.clone()), below);
                }
            }
            Change::RemoveField(name) => self.set_field(name, None, below),
            Change::SetItems { at, values, .. } => {
                let behind = at.saturating_add_unsigned(values.len() as u64);
                self.items.extend((*at..).zip(values.iter().cloned()));
                self.bounds = self.bounds.map(|(first, last)| (first.min(*at), last.max(behind)));
            }
            Change::DropBefore(begin) => {
                self.items = self.items.split_off(begin);
                self.bounds = self.bounds.map(|(_, last)| (*begin, last));
            }
            Change::DropFrom(end) => {
                self.items.split_off(end);
                self.bounds = self.bounds.map(|(first, _)| (first, *end));
            }
        }
    }

    fn set_field(&mut self, name: &SmolStr, value: Option<Value>, below: &HashMap<Query, Answer>) {
        let is_there = value.is_some();
        let was_there = match self.fields.insert(name.clone(), value) {
            Some(before) => before.is_some(),
            // Whoever plans a change of a field has looked at it.
            None => matches!(below.get(&Query::Field(name.clone())), Some(Answer::Found(Some(_)))),
        };
        let moved = |length: u64| (length + u64::from(is_there)).saturating_sub(u64::from(was_there));
        self.length = self.length.map(moved);
    }
}

/// The base, with a memory of what it said of one key.
struct Below<'v> {
    key: &'v Key<'static>,
    base: &'v mut (dyn Base + 'v),
    answers: &'v mut HashMap<Query, Answer>,
}

impl Below<'_> {
    fn ask(&mut self, query: Query) -> Result<Answer> {
        if let Some(answer) = self.answers.get(&query) {
            return Ok(answer.clone());
        }
        let answer = self.base.ask(self.key, &query)?;
        self.answers.insert(query, answer.clone());
        Ok(answer)
    }
}

/// One key, seen through the changes.
struct View<'v> {
    key: &'v Key<'static>,
    below: Below<'v>,
    made: &'v mut Made,
}

impl View<'_> {
    fn answer(&mut self, query: &Query) -> Result<Answer> {
        let amendments = match self.made {
            Made::Whole(entry) => return whole(self.key, entry.as_ref()).answer(query),
            Made::Amended(amendments) => amendments,
        };
        match query {
            Query::Field(_) | Query::Fields(_) | Query::Map | Query::Names
                if amendments.fields.is_empty() =>
            {
                return self.below.ask(query.clone());
            }
            _ => {}
        }
        Ok(match query {
            Query::Presence => Answer::Presence(self.presence()?),
            Query::Value => Answer::Found(self.value()?),
            Query::Field(name) => Answer::Found(self.field(name)?),
            Query::Fields(names) => {
                Answer::Each(names.iter().map(|name| self.field(name)).collect::<Result<_>>()?)
            }
            Query::Map => Answer::Map(self.map()?),
            Query::Names => Answer::Names(self.map()?.into_iter().map(|(name, _)| name).collect()),
            Query::MapLength => Answer::Count(self.map_length()?),
            Query::Bounds => {
                let (first, behind) = self.bounds()?;
                Answer::Bounds(first, behind)
            }
            Query::Items { from, to } => Answer::Items(self.items(*from, *to)?),
        })
    }

    fn map(&mut self) -> Result<Vec<(SmolStr, Bytes)>> {
        let below = self.below.ask(Query::Map)?.map()?;
        let Made::Amended(amendments) = self.made else {
            return Ok(below);
        };
        let mut map: BTreeMap<SmolStr, Bytes> = below.into_iter().collect();
        for (name, value) in &amendments.fields {
            match value {
                Some(value) => map.insert(name.clone(), value.bytes.clone()),
                None => map.remove(name),
            };
        }
        Ok(map.into_iter().collect())
    }

    fn items(&mut self, from: u64, to: u64) -> Result<Vec<Bytes>> {
        let (first, behind) = self.bounds()?;
        let place = |at: u64| first.saturating_add_unsigned(at).min(behind);
        let (from, to) = (place(from), place(to));
        let (begin, end) = self.base_bounds()?;
        // What of it lies in the base, some of it under other values by now.
        let (low, high) = (from.max(begin), to.min(end));
        let mut below = Vec::new();
        if low < high {
            let query = Query::Items { from: low.abs_diff(begin), to: high.abs_diff(begin) };
            below = self.below.ask(query)?.items()?;
        }
        let Made::Amended(amendments) = self.made else {
            return Ok(below);
        };
        let mut found = Vec::new();
        for at in from..to {
            let known = amendments.items.get(&at).map(|value| &value.bytes);
            let index = || usize::try_from(at.checked_sub(low)?).ok();
            found.extend(known.or_else(|| below.get(index()?)).cloned());
        }
        Ok(found)
    }

    fn base_bounds(&mut self) -> Result<(i64, i64)> {
        self.below.ask(Query::Bounds)?.bounds()
    }
}

impl Found for View<'_> {
    fn presence(&mut self) -> Result<Option<Presence>> {
        match self.made {
            Made::Whole(entry) => Ok(entry
                .as_ref()
                .map(|entry| Presence { kind: Some(entry.kind()), deadline: entry.deadline })),
            Made::Amended(amendments) => {
                let presence = self.below.ask(Query::Presence)?.presence()?;
                Ok(presence.map(|presence| match amendments.deadline {
                    Renewed::No => presence,
                    Renewed::To(deadline) => Presence { deadline, ..presence },
                }))
            }
        }
    }

    fn value(&mut self) -> Result<Option<Bytes>> {
        match self.made {
            Made::Whole(entry) => whole(self.key, entry.as_ref()).value(),
            Made::Amended(_) => self.below.ask(Query::Value)?.found(),
        }
    }

    fn field(&mut self, field: &SmolStr) -> Result<Option<Bytes>> {
        match self.made {
            Made::Whole(entry) => whole(self.key, entry.as_ref()).field(field),
            Made::Amended(amendments) => match amendments.fields.get(field) {
                Some(value) => Ok(value.as_ref().map(|value| value.bytes.clone())),
                None => self.below.ask(Query::Field(field.clone()))?.found(),
            },
        }
    }

    fn map_length(&mut self) -> Result<u64> {
        let known = match self.made {
            Made::Whole(entry) => return whole(self.key, entry.as_ref()).map_length(),
            Made::Amended(amendments) => amendments.length,
        };
        if let Some(length) = known {
            return Ok(length);
        }
        let length = self.below.ask(Query::MapLength)?.count()?;
        if let Made::Amended(amendments) = self.made {
            // From here on it moves with the changes.
            amendments.length = Some(length);
        }
        Ok(length)
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        let known = match self.made {
            Made::Whole(entry) => return whole(self.key, entry.as_ref()).bounds(),
            Made::Amended(amendments) => amendments.bounds,
        };
        if let Some(bounds) = known {
            return Ok(bounds);
        }
        let bounds = self.base_bounds()?;
        if let Made::Amended(amendments) = self.made {
            // From here on they move with the changes.
            amendments.bounds = Some(bounds);
        }
        Ok(bounds)
    }

    fn item(&mut self, at: i64) -> Result<Option<Value>> {
        match self.made {
            Made::Whole(entry) => return whole(self.key, entry.as_ref()).item(at),
            Made::Amended(amendments) => {
                if let Some(value) = amendments.items.get(&at) {
                    return Ok(Some(value.clone()));
                }
            }
        }
        let (begin, _) = self.base_bounds()?;
        let from = at.abs_diff(begin);
        let items = self.below.ask(Query::Items { from, to: from + 1 })?.items()?;
        Ok(items.first().map(|bytes| Value::raw(bytes)))
    }
}

/// What a transaction itself has put there does not expire before its end.
fn whole<'a>(key: &'a str, entry: Option<&'a Entry>) -> Here<'a> {
    Here::unexpiring(key, entry)
}

/// What a base answered, to be compared with what it would answer now.
#[derive(Default)]
pub(crate) struct Read {
    asked: HashMap<Key<'static>, Vec<(Query, Recorded)>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Recorded {
    Answer(Answer),
    WrongType(Option<Kind>),
}

impl Recorded {
    fn of(outcome: &Result<Answer>) -> Option<Self> {
        match outcome {
            Ok(answer) => Some(Self::Answer(answer.clone())),
            Err(Error::WrongType { found, .. }) => Some(Self::WrongType(*found)),
            Err(_) => None,
        }
    }
}

impl Read {
    pub(crate) fn note(&mut self, key: &Key<'_>, query: &Query, outcome: &Result<Answer>) {
        if let Some(recorded) = Recorded::of(outcome) {
            self.asked.entry(key.clone().into_owned()).or_default().push((query.clone(), recorded));
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key<'static>> {
        self.asked.keys()
    }

    /// Tells whether all answers would be the same now.
    pub(crate) fn holds(&self, mut now: impl FnMut(&Key<'_>, &Query) -> Result<Answer>) -> bool {
        self.asked.iter().all(|(key, asked)| {
            asked.iter().all(|(query, then)| Recorded::of(&now(key, query)).as_ref() == Some(then))
        })
    }
}
