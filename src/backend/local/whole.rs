//! Owns how entries as a whole are made of local ones. Knows nothing of the way back: see `plan_whole`.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::vec;

use smol_str::SmolStr;

use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::table::cut::TableCut;
use crate::backend::local::view::live;
use crate::clock::Now;
use crate::key::Companion;
use crate::op::{WholeContent, WholeEntry, WholeQueue};

/// The entries of a cut under a prefix, sorted by key: those that are live, with what leases and delays hold back.
pub(crate) struct WholeEntries<'t> {
    cut: TableCut<'t>,
    prefix: String,
    /// The time of the cut.
    at: u64,
    page: vec::IntoIter<(SmolStr, Entry)>,
    /// The next entry, if it was taken out of the page and comes later.
    pending: Option<(SmolStr, Entry)>,
    /// The key after which the next page begins.
    after: Option<SmolStr>,
    is_last_page: bool,
    /// Entries that are stored under reserved keys, by the keys that they have in a cut.
    reserved: Peekable<btree_map::IntoIter<SmolStr, Reserved>>,
}

/// What is stored under a reserved key.
enum Reserved {
    /// What is held back of the queue of that key.
    HeldBack(WholeQueue),
    /// The receipt of that key.
    Receipt(Entry),
}

impl<'t> WholeEntries<'t> {
    /// `at`: the time after the cut was opened, in milliseconds.
    pub(crate) fn new(cut: TableCut<'t>, prefix: &str, at: u64) -> Self {
        let mut reserved = BTreeMap::new();
        for (key, entry) in cut.reserved(prefix) {
            if live(Some(&entry), &Now::at(at)).is_none() {
                continue;
            }
            match (Companion::Leases.strip_from(&key), &entry.content) {
                (Some(queue), Content::Map(map)) => {
                    reserved.insert(SmolStr::new(queue), Reserved::HeldBack(held_back_values(map)));
                }
                (Some(_) | None, Content::Value(_) | Content::Map(_) | Content::Queue(_)) => {
                    reserved.insert(key, Reserved::Receipt(entry));
                }
            }
        }
        Self {
            cut,
            prefix: prefix.to_owned(),
            at,
            page: Vec::new().into_iter(),
            pending: None,
            after: None,
            is_last_page: false,
            reserved: reserved.into_iter().peekable(),
        }
    }

    /// Returns the next entry that is not reserved.
    fn next_listed(&mut self) -> Option<(SmolStr, Entry)> {
        let now = Now::at(self.at);
        loop {
            if let Some((key, entry)) = self.page.next() {
                if live(Some(&entry), &now).is_some() {
                    return Some((key, entry));
                }
            } else if self.is_last_page {
                return None;
            } else {
                let (page, after) = self.cut.page(&self.prefix, self.after.as_deref());
                self.page = page.into_iter();
                self.is_last_page = after.is_none();
                self.after = after;
            }
        }
    }
}

impl Iterator for WholeEntries<'_> {
    type Item = WholeEntry;

    fn next(&mut self) -> Option<WholeEntry> {
        let listed = self.pending.take().or_else(|| self.next_listed());
        let Some((key, entry)) = listed else {
            return self.reserved.next().map(whole_reserved);
        };
        if let Some(before) = self.reserved.next_if(|(reserved, _)| *reserved < key) {
            self.pending = Some((key, entry));
            return Some(whole_reserved(before));
        }
        let beside = self.reserved.next_if(|(reserved, _)| *reserved == key);
        Some(whole(key, entry, beside.map(|(_, reserved)| reserved)))
    }
}

/// Joins an entry with what is stored beside it.
fn whole(key: SmolStr, entry: Entry, beside: Option<Reserved>) -> WholeEntry {
    let content = match entry.content {
        Content::Value(value) => WholeContent::Value(value),
        Content::Map(map) => WholeContent::Map(map.into_fields().into_iter().collect()),
        Content::Queue(queue) => {
            let waiting = queue.range(queue.begin(), queue.end()).cloned();
            let mut whole = match beside {
                Some(Reserved::HeldBack(held_back)) => held_back,
                Some(Reserved::Receipt(_)) | None => WholeQueue::default(),
            };
            whole.values.extend(waiting);
            WholeContent::Queue(whole)
        }
    };
    WholeEntry { key, content, deadline: entry.deadline }
}

/// Makes an entry of what is stored under a reserved key alone: a receipt, or a queue of which no value is waiting.
fn whole_reserved((key, reserved): (SmolStr, Reserved)) -> WholeEntry {
    match reserved {
        Reserved::HeldBack(queue) => WholeEntry { key, content: WholeContent::Queue(queue), deadline: None },
        Reserved::Receipt(entry) => whole(key, entry, None),
    }
}

/// Returns the values that leases and delays hold back.
fn held_back_values(map: &MapValue) -> WholeQueue {
    let mut leased: Vec<_> = map.leases().collect();
    leased.sort_by_key(|(token, _)| *token);
    WholeQueue {
        values: leased.into_iter().map(|(_, value)| value.clone().returned()).collect(),
        delayed: map.delayed().map(|(due, value)| (due, value.clone())).collect(),
    }
}
