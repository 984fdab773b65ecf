//! Owns what changes when entries as a whole are brought in. It only decides and changes nothing.

use std::collections::BTreeMap;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::leases::delayed;
use crate::backend::local::plan_multi::token_after;
use crate::backend::local::queue::QueueValue;
use crate::backend::local::table::locked::LockedShards;
use crate::backend::local::table::shards::Table;
use crate::backend::local::view::live;
use crate::clock::Now;
use crate::key::{Companion, Key};
use crate::op::{Replaced, WholeContent, WholeEntry};
use crate::value::Value;

/// The changes, in any order: each key is in them once.
type WholeChanges = Vec<(Key<'static>, Change)>;

/// Returns the keys whose shards must be locked for [`plan_merge`].
pub(crate) fn merge_keys(entries: &[WholeEntry]) -> Vec<Key<'static>> {
    entries.iter().flat_map(|entry| keys_of(&entry.key)).chain([Key::fence()]).collect()
}

/// Decides what changes when entries replace what their keys hold. If `keep_existing`, entries of present keys are left
/// out. Also returns whether each entry is written: one that has expired is not.
pub(crate) fn plan_merge(
    entries: &[WholeEntry],
    keep_existing: bool,
    locked: &LockedShards<'_>,
    now: &Now<'_>,
) -> (WholeChanges, Vec<bool>) {
    let mut incoming = Incoming::new(locked, now);
    let mut bring_in = |entry: &WholeEntry| {
        if keep_existing && keys_of(&entry.key).iter().any(|key| incoming.holds(key)) {
            return false;
        }
        incoming.add(entry)
    };
    let written = entries.iter().map(&mut bring_in).collect();
    (incoming.into_changes(), written)
}

/// Decides what changes when the entries become all that is stored under keys that begin with `prefix`. All shards of the
/// table are locked.
pub(crate) fn plan_replace(
    prefix: &str,
    entries: &[WholeEntry],
    table: &Table,
    locked: &LockedShards<'_>,
    now: &Now<'_>,
) -> (WholeChanges, Replaced) {
    let mut incoming = Incoming::new(locked, now);
    let (present, _) = table.listed_keys(prefix, None, usize::MAX);
    let removed = present.iter().filter(|key| live(locked.find(key), now).is_some()).count() as u64;
    for key in present {
        incoming.changes.insert(Key::listed(key.into()), Change::Remove);
    }
    for key in table.keys_to_clear(prefix) {
        incoming.changes.insert(key, Change::Remove);
    }
    let written = entries.iter().map(|entry| u64::from(incoming.add(entry))).sum();
    (incoming.into_changes(), Replaced { removed, written })
}

/// Returns the keys under which an entry of this key is stored.
fn keys_of(key: &str) -> [Key<'static>; 2] {
    let key = Key::listed(key.to_owned());
    let leases = key.companion(Companion::Leases);
    [key, leases]
}

/// Entries that are brought in.
struct Incoming<'l> {
    locked: &'l LockedShards<'l>,
    now: &'l Now<'l>,
    changes: BTreeMap<Key<'static>, Change>,
    /// The last token that was given out; `None` if none was.
    token: Option<u64>,
}

impl<'l> Incoming<'l> {
    fn new(locked: &'l LockedShards<'_>, now: &'l Now<'_>) -> Self {
        Self { locked, now, changes: BTreeMap::new(), token: None }
    }

    /// Returns whether the key holds anything after the changes so far.
    fn holds(&self, key: &Key<'_>) -> bool {
        match self.changes.get(key) {
            Some(change) => matches!(change, Change::Set(_)),
            None => live(self.locked.find(key), self.now).is_some(),
        }
    }

    /// Brings in an entry, and returns whether it is written. Leases of its key end.
    fn add(&mut self, entry: &WholeEntry) -> bool {
        let WholeEntry { key, content, deadline } = entry;
        let (deadline, [key, leases]) = (*deadline, keys_of(key));
        let has_expired = deadline.is_some_and(|deadline| deadline.has_passed(self.now));
        let (content, held_back) = if has_expired { (None, None) } else { self.contents(content.clone()) };
        let set = |content| Change::Set(Entry { content, deadline });
        self.changes.insert(key, content.map_or(Change::Remove, set));
        let set = |content| Change::Set(Entry { content, deadline: None });
        self.changes.insert(leases, held_back.map_or(Change::Remove, set));
        !has_expired
    }

    /// Returns what the key holds then, and what the key of its leases holds.
    fn contents(&mut self, content: WholeContent) -> (Option<Content>, Option<Content>) {
        let map = |fields| Content::Map(Box::new(fields));
        match content {
            WholeContent::Value(value) => (Some(Content::Value(value)), None),
            WholeContent::Map(fields) => (Some(map(MapValue::new(fields))), None),
            WholeContent::Queue(queue) => {
                let name = |(due, value): (u64, Value)| (delayed(due, self.next_token()), value);
                let held_back = MapValue::new(queue.delayed.into_iter().map(name));
                let values = QueueValue::new(0, queue.values);
                (
                    (values.begin() < values.end()).then(|| Content::Queue(Box::new(values))),
                    (!held_back.fields().is_empty()).then(|| map(held_back)),
                )
            }
        }
    }

    fn next_token(&mut self) -> u64 {
        let last = self.token.or_else(|| match &self.locked.find(&Key::fence())?.content {
            Content::Value(value) => std::str::from_utf8(&value.bytes).ok()?.parse().ok(),
            Content::Map(_) | Content::Queue(_) => None,
        });
        let token = token_after(last, self.now);
        self.token = Some(token);
        token
    }

    fn into_changes(mut self) -> WholeChanges {
        if let Some(token) = self.token {
            let fence = Entry::value(Value::json(token.to_string().as_bytes()), None);
            self.changes.insert(Key::fence(), Change::Set(fence));
        }
        self.changes.into_iter().collect()
    }
}
