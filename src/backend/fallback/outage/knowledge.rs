//! Owns what is known locally of each key during an outage, and the one rule by which a read is answered: an entry is
//! *whole* if its content is known, and *partial* if only what this process did to it since the outage began is known.
//! A partial entry is read like a key of which nothing is known.
//!
//! INVARIANT: a key is noted as partial before its first change is applied to the table, and as whole only after the
//! change that makes it whole. A reader holds the lock of the notes while it reads the table, so it never takes a
//! partial entry for a whole one. Nobody waits for the notes while holding a lock of the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use smol_str::SmolStr;

use crate::backend::fallback::outage::assumed_keys::AssumedKeys;
use crate::backend::fallback::shadow::cache::{Shadow, Shadowed};
use crate::backend::local::table::shards::Table;
use crate::backend::redis::replay::observed::Observed;
use crate::backend::redis::replay::queued_action::QueuedAction;
use crate::clock::Now;
use crate::op::Query;

pub(crate) struct Knowledge {
    pub(crate) table: Table,
    shadow: Arc<Shadow>,
    touched: RwLock<HashMap<SmolStr, TouchedKey>>,
    /// The keys that were only read. Its lock is taken under that of `touched`, or alone.
    assumed: RwLock<AssumedKeys>,
}

/// What is known of a key that was written in this outage, or seen to be absent.
#[derive(Clone)]
pub(crate) struct TouchedKey {
    /// What the next write to the key will find on the server, as far as this process knows.
    observed: Observed,
    extent: Extent,
}

/// How much of an entry is known.
#[derive(Clone)]
enum Extent {
    Whole,
    /// Only these fields of a map are known, by their names; of a value or a queue, nothing.
    Partial(BTreeSet<SmolStr>),
}

/// What must be known for a read.
#[derive(Clone, Copy)]
pub(crate) enum Needs<'q> {
    Entry,
    Fields(&'q [SmolStr]),
}

impl<'q> Needs<'q> {
    pub(crate) fn of(query: &'q Query) -> Self {
        match query {
            Query::Field(name) => Self::Fields(std::slice::from_ref(name)),
            Query::Fields(names) => Self::Fields(names),
            Query::Presence
            | Query::Value
            | Query::Map
            | Query::Names
            | Query::MapLength
            | Query::Bounds
            | Query::Items { .. }
            | Query::Lease { .. } => Self::Entry,
        }
    }
}

impl Extent {
    fn covers(&self, needs: Needs<'_>) -> bool {
        match (self, needs) {
            (Self::Whole, _) => true,
            (Self::Partial(_), Needs::Entry) => false,
            (Self::Partial(fields), Needs::Fields(names)) => names.iter().all(|name| fields.contains(name)),
        }
    }
}

/// What becomes known of a key once a queued action is applied to the table.
pub(crate) enum MadeKnown {
    Whole,
    Fields(Vec<SmolStr>),
}

impl MadeKnown {
    fn by(action: &QueuedAction) -> Option<Self> {
        match action {
            QueuedAction::Put { .. } | QueuedAction::Delete => Some(Self::Whole),
            QueuedAction::MapPut { fields, .. } => {
                Some(Self::Fields(fields.iter().map(|(name, _)| name.clone()).collect()))
            }
            QueuedAction::MapDelete { field } => Some(Self::Fields(vec![field.clone()])),
            QueuedAction::PutIfPresent { .. }
            | QueuedAction::Incr { .. }
            | QueuedAction::Expire { .. }
            | QueuedAction::Renew { .. }
            | QueuedAction::Persist
            | QueuedAction::MapIncr { .. }
            | QueuedAction::Push { .. }
            | QueuedAction::Pop { .. }
            | QueuedAction::Trim { .. }
            | QueuedAction::WindowAdd(_)
            | QueuedAction::SetLease { .. } => None,
        }
    }
}

/// What was known of a key before a write, and what is known of it once the write is applied to the table.
pub(crate) struct BeforeWrite {
    pub(crate) observed: Observed,
    pub(crate) makes_known: Option<MadeKnown>,
}

impl Knowledge {
    pub(crate) fn new(shadow: Arc<Shadow>) -> Self {
        let assumed = RwLock::new(AssumedKeys::with_bytes(shadow.max_bytes()));
        Self { table: Table::default(), shadow, touched: RwLock::default(), assumed }
    }

    /// Reads the table if everything that the read needs is known. If `unknown_is_absent`, a key that was written or
    /// assumed absent is read in any case. Returns `None` otherwise.
    pub(crate) fn read<R>(
        &self,
        key: &str,
        needs: Needs<'_>,
        unknown_is_absent: bool,
        now: &Now<'_>,
        read: impl FnOnce(&Table) -> R,
    ) -> Option<R> {
        let touched = self.touched.read();
        let is_readable = match touched.get(key) {
            Some(touched) => unknown_is_absent || touched.extent.covers(needs),
            None => {
                self.is_whole_untouched(key, now)
                    || (unknown_is_absent && self.assumed.read().may_have(self.shadow.hash(key)))
            }
        };
        is_readable.then(|| read(&self.table))
    }

    /// Returns whether everything about a key is known that was neither written nor assumed absent in this outage.
    /// Then its entry in the table, if there is one, comes from the shadow.
    fn is_whole_untouched(&self, key: &str, now: &Now<'_>) -> bool {
        self.table.ttl(key, now).is_some()
            || self.shadow.get(key, now).as_ref().is_some_and(Shadowed::is_complete)
    }

