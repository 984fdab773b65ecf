//! Owns staged changes: changes that are not applied yet, and what a reader sees with them on top of their source.
//! Knows nothing of where the source keeps its entries, nor of how the changes are applied.

use std::collections::{BTreeMap, HashMap, HashSet};

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::Entry;
use crate::backend::local::plan::plan;
use crate::backend::local::view::{EntryView, LiveEntry};
use crate::bytes::Bytes;
use crate::clock::{Deadline, Now};
use crate::error::Result;
use crate::key::{Companion, Key};
use crate::op::{Answer, HeldLease, Op, Presence, Query, ReadSource, Reply};
use crate::value::Value;

/// Operations carried out one after another, each on the state that the ones before it leave.
pub(crate) struct Overlay<'b> {
    source: &'b mut dyn ReadSource,
    now: &'b Now<'b>,
    keys: HashMap<Key<'static>, KeyOverlay>,
    changes: Vec<(Key<'static>, Change)>,
}

/// What the overlay knows of one key.
#[derive(Default)]
struct KeyOverlay {
    /// The answers of the source. Each query is sent once, so that repeated reads see the same state.
    answers: HashMap<Query, Answer>,
    staged: Staged,
    ended_leases: EndedLeases,
}

/// The leases that were ended among those that one key holds.
#[derive(Default)]
struct EndedLeases {
    ids: HashSet<SmolStr>,
    /// How many fields of the local map they have.
    fields: usize,
}

/// What the changes so far have done to a key.
enum Staged {
    /// It holds what the source holds, with these differences.
    Delta(Delta),
    /// It holds this, whatever the source holds.
    Replaced(Option<Entry>),
}

impl Default for Staged {
    fn default() -> Self {
        Self::Delta(Delta::default())
    }
}

/// How an existing entry differs from the source.
#[derive(Default)]
struct Delta {
    deadline: NewDeadline,
    /// `None` is a removed field.
    fields: BTreeMap<SmolStr, Option<Value>>,
    /// How many fields the map has now, once a query has asked. A plan asks before its first change.
    length: Option<u64>,
    /// The bounds of the queue now, once a query has asked.
    bounds: Option<(i64, i64)>,
    items: BTreeMap<i64, Value>,
}

/// Whether the deadline is still that of the source.
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

    /// Answers a query about one key.
    pub(crate) fn ask(&mut self, key: &Key<'_>, query: &Query) -> Result<Answer> {
        self.view(&key.clone().into_owned()).answer(query)
    }

    /// Ends a lease of a queue. Returns `false` if it had ended before. Nothing else may change the leases of that queue
    /// in this overlay.
    pub(crate) fn end_lease(&mut self, queue: &Key<'_>, id: &SmolStr) -> Result<bool> {
        let leases = queue.companion(Companion::Leases);
        let KeyOverlay { answers, ended_leases, .. } = self.keys.entry(leases.clone()).or_default();
        if ended_leases.ids.contains(id) {
            return Ok(false);
        }
        let query = Query::Lease { id: id.clone(), removed: ended_leases.fields };
        let mut source = CachedSource { key: &leases, source: &mut *self.source, answers };
        let changes = match source.ask(query)?.lease()? {
            None => return Ok(false),
            #[cfg(feature = "redis")]
            Some(HeldLease::OnServer) => vec![Change::RemoveField(id.clone())],
            Some(HeldLease::Locally { fields, are_last }) => {
                ended_leases.fields += fields.len();
                // INVARIANT: a map is never empty.
                if are_last {
                    vec![Change::Remove]
                } else {
                    fields.into_iter().map(Change::RemoveField).collect()
                }
            }
        };
        ended_leases.ids.insert(id.clone());
        self.changes.extend(changes.into_iter().map(|change| (leases.clone(), change)));
        Ok(true)
    }

    /// Returns the changes, in order.
    pub(crate) fn into_changes(self) -> Vec<(Key<'static>, Change)> {
        self.changes
    }

    fn view<'v>(&'v mut self, key: &'v Key<'static>) -> OverlayView<'v> {
        let KeyOverlay { answers, staged, .. } = self.keys.entry(key.clone()).or_default();
        OverlayView { key, source: CachedSource { key, source: &mut *self.source, answers }, staged }
    }
}

