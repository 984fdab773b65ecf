//! Owns changes that are not made yet, over what they are based on, and what one sees through them. Knows
//! nothing of where the base lies, nor of how the changes are made.

use std::collections::{BTreeMap, HashMap};

use smol_str::SmolStr;

use crate::backend::local::change::{Change, Entry};
use crate::backend::local::plan::plan;
use crate::backend::local::view::{EntryView, LiveEntry};
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::op::{Answer, Op, Presence, Query, ReadSource, Reply};
use crate::value::Value;

/// Operations carried out one after another, each on what those before it leave.
pub(crate) struct Overlay<'b> {
    source: &'b mut dyn ReadSource,
    now: &'b Now<'b>,
    keys: HashMap<Key<'static>, KeyOverlay>,
    changes: Vec<(Key<'static>, Change)>,
}

/// What is known of one key.
#[derive(Default)]
struct KeyOverlay {
    /// What the base answered: it is asked once, so that a second look sees the same.
    answers: HashMap<Query, Answer>,
    staged: Staged,
}

/// What the changes so far have made of a key.
enum Staged {
    /// What the base holds, but for these.
    Delta(Delta),
    /// This, whatever the base holds.
    Replaced(Option<Entry>),
}

impl Default for Staged {
    fn default() -> Self {
        Self::Delta(Delta::default())
    }
}

/// What differs from the base in a map or a queue that is there.
#[derive(Default)]
struct Delta {
    deadline: NewDeadline,
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
enum NewDeadline {
    #[default]
    Unchanged,
    Set(Option<Deadline>),
}

impl<'b> Overlay<'b> {
    pub(crate) fn new(source: &'b mut dyn ReadSource, now: &'b Now<'b>) -> Self {
        Self { source, now, keys: HashMap::new(), changes: Vec::new() }
    }

    /// Carries out one operation.
    pub(crate) fn apply(&mut self, op: Op<'_>) -> Result<Reply> {
        let key = op.key.into_owned();
        let now = self.now;
        let (change, reply) = plan(&key, op.action, &mut self.view(&key), now)?;
        if change != Change::Nothing {
            self.keys.entry(key.clone()).or_default().apply_change(&change);
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

    fn view<'v>(&'v mut self, key: &'v Key<'static>) -> OverlayView<'v> {
        let KeyOverlay { answers, staged: made } = self.keys.entry(key.clone()).or_default();
        OverlayView { key, source: CachedSource { key, source: &mut *self.source, answers }, staged: made }
    }
}

impl KeyOverlay {
    fn apply_change(&mut self, change: &Change) {
        match (&mut self.staged, change) {
            (made, Change::Set(entry)) => *made = Staged::Replaced(Some(entry.clone())),
            (made, Change::Remove) => *made = Staged::Replaced(None),
            (Staged::Replaced(None), _) => {}
            (Staged::Replaced(Some(entry)), change) => drop(entry.apply_in_place(change.clone())),
            (Staged::Delta(amendments), change) => amendments.apply_change(change, &self.answers),
        }
    }
}

impl Delta {
    /// `below`: what is known of the base.
    fn apply_change(&mut self, change: &Change, below: &HashMap<Query, Answer>) {
        match change {
            Change::Nothing | Change::Set(_) | Change::Remove => {}
            Change::SetDeadline(deadline) => self.deadline = NewDeadline::Set(*deadline),
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
struct CachedSource<'v> {
    key: &'v Key<'static>,
    source: &'v mut (dyn ReadSource + 'v),
    answers: &'v mut HashMap<Query, Answer>,
}

impl CachedSource<'_> {
    fn ask(&mut self, query: Query) -> Result<Answer> {
        if let Some(answer) = self.answers.get(&query) {
            return Ok(answer.clone());
        }
        let answer = self.source.ask(self.key, &query)?;
        self.answers.insert(query, answer.clone());
        Ok(answer)
    }
}

/// One key, seen through the changes.
struct OverlayView<'v> {
    key: &'v Key<'static>,
    source: CachedSource<'v>,
    staged: &'v mut Staged,
}