    /// Returns whether a key was written or assumed absent in this outage, and its whole content is known since.
    pub(crate) fn is_whole(&self, key: &str) -> bool {
        let touched = self.touched.read();
        touched.get(key).is_some_and(|touched| touched.extent.covers(Needs::Entry))
    }

    /// Returns whether only a part of what the key holds is known.
    pub(crate) fn is_partial(&self, key: &str) -> bool {
        let touched = self.touched.read();
        touched.get(key).is_some_and(|touched| !touched.extent.covers(Needs::Entry))
    }

    /// Returns what the next write to a key will find, if the key was written or assumed absent.
    pub(crate) fn observed(&self, key: &str) -> Option<Observed> {
        if let Some(touched) = self.touched.read().get(key) {
            return Some(touched.observed.clone());
        }
        self.assumed.read().has(self.shadow.hash(key)).then_some(Observed::AssumedAbsent)
    }

    /// Changes what the next write to a key will find, if the key was written or assumed absent.
    pub(crate) fn set_observed(&self, key: &str, observed: Observed) {
        if let Some(touched) = self.touched.write().get_mut(key) {
            touched.observed = observed;
        }
    }

    /// Notes that a read returned a key as absent although nothing was known of it.
    pub(crate) fn note_assumed_absent(&self, key: &str) -> bool {
        self.assumed.write().note(self.shadow.hash(key))
    }

    /// Returns what a write finds that is the first one to its key in this outage, and how much of the entry is known.
    fn before_first_write(&self, key: &str, now: &Now<'_>) -> TouchedKey {
        let (assumed, hash) = (self.assumed.read(), self.shadow.hash(key));
        let mut observed = self.shadow.observed(key, now).0;
        if assumed.has(hash) || (observed == Observed::Nothing && assumed.may_have(hash)) {
            observed = Observed::AssumedAbsent;
        }
        let extent = if assumed.has(hash) || self.is_whole_untouched(key, now) {
            Extent::Whole
        } else {
            Extent::Partial(BTreeSet::new())
        };
        TouchedKey { observed, extent }
    }

    /// Notes that a key was absent when it was last seen.
    pub(crate) fn note_absent(&self, key: &str, now: &Now<'_>) {
        let absent = || TouchedKey { observed: self.shadow.observed(key, now).0, extent: Extent::Whole };
        self.touched.write().entry(SmolStr::new(key)).or_insert_with(absent);
    }

    /// Notes a key that an earlier run of the program wrote. Nothing was known of the key when that run began, or
    /// that it was absent.
    pub(crate) fn note_restored(&self, key: &str, action: &QueuedAction, was_absent: bool) {
        let mut touched = self.touched.write();
        let touched = touched.entry(SmolStr::new(key)).or_insert_with(|| TouchedKey {
            observed: Observed::OwnWrite,
            extent: if was_absent { Extent::Whole } else { Extent::Partial(BTreeSet::new()) },
        });
        touched.add(MadeKnown::by(action));
    }

    /// Returns what was observed of a key before a write that is queued now, and notes that the next write will find
    /// what this one leaves.
    pub(crate) fn begin_write(&self, key: &str, action: &QueuedAction, now: &Now<'_>) -> BeforeWrite {
        let mut all = self.touched.write();
        let touched = all.entry(SmolStr::new(key)).or_insert_with(|| self.before_first_write(key, now));
        let observed = std::mem::replace(&mut touched.observed, Observed::OwnWrite);
        let makes_known = match touched.extent {
            Extent::Whole => None,
            Extent::Partial(_) => MadeKnown::by(action),
        };
        BeforeWrite { observed, makes_known }
    }

    /// Notes what is known now that writes are applied to the table.
    pub(crate) fn end_writes(&self, made_known: Vec<(SmolStr, MadeKnown)>) {
        if made_known.is_empty() {
            return;
        }
        let mut all = self.touched.write();
        for (key, made_known) in made_known {
            if let Some(touched) = all.get_mut(&key) {
                touched.add(Some(made_known));
            }
        }
    }

    /// Returns what is noted of a key, for [`restore`](Self::restore).
    pub(crate) fn noted(&self, key: &str) -> Option<TouchedKey> {
        self.touched.read().get(key).cloned()
    }

    /// Sets what is noted of a key to what it was before a write that was not queued after all.
    pub(crate) fn restore(&self, key: SmolStr, noted: Option<TouchedKey>) {
        let mut touched = self.touched.write();
        match noted {
            Some(noted) => drop(touched.insert(key, noted)),
            None => drop(touched.remove(&key)),
        }
    }

    pub(crate) fn forget(&self, key: &str) {
        self.touched.write().remove(key);
        self.assumed.write().forget(self.shadow.hash(key));
    }
}

impl TouchedKey {
    fn add(&mut self, made_known: Option<MadeKnown>) {
        match (&mut self.extent, made_known) {
            (Extent::Whole, _) | (Extent::Partial(_), None) => {}
            (extent, Some(MadeKnown::Whole)) => *extent = Extent::Whole,
            (Extent::Partial(fields), Some(MadeKnown::Fields(names))) => fields.extend(names),
        }
    }
}