impl KeyOverlay {
    fn apply_change(&mut self, change: &Change) {
        match (&mut self.staged, change) {
            (staged, Change::Set(entry)) => *staged = Staged::Replaced(Some(entry.clone())),
            (staged, Change::Remove) => *staged = Staged::Replaced(None),
            (Staged::Replaced(None), _) => {}
            (Staged::Replaced(Some(entry)), change) => drop(entry.apply_in_place(change.clone())),
            (Staged::Delta(delta), change) => delta.apply_change(change, &self.answers),
        }
    }
}

impl Delta {
    /// `answers` are those of the source.
    fn apply_change(&mut self, change: &Change, answers: &HashMap<Query, Answer>) {
        match change {
            Change::Nothing | Change::Set(_) | Change::Remove => {}
            Change::SetDeadline(deadline) => self.deadline = NewDeadline::Set(*deadline),
            Change::SetFields(fields) => {
                for (name, value) in fields {
                    self.set_field(name, Some(value.clone()), answers);
                }
            }
            Change::RemoveField(name) => self.set_field(name, None, answers),
            Change::SetItems { at, values, .. } => {
                let end = at.saturating_add_unsigned(values.len() as u64);
                self.items.extend((*at..).zip(values.iter().cloned()));
                self.bounds = self.bounds.map(|(begin, old_end)| (begin.min(*at), old_end.max(end)));
            }
            Change::DropBefore(begin) => {
                self.items = self.items.split_off(begin);
                self.bounds = self.bounds.map(|(_, end)| (*begin, end));
            }
            Change::DropFrom(end) => {
                self.items.split_off(end);
                self.bounds = self.bounds.map(|(begin, _)| (begin, *end));
            }
        }
    }

    fn set_field(&mut self, name: &SmolStr, value: Option<Value>, answers: &HashMap<Query, Answer>) {
        let exists = value.is_some();
        let existed = match self.fields.insert(name.clone(), value) {
            Some(before) => before.is_some(),
            // The plan of a change has read the field.
            None => matches!(answers.get(&Query::Field(name.clone())), Some(Answer::Found(Some(_)))),
        };
        let adjust = |length: u64| (length + u64::from(exists)).saturating_sub(u64::from(existed));
        self.length = self.length.map(adjust);
    }
}

/// The source of one key, with a cache of its answers.
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

/// One key with its staged changes applied.
struct OverlayView<'v> {
    key: &'v Key<'static>,
    source: CachedSource<'v>,
    staged: &'v mut Staged,
}