impl OverlayView<'_> {
    fn answer(&mut self, query: &Query) -> Result<Answer> {
        let amendments = match self.staged {
            Staged::Replaced(entry) => return whole(self.key, entry.as_ref()).answer(query),
            Staged::Delta(amendments) => amendments,
        };
        match query {
            Query::Field(_) | Query::Fields(_) | Query::Map | Query::Names
                if amendments.fields.is_empty() =>
            {
                return self.source.ask(query.clone());
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
                Answer::Bounds((first, behind))
            }
            Query::Items { from, to } => Answer::Items(self.items(*from, *to)?),
        })
    }

    fn map(&mut self) -> Result<Vec<(SmolStr, Bytes)>> {
        let below = self.source.ask(Query::Map)?.map()?;
        let Staged::Delta(amendments) = self.staged else {
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
        let (begin, end) = self.source_bounds()?;
        // What of it lies in the base, some of it under other values by now.
        let (low, high) = (from.max(begin), to.min(end));
        let mut below = Vec::new();
        if low < high {
            let query = Query::Items { from: low.abs_diff(begin), to: high.abs_diff(begin) };
            below = self.source.ask(query)?.items()?;
        }
        let Staged::Delta(amendments) = self.staged else {
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

    fn source_bounds(&mut self) -> Result<(i64, i64)> {
        self.source.ask(Query::Bounds)?.bounds()
    }
}

impl EntryView for OverlayView<'_> {
    fn presence(&mut self) -> Result<Option<Presence>> {
        match self.staged {
            Staged::Replaced(entry) => Ok(entry
                .as_ref()
                .map(|entry| Presence { kind: Some(entry.kind()), deadline: entry.deadline })),
            Staged::Delta(amendments) => {
                let presence = self.source.ask(Query::Presence)?.presence()?;
                Ok(presence.map(|presence| match amendments.deadline {
                    NewDeadline::Unchanged => presence,
                    NewDeadline::Set(deadline) => Presence { deadline, ..presence },
                }))
            }
        }
    }

    fn value(&mut self) -> Result<Option<Bytes>> {
        match self.staged {
            Staged::Replaced(entry) => whole(self.key, entry.as_ref()).value(),
            Staged::Delta(_) => self.source.ask(Query::Value)?.found(),
        }
    }

    fn field(&mut self, field: &SmolStr) -> Result<Option<Bytes>> {
        match self.staged {
            Staged::Replaced(entry) => whole(self.key, entry.as_ref()).field(field),
            Staged::Delta(amendments) => match amendments.fields.get(field) {
                Some(value) => Ok(value.as_ref().map(|value| value.bytes.clone())),
                None => self.source.ask(Query::Field(field.clone()))?.found(),
            },
        }
    }

    fn map_length(&mut self) -> Result<u64> {
        let known = match self.staged {
            Staged::Replaced(entry) => return whole(self.key, entry.as_ref()).map_length(),
            Staged::Delta(amendments) => amendments.length,
        };
        if let Some(length) = known {
            return Ok(length);
        }
        let length = self.source.ask(Query::MapLength)?.count()?;
        if let Staged::Delta(amendments) = self.staged {
            // From here on it moves with the changes.
            amendments.length = Some(length);
        }
        Ok(length)
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        let known = match self.staged {
            Staged::Replaced(entry) => return whole(self.key, entry.as_ref()).bounds(),
            Staged::Delta(amendments) => amendments.bounds,
        };
        if let Some(bounds) = known {
            return Ok(bounds);
        }
        let bounds = self.source_bounds()?;
        if let Staged::Delta(amendments) = self.staged {
            // From here on they move with the changes.
            amendments.bounds = Some(bounds);
        }
        Ok(bounds)
    }

    fn item(&mut self, at: i64) -> Result<Option<Value>> {
        match self.staged {
            Staged::Replaced(entry) => return whole(self.key, entry.as_ref()).item(at),
            Staged::Delta(amendments) => {
                if let Some(value) = amendments.items.get(&at) {
                    return Ok(Some(value.clone()));
                }
            }
        }
        let (begin, _) = self.source_bounds()?;
        let from = at.abs_diff(begin);
        let items = self.source.ask(Query::Items { from, to: from + 1 })?.items()?;
        Ok(items.first().map(|bytes| Value::raw(bytes)))
    }
}

/// What a transaction itself has put there does not expire before its end.
fn whole<'a>(key: &'a str, entry: Option<&'a Entry>) -> LiveEntry<'a> {
    LiveEntry::without_deadline(key, entry)
}

/// What a base answered, to be compared with what it would answer now.
#[derive(Default)]
pub(crate) struct ReadSet {
    observations: HashMap<Key<'static>, Vec<(Query, Observation)>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Observation {
    Answer(Answer),
    WrongType(Option<Kind>),
}

impl Observation {
    fn of(outcome: &Result<Answer>) -> Option<Self> {
        match outcome {
            Ok(answer) => Some(Self::Answer(answer.clone())),
            Err(Error::WrongType { found, .. }) => Some(Self::WrongType(*found)),
            Err(_) => None,
        }
    }
}

impl ReadSet {
    pub(crate) fn record(&mut self, key: &Key<'_>, query: &Query, outcome: &Result<Answer>) {
        if let Some(recorded) = Observation::of(outcome) {
            self.observations.entry(key.clone().into_owned()).or_default().push((query.clone(), recorded));
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key<'static>> {
        self.observations.keys()
    }

    /// Tells whether all answers would be the same now.
    pub(crate) fn is_still_valid(&self, mut now: impl FnMut(&Key<'_>, &Query) -> Result<Answer>) -> bool {
        self.observations.iter().all(|(key, asked)| {
            asked.iter().all(|(query, then)| Observation::of(&now(key, query)).as_ref() == Some(then))
        })
    }
}