impl OverlayView<'_> {
    fn answer(&mut self, query: &Query) -> Result<Answer> {
        let delta = match self.staged {
            Staged::Replaced(entry) => return staged_entry(self.key, entry.as_ref()).answer(query),
            Staged::Delta(delta) => delta,
        };
        let reads_fields = matches!(query, Query::Field(_) | Query::Fields(_) | Query::Map | Query::Names);
        if reads_fields && delta.fields.is_empty() {
            return self.source.ask(query.clone());
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
            Query::Bounds => Answer::Bounds(self.bounds()?),
            Query::Items { from, to } => Answer::Items(self.items(*from, *to)?),
            Query::Lease { .. } => return self.source.ask(query.clone()),
        })
    }

    fn map(&mut self) -> Result<Vec<(SmolStr, Bytes)>> {
        let source = self.source.ask(Query::Map)?.map()?;
        let Staged::Delta(delta) = self.staged else {
            return Ok(source);
        };
        let mut map: BTreeMap<SmolStr, Bytes> = source.into_iter().collect();
        for (name, value) in &delta.fields {
            match value {
                Some(value) => map.insert(name.clone(), value.bytes.clone()),
                None => map.remove(name),
            };
        }
        Ok(map.into_iter().collect())
    }

    fn items(&mut self, from: u64, to: u64) -> Result<Vec<Bytes>> {
        let (begin, end) = self.bounds()?;
        let index = |position: u64| begin.saturating_add_unsigned(position).min(end);
        let (from, to) = (index(from), index(to));
        let (source_begin, source_end) = self.source_bounds()?;
        // The part of the range that the source holds; staged values may replace some of it.
        let (low, high) = (from.max(source_begin), to.min(source_end));
        let mut source = Vec::new();
        if low < high {
            let query = Query::Items { from: low.abs_diff(source_begin), to: high.abs_diff(source_begin) };
            source = self.source.ask(query)?.items()?;
        }
        let Staged::Delta(delta) = self.staged else {
            return Ok(source);
        };
        let mut items = Vec::new();
        for at in from..to {
            let staged = delta.items.get(&at).map(|value| &value.bytes);
            let offset = || usize::try_from(at.checked_sub(low)?).ok();
            items.extend(staged.or_else(|| source.get(offset()?)).cloned());
        }
        Ok(items)
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
            Staged::Delta(delta) => {
                let presence = self.source.ask(Query::Presence)?.presence()?;
                Ok(presence.map(|presence| match delta.deadline {
                    NewDeadline::Unchanged => presence,
                    NewDeadline::Set(deadline) => Presence { deadline, ..presence },
                }))
            }
        }
    }

    fn value(&mut self) -> Result<Option<Bytes>> {
        match self.staged {
            Staged::Replaced(entry) => staged_entry(self.key, entry.as_ref()).value(),
            Staged::Delta(_) => self.source.ask(Query::Value)?.found(),
        }
    }

    fn field(&mut self, field: &SmolStr) -> Result<Option<Bytes>> {
        match self.staged {
            Staged::Replaced(entry) => staged_entry(self.key, entry.as_ref()).field(field),
            Staged::Delta(delta) => match delta.fields.get(field) {
                Some(value) => Ok(value.as_ref().map(|value| value.bytes.clone())),
                None => self.source.ask(Query::Field(field.clone()))?.found(),
            },
        }
    }

    fn fields(&mut self) -> Result<Vec<(SmolStr, Bytes)>> {
        match self.staged {
            Staged::Replaced(entry) => staged_entry(self.key, entry.as_ref()).fields(),
            Staged::Delta(_) => self.map(),
        }
    }

    fn map_length(&mut self) -> Result<u64> {
        let length = match self.staged {
            Staged::Replaced(entry) => return staged_entry(self.key, entry.as_ref()).map_length(),
            Staged::Delta(delta) => delta.length,
        };
        if let Some(length) = length {
            return Ok(length);
        }
        let length = self.source.ask(Query::MapLength)?.count()?;
        if let Staged::Delta(delta) = self.staged {
            // From now on, changes keep it up to date.
            delta.length = Some(length);
        }
        Ok(length)
    }

    fn bounds(&mut self) -> Result<(i64, i64)> {
        let bounds = match self.staged {
            Staged::Replaced(entry) => return staged_entry(self.key, entry.as_ref()).bounds(),
            Staged::Delta(delta) => delta.bounds,
        };
        if let Some(bounds) = bounds {
            return Ok(bounds);
        }
        let bounds = self.source_bounds()?;
        if let Staged::Delta(delta) = self.staged {
            // From now on, changes keep them up to date.
            delta.bounds = Some(bounds);
        }
        Ok(bounds)
    }

    fn item(&mut self, at: i64) -> Result<Option<Value>> {
        match self.staged {
            Staged::Replaced(entry) => return staged_entry(self.key, entry.as_ref()).item(at),
            Staged::Delta(delta) => {
                if let Some(value) = delta.items.get(&at) {
                    return Ok(Some(value.clone()));
                }
            }
        }
        let (begin, _) = self.source_bounds()?;
        let position = at.abs_diff(begin);
        let items = self.source.ask(Query::Items { from: position, to: position + 1 })?.items()?;
        Ok(items.first().map(|bytes| Value::raw(bytes)))
    }
}

/// An entry that the transaction itself has set does not expire before the transaction ends.
fn staged_entry<'a>(key: &'a str, entry: Option<&'a Entry>) -> LiveEntry<'a> {
    LiveEntry::without_deadline(key, entry)
}
